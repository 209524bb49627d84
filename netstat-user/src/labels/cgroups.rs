//! Control groups by id. The id of a group is the inode number of its folder below the mount of `cgroup2`
//! (`kernfs_ino`, `cgroup_id`).

use std::{
    collections::VecDeque,
    ffi::OsStr,
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{DirEntryExt, MetadataExt},
    },
    path::{Path, PathBuf},
};

use rustc_hash::FxHashMap;

use crate::{connection::Printable, namespaces::unescaped};

/// Groups that are looked at, at the most.
const MOST: usize = 65_536;

/// The paths of groups, found when the first one is asked for.
#[derive(Debug, Default)]
pub(super) struct Cgroups {
    found: Option<FxHashMap<u64, String>>,
}

impl Cgroups {
    /// The path of the group with this id, below the mount; `None` if it is gone, or not to be seen from here.
    pub(super) fn path(&mut self, id: u64) -> Option<&str> {
        let found = self.found.get_or_insert_with(|| {
            let mounts = fs::read("/proc/self/mountinfo").unwrap_or_default();
            mount_point(&mounts).map(|root| walk(&root)).unwrap_or_default()
        });
        found.get(&id).map(String::as_str)
    }
}

/// The id of the group at `path`: below the mount, or the path of its folder. A number that is no path is an id already.
///
/// # Errors
///
/// When there is no such group, a message that says so.
pub fn cgroup_id(path: &str) -> Result<u64, String> {
    let mounts = fs::read("/proc/self/mountinfo").unwrap_or_default();
    let Some(root) = mount_point(&mounts) else {
        return Err("cgroup2 is not mounted here, so control groups have no paths".to_owned());
    };
    id_below(&root, path).ok_or_else(|| {
        format!(
            "there is no control group `{path}` below {}, where cgroup2 is mounted",
            root.display()
        )
    })
}

fn id_below(root: &Path, path: &str) -> Option<u64> {
    let device = fs::metadata(root).ok()?.dev();
    let inside = root.join(path.trim_start_matches('/'));
    let folders = [inside, PathBuf::from(path)];
    let found = folders.iter().find_map(|folder| {
        let metadata = fs::metadata(folder).ok()?;
        (metadata.is_dir() && metadata.dev() == device).then_some(metadata.ino())
    });
    found.or_else(|| path.parse().ok())
}

/// Where the second version's hierarchy is mounted: `ID PARENT MAJOR:MINOR ROOT MOUNTPOINT OPTIONS … - TYPE …`.
fn mount_point(mountinfo: &[u8]) -> Option<PathBuf> {
    let mut lines = mountinfo.split(|&byte| byte == b'\n');
    lines.find_map(|line| {
        let mut fields = line.split(|&byte| byte == b' ');
        let place = fields.nth(4)?;
        let mut after = fields.skip_while(|field| *field != b"-").skip(1);
        (after.next()? == b"cgroup2").then(|| unescaped(place))
    })
}

/// The groups below `root`, those near to it first.
fn walk(root: &Path) -> FxHashMap<u64, String> {
    let mut found = FxHashMap::default();
    let mut ahead = VecDeque::from([(root.to_owned(), String::new())]);
    if let Ok(metadata) = fs::metadata(root) {
        found.insert(metadata.ino(), "/".to_owned());
    }
    while let Some((folder, path)) = ahead.pop_front() {
        // A group may have gone since it was listed.
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if found.len() >= MOST {
                return found;
            }
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let path = format!("{path}/{}", printable(&entry.file_name()));
                found.insert(entry.ino(), path.clone());
                ahead.push_back((entry.path(), path));
            }
        }
    }
    found
}

fn printable(name: &OsStr) -> String {
    Printable(name.as_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_is_found_among_all() {
        let mountinfo = b"30 23 0:26 / /sys/fs/cgroup ro,nosuid shared:9 - tmpfs tmpfs ro,mode=755\n\
            31 30 0:27 / /sys/fs/cgroup/uni\\040fied rw,nosuid shared:10 - cgroup2 cgroup2 rw,nsdelegate\n\
            32 30 0:28 / /sys/fs/cgroup/systemd rw shared:11 - cgroup cgroup rw,xattr,name=systemd\n";
        assert_eq!(
            mount_point(mountinfo),
            Some(PathBuf::from("/sys/fs/cgroup/uni fied"))
        );
        assert_eq!(mount_point(b"1 2 3\n\n- cgroup2\n"), None);
    }

    #[test]
    fn groups_are_found_by_the_inodes_of_their_folders() {
        let root = std::env::temp_dir().join(format!("netstate-cgroups-{}", std::process::id()));
        let inner = root.join("system.slice/nginx.service");
        fs::create_dir_all(&inner).unwrap();
        fs::write(root.join("cgroup.procs"), "").unwrap();
        let found = walk(&root);
        let id = fs::metadata(&inner).unwrap().ino();
        assert_eq!(
            found.get(&id).map(String::as_str),
            Some("/system.slice/nginx.service")
        );
        assert_eq!(found.len(), 3);
        let folder = inner.to_str().unwrap();
        for path in [
            "system.slice/nginx.service",
            "/system.slice/nginx.service/",
            folder,
        ] {
            assert_eq!(id_below(&root, path), Some(id), "{path}");
        }
        assert_eq!(id_below(&root, "4711"), Some(4711));
        assert_eq!(id_below(&root, "/system.slice/apache.service"), None);
        assert_eq!(
            id_below(&root, "/system.slice/nginx.service/../../cgroup.procs"),
            None
        );
        fs::remove_dir_all(&root).unwrap();
        assert!(walk(&root).is_empty());
    }
}
