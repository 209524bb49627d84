//! Whether a control group freezes a process, of either version, and the file that thaws it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::Thaw;
use crate::namespaces::unescaped;

/// Where the hierarchies that can freeze are mounted.
#[derive(Debug, Default)]
pub struct Freezers {
    /// Of the second version.
    unified: Option<Hierarchy>,
    /// Of the first version, with the controller `freezer`.
    freezer: Option<Hierarchy>,
}

/// A mount of a hierarchy.
#[derive(Debug, PartialEq, Eq)]
struct Hierarchy {
    /// The group that is mounted: `/` except in a container.
    root: PathBuf,
    /// Where.
    at: PathBuf,
}

impl Freezers {
    /// Those that this process sees.
    #[must_use]
    pub fn find() -> Self {
        Self::parse(&fs::read("/proc/self/mountinfo").unwrap_or_default())
    }

    /// Lines of `ID PARENT MAJOR:MINOR ROOT MOUNTPOINT OPTIONS … - TYPE SOURCE OPTIONS`.
    fn parse(mountinfo: &[u8]) -> Self {
        let mut found = Self::default();
        for line in mountinfo.split(|&byte| byte == b'\n') {
            let fields: Vec<_> = line.split(|&byte| byte == b' ').collect();
            let end = fields.iter().position(|field| *field == b"-");
            let (Some([_, _, _, root, at, ..]), Some([_, kind, _, options])) = (
                fields.first_chunk::<5>().map(|fields| &fields[..]),
                end.and_then(|end| fields.get(end..end + 4)),
            ) else {
                continue;
            };
            let hierarchy = || Hierarchy {
                root: unescaped(root),
                at: unescaped(at),
            };
            let mut options = options.split(|&byte| byte == b',');
            match *kind {
                b"cgroup2" => found.unified = found.unified.or_else(|| Some(hierarchy())),
                b"cgroup" if options.any(|option| option == b"freezer") => {
                    found.freezer = found.freezer.or_else(|| Some(hierarchy()));
                }
                _ => {}
            }
        }
        found
    }

    /// How to thaw a process that is in these groups, a text as `/proc/PID/cgroup`; `None` when none of them is frozen.
    #[must_use]
    pub fn frozen(&self, groups: &str) -> Option<Thaw> {
        let mut lines = groups.lines().filter_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            Some((controllers, Path::new(path)))
        });
        lines.find_map(|(controllers, path)| {
            if controllers.is_empty() {
                self.unified.as_ref()?.frozen_unified(path)
            } else if controllers.split(',').any(|name| name == "freezer") {
                self.freezer.as_ref()?.frozen_first(path)
            } else {
                None
            }
        })
    }
}

impl Hierarchy {
    /// The folders of a group and of those above it, as far as they are mounted, the group's own first.
    fn folders(&self, group: &Path) -> impl Iterator<Item = PathBuf> {
        let below = group.strip_prefix(&self.root).ok().map(Path::to_owned);
        let at = self.at.clone();
        below.into_iter().flat_map(move |below| {
            let folders: Vec<_> = below.ancestors().map(|folder| at.join(folder)).collect();
            folders
        })
    }

    /// `cgroup.events` says whether all tasks of the group are frozen, `cgroup.freeze` whether it or a group above is to
    /// be (`Documentation/admin-guide/cgroup-v2.rst`).
    fn frozen_unified(&self, group: &Path) -> Option<Thaw> {
        let own = self.folders(group).next()?;
        let events = fs::read_to_string(own.join("cgroup.events")).ok()?;
        if !events.lines().any(|line| line == "frozen 1") {
            return None;
        }
        self.thaw(group, "cgroup.freeze", |text| text == "1", "cgroup.freeze", "0")
    }

    /// `freezer.state` is what the group is, `freezer.self_freezing` whether that is its own doing
    /// (`Documentation/admin-guide/cgroup-v1/freezer-subsystem.rst`).
    fn frozen_first(&self, group: &Path) -> Option<Thaw> {
        let own = self.folders(group).next()?;
        let state = fs::read_to_string(own.join("freezer.state")).ok()?;
        if state.trim() != "FROZEN" {
            return None;
        }
        let self_freezing = "freezer.self_freezing";
        self.thaw(
            group,
            self_freezing,
            |text| text == "1",
            "freezer.state",
            "THAWED",
        )
    }

    /// The nearest group that freezes, by what `mark` says in its folder; `group` itself where none is seen to.
    fn thaw(
        &self,
        group: &Path,
        mark: &str,
        freezes: impl Fn(&str) -> bool,
        file: &str,
        text: &'static str,
    ) -> Option<Thaw> {
        let mut folders = self.folders(group);
        let nearest = folders.find(|folder| {
            let said = fs::read_to_string(folder.join(mark));
            said.is_ok_and(|said| freezes(said.trim()))
        });
        let folder = nearest.or_else(|| self.folders(group).next())?;
        Some(Thaw {
            file: folder.join(file),
            text,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_found() {
        let mountinfo =
            b"31 30 0:27 / /sys/fs/cgroup/uni\\040fied rw shared:10 - cgroup2 cgroup2 rw,nsdelegate\n\
            32 30 0:28 / /sys/fs/cgroup/cpu rw shared:11 - cgroup cgroup rw,cpu,cpuacct\n\
            33 30 0:29 /box /sys/fs/cgroup/freezer rw shared:12 - cgroup cgroup rw,freezer\nnonsense - a\n";
        let found = Freezers::parse(mountinfo);
        let hierarchy = |root: &str, at: &str| {
            Some(Hierarchy {
                root: root.into(),
                at: at.into(),
            })
        };
        assert_eq!(found.unified, hierarchy("/", "/sys/fs/cgroup/uni fied"));
        assert_eq!(found.freezer, hierarchy("/box", "/sys/fs/cgroup/freezer"));
    }

    #[test]
    fn the_group_that_freezes_is_the_one_to_thaw() {
        let root = tempfile::tempdir().unwrap();
        let inner = root.path().join("outer/inner");
        fs::create_dir_all(&inner).unwrap();
        let freezers = Freezers {
            unified: Some(Hierarchy {
                root: "/".into(),
                at: root.path().to_owned(),
            }),
            freezer: None,
        };
        let groups = "6:freezer:/\n0::/outer/inner\n";
        let write = |folder: &Path, file: &str, text: &str| fs::write(folder.join(file), text).unwrap();
        write(&inner, "cgroup.events", "populated 1\nfrozen 0\n");
        assert_eq!(freezers.frozen(groups), None);
        write(&inner, "cgroup.events", "populated 1\nfrozen 1\n");
        write(&inner, "cgroup.freeze", "0\n");
        write(&root.path().join("outer"), "cgroup.freeze", "1\n");
        let thaw = freezers.frozen(groups).unwrap();
        assert_eq!(thaw.file, root.path().join("outer/cgroup.freeze"));
        assert_eq!(freezers.frozen("0::/elsewhere\n"), None);
    }
}
