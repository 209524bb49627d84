//! The manifest of the checked-in BPF object: what the object was built from, and with.
//!
//! `cargo xtask build-ebpf` writes it. The build script of netstat-user, which includes this file, refuses
//! to embed an object whose manifest no longer holds.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The compiled BPF programs, relative to the workspace.
pub(crate) const OBJECT: &str = "netstat-ebpf/netstate.bpf.o";

/// The manifest of [`OBJECT`], relative to the workspace.
pub(crate) const MANIFEST: &str = "netstat-ebpf/netstate.bpf.toml";

/// What the object is built from, relative to the workspace: a package file, and a folder of `.rs` files.
pub(crate) const PACKAGE: &str = "netstat-ebpf/Cargo.toml";
pub(crate) const SOURCES: &str = "netstat-ebpf/src";

/// The versions of its dependencies, relative to the workspace.
pub(crate) const LOCK: &str = "Cargo.lock";

/// What [`OBJECT`] was built from, and with. All hashes are SHA-256 in hexadecimal.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// Hash of the object.
    pub(crate) object: String,
    pub(crate) toolchain: Versions,
    /// The packages that are compiled into the object, or write code that is, and their versions.
    pub(crate) packages: BTreeMap<String, String>,
    /// Each source file, relative to the workspace, and its hash.
    pub(crate) sources: BTreeMap<String, String>,
}

/// What two builds must have in common to be the same bytes.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Versions {
    pub(crate) rustc: String,
    /// The LLVM that rustc is built on.
    pub(crate) rustc_llvm: String,
    /// Cargo makes the host a part of the hashes that name symbols.
    pub(crate) host: String,
    pub(crate) bpf_linker: String,
    /// The LLVM that bpf-linker generates code with.
    pub(crate) bpf_linker_llvm: String,
}

impl Manifest {
    /// Reads the manifest of the workspace at `root`.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let text = fs::read_to_string(root.join(MANIFEST))
            .with_context(|| format!("cannot read {MANIFEST}, which `cargo xtask build-ebpf` writes"))?;
        toml::from_str(&text)
            .with_context(|| format!("cannot understand {MANIFEST}, which `cargo xtask build-ebpf` writes"))
    }

    /// Every way in which the workspace at `root` differs from what the manifest says, in words.
    pub(crate) fn differences(&self, root: &Path) -> Result<Vec<String>> {
        let mut found = compare_sources(&self.sources, &hash_sources(root)?);
        found.extend(compare_packages(&self.packages, &locked_packages(root)?));
        match hash_file(&root.join(OBJECT)) {
            Ok(hash) if hash == self.object => {}
            Ok(_) => found.push(format!(
                "{OBJECT} is not the file that {MANIFEST} was written for"
            )),
            Err(error) => found.push(format!("{error:#}")),
        }
        Ok(found)
    }
}

/// The hash of each file that the object is built from.
pub(crate) fn hash_sources(root: &Path) -> Result<BTreeMap<String, String>> {
    let mut files = vec![root.join(PACKAGE)];
    find_rust_files(&root.join(SOURCES), &mut files)?;
    let named = |file: PathBuf| {
        let name = file
            .strip_prefix(root)
            .unwrap_or(&file)
            .to_string_lossy()
            .into_owned();
        Ok((name, hash_file(&file)?))
    };
    files.into_iter().map(named).collect()
}

fn find_rust_files(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let unreadable = || format!("cannot list {}", folder.display());
    for entry in fs::read_dir(folder).with_context(unreadable)? {
        let path = entry.with_context(unreadable)?.path();
        if path.is_dir() {
            find_rust_files(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(())
}

fn hash_file(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(hash(&bytes))
}

/// The hash of `bytes`.
pub(crate) fn hash(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

/// Every version of every package that `Cargo.lock` names.
fn locked_packages(root: &Path) -> Result<BTreeMap<String, Vec<String>>> {
    #[derive(Deserialize)]
    struct Lock {
        package: Vec<Package>,
    }
    #[derive(Deserialize)]
    struct Package {
        name: String,
        version: String,
    }

    let text = fs::read_to_string(root.join(LOCK)).with_context(|| {
        format!("cannot read {LOCK}, which holds the versions that the BPF object is built with; restore it")
    })?;
    let lock: Lock = toml::from_str(&text).with_context(|| format!("cannot understand {LOCK}"))?;
    let mut packages = BTreeMap::<_, Vec<_>>::new();
    for package in lock.package {
        packages.entry(package.name).or_default().push(package.version);
    }
    Ok(packages)
}

fn compare_sources(then: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> Vec<String> {
    let changed = then.iter().filter_map(|(file, hash)| match now.get(file) {
        None => Some(format!("{file} is gone")),
        Some(other) if other != hash => Some(format!("{file} has changed")),
        Some(_) => None,
    });
    let new = now
        .keys()
        .filter(|&file| !then.contains_key(file))
        .map(|file| format!("{file} is new"));
    changed.chain(new).collect()
}

fn compare_packages(then: &BTreeMap<String, String>, now: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    let difference = |(name, version): (&String, &String)| match now.get(name) {
        None => Some(format!("{name} is not in {LOCK} any more")),
        Some(versions) if !versions.contains(version) => Some(format!(
            "{name} was {version}, {LOCK} has {}",
            versions.join(" and ")
        )),
        Some(_) => None,
    };
    then.iter().filter_map(difference).collect()
}

#[cfg(test)]
mod tests {
    use super::{BTreeMap, compare_packages, compare_sources};

    fn map<V, const N: usize>(pairs: [(&str, V); N]) -> BTreeMap<String, V> {
        pairs
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect()
    }

    fn strings<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
        map(pairs.map(|(key, value)| (key, value.to_owned())))
    }

    #[test]
    fn each_source_that_differs_is_named() {
        let then = strings([("changed.rs", "1"), ("gone.rs", "2"), ("same.rs", "3")]);
        let now = strings([("changed.rs", "4"), ("new.rs", "5"), ("same.rs", "3")]);
        let words = ["changed.rs has changed", "gone.rs is gone", "new.rs is new"];
        assert_eq!(compare_sources(&then, &now), words);
    }

    #[test]
    fn a_package_may_be_locked_in_a_second_version() {
        let then = strings([("aya-ebpf", "0.2.1"), ("gone", "1.0.0"), ("zerocopy", "0.8.1")]);
        let now = map([
            ("aya-ebpf", vec!["0.2.2".to_owned()]),
            ("zerocopy", vec!["0.7.0".to_owned(), "0.8.1".to_owned()]),
        ]);
        let words = [
            "aya-ebpf was 0.2.1, Cargo.lock has 0.2.2",
            "gone is not in Cargo.lock any more",
        ];
        assert_eq!(compare_packages(&then, &now), words);
    }
}
