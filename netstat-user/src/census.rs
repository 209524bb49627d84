//! How many TCP sockets the kernel counts in a network namespace: the measure of whether all of them are known.

use std::fs;

/// Sockets by what the kernel keeps them in. Request socks it does not count so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Census {
    /// Full socks in the hashes, which is where listeners and connections are (`sock_prot_inuse_add`). Of both families together: with
    /// `IPV6_ADDRFORM`, a socket goes over from one count to the other.
    pub full: usize,
    /// Minisocks.
    pub minisocks: usize,
}

impl Census {
    /// Reads that of the calling thread's network namespace. `None` where the kernel does not show it.
    #[must_use]
    pub fn read() -> Option<Self> {
        let inet = fs::read_to_string("/proc/thread-self/net/sockstat").ok()?;
        // Not there if the kernel does without IPv6.
        let inet6 = fs::read_to_string("/proc/thread-self/net/sockstat6").unwrap_or_default();
        Self::parse(&inet, &inet6)
    }

    /// Out of the two files, whose lines are names and numbers in turn (`sockstat_seq_show`, `sockstat6_seq_show`).
    fn parse(inet: &str, inet6: &str) -> Option<Self> {
        Some(Self {
            full: number(inet, "TCP:", "inuse")? + number(inet6, "TCP6:", "inuse").unwrap_or(0),
            minisocks: number(inet, "TCP:", "tw")?,
        })
    }
}

fn number(text: &str, line: &str, name: &str) -> Option<usize> {
    let line = text.lines().find_map(|text| text.strip_prefix(line))?;
    let mut words = line.split_whitespace();
    words.find(|word| *word == name)?;
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOCKSTAT: &str =
        "sockets: used 8\nTCP: inuse 21 orphan 1 tw 3 alloc 22 mem 332\nUDP: inuse 9 mem 0\n";
    const SOCKSTAT6: &str = "TCP6: inuse 4\nUDP6: inuse 7\n";

    #[test]
    fn the_kernels_counts_are_read() {
        let census = Census {
            full: 25,
            minisocks: 3,
        };
        assert_eq!(Census::parse(SOCKSTAT, SOCKSTAT6), Some(census));
        assert_eq!(Census::parse(SOCKSTAT, ""), Some(Census { full: 21, ..census }));
        for unknown in ["", "TCP: inuse", "TCP: inuse many tw 3", "UDP: inuse 9 tw 3"] {
            assert_eq!(Census::parse(unknown, SOCKSTAT6), None, "{unknown}");
        }
    }

    #[test]
    fn this_kernel_shows_them() {
        assert!(Census::read().is_some());
    }
}
