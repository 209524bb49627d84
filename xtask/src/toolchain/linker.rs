//! bpf-linker, of one version: found on `PATH`, or installed into the target folder and used from there.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::{LINKER_VERSION, isolate};
use crate::{packages, process, workspace::Workspace};

/// A bpf-linker that works.
pub(crate) struct Linker {
    pub(crate) path: PathBuf,
    /// The LLVM that it runs with.
    pub(crate) llvm: String,
}

/// Finds a bpf-linker that is built on the LLVM release `major`, or installs it.
pub(super) fn find(workspace: &Workspace, major: u32) -> Result<Linker> {
    let tools = workspace.target.join("tools");
    let home = tools.join(format!("bpf-linker-{LINKER_VERSION}-llvm-{major}"));
    let own = home.join("bin/bpf-linker");
    let candidates = process::find("bpf-linker").into_iter().chain([own.clone()]);
    for path in candidates.filter(|path| path.is_file()) {
        if let Ok(linker) = examine(path, &tools, major) {
            return Ok(linker);
        }
    }
    install(&home, major)?;
    examine(own, &tools, major)
}

/// Tries the linker at `path`, and refuses it when its version or its LLVM is another.
fn examine(path: PathBuf, scratch: &Path, major: u32) -> Result<Linker> {
    let version = process::output(Command::new(&path).arg("--version"))?;
    if version.trim_end() != format!("bpf-linker {LINKER_VERSION}") {
        bail!("{} is {}", path.display(), version.trim_end());
    }
    let llvm = llvm_version(&path, scratch)?;
    if llvm.split('.').next() != Some(&major.to_string()) {
        bail!("{} is built on LLVM {llvm}", path.display());
    }
    Ok(Linker { path, llvm })
}

/// The version of the LLVM that the linker runs with. The linker does not tell; but LLVM signs the bitcode
/// that it writes, before the name of the target.
fn llvm_version(linker: &Path, scratch: &Path) -> Result<String> {
    const TARGET: &str = "bpfel";
    let unknown = || format!("cannot find out the LLVM version of {}", linker.display());

    fs::create_dir_all(scratch).with_context(unknown)?;
    let [source, bitcode] = ["signed.ll", "signed.bc"].map(|name| scratch.join(name));
    fs::write(&source, format!("target triple = \"{TARGET}\"\n")).with_context(unknown)?;
    process::output(
        Command::new(linker)
            .arg("--emit=llvm-bc")
            .arg("-o")
            .args([&bitcode, &source]),
    )?;
    let bytes = fs::read(&bitcode).with_context(unknown)?;
    let end = bytes
        .windows(TARGET.len())
        .rposition(|window| window == TARGET.as_bytes());
    let before = &bytes[..end.with_context(unknown)?];
    let is_version = |byte: &u8| byte.is_ascii_digit() || *byte == b'.';
    let start = before
        .iter()
        .rposition(|byte| !is_version(byte))
        .map_or(0, |last| last + 1);
    if start == before.len() {
        bail!(unknown());
    }
    Ok(String::from_utf8_lossy(&before[start..]).into_owned())
}

fn install(home: &Path, major: u32) -> Result<()> {
    let prefix = llvm_prefix(major)?;
    println!("installing bpf-linker {LINKER_VERSION} into {}", home.display());
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    isolate(&mut cargo);
    cargo
        .args([
            "install",
            "bpf-linker",
            "--quiet",
            "--force",
            "--locked",
            "--no-default-features",
        ])
        .args([
            "--version",
            LINKER_VERSION,
            "--features",
            &format!("llvm-{major}"),
        ])
        .arg("--root")
        .arg(home)
        .arg("--target-dir")
        .arg(home.join("build"))
        .env("LLVM_PREFIX", prefix);
    if let Some(toolchain) = env::var_os("RUSTUP_TOOLCHAIN") {
        cargo.env("RUSTUP_TOOLCHAIN", toolchain);
    }
    process::run(&mut cargo).context("cannot install bpf-linker")?;
    // Its parts are of no use any more; if they cannot be removed, they only take room.
    let _ = fs::remove_dir_all(home.join("build"));
    Ok(())
}

/// The folder that the LLVM release `major` is installed in, with its development files.
fn llvm_prefix(major: u32) -> Result<PathBuf> {
    if let Some(prefix) = find_llvm(major) {
        return Ok(prefix);
    }
    packages::install(&[&format!("llvm-{major}-dev")], "bpf-linker")?;
    find_llvm(major).with_context(|| format!("cannot find the LLVM {major} that was installed"))
}

fn find_llvm(major: u32) -> Option<PathBuf> {
    let chosen = env::var_os("LLVM_PREFIX").map(|prefix| Path::new(&prefix).join("bin/llvm-config"));
    let debian = PathBuf::from(format!("/usr/lib/llvm-{major}/bin/llvm-config"));
    let candidates = chosen
        .into_iter()
        .chain([debian])
        .chain(process::find("llvm-config"));
    candidates
        .filter(|config| config.is_file())
        .find_map(|config| development_prefix(&config, major))
}

/// Asks llvm-config where its LLVM is, if that is the release `major` and has what one links to.
fn development_prefix(config: &Path, major: u32) -> Option<PathBuf> {
    let ask = |question| process::output(Command::new(config).arg(question)).ok();
    let is_release = ask("--version")?.split('.').next() == Some(&major.to_string());
    let library = Path::new(ask("--libdir")?.trim_end()).join("libLLVM.so");
    (is_release && library.exists())
        .then(|| ask("--prefix").map(|prefix| PathBuf::from(prefix.trim_end())))?
}
