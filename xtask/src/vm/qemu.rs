//! QEMU: the system's own, or else Debian's, unpacked beside the kernels and not installed.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::{packages, process, workspace::Workspace};

const PROGRAM: &str = "qemu-system-x86_64";
const PACKAGE: &str = "qemu-system-x86";

/// Where packages have libraries, relative to the root.
const LIBRARIES: [&str; 2] = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"];

/// A QEMU that can be run.
#[derive(Debug, Clone)]
pub(crate) struct Qemu {
    program: PathBuf,
    /// Where its libraries are, if it is not the system's own.
    libraries: Option<OsString>,
}

impl Qemu {
    /// The one on `PATH`; else one that was unpacked, now or before.
    ///
    /// It is not installed: a system can have other parts of QEMU in a version that does not go with the one that the
    /// lists of packages offer.
    pub(crate) fn find(workspace: &Workspace) -> Result<Self> {
        if let Some(program) = process::find(PROGRAM) {
            return Ok(Self {
                program,
                libraries: None,
            });
        }
        ensure!(
            packages::available(),
            "{PROGRAM} is not here, and this system has no Debian packages: install QEMU"
        );
        let folder = workspace.target.join("vm/qemu");
        if !folder.exists() {
            unpack(&folder).with_context(|| format!("cannot get {PACKAGE}; install it by hand"))?;
        }
        let libraries = std::env::join_paths(LIBRARIES.map(|place| folder.join(place)))?;
        Ok(Self {
            program: folder.join("usr/bin").join(PROGRAM),
            libraries: Some(libraries),
        })
    }

    /// Its command line, still without arguments.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(libraries) = &self.libraries {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        command
    }
}

/// Unpacks QEMU and what of its libraries the system does not have.
fn unpack(folder: &Path) -> Result<()> {
    println!("downloading {PACKAGE}");
    packages::update()?;
    let here = packages::installed()?;
    let mut wanted = packages::closure(PACKAGE)?;
    wanted.retain(|name| !here.contains(name));
    packages::unpack(&wanted, folder)
}
