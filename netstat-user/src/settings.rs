//! What a network namespace is set to, where no socket says it.

use std::{fs, path::Path, str::FromStr};

use serde::{Deserialize, Serialize};

/// Settings of one network namespace (`Documentation/networking/ip-sysctl.rst`). What the kernel does not have, or
/// does not show, is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Settings {
    /// `tcp_orphan_retries`: how many timeouts end a connection that no process holds; 0 stands for 8
    /// (`tcp_orphan_retries`).
    pub orphan_retries: Option<u32>,
    /// `ip_local_port_range`: the first and the last port that `connect` picks from.
    pub ports: Option<(u16, u16)>,
    /// `tcp_max_tw_buckets`: how many TIME_WAIT there may be.
    pub max_tw_buckets: Option<u32>,
    /// `tcp_tw_reuse`: whether `connect` may take the ports of a TIME_WAIT: 0 never, 1 always, 2 on loopback.
    pub tw_reuse: Option<u8>,
}

impl Settings {
    /// Reads those of the calling thread's network namespace.
    #[must_use]
    pub fn read() -> Self {
        Self::read_below(Path::new("/proc/sys/net/ipv4"))
    }

    fn read_below(folder: &Path) -> Self {
        let text = |name: &str| fs::read_to_string(folder.join(name)).ok();
        let number = |name: &str| parse(&text(name)?);
        Self {
            orphan_retries: number("tcp_orphan_retries"),
            ports: text("ip_local_port_range").and_then(|range| {
                let (first, last) = range.trim().split_once(char::is_whitespace)?;
                Some((parse(first)?, parse(last)?))
            }),
            max_tw_buckets: number("tcp_max_tw_buckets"),
            tw_reuse: text("tcp_tw_reuse").and_then(|text| parse(&text)),
        }
    }

    /// How many ports `connect` picks from.
    #[must_use]
    pub fn port_count(&self) -> Option<usize> {
        let (first, last) = self.ports?;
        Some(usize::from(last.checked_sub(first)?) + 1)
    }
}

fn parse<T: FromStr>(text: &str) -> Option<T> {
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_as_far_as_they_are_there() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("tcp_orphan_retries", "0\n");
        write("tcp_max_tw_buckets", "many\n");
        write("ip_local_port_range", "32768\t60999\n");
        let settings = Settings::read_below(folder.path());
        assert_eq!(settings.orphan_retries, Some(0));
        assert_eq!(settings.max_tw_buckets, None);
        assert_eq!(settings.port_count(), Some(28_232));
    }

    #[test]
    fn this_machine_has_them() {
        assert!(Settings::read().port_count().is_some());
    }
}
