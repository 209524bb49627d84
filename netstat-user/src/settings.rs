//! What a network namespace is set to, where no socket says it.

use std::{fs, path::Path, str::FromStr};

use serde::{Deserialize, Serialize};

/// Settings of one network namespace (`Documentation/networking/ip-sysctl.rst`). What the kernel does not have, or
/// does not show, is `None`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Settings {
    /// `tcp_orphan_retries`: how many timeouts end a connection that no process holds; 0 stands for 8
    /// (`tcp_orphan_retries`).
    pub orphan_retries: Option<u32>,
    /// `ip_local_port_range`: the first and the last port that `connect` picks from.
    pub ports: Option<(u16, u16)>,
    /// `ip_local_reserved_ports`: those that neither `connect` nor `bind` to port 0 picks, as first and last ones.
    pub reserved: Vec<(u16, u16)>,
    /// `ip_autobind_reuse`: whether `bind` to port 0 lets two sockets with `SO_REUSEADDR` share a port if no other is left:
    /// 0 or 1.
    pub autobind_reuse: Option<u8>,
    /// `tcp_max_tw_buckets`: how many TIME_WAIT there may be.
    pub max_tw_buckets: Option<u32>,
    /// `tcp_syncookies`: whether SYNs for which there is no room are answered nevertheless: 0 never, 1 then, 2 always.
    pub syncookies: Option<u8>,
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
            reserved: text("ip_local_reserved_ports").map_or_else(Vec::new, |list| ranges(&list)),
            autobind_reuse: text("ip_autobind_reuse").and_then(|text| parse(&text)),
            max_tw_buckets: number("tcp_max_tw_buckets"),
            syncookies: text("tcp_syncookies").and_then(|text| parse(&text)),
            tw_reuse: text("tcp_tw_reuse").and_then(|text| parse(&text)),
        }
    }

    /// Whether `connect`, and `bind` to port 0, pick such a port.
    #[must_use]
    pub fn picks(&self, port: u16) -> bool {
        let within = |&(first, last): &(u16, u16)| (first..=last).contains(&port);
        self.ports.as_ref().is_some_and(within) && !self.reserved.iter().any(within)
    }

    /// How many ports they pick from.
    #[must_use]
    pub fn port_count(&self) -> Option<usize> {
        let (first, last) = self.ports?;
        let all = usize::from(last.checked_sub(first)?) + 1;
        // Ranges do not overlap (`proc_do_large_bitmap`).
        let reserved = self.reserved.iter().map(|&(from, to)| {
            let (from, to) = (from.max(first), to.min(last));
            to.checked_sub(from).map_or(0, |more| usize::from(more) + 1)
        });
        Some(all.saturating_sub(reserved.sum()))
    }
}

/// Ports and ranges of ports with commas between them, as `8080,9000-9010`.
fn ranges(text: &str) -> Vec<(u16, u16)> {
    let parts = text.split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some((parse(first)?, parse(last)?))
    });
    parts.collect()
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
        write("ip_local_reserved_ports", "8080,40000-40009,60999\n");
        let settings = Settings::read_below(folder.path());
        assert_eq!(settings.port_count(), Some(28_221));
        let picks = [32_768, 40_009, 40_010, 60_998, 60_999, 61_000].map(|port| settings.picks(port));
        assert_eq!(picks, [true, false, true, true, false, false]);
    }

    #[test]
    fn this_machine_has_them() {
        assert!(Settings::read().port_count().is_some());
    }
}
