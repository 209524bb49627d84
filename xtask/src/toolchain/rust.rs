//! The Rust compiler for BPF, a target whose core library has to be compiled from source. Any compiler will
//! do that has the source beside it: the distribution's, or rustup's nightly with `rust-src`.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, anyhow, bail};

use super::{LINKER_VERSION, LLVM, isolate};
use crate::{manifest::Versions, packages, process};

/// Debian's compiler that keeps up with what its browsers need, its cargo, and the source of its library.
const DEBIAN: &[&str] = &["rustc-web", "cargo-web", "rust-web-src"];

/// A compiler for BPF.
pub(crate) struct Rust {
    pub(crate) cargo: PathBuf,
    pub(crate) rustc: PathBuf,
    /// The source of the core library and its siblings.
    pub(crate) library: PathBuf,
    /// As `rustc --version` tells it.
    pub(crate) version: String,
    pub(crate) llvm: String,
    pub(crate) host: String,
}

impl Rust {
    pub(crate) fn llvm_major(&self) -> u32 {
        major(&self.llvm).unwrap_or_default()
    }
}

/// Finds a compiler, the one that `wanted` names if it is here, or installs Debian's.
pub(super) fn find(wanted: Option<&Versions>) -> Result<Rust> {
    let mut refusals = Vec::new();
    if let Some(rust) = choose(wanted, &mut refusals) {
        return Ok(rust);
    }
    let installed = if packages::available() {
        packages::install(DEBIAN, "the build of the BPF programs")
    } else {
        Err(anyhow!("there is none"))
    };
    if installed.is_ok() {
        refusals.clear();
        if let Some(rust) = choose(wanted, &mut refusals) {
            return Ok(rust);
        }
    }
    Err(anyhow!(advice(&refusals, installed.err())))
}

/// The best compiler that is here, and what is wrong with the others.
fn choose(wanted: Option<&Versions>, refusals: &mut Vec<String>) -> Option<Rust> {
    let mut found = Vec::new();
    for candidate in [distribution(), nightly()] {
        match candidate {
            Ok(rust) => found.push(rust),
            Err(error) => refusals.push(format!("{error:#}")),
        }
    }
    let exact = found
        .iter()
        .position(|rust| wanted.is_some_and(|wanted| wanted.rustc == rust.version));
    (!found.is_empty()).then(|| found.swap_remove(exact.unwrap_or(0)))
}

fn distribution() -> Result<Rust> {
    let bin = Path::new("/usr/bin");
    examine("the distribution's Rust", bin.join("cargo"), bin.join("rustc"))
}

fn nightly() -> Result<Rust> {
    let name = "rustup's nightly Rust";
    let rustup = |args: &[&str]| {
        let mut rustup = Command::new("rustup");
        isolate(&mut rustup);
        process::output(rustup.args(args))
    };
    // Asked for a toolchain that it does not have, rustup would download it.
    let toolchains = rustup(&["toolchain", "list"]).unwrap_or_default();
    if !toolchains
        .lines()
        .any(|toolchain| toolchain.starts_with("nightly-"))
    {
        bail!("{name} is not installed");
    }
    let which = |tool| rustup(&["which", "--toolchain=nightly", tool]);
    let [cargo, rustc] = [which("cargo")?, which("rustc")?].map(|path| PathBuf::from(path.trim_end()));
    examine(name, cargo, rustc)
}

/// Asks the compiler what it is, and refuses it when it cannot serve.
fn examine(name: &str, cargo: PathBuf, rustc: PathBuf) -> Result<Rust> {
    if !(cargo.is_file() && rustc.is_file()) {
        bail!("{name} is not installed");
    }
    let ask = |question| {
        let mut command = Command::new(&rustc);
        isolate(&mut command);
        process::output(command.args(question))
    };
    let facts = ask(["--version", "--verbose"].as_slice())?;
    let fact = |key: &str| {
        facts
            .lines()
            .find_map(|line| line.strip_prefix(key))
            .map(|fact| fact.trim().to_owned())
    };
    let version = fact("rustc ").with_context(|| format!("{name} does not tell its version"))?;
    let llvm = fact("LLVM version:").with_context(|| format!("{name} does not tell its LLVM version"))?;
    let host = fact("host:").with_context(|| format!("{name} does not tell its host"))?;
    if !major(&llvm).is_some_and(|major| LLVM.contains(&major)) {
        let (first, last) = (LLVM.start(), LLVM.end());
        bail!(
            "{name} ({version}) is built on LLVM {llvm}, and bpf-linker {LINKER_VERSION} on {first} to {last}"
        );
    }
    let sysroot = ask(["--print=sysroot"].as_slice())?;
    let library = Path::new(sysroot.trim_end()).join("lib/rustlib/src/rust/library");
    if !library.join("core/Cargo.toml").is_file() {
        bail!("{name} ({version}) lacks the source of its library");
    }
    Ok(Rust {
        cargo,
        rustc,
        library,
        version,
        llvm,
        host,
    })
}

fn major(version: &str) -> Option<u32> {
    version.split('.').next()?.parse().ok()
}

/// What to do where nothing serves.
fn advice(refusals: &[String], installation: Option<anyhow::Error>) -> String {
    let mut text = "no Rust compiler here can build the BPF programs".to_owned();
    for refusal in refusals {
        let _ = write!(text, "\n  {refusal}");
    }
    if let Some(error) = installation {
        let _ = write!(text, "\n  Debian's packages: {error:#}");
    }
    let _ = write!(
        text,
        "\non Debian, with its security updates: apt-get install {} llvm-22-dev\
         \nelsewhere: rustup toolchain install nightly --component rust-src\
         \n           and the development files of the LLVM that `rustc +nightly -vV` tells",
        DEBIAN.join(" ")
    );
    text
}
