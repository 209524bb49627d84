//! Debian packages: what is missing is installed, after saying so.

use std::{ffi::OsStr, sync::OnceLock};

use anyhow::{Context as _, Result, bail};

use crate::process;

const APT_GET: &str = "apt-get";

/// Whether this system takes Debian packages.
pub(crate) fn available() -> bool {
    process::find(APT_GET).is_some()
}

/// Installs `packages`, which are needed for `purpose`. It never removes a package to make room.
pub(crate) fn install(packages: &[&str], purpose: &str) -> Result<()> {
    let names = packages.join(" ");
    let advice = || format!("cannot install what {purpose} needs; install it by hand: {names}");
    if !available() {
        return Err(anyhow::anyhow!("there is no {APT_GET} here")).with_context(advice);
    }
    println!("installing what {purpose} needs: {APT_GET} install {names}");
    update().with_context(advice)?;
    let options = [
        "install",
        "--yes",
        "--quiet",
        "--no-install-recommends",
        "--no-remove",
    ];
    apt_get(&[&options, packages].concat()).with_context(advice)
}

/// Fetches the lists of packages, once in the life of this process.
pub(crate) fn update() -> Result<()> {
    static UPDATED: OnceLock<()> = OnceLock::new();
    if UPDATED.get().is_none() {
        apt_get(&["update", "--quiet"])?;
    }
    UPDATED.get_or_init(|| ());
    Ok(())
}

fn apt_get(args: &[&str]) -> Result<()> {
    let environment = [("DEBIAN_FRONTEND", OsStr::new("noninteractive"))];
    let Some(mut command) = process::as_root(APT_GET, &environment) else {
        bail!("only root may install packages, and there is no sudo");
    };
    process::output(command.args(args)).map(drop)
}
