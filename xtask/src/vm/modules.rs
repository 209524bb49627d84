//! The kernel modules that the tests need, and the order in which they can be loaded.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::process;

/// What a distribution's kernel would load on demand. A module that is not there is built in, or what needs it
/// says so itself.
const NEEDED: [&str; 7] = [
    // The cables between namespaces, and interfaces that lead nowhere.
    "veth",
    "dummy",
    // What `ss` asks.
    "tcp_diag",
    "mptcp_diag",
    "unix_diag",
    // A protocol that passes the same tracepoint as TCP, and the checksum that it asks for when it starts.
    "crc32c_generic",
    "sctp",
];

/// A module, ready to be loaded.
pub(crate) struct Module {
    pub(crate) name: String,
    pub(crate) contents: Vec<u8>,
}

/// Reads the modules below `folder` (`lib/modules/RELEASE`), each after those that it depends on.
pub(crate) fn read(folder: &Path) -> Result<Vec<Module>> {
    let mut files = BTreeMap::new();
    collect(folder, &mut files).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut modules = Vec::new();
    for name in NEEDED {
        add(&files, name, &mut modules)?;
    }
    Ok(modules)
}

/// Finds all modules, by name.
fn collect(folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let (path, kind) = entry.and_then(|entry| Ok((entry.path(), entry.file_type()?)))?;
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if kind.is_dir() {
            collect(&path, files)?;
        } else if let Some((name, _)) = name.split_once(".ko") {
            // Files have either sign in their names; the kernel takes both for the same.
            files.insert(name.replace('-', "_"), path);
        }
    }
    Ok(())
}

/// Adds a module after its dependencies.
fn add(files: &BTreeMap<String, PathBuf>, name: &str, modules: &mut Vec<Module>) -> Result<()> {
    let Some(path) = files.get(name) else {
        return Ok(());
    };
    if modules.iter().any(|module| module.name == name) {
        return Ok(());
    }
    let contents = contents(path).with_context(|| format!("cannot read {}", path.display()))?;
    for dependency in dependencies(&contents) {
        add(files, &dependency.replace('-', "_"), modules)?;
    }
    modules.push(Module {
        name: name.to_owned(),
        contents,
    });
    Ok(())
}

fn contents(path: &Path) -> Result<Vec<u8>> {
    if path.extension().is_some_and(|extension| extension == "ko") {
        return Ok(fs::read(path)?);
    }
    let mut xz = Command::new("xz");
    xz.args(["--decompress", "--stdout"]).arg(path);
    let output = xz.output().with_context(|| process::cannot_start(&xz))?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output.stdout)
}

/// What a module says in its section `.modinfo` that it depends on: `depends=` and names with commas between.
fn dependencies(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let place = module.windows(KEY.len()).position(|window| window == KEY);
    let value = place.and_then(|place| module[place + KEY.len()..].split(|byte| *byte == 0).next());
    let names = String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
    names
        .split(',')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::dependencies;

    #[test]
    fn dependencies_are_read() {
        let module = b"\x7fELF\0license=GPL\0depends=libcrc32c,udp_tunnel\0retpoline=Y\0";
        assert_eq!(dependencies(module), ["libcrc32c", "udp_tunnel"]);
        assert!(dependencies(b"\0depends=\0name=veth\0").is_empty());
        assert!(dependencies(b"no module").is_empty());
    }
}
