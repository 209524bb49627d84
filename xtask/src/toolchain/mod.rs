//! What compiles the BPF programs: a Rust compiler with the source of its core library ([`rust`]), and
//! bpf-linker, which turns LLVM bitcode into an object ([`linker`]).

mod linker;
mod rust;

use std::{env, process::Command};

use anyhow::Result;

use crate::{manifest::Versions, workspace::Workspace};
use linker::Linker;
use rust::Rust;

/// The release of bpf-linker that the project builds with.
const LINKER_VERSION: &str = "0.13.0";

/// The LLVM releases that it can be built on. It has to read what rustc writes, so rustc's must be one.
const LLVM: std::ops::RangeInclusive<u32> = 21..=23;

/// A compiler and a linker that go together.
pub(crate) struct Toolchain {
    pub(crate) rust: Rust,
    pub(crate) linker: Linker,
}

impl Toolchain {
    /// Finds the toolchain, or installs what it lacks. Where there are several compilers, the one that the
    /// manifest names is taken.
    pub(crate) fn find(workspace: &Workspace, wanted: Option<&Versions>) -> Result<Self> {
        let rust = rust::find(wanted)?;
        let linker = linker::find(workspace, rust.llvm_major())?;
        Ok(Self { rust, linker })
    }

    /// What the manifest says about this toolchain.
    pub(crate) fn versions(&self) -> Versions {
        Versions {
            rustc: self.rust.version.clone(),
            rustc_llvm: self.rust.llvm.clone(),
            host: self.rust.host.clone(),
            bpf_linker: LINKER_VERSION.to_owned(),
            bpf_linker_llvm: self.linker.llvm.clone(),
        }
    }
}

/// Takes from `command` all that would have cargo or rustc work otherwise than by default: the user's
/// settings, and what the cargo that runs xtask has set. Where to get packages from stays.
pub(crate) fn isolate(command: &mut Command) {
    const OUT: [&str; 3] = ["CARGO", "RUST", "LD_LIBRARY_PATH"];
    const STAY: [&str; 10] = [
        "CARGO_HOME",
        "CARGO_HTTP_",
        "CARGO_NET_",
        "CARGO_REGISTRIES_",
        "CARGO_REGISTRY_",
        "CARGO_SOURCE_",
        "CARGO_TERM_",
        "RUSTUP_AUTO_INSTALL",
        "RUSTUP_DIST_",
        "RUSTUP_HOME",
    ];
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let starts = |prefix: &&str| text.starts_with(*prefix);
        if OUT.iter().any(starts) && !STAY.iter().any(starts) {
            command.env_remove(&name);
        }
    }
}
