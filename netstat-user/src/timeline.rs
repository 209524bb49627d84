//! The life of one connection, as the states that it has been in one after the other.

use std::time::Duration;

use crate::{
    clock::Ktime,
    table::{Source, Step},
    tcp::TcpState,
    view::HistoryView,
};

/// A stay in one state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stay {
    /// The state.
    pub state: TcpState,
    /// Since when; `None` when it was there before anything was known of it, and the kernel does not show it.
    pub since: Option<Ktime>,
    /// How long: up to the next step, or up to now.
    pub lasted: Option<Duration>,
    /// It has lasted longer: that is only how long it has been known.
    pub at_least: bool,
    /// How its beginning is known; `None` when it is not.
    pub source: Option<Source>,
    /// It has not ended.
    pub open: bool,
    /// The step before led elsewhere: something in between was not seen.
    pub after_gap: bool,
}

/// The states that `history` tells of, oldest first, up to `now`. The end itself is none of them.
#[must_use]
pub fn stays(history: &HistoryView, now: Ktime) -> Vec<Stay> {
    let steps = history.steps();
    let mut stays: Vec<Stay> = before(history).into_iter().collect();
    for (place, step) in steps.iter().enumerate() {
        if step.to == TcpState::Close {
            continue;
        }
        let next = steps.get(place + 1).map(|next| next.time);
        let until = next.or(history.ending.map(|ending| ending.time));
        let previous = place.checked_sub(1).and_then(|place| steps.get(place));
        let found = step.source == Source::Sweep;
        // What the row shows of its present state can be more than the scan that found it.
        let since = match until {
            None if found => step.time.min(history.row.since),
            _ => step.time,
        };
        stays.push(Stay {
            state: step.to,
            since: Some(since),
            lasted: Some(until.unwrap_or(now).since(since)),
            at_least: until.is_none() && found && history.row.at_least,
            source: Some(step.source),
            open: until.is_none(),
            after_gap: previous.is_some_and(|previous| step.from != Some(previous.to)),
        });
    }
    stays
}

/// The state that a connection was in when it was first heard of.
fn before(history: &HistoryView) -> Option<Stay> {
    let unknown = Stay {
        state: history.row.state,
        since: None,
        lasted: None,
        at_least: false,
        source: None,
        open: false,
        after_gap: false,
    };
    match history.steps().first() {
        Some(Step { from: Some(from), .. }) => {
            // Out of these a connection begins; that is no state of its own.
            (!matches!(from, TcpState::Close | TcpState::Listen)).then_some(Stay {
                state: *from,
                ..unknown
            })
        }
        Some(_) => None,
        None => Some(Stay {
            since: (!history.row.at_least).then_some(history.row.since),
            lasted: Some(history.row.in_state),
            at_least: history.row.at_least,
            open: true,
            ..unknown
        }),
    }
}

/// How long all of it took, as far as it is known.
#[must_use]
pub fn length(stays: &[Stay]) -> Duration {
    stays.iter().filter_map(|stay| stay.lasted).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        connection::{Connection, Cookie, Endpoint, Family, Netns},
        facts::StateEvent,
        sources::Coverage,
        table::Table,
        tcp::TcpState::{Close, CloseWait, Established, FinWait1, LastAck, Listen, SynRecv, SynSent},
    };

    fn event(time: u64, from: TcpState, to: TcpState) -> StateEvent {
        let end = |port| Endpoint::new("127.0.0.1".parse().unwrap(), port);
        let connection = Connection {
            cookie: Cookie(1),
            netns: Netns(1),
            family: Family::Inet,
            local: end(80),
            remote: end(40_000),
            device: None,
            mptcp: false,
        };
        StateEvent {
            time: Ktime(time),
            connection,
            skaddr: crate::connection::SkAddr(1),
            from,
            to,
            error: None,
            peer_fin: false,
            orphan: false,
            no_linger2: false,
            standing: None,
            owner: None,
            uid: 0,
            cgroup: None,
            fwmark: 0,
        }
    }

    /// The stays of a connection with these steps, asked for at time 100: state, since and how long.
    fn told(steps: &[(u64, TcpState, TcpState)]) -> Vec<(TcpState, Option<u64>, Option<u64>)> {
        let mut table = Table::remembering(Coverage::default(), 1 << 20);
        for (time, from, to) in steps {
            table.apply_event(&event(*time, *from, *to), &mut Vec::new());
        }
        let now = Ktime(100);
        let live = table.get(Cookie(1)).map(|row| HistoryView::new(row, now));
        let ended = || Some(HistoryView::ended(table.ended_before(u64::MAX, 1).0.next()?, now));
        let history = live.or_else(ended).unwrap();
        let stays = stays(&history, now);
        assert_eq!(stays.iter().any(|stay| stay.open), history.ending.is_none());
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap();
        let stays = stays.iter();
        stays
            .map(|stay| {
                let since = stay.since.map(|time| time.0);
                (stay.state, since, stay.lasted.map(nanos))
            })
            .collect()
    }

    #[test]
    fn a_life_from_the_beginning_to_the_end() {
        let steps = [
            (10, Listen, SynRecv),
            (12, SynRecv, Established),
            (20, Established, CloseWait),
            (50, CloseWait, LastAck),
            (51, LastAck, Close),
        ];
        let whole = [
            (SynRecv, Some(10), Some(2)),
            (Established, Some(12), Some(8)),
            (CloseWait, Some(20), Some(30)),
            (LastAck, Some(50), Some(1)),
        ];
        assert_eq!(told(&steps), whole);
        let mut open = whole[..3].to_vec();
        open[2].2 = Some(80);
        assert_eq!(told(&steps[..3]), open);
    }

    #[test]
    fn what_was_there_before_has_no_beginning() {
        assert_eq!(
            told(&[(30, Established, FinWait1)]),
            [(Established, None, None), (FinWait1, Some(30), Some(70))]
        );
        assert_eq!(told(&[(30, Close, SynSent)]), [(SynSent, Some(30), Some(70))]);
    }
}
