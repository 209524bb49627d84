//! Whether a listener of another namespace is the one that a connection is to: an address may exist in several
//! namespaces that have nothing to do with each other.

use crate::{connection::Netns, facts::Figures, reach::Reach, tcp::TcpState::SynSent, view::RowView};

/// What there is to know of that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Evidence {
    /// It is: packets lead there, or the listener drops what is sent again.
    Certain,
    /// Nothing shows it, and nothing shows the contrary.
    Open,
    /// It is not.
    Excluded,
}

/// SYNs to one address and port that were sent again between the looks.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Resent {
    /// By the connection in question,
    pub(super) own: u32,
    /// by those of the listener's namespace, which get there,
    pub(super) there: u32,
    /// and by all of this host.
    pub(super) all: u32,
}

/// Judges by where packets lead; where that is not known, by how many packets the listener has dropped meanwhile.
pub(super) fn evidence(
    listener: Netns,
    reach: Option<Reach>,
    resent: Resent,
    dropped: Option<u32>,
) -> Evidence {
    match reach {
        Some(Reach::Namespace(netns)) if netns == listener => return Evidence::Certain,
        Some(_) => return Evidence::Excluded,
        None => {}
    }
    // A listener counts each SYN that it has no room for (`tcp_listendrop`, called by `tcp_conn_request`).
    match dropped {
        Some(dropped) if resent.own > 0 && dropped < resent.there.saturating_add(resent.own) => {
            Evidence::Excluded
        }
        // Others may be dropped as well, so that only the same number is evidence.
        Some(dropped) if resent.own > 0 && dropped == resent.all => Evidence::Certain,
        _ => Evidence::Open,
    }
}

/// By how much a count has risen between the looks.
pub(super) fn risen(
    row: &RowView,
    before: Option<&Figures>,
    count: impl Fn(&Figures) -> Option<u32>,
) -> Option<u32> {
    Some(count(row.figures.as_deref()?)?.wrapping_sub(count(before?)?))
}

/// Whether `row` is a SYN that was sent again.
pub(super) fn is_unanswered(row: &RowView) -> bool {
    let retransmits = row
        .figures
        .as_deref()
        .and_then(|figures| figures.attempts.retransmits);
    row.state == SynSent && retransmits > Some(0)
}
