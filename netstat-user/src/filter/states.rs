//! Sets of TCP states, by the names that netstat and `ss` have for them.

use serde::{Deserialize, Serialize};

use crate::tcp::TcpState;

/// Some of the TCP states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StateSet(u16);

impl StateSet {
    /// Every state.
    const ALL: Self = Self((1 << TcpState::ALL.len()) - 1);

    /// The names of the groups that `ss` has.
    const GROUPS: [&str; 5] = ["all", "connected", "synchronized", "bucket", "big"];

    /// The states by netstat's names, and the groups.
    pub(super) fn names() -> impl Iterator<Item = &'static str> {
        let states = TcpState::ALL.into_iter().map(TcpState::name);
        states.chain(Self::GROUPS)
    }

    /// Those in either.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those in this one and not in `other`.
    #[must_use]
    const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether some state is in both.
    #[must_use]
    pub const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// What a name stands for: a state, as netstat, `ss` or its man page spell it, or one of the groups of `ss`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        use TcpState::{Close, Listen, SynRecv, SynSent, TimeWait};
        let mut plain = name.to_ascii_lowercase();
        plain.retain(|char| !matches!(char, '-' | '_'));
        // The groups as `scan_state` of ss.c has them.
        let closed = Self::from(Close).union(Listen.into());
        let minisocks = Self::from(SynRecv).union(TimeWait.into());
        Some(match plain.as_str() {
            "all" => Self::ALL,
            "connected" => Self::ALL.without(closed),
            "synchronized" => Self::ALL.without(closed).without(SynSent.into()),
            "bucket" => minisocks,
            "big" => Self::ALL.without(minisocks),
            name => state(name)?.into(),
        })
    }
}

/// A state by its name in lower case, without what separates words.
fn state(name: &str) -> Option<TcpState> {
    Some(match name {
        "established" | "estab" => TcpState::Established,
        "synsent" => TcpState::SynSent,
        "synrecv" | "synrcv" => TcpState::SynRecv,
        "finwait1" => TcpState::FinWait1,
        "finwait2" => TcpState::FinWait2,
        "timewait" => TcpState::TimeWait,
        "close" | "closed" | "unconn" | "unconnected" => TcpState::Close,
        "closewait" => TcpState::CloseWait,
        "lastack" => TcpState::LastAck,
        "listen" | "listening" => TcpState::Listen,
        "closing" => TcpState::Closing,
        _ => return None,
    })
}

impl From<TcpState> for StateSet {
    fn from(state: TcpState) -> Self {
        Self(1 << state.index())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_is_known() {
        for state in TcpState::ALL {
            assert_eq!(StateSet::named(state.name()), Some(state.into()), "{state}");
        }
        // Those of `man ss`, and of its first column.
        let theirs = "established syn-sent syn-recv fin-wait-1 fin-wait-2 time-wait closed close-wait last-ack \
                      listening closing ESTAB SYN-SENT UNCONN LISTEN FIN-WAIT-1";
        for name in theirs.split_whitespace() {
            assert!(StateSet::named(name).is_some(), "{name}");
        }
        for name in ["", "estab lished", "open", "established!", "waiting"] {
            assert_eq!(StateSet::named(name), None, "{name}");
        }
    }

    #[test]
    fn groups_are_those_of_ss() {
        let group = |name| {
            let set = StateSet::named(name).unwrap();
            let within = TcpState::ALL
                .into_iter()
                .filter(|state| set.meets((*state).into()));
            within.map(TcpState::name).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(group("bucket"), "SYN_RECV TIME_WAIT");
        assert_eq!(group("all").split(' ').count(), 11);
        assert_eq!(
            group("connected"),
            "ESTABLISHED SYN_SENT SYN_RECV FIN_WAIT1 FIN_WAIT2 TIME_WAIT CLOSE_WAIT LAST_ACK CLOSING"
        );
        assert_eq!(
            group("synchronized"),
            "ESTABLISHED SYN_RECV FIN_WAIT1 FIN_WAIT2 TIME_WAIT CLOSE_WAIT LAST_ACK CLOSING"
        );
        assert_eq!(
            group("big"),
            "ESTABLISHED SYN_SENT FIN_WAIT1 FIN_WAIT2 CLOSE CLOSE_WAIT LAST_ACK LISTEN CLOSING"
        );
    }
}
