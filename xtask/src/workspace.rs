//! Where the workspace is, and the cargo that builds it.

use std::{
    env,
    io::{IsTerminal as _, stderr},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::Value;

use crate::process;

/// The workspace that xtask works on.
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    /// Cargo's target folder. What xtask makes for itself lies in its subfolders.
    pub(crate) target: PathBuf,
}

impl Workspace {
    /// The workspace of the current folder, as cargo sees it.
    pub(crate) fn locate() -> Result<Self> {
        #[derive(Deserialize)]
        struct Metadata {
            workspace_root: PathBuf,
            target_directory: PathBuf,
        }

        let mut metadata = cargo();
        metadata.args(["metadata", "--no-deps", "--format-version=1"]);
        let metadata: Metadata =
            serde_json::from_str(&process::output(&mut metadata)?).context("cannot read cargo's metadata")?;
        Ok(Self {
            root: metadata.workspace_root,
            target: metadata.target_directory,
        })
    }

    /// Builds one executable with `cargo ARGS`, where `object` is the BPF object to embed in place of the
    /// checked-in one, and returns its path.
    pub(crate) fn build(&self, name: &str, args: &[&str], object: Option<&Path>) -> Result<PathBuf> {
        let built = self.build_all(args, object)?;
        let wanted = built.into_iter().find(|(built, _)| built == name);
        let (_, path) = wanted.with_context(|| format!("cargo built no executable named {name}"))?;
        Ok(path)
    }

    /// The same for all executables that are built: their names and paths.
    pub(crate) fn build_all(&self, args: &[&str], object: Option<&Path>) -> Result<Vec<(String, PathBuf)>> {
        let mut build = self.cargo();
        build.args(args).arg("--message-format=json-render-diagnostics");
        set_object(&mut build, object);
        build.stderr(Stdio::inherit());
        let messages = process::output(&mut build)?;
        Ok(messages.lines().filter_map(executable).collect())
    }

    /// The cargo that runs xtask, in the workspace.
    pub(crate) fn cargo(&self) -> Command {
        let mut cargo = cargo();
        cargo.current_dir(&self.root);
        quieten(&mut cargo);
        cargo
    }
}

fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // Cargo told xtask about xtask's own package; a build must not see it.
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("CARGO_PKG_") {
            cargo.env_remove(name);
        }
    }
    cargo
        .env_remove("CARGO_MANIFEST_DIR")
        .env_remove("CARGO_MANIFEST_PATH");
    cargo
}

/// Keeps cargo from telling each package that it compiles where nobody watches.
pub(crate) fn quieten(cargo: &mut Command) {
    if !stderr().is_terminal() {
        cargo.env("CARGO_TERM_QUIET", "true");
    }
}

/// Has the build script of netstat-user embed `object`, or the checked-in object when there is none.
fn set_object(build: &mut Command, object: Option<&Path>) {
    match object {
        Some(object) => build.env("NETSTATE_BPF_OBJECT", object),
        None => build.env_remove("NETSTATE_BPF_OBJECT"),
    };
}

/// The name and the path in one of cargo's JSON messages, if it tells of an executable.
fn executable(message: &str) -> Option<(String, PathBuf)> {
    let message: Value = serde_json::from_str(message).ok()?;
    if message["reason"] != "compiler-artifact" {
        return None;
    }
    let path = PathBuf::from(message["executable"].as_str()?);
    Some((message["target"]["name"].as_str()?.to_owned(), path))
}
