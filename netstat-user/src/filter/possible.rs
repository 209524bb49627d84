//! What a filter can match at all: which of its tests contradict each other, or something else that is known.

use super::{Filter, Op, Test};
use crate::{
    connection::{Family, Netns},
    tcp::TcpState,
};

/// What is known of sockets beforehand; `None` for what is not.
#[derive(Debug, Clone, Copy, Default)]
pub struct Beforehand {
    /// Their state.
    pub state: Option<TcpState>,
    /// Their family.
    pub family: Option<Family>,
    /// Their namespace.
    pub netns: Option<Netns>,
}

impl Beforehand {
    /// What comes of `test`, if that can be told.
    fn judge(&self, test: &Test) -> Option<bool> {
        match *test {
            Test::State(states) => self.state.map(|state| states.meets(state.into())),
            Test::Family(family) => self.family.map(|own| own == family),
            Test::Netns(netns) => self.netns.map(|own| own == netns),
            Test::Device(Some(netns), _) => self.netns.filter(|own| *own != netns).map(|_| false),
            // Bits that the mask leaves out are never left of a mark.
            Test::Fwmark { value, mask } => (value & !mask != 0).then_some(false),
            // An IPv4 socket has no IPv6 address.
            Test::End(_, ends) => {
                let prefix = ends.prefix.filter(|_| self.family == Some(Family::Inet))?;
                (!prefix.may_cover_ipv4()).then_some(false)
            }
            _ => None,
        }
    }
}

impl Filter {
    /// Whether a socket in `state` may be wanted, whatever else it is.
    #[must_use]
    pub fn can_match(&self, state: TcpState) -> bool {
        self.can_match_any(&Beforehand {
            state: Some(state),
            ..Beforehand::default()
        })
    }

    /// Whether a socket may be wanted of which this is known, whatever else it is.
    #[must_use]
    pub fn can_match_any(&self, known: &Beforehand) -> bool {
        self.can_hold(|test| known.judge(test))
    }

    /// The only network namespace in which something can match.
    #[must_use]
    pub fn only_namespace(&self) -> Option<Netns> {
        let elsewhere = |test: &Test| matches!(test, Test::Netns(_)).then_some(false);
        if self.can_hold(elsewhere) {
            return None;
        }
        let mut possible: Vec<_> = self
            .namespaces()
            .filter(|netns| {
                self.can_match_any(&Beforehand {
                    netns: Some(*netns),
                    ..Beforehand::default()
                })
            })
            .collect();
        possible.sort_unstable();
        possible.dedup();
        match possible[..] {
            [netns] => Some(netns),
            _ => None,
        }
    }

    /// As `matches`, for what a value can be where `judge` cannot tell: true, or false.
    pub(super) fn can_hold(&self, judge: impl Fn(&Test) -> Option<bool>) -> bool {
        let (mut can_hold, mut can_fail) = (0_u64, 0_u64);
        for op in self.ops() {
            match op {
                Op::Test(test) => {
                    let holds = judge(test);
                    can_hold = can_hold << 1 | u64::from(holds != Some(false));
                    can_fail = can_fail << 1 | u64::from(holds != Some(true));
                }
                Op::Not => {
                    let swapped = (can_hold ^ can_fail) & 1;
                    can_hold ^= swapped;
                    can_fail ^= swapped;
                }
                Op::And => {
                    can_hold = (can_hold >> 1) & (can_hold | !1);
                    can_fail = (can_fail >> 1) | (can_fail & 1);
                }
                Op::Or => {
                    can_hold = (can_hold >> 1) | (can_hold & 1);
                    can_fail = (can_fail >> 1) & (can_fail | !1);
                }
            }
        }
        can_hold & 1 == 1
    }
}
