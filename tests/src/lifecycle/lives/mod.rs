//! The kinds of lives that a connection can have.

mod accepting;
mod closing;
mod connecting;
mod crossing;
mod fast_open;
mod listening;
mod reusing;
mod sharing;
mod strange;

use std::io;

use super::hand::Hand;

/// A kind: its name, how often it happens among the others, and how to make one.
#[derive(Debug, Clone, Copy)]
pub(in crate::lifecycle) struct Kind {
    /// Name.
    pub(in crate::lifecycle) name: &'static str,
    weight: u32,
    make: fn(&mut Hand<'_>) -> io::Result<()>,
    /// What the kernel must have for it.
    needs: Needs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    Nothing,
    Mptcp,
    Destroy,
}

const fn kind(name: &'static str, weight: u32, make: fn(&mut Hand<'_>) -> io::Result<()>) -> Kind {
    Kind {
        name,
        weight,
        make,
        needs: Needs::Nothing,
    }
}

impl Kind {
    const fn needing(self, needs: Needs) -> Self {
        Self { needs, ..self }
    }

    /// Whether this kernel can.
    #[must_use]
    pub(in crate::lifecycle) fn is_possible(&self, kernel: super::kernel::Kernel) -> bool {
        match self.needs {
            Needs::Nothing => true,
            Needs::Mptcp => kernel.mptcp,
            Needs::Destroy => kernel.destroy,
        }
    }

    /// Makes one.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(in crate::lifecycle) fn make(&self, hand: &mut Hand<'_>) -> io::Result<()> {
        (self.make)(hand)
    }
}

/// All kinds.
pub(in crate::lifecycle) const KINDS: &[Kind] = &[
    kind("ordinary", 30, closing::ordinary),
    kind("half-close", 6, closing::half_close),
    kind("closed from both sides", 6, closing::both),
    kind("reset", 8, closing::reset_one),
    kind("unread data", 4, closing::unread),
    kind("orphan", 8, closing::orphan),
    kind("timeout of data", 4, closing::data_timeout),
    kind("timeout of keepalive", 2, closing::keepalive_timeout),
    kind("refused", 5, connecting::refused),
    kind("unanswered", 4, connecting::unanswered),
    kind("no neighbour", 1, connecting::no_neighbour),
    kind("no route", 1, connecting::no_route),
    kind("closed in SYN_SENT", 4, connecting::closed_early),
    kind("half-open", 4, connecting::half_open),
    kind("simultaneous open", 4, crossing::simultaneous_open),
    kind("connected to itself", 3, crossing::itself),
    kind("idle listener", 4, listening::idle),
    kind("listener without a port", 2, listening::unbound),
    kind("listen fails", 3, listening::fails),
    kind("queue overflows", 4, accepting::overflow),
    kind("accept deferred", 4, accepting::deferred),
    kind("several listeners", 3, accepting::several),
    kind("fast open", 6, fast_open::data_first),
    kind("fast open, not sent", 2, fast_open::never_sent),
    kind("client's ports again", 6, reusing::client),
    kind("server's ports again", 6, reusing::server),
    kind("socket again", 8, reusing::socket),
    kind("repair", 2, strange::repair),
    kind("bound to a device", 3, strange::bound_to_device),
    kind("passed on", 3, strange::passed_on),
    kind("destroyed", 4, strange::destroyed).needing(Needs::Destroy),
    kind("MPTCP", 3, strange::mptcp).needing(Needs::Mptcp),
    kind("shared: listen", 6, sharing::listen),
    kind("shared: connect", 24, sharing::connect),
    kind("shared: accept", 16, sharing::accept),
];

/// Places in [`KINDS`] of what this kernel can, with their weights; 0 for those to leave out.
#[must_use]
pub(in crate::lifecycle) fn weights(kernel: super::kernel::Kernel, without: &[String]) -> Vec<(usize, u32)> {
    let possible = KINDS
        .iter()
        .enumerate()
        .filter(|(_, kind)| kind.is_possible(kernel));
    let weight = |kind: &Kind| {
        let wanted = !without.iter().any(|name| name == kind.name);
        if wanted { kind.weight } else { 0 }
    };
    possible.map(|(place, kind)| (place, weight(kind))).collect()
}
