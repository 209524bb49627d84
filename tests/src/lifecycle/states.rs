//! The states of TCP as netstate spells them, and which can follow which.

use std::fmt;

/// A state, as an index into [`NAMES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct State(u8);

/// Names, by index.
pub(super) const NAMES: [&str; 11] = [
    "CLOSE",
    "LISTEN",
    "SYN_SENT",
    "SYN_RECV",
    "ESTABLISHED",
    "FIN_WAIT1",
    "FIN_WAIT2",
    "CLOSING",
    "TIME_WAIT",
    "CLOSE_WAIT",
    "LAST_ACK",
];

/// What the kernel's announcements, and what follows from them, can be.
const STEPS: &[(&str, &[&str])] = &[
    ("CLOSE", &["SYN_SENT", "LISTEN"]),
    // SYN_RECV is a child's first step.
    ("LISTEN", &["CLOSE", "SYN_RECV"]),
    ("SYN_SENT", &["ESTABLISHED", "SYN_RECV", "CLOSE"]),
    ("SYN_RECV", &["ESTABLISHED", "FIN_WAIT1", "CLOSE"]),
    ("ESTABLISHED", &["FIN_WAIT1", "CLOSE_WAIT", "CLOSE"]),
    ("FIN_WAIT1", &["FIN_WAIT2", "CLOSING", "TIME_WAIT", "CLOSE"]),
    ("FIN_WAIT2", &["TIME_WAIT", "CLOSE"]),
    ("CLOSING", &["TIME_WAIT", "CLOSE"]),
    ("TIME_WAIT", &["CLOSE"]),
    ("CLOSE_WAIT", &["LAST_ACK", "CLOSE"]),
    ("LAST_ACK", &["CLOSE"]),
];

impl State {
    /// No connection.
    pub(super) const CLOSE: Self = Self(0);
    /// A listener.
    pub(super) const LISTEN: Self = Self(1);
    /// What waits for the peer's FIN.
    pub(super) const FIN_WAIT2: Self = Self(6);
    /// What is left of a connection for a while.
    pub(super) const TIME_WAIT: Self = Self(8);
    /// The server's half of a handshake.
    pub(super) const SYN_RECV: Self = Self(3);

    /// The state of this name.
    #[must_use]
    pub(super) fn named(name: &str) -> Option<Self> {
        let place = NAMES.iter().position(|known| *known == name)?;
        u8::try_from(place).ok().map(Self)
    }

    /// Its name.
    #[must_use]
    pub(super) fn name(self) -> &'static str {
        NAMES[usize::from(self.0)]
    }

    /// Whether `next` can follow at once.
    #[must_use]
    pub(super) fn can_become(self, next: Self) -> bool {
        STEPS[..]
            .iter()
            .any(|(from, to)| *from == self.name() && to.contains(&next.name()))
    }
}

impl fmt::Display for State {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}
