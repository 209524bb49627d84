//! Refuses to build with a BPF object that the sources beside it no longer make, and tells the compiler
//! where the object is: `NETSTATE_BPF_OBJECT`.
//!
//! With that variable already set, it is another object to embed, taken as it is.

#[path = "../xtask/src/manifest.rs"]
mod manifest;

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use manifest::{LOCK, MANIFEST, Manifest, OBJECT, PACKAGE, SOURCES};

const VARIABLE: &str = "NETSTATE_BPF_OBJECT";

fn main() {
    match object() {
        Ok(Checked::Good(path)) => println!("cargo::rustc-env={VARIABLE}={}", path.display()),
        Ok(Checked::Stale(differences)) => {
            println!("cargo::error={OBJECT} is not what its sources make:");
            for difference in differences {
                println!("cargo::error=  {difference}");
            }
            println!("cargo::error=rebuild it: cargo xtask build-ebpf");
        }
        Err(error) => println!("cargo::error={error:#}"),
    }
}

enum Checked {
    Good(PathBuf),
    Stale(Vec<String>),
}

fn object() -> Result<Checked> {
    println!("cargo::rerun-if-env-changed={VARIABLE}");
    if let Some(other) = env::var_os(VARIABLE) {
        return other_object(Path::new(&other));
    }
    let package = env::var_os("CARGO_MANIFEST_DIR").context("CARGO_MANIFEST_DIR is not set")?;
    let root = Path::new(&package)
        .parent()
        .context("netstat-user is not in a workspace")?;
    for input in [OBJECT, MANIFEST, PACKAGE, SOURCES, LOCK] {
        println!("cargo::rerun-if-changed={}", root.join(input).display());
    }
    let differences = Manifest::read(root)?.differences(root)?;
    Ok(if differences.is_empty() {
        Checked::Good(root.join(OBJECT))
    } else {
        Checked::Stale(differences)
    })
}

fn other_object(path: &Path) -> Result<Checked> {
    let path = path
        .canonicalize()
        .with_context(|| format!("cannot find {}, the object that {VARIABLE} names", path.display()))?;
    println!("cargo::rerun-if-changed={}", path.display());
    println!("cargo::warning=embedding {} in place of {OBJECT}", path.display());
    Ok(Checked::Good(path))
}
