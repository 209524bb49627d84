//! Debian packages: what is missing is installed, after saying so; some are only unpacked.

use std::{
    collections::HashSet,
    ffi::OsStr,
    fs,
    path::Path,
    process::Command,
    sync::{Mutex, PoisonError},
};

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
    static UPDATED: Mutex<bool> = Mutex::new(false);
    let mut updated = UPDATED.lock().unwrap_or_else(PoisonError::into_inner);
    if !*updated {
        apt_get(&["update", "--quiet"])?;
        *updated = true;
    }
    Ok(())
}

/// The names of all packages that the system has.
pub(crate) fn installed() -> Result<HashSet<String>> {
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat", "${db:Status-Abbrev} ${Package}\n"]);
    let names = process::output(&mut query)?;
    let installed = names.lines().filter_map(|line| line.strip_prefix("ii "));
    Ok(installed.map(|name| name.trim().to_owned()).collect())
}

/// `package` and all that it needs, as on a system that has nothing yet.
pub(crate) fn closure(package: &str) -> Result<Vec<String>> {
    let mut simulated = Command::new(APT_GET);
    simulated.args(["--option", "Dir::State::status=/dev/null", "--simulate"]);
    simulated.args(["install", "--no-install-recommends", package]);
    let steps = process::output(&mut simulated)?;
    let installs = steps.lines().filter_map(|line| line.strip_prefix("Inst "));
    Ok(installs
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect())
}

/// Downloads packages and unpacks them into `folder`, installing nothing.
///
/// Everything is done in a folder beside `folder`, which takes its place when all is there.
pub(crate) fn unpack(packages: &[impl AsRef<OsStr>], folder: &Path) -> Result<()> {
    let partial = folder.with_extension("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    let archives = partial.join("archives");
    fs::create_dir_all(&archives)?;
    let mut download = Command::new(APT_GET);
    download.args(["download", "--quiet"]).args(packages);
    process::output(download.current_dir(&archives))?;
    for archive in fs::read_dir(&archives)? {
        let mut extract = Command::new("dpkg-deb");
        extract.arg("--extract").arg(archive?.path()).arg(&partial);
        process::output(&mut extract)?;
    }
    fs::remove_dir_all(&archives)?;
    Ok(fs::rename(&partial, folder)?)
}

fn apt_get(args: &[&str]) -> Result<()> {
    let environment = [("DEBIAN_FRONTEND", OsStr::new("noninteractive"))];
    let Some(mut command) = process::as_root(APT_GET, &environment) else {
        bail!("only root may install packages, and there is no sudo");
    };
    process::output(command.args(args)).map(drop)
}
