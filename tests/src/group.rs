//! Control groups of the tests' own.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context, Result};

/// A control group that this test has made, removed on drop.
#[derive(Debug)]
pub struct Group {
    folder: PathBuf,
    root: PathBuf,
}

impl Group {
    /// Below the first mount of this kind that has `option` among its options; `None` if there is no such mount.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn new(kind: &str, option: &str) -> Result<Option<Self>> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let root = mounts.lines().find_map(|line| {
            let fields: Vec<_> = line.split(' ').collect();
            let [_, place, found, options, ..] = fields[..] else {
                return None;
            };
            let fits = found == kind && options.split(',').any(|one| one == option);
            fits.then(|| PathBuf::from(place))
        });
        let Some(root) = root else {
            return Ok(None);
        };
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = root.join(format!("netstate-test-{}-{number}", std::process::id()));
        fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Some(Self { folder, root }))
    }

    /// A group inside this one.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn within(&self, name: &str) -> Result<Self> {
        let (folder, root) = (self.folder.join(name), self.root.clone());
        fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Self { folder, root })
    }

    /// Where it is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes into one of its files.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn write(&self, file: &str, text: &str) -> Result<()> {
        let path = self.folder.join(file);
        fs::write(&path, text).with_context(|| format!("cannot write {text} to {}", path.display()))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let members = fs::read_to_string(self.folder.join("cgroup.procs")).unwrap_or_default();
        for pid in members.lines() {
            let _ = fs::write(self.root.join("cgroup.procs"), pid);
        }
        if let Err(error) = fs::remove_dir(&self.folder) {
            eprintln!("{} is left behind: {error}", self.folder.display());
        }
    }
}
