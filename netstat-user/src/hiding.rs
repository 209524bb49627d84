//! Whether `/proc` hides processes from this one: `hidepid` in `proc(5)`, as `has_pid_permissions` (`fs/proc/base.c`) decides.

use std::{fmt, fs, sync::OnceLock};

use serde::{Deserialize, Serialize};

/// `CAP_SYS_PTRACE` (`include/uapi/linux/capability.h`), which sees all processes.
const SYS_PTRACE: u32 = 19;

/// How `/proc` is mounted that hides processes from this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hiding {
    /// They are listed, and nothing of them can be read.
    NoAccess,
    /// They are not even listed.
    Invisible,
    /// Nor are they for the group that may see all of them otherwise.
    Ptraceable,
}

impl Hiding {
    /// Reads how it is mounted now, and what this process may do.
    #[must_use]
    pub fn read() -> Option<Self> {
        // What cannot be read is not there: then nothing is found of processes at all, which is an error elsewhere.
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let status = fs::read_to_string("/proc/self/status").ok()?;
        Self::parse(&mounts, &status)
    }

    /// The same, as it was when this process was first asked.
    #[must_use]
    pub fn at_first() -> Option<Self> {
        static FIRST: OnceLock<Option<Hiding>> = OnceLock::new();
        *FIRST.get_or_init(Self::read)
    }

    fn parse(mountinfo: &str, status: &str) -> Option<Self> {
        // The last one is on top of the others.
        let options = mountinfo.lines().filter_map(options_of_proc).next_back()?;
        let value = |name: &str| {
            let mut options = options.split(',');
            options.find_map(|option| option.strip_prefix(name)?.strip_prefix('='))
        };
        // By numbers before Linux 5.8 (`proc_show_options`).
        let hiding = match value("hidepid")? {
            "1" | "noaccess" => Self::NoAccess,
            "2" | "invisible" => Self::Invisible,
            "4" | "ptraceable" => Self::Ptraceable,
            _ => return None,
        };
        let field = |name: &str| {
            let mut lines = status.lines();
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        };
        let capabilities = field("CapEff").and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        if capabilities.is_some_and(|mask| mask & (1 << SYS_PTRACE) != 0) {
            return None;
        }
        // `in_group_p`: the group for file systems, which is the last of the four, and the supplementary ones.
        let group = value("gid").unwrap_or("0");
        let own = field("Gid").and_then(|ids| ids.split_whitespace().last());
        let mut groups = own
            .into_iter()
            .chain(field("Groups").into_iter().flat_map(str::split_whitespace));
        let exempt = hiding != Self::Ptraceable && groups.any(|id| id == group);
        (!exempt).then_some(hiding)
    }

    /// The mount option by which it hides them.
    #[must_use]
    pub const fn option(self) -> &'static str {
        match self {
            Self::NoAccess => "hidepid=1",
            Self::Invisible => "hidepid=2",
            Self::Ptraceable => "hidepid=4",
        }
    }
}

impl fmt::Display for Hiding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "/proc is mounted with {}, which hides processes without CAP_SYS_PTRACE",
            self.option()
        )
    }
}

/// The options of the file system itself, if `line` is that of a `proc` on `/proc`: `ID PARENT MAJOR:MINOR ROOT MOUNTPOINT
/// OPTIONS… - TYPE SOURCE OPTIONS` (`proc_pid_mountinfo(5)`).
fn options_of_proc(line: &str) -> Option<&str> {
    let (mount, system) = line.split_once(" - ")?;
    let on_proc = mount.split(' ').nth(4) == Some("/proc");
    let mut fields = system.split(' ');
    let is_proc = fields.next() == Some("proc");
    (on_proc && is_proc).then(|| fields.nth(1))?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hiding(options: &str, capabilities: &str, groups: &str) -> Option<Hiding> {
        let mounts = format!(
            "47 45 0:21 / /proc rw,relatime shared:2 - proc proc rw\n\
             48 45 0:22 / /sys rw - sysfs sysfs rw\n\
             67 47 0:39 / /proc rw,relatime - proc proc {options}\n\
             68 67 0:40 / /proc/sys/fs/binfmt_misc rw - binfmt_misc none rw\n"
        );
        let status = format!("Name:\ta\nGid:\t1\t1\t1\t65534\nGroups:\t{groups} \nCapEff:\t{capabilities}\n");
        Hiding::parse(&mounts, &status)
    }

    #[test]
    fn the_mount_on_top_decides() {
        const NONE: &str = "0000000000000000";
        for (options, expected) in [
            ("rw", None),
            ("rw,hidepid=off", None),
            ("rw,hidepid=1", Some(Hiding::NoAccess)),
            ("rw,hidepid=noaccess", Some(Hiding::NoAccess)),
            ("rw,gid=7,hidepid=2", Some(Hiding::Invisible)),
            ("rw,gid=7,hidepid=invisible", Some(Hiding::Invisible)),
            ("rw,hidepid=ptraceable,subset=pid", Some(Hiding::Ptraceable)),
        ] {
            assert_eq!(hiding(options, NONE, "1 2"), expected, "{options}");
        }
    }

    #[test]
    fn who_may_see_all_is_not_concerned() {
        const PTRACE: &str = "0000000000080000";
        const OTHERS: &str = "000001fffff7ffff";
        for value in ["1", "2", "4"] {
            let option = format!("rw,gid=7,hidepid={value}");
            assert_eq!(hiding(&option, PTRACE, "1 2"), None);
            assert!(hiding(&option, OTHERS, "1 2").is_some());
            let in_group = hiding(&option, OTHERS, "1 7");
            assert_eq!(in_group.is_some(), value == "4");
        }
        let own = hiding("rw,gid=65534,hidepid=2", OTHERS, "1");
        assert_eq!(own, None);
        let default = hiding("rw,hidepid=2", OTHERS, "0");
        assert_eq!(default, None);
    }
}
