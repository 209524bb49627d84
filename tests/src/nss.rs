//! A name service of the tests' own: a module of the C library's (NSS), and a machine that asks it.

use std::{
    ffi::OsStr,
    fs,
    path::Path,
    process::{Command, Output},
};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::{Namespace, binary, daemon::directory, requirements::CannotRun};

const SOURCE: &str = include_str!("nss/module.c");
/// What the library calls it by, in its configuration and in the module's file name and functions.
const NAME: &str = "netstatetest";

/// Puts the configuration in place, where only this command sees it, and becomes the command.
const BECOME: &str = r#"mount --bind "$1" /etc/nsswitch.conf && shift && exec "$@""#;

/// A name service that knows what `nss/module.c` has, beside the machine's files.
#[derive(Debug)]
pub struct NameService {
    directory: TempDir,
}

impl NameService {
    /// Compiles it.
    ///
    /// # Errors
    /// When there is no C compiler, or it fails.
    pub fn new() -> Result<Self> {
        let directory = directory()?;
        let (source, module) = (
            directory.path().join("module.c"),
            directory.path().join(format!("libnss_{NAME}.so.2")),
        );
        fs::write(&source, SOURCE)?;
        let mut cc = Command::new("cc");
        let arguments = ["-shared", "-fPIC", "-o"].map(OsStr::new);
        cc.args(arguments).arg(&module).arg(&source);
        let Ok(compiled) = cc.output() else {
            return Err(CannotRun("needs `cc`, for a name service of its own; install gcc").into());
        };
        let complaint = String::from_utf8_lossy(&compiled.stderr);
        ensure!(compiled.status.success(), "cc: {}", complaint.trim());
        let sources = ["passwd", "services", "hosts"].map(|what| format!("{what}: files {NAME}\n"));
        fs::write(directory.path().join("nsswitch.conf"), sources.concat())?;
        Ok(Self { directory })
    }

    /// Runs `netstate` with `arguments` (separated by blanks) inside `namespace`, where this service is asked.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn run(&self, namespace: &Namespace, socket: &Path, arguments: &str) -> Result<Output> {
        let mut command = binary::netstate(socket)?;
        command.args(arguments.split_whitespace());
        let configuration = self.directory.path().join("nsswitch.conf");
        let configuration = configuration.to_str().context("a path that is not UTF-8")?;
        let through = ["--mount", "sh", "-c", BECOME, "sh", configuration];
        let mut command = binary::through("unshare", &through, &command);
        namespace.output(command.env("LD_LIBRARY_PATH", self.directory.path()))
    }
}
