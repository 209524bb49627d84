//! Debian's kernels: which there are, and getting one without installing it.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{packages, process, workspace::Workspace};

/// What Debian calls its kernels for virtual machines: small, and with everything that netstate uses.
const FLAVOUR: &str = "-cloud-amd64";
const PREFIX: &str = "linux-image-";

/// A kernel, and the modules that belong to it.
pub(crate) struct Kernel {
    /// As `uname -r` says it.
    pub(crate) release: String,
    pub(crate) image: PathBuf,
    /// `lib/modules/RELEASE`.
    pub(crate) modules: PathBuf,
}

impl Kernel {
    /// The newest kernel of a series, such as `6.1`; downloaded if it is not here yet.
    ///
    /// A path to a `vmlinuz-RELEASE` is taken as it is: its modules are in `../lib/modules/RELEASE`, as a
    /// package has them.
    pub(crate) fn find(workspace: &Workspace, wanted: &str) -> Result<Self> {
        if wanted.contains('/') {
            return Self::at(Path::new(wanted));
        }
        ensure!(
            cfg!(target_arch = "x86_64"),
            "Debian's kernels are only known by their names on x86-64 so far: give the path of a vmlinuz"
        );
        let mut known = known()?;
        if known.is_empty() {
            packages::update().context("no kernel is known; the lists of packages cannot be had")?;
            known = self::known()?;
        }
        let Some(package) = newest(&known, wanted) else {
            bail!("no kernel {wanted}; there is {}", series(&known).join(", "));
        };
        Self::get(workspace, package)
    }

    fn at(image: &Path) -> Result<Self> {
        let parts = || {
            let release = image.file_name()?.to_str()?.strip_prefix("vmlinuz-")?;
            let root = image.parent()?.parent()?;
            Some((release.to_owned(), root.join("lib/modules").join(release)))
        };
        let (release, modules) =
            parts().with_context(|| format!("{} is not called vmlinuz-RELEASE", image.display()))?;
        for path in [image, &modules] {
            ensure!(path.exists(), "there is no {}", path.display());
        }
        Ok(Self {
            release,
            image: image.to_owned(),
            modules,
        })
    }

    /// Downloads and unpacks a package, unless that was done before.
    fn get(workspace: &Workspace, package: &str) -> Result<Self> {
        let folder = workspace.target.join("vm/kernels").join(package);
        let release = package.trim_start_matches(PREFIX);
        let image = folder.join("boot").join(format!("vmlinuz-{release}"));
        if !image.exists() {
            println!("downloading {package}");
            packages::unpack(&[package], &folder).with_context(|| format!("cannot get {package}"))?;
        }
        Self::at(&image)
    }
}

/// All kernels in the lists of packages.
fn known() -> Result<Vec<String>> {
    if !packages::available() {
        bail!("kernels come from Debian's packages, and this is another system: give the path of a vmlinuz");
    }
    let names = process::output(Command::new("apt-cache").args(["pkgnames", PREFIX]))?;
    let is_kernel = |name: &&str| !numbers(name).is_empty() && name.ends_with(FLAVOUR);
    Ok(names.lines().filter(is_kernel).map(str::to_owned).collect())
}

/// The newest package of the series.
fn newest<'a>(known: &'a [String], series: &str) -> Option<&'a str> {
    let of_series = |name: &&String| {
        let version = name.trim_start_matches(PREFIX);
        let rest = version.strip_prefix(series);
        rest.is_some_and(|rest| rest.starts_with(['.', '-', '+']))
            // `linux-image-6.12-cloud-amd64` only depends on the newest.
            && version.trim_end_matches(FLAVOUR) != series
    };
    let newest = known.iter().filter(of_series).max_by_key(|name| numbers(name));
    newest.map(String::as_str)
}

/// The series that there are, as `6.1`.
fn series(known: &[String]) -> Vec<String> {
    let mut series: Vec<_> = known
        .iter()
        .filter_map(|name| Some(numbers(name).get(..2)?.to_vec()))
        .collect();
    series.sort();
    series.dedup();
    series
        .iter()
        .map(|numbers| numbers.iter().map(u64::to_string).collect::<Vec<_>>().join("."))
        .collect()
}

/// The numbers in a version, which order it.
fn numbers(name: &str) -> Vec<u64> {
    name.trim_start_matches(PREFIX)
        .trim_end_matches(FLAVOUR)
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|number| number.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{newest, series};

    #[test]
    fn the_newest_of_a_series_is_found() {
        let known = [
            "linux-image-6.1.0-9-cloud-amd64",
            "linux-image-6.1.0-56-cloud-amd64",
            "linux-image-6.12-cloud-amd64",
            "linux-image-6.12.9+deb12-cloud-amd64",
            "linux-image-6.12.117+deb12-cloud-amd64",
            "linux-image-6.12.117+deb12-rt-amd64",
        ]
        .map(str::to_owned);
        assert_eq!(
            newest(&known[..5], "6.1"),
            Some("linux-image-6.1.0-56-cloud-amd64")
        );
        assert_eq!(
            newest(&known[..5], "6.12"),
            Some("linux-image-6.12.117+deb12-cloud-amd64")
        );
        assert_eq!(newest(&known[..5], "5.15"), None);
        assert_eq!(series(&known), ["6.1", "6.12"]);
    }
}
