//! `cargo xtask build-ebpf`: compiles the BPF programs to the object that is checked in, or checks that the
//! object is what they compile to.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    bytecode,
    manifest::{self, MANIFEST, Manifest, OBJECT},
    toolchain::Toolchain,
    workspace::Workspace,
};

/// The exit status of a check that another toolchain makes impossible.
const OTHER_TOOLCHAIN: u8 = 3;

/// Compiles the BPF programs and writes the object and its manifest, to be checked in.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write nothing: compile, and compare with what is checked in.
    ///
    /// Exit status: 0, the same bytes; 1, other bytes, or the sources have changed since; 3, other bytes, and
    /// the toolchain is not the one of the manifest, so they prove nothing.
    #[arg(long)]
    check: bool,
}

pub(crate) fn main(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    if !args.check {
        let object = write(workspace)?;
        println!("{object}");
        return Ok(ExitCode::SUCCESS);
    }
    let manifest = Manifest::read(&workspace.root)?;
    let toolchain = Toolchain::find(workspace, Some(&manifest.toolchain))?;
    let found = check(workspace, &manifest, &toolchain)?;
    println!("{}", found.describe());
    Ok(match found {
        Check::Identical => ExitCode::SUCCESS,
        Check::OtherToolchain { .. } => ExitCode::from(OTHER_TOOLCHAIN),
    })
}

/// What a check can come to that is no error.
pub(crate) enum Check {
    /// The sources compile to the object that is checked in.
    Identical,
    /// They compile to the object at `path`; but the toolchain is not the one of the manifest.
    OtherToolchain { path: PathBuf, differences: String },
}

impl Check {
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Identical => format!("{OBJECT} is byte for byte what its sources compile to"),
            Self::OtherToolchain { path, differences } => format!(
                "cannot tell whether {OBJECT} is what its sources compile to: {differences}; they compile to {} here",
                path.display()
            ),
        }
    }
}

/// Compiles the programs and compares the result with the checked-in object.
pub(crate) fn check(workspace: &Workspace, manifest: &Manifest, toolchain: &Toolchain) -> Result<Check> {
    let stale = manifest.differences(&workspace.root)?;
    if !stale.is_empty() {
        bail!(
            "{OBJECT} is not what its sources make:\n  {}\nrebuild it: cargo xtask build-ebpf",
            stale.join("\n  ")
        );
    }
    let path = bytecode::compile(workspace, toolchain)?;
    if manifest::hash(&read(&path)?) == manifest.object {
        return Ok(Check::Identical);
    }
    let differences = compare(&manifest.toolchain, &toolchain.versions());
    if differences.is_empty() {
        bail!(
            "{OBJECT} was not compiled from these sources: the toolchain of {MANIFEST} makes {} of them\n\
             if the profile or the features of the workspace have changed, rebuild it: cargo xtask build-ebpf",
            path.display()
        );
    }
    Ok(Check::OtherToolchain { path, differences })
}

/// In which versions the two toolchains differ, in words.
fn compare(then: &manifest::Versions, now: &manifest::Versions) -> String {
    let pairs = [
        ("rustc", &then.rustc, &now.rustc),
        ("rustc's LLVM", &then.rustc_llvm, &now.rustc_llvm),
        ("the host", &then.host, &now.host),
        ("bpf-linker", &then.bpf_linker, &now.bpf_linker),
        ("bpf-linker's LLVM", &then.bpf_linker_llvm, &now.bpf_linker_llvm),
    ];
    let differences = pairs.iter().filter(|(_, then, now)| then != now);
    let words: Vec<_> = differences
        .map(|(what, then, now)| format!("{what} was {then}, is {now}"))
        .collect();
    words.join(", ")
}

/// Compiles the programs, and writes the object and its manifest. Returns words about them.
fn write(workspace: &Workspace) -> Result<String> {
    // The compiler of the last build is taken again if there are two; a manifest that cannot be read is
    // about to be replaced.
    let last = Manifest::read(&workspace.root).ok();
    let toolchain = Toolchain::find(workspace, last.as_ref().map(|manifest| &manifest.toolchain))?;
    let object = read(&bytecode::compile(workspace, &toolchain)?)?;
    let manifest = Manifest {
        object: manifest::hash(&object),
        toolchain: toolchain.versions(),
        packages: bytecode::packages(workspace, &toolchain)?,
        sources: manifest::hash_sources(&workspace.root)?,
    };
    let text = format!(
        "# What netstate.bpf.o was built from, and with. Written by `cargo xtask build-ebpf`.\n\n{}",
        toml::to_string(&manifest).context("cannot write the manifest")?
    );
    replace(&workspace.root.join(OBJECT), &object)?;
    replace(&workspace.root.join(MANIFEST), text.as_bytes())?;
    Ok(format!(
        "{OBJECT}: {} bytes, sha256 {}",
        object.len(),
        manifest.object
    ))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Puts `bytes` at `path` in one step. A file that is the same already stays, and whatever was built from it.
fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    let new = path.with_extension("new");
    let written = fs::write(&new, bytes).and_then(|()| fs::rename(&new, path));
    written.with_context(|| format!("cannot write {}", path.display()))
}
