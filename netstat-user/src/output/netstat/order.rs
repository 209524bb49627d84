//! The order of the rows: IPv4 before IPv6 and listeners first, as netstat has it; then by address, which is more than it
//! does.

use crate::{
    connection::{Endpoint, Family},
    tcp::TcpState,
    view::RowView,
};

/// Keys of rows, each with what leads to the row: of those that are equal, the least comes first.
///
/// IPv4's are a fraction as long as those of IPv6, and sorted by themselves: on a large host it is the memory that they
/// take which sorting them waits for.
#[derive(Debug)]
pub(super) struct Order<T> {
    short: Vec<(Short, T)>,
    long: Vec<(Long, T)>,
}

/// Listeners first, local address and port, remote address and port: 97 bits.
type Short = [u64; 2];
type Long = (bool, Endpoint, Endpoint);

impl<T: Copy + Ord> Order<T> {
    /// Of no rows.
    pub(super) const fn new() -> Self {
        Self {
            short: Vec::new(),
            long: Vec::new(),
        }
    }

    /// Adds a row.
    pub(super) fn add(&mut self, row: &RowView, to: T) {
        let connection = &row.connection;
        let later = row.state != TcpState::Listen;
        // What comes little by little is sorted meanwhile: then `sort` only has to merge.
        match connection.family {
            Family::Inet => push(
                &mut self.short,
                (short(later, connection.local, connection.remote), to),
            ),
            Family::Inet6 => push(&mut self.long, ((later, connection.local, connection.remote), to)),
        }
    }

    /// What leads to the rows, in their order.
    pub(super) fn sorted(mut self) -> impl Iterator<Item = T> {
        self.short.sort();
        self.long.sort();
        let short = self.short.into_iter().map(|(_, to)| to);
        short.chain(self.long.into_iter().map(|(_, to)| to))
    }
}

/// Keys that are sorted at once.
const RUN: usize = 4096;

/// Adds a key. If the last run is complete with that, it is sorted, and merged with those before it that are together as
/// long, as one counts in binary: so that, whenever the rows end, only a few long runs are left to merge.
fn push<T: Ord>(keys: &mut Vec<T>, key: T) {
    keys.push(key);
    if keys.len().is_multiple_of(RUN) {
        let merged = RUN << (keys.len() / RUN).trailing_zeros();
        let (before, last) = (keys.len() - merged, keys.len() - RUN);
        keys[last..].sort_unstable();
        keys[before..].sort();
    }
}

fn short(later: bool, local: Endpoint, remote: Endpoint) -> Short {
    let [local_address, remote_address] = [local, remote].map(|end| {
        let [.., a, b, c, d] = end.octets();
        u64::from(u32::from_be_bytes([a, b, c, d]))
    });
    let [local_port, remote_port] = [local, remote].map(|end| u64::from(end.port().unwrap_or(0)));
    [
        u64::from(later) << 48 | local_address << 16 | local_port,
        remote_address << 16 | remote_port,
    ]
}
