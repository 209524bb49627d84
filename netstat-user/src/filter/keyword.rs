//! The words that tests begin with.

use super::{Side, StateSet};
use crate::connection::Family;

/// What a test begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keyword {
    State,
    Exclude,
    End(Side),
    Port(Side),
    Pid,
    Comm,
    User,
    Netns,
    Device,
    Cgroup,
    Family,
    Inet(Family),
    Cookie,
    Mptcp,
    Bound,
    Fwmark,
    Autobound,
}

/// The keywords, by what each is called; of those with the same meaning the usual one comes first.
const ALL: [(&str, Keyword); 27] = [
    ("state", Keyword::State),
    ("exclude", Keyword::Exclude),
    ("src", Keyword::End(Side::Local)),
    ("dst", Keyword::End(Side::Remote)),
    ("host", Keyword::End(Side::Either)),
    ("net", Keyword::End(Side::Either)),
    ("sport", Keyword::Port(Side::Local)),
    ("dport", Keyword::Port(Side::Remote)),
    ("port", Keyword::Port(Side::Either)),
    ("portrange", Keyword::Port(Side::Either)),
    ("pid", Keyword::Pid),
    ("comm", Keyword::Comm),
    ("user", Keyword::User),
    ("uid", Keyword::User),
    ("netns", Keyword::Netns),
    ("dev", Keyword::Device),
    ("cgroup", Keyword::Cgroup),
    ("family", Keyword::Family),
    ("inet", Keyword::Inet(Family::Inet)),
    ("ip", Keyword::Inet(Family::Inet)),
    ("inet6", Keyword::Inet(Family::Inet6)),
    ("ip6", Keyword::Inet(Family::Inet6)),
    ("cookie", Keyword::Cookie),
    ("mptcp", Keyword::Mptcp),
    ("bound", Keyword::Bound),
    ("fwmark", Keyword::Fwmark),
    ("autobound", Keyword::Autobound),
];

/// The keyword that `word` is, in upper or lower case.
pub(super) fn keyword(word: &str) -> Option<Keyword> {
    let found = ALL.iter().find(|(name, _)| word.eq_ignore_ascii_case(name));
    found.map(|(_, keyword)| *keyword)
}

/// Whether a value follows `word`, so that `word:VALUE` is both. The families do not: `inet:` belongs to an address.
pub(super) fn takes_value(word: &str) -> bool {
    !matches!(
        keyword(word),
        None | Some(Keyword::Inet(_) | Keyword::Mptcp | Keyword::Bound | Keyword::Autobound)
    )
}

/// All that a test can begin with, or be.
pub(super) fn words() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|(name, _)| *name).chain(StateSet::names())
}
