//! Compiling the BPF programs, so that the same toolchain makes the same bytes in whatever folder.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    process,
    toolchain::{self, Toolchain},
    workspace::{self, Workspace},
};

const PACKAGE: &str = "netstat-ebpf";
const BINARY: &str = "netstate-bpf";
const TARGET: &str = "bpfel-unknown-none";

/// How the programs are optimized, whatever the workspace has in mind for user space: as one unit, so that
/// no parallel work can order it otherwise, and without debug info, which names folders.
const PROFILE: [&str; 7] = [
    "profile.release.opt-level=3",
    "profile.release.lto='fat'",
    "profile.release.codegen-units=1",
    "profile.release.debug=false",
    "profile.release.incremental=false",
    "profile.release.overflow-checks=false",
    "profile.release.panic='abort'",
];

/// Compiles the programs, and returns the path of the object.
pub(crate) fn compile(workspace: &Workspace, toolchain: &Toolchain) -> Result<PathBuf> {
    let folder = workspace.target.join("bpf");
    let mut cargo = cargo(workspace, toolchain);
    cargo
        .args([
            "build",
            "--locked",
            "--release",
            "--package",
            PACKAGE,
            "--bin",
            BINARY,
            "--features",
            "bpf",
        ])
        .args(["-Zbuild-std=core", "--target", TARGET, "--target-dir"])
        .arg(&folder)
        .env("CARGO_ENCODED_RUSTFLAGS", remap(workspace, toolchain)?)
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &toolchain.linker.path)
        // The host's by default; no program here reads registers, the only thing it would change.
        .env("AYA_BPF_TARGET_ARCH", "x86_64");
    for setting in PROFILE {
        cargo.args(["--config", setting]);
    }
    process::run(&mut cargo).context("cannot compile the BPF programs")?;
    Ok(folder.join(TARGET).join("release").join(BINARY))
}

/// The toolchain's cargo, which nothing in the environment tells how to build.
fn cargo(workspace: &Workspace, toolchain: &Toolchain) -> Command {
    let mut cargo = Command::new(&toolchain.rust.cargo);
    toolchain::isolate(&mut cargo);
    cargo
        .current_dir(&workspace.root)
        .env("RUSTC", &toolchain.rust.rustc)
        // An empty wrapper is none, even where cargo's configuration names one.
        .env("RUSTC_WRAPPER", "")
        .env("RUSTC_WORKSPACE_WRAPPER", "")
        // Compiling the core library takes nightly's options of a compiler that is not nightly.
        .env("RUSTC_BOOTSTRAP", "1");
    workspace::quieten(&mut cargo);
    cargo
}

/// The flags that keep every folder of this machine out of the object.
fn remap(workspace: &Workspace, toolchain: &Toolchain) -> Result<String> {
    let mut folders = vec![(workspace.root.clone(), "/netstate")];
    for folder in registries()? {
        folders.push((folder, "/registry"));
    }
    let library = &toolchain.rust.library;
    folders.push((library.clone(), "/rust"));
    folders.push((
        library.canonicalize().with_context(|| cannot_read(library))?,
        "/rust",
    ));
    let flags = folders
        .iter()
        .map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display()));
    Ok(flags.collect::<Vec<_>>().join("\x1f"))
}

/// The folders that cargo has unpacked packages in, one for each registry.
fn registries() -> Result<Vec<PathBuf>> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| env::home_dir().map(|home| home.join(".cargo")));
    let sources = home
        .context("cannot find cargo's home: neither CARGO_HOME nor HOME is set")?
        .join("registry/src");
    let Ok(entries) = fs::read_dir(&sources) else {
        return Ok(Vec::new());
    };
    entries
        .map(|entry| Ok(entry.with_context(|| cannot_read(&sources))?.path()))
        .collect()
}

/// The packages of the object and their versions: those whose code is in it, and the macros that write
/// code for it, but not what these macros are made of.
pub(crate) fn packages(workspace: &Workspace, toolchain: &Toolchain) -> Result<BTreeMap<String, String>> {
    let mut tree = cargo(workspace, toolchain);
    tree.args([
        "tree",
        "--locked",
        "--package",
        PACKAGE,
        "--features",
        "bpf",
        "--target",
        TARGET,
    ])
    .args(["--edges=normal", "--no-dedupe", "--prefix=depth", "--format= {p}"]);
    let mut packages = BTreeMap::new();
    let mut macro_depth = usize::MAX;
    for line in process::output(&mut tree)?.lines() {
        let [depth, name, version, rest @ ..] = &line.split_whitespace().collect::<Vec<_>>()[..] else {
            bail!("cannot understand what cargo tells about dependencies: {line:?}");
        };
        let depth = depth.parse().with_context(|| format!("no depth in {line:?}"))?;
        if depth > macro_depth {
            continue;
        }
        macro_depth = if rest.contains(&"(proc-macro)") {
            depth
        } else {
            usize::MAX
        };
        packages.insert((*name).to_owned(), version.trim_start_matches('v').to_owned());
    }
    Ok(packages)
}

fn cannot_read(path: &Path) -> String {
    format!("cannot read {}", path.display())
}
