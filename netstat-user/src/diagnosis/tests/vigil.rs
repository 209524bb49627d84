//! What becomes stuck, gets worse, and recovers.

use super::*;
use crate::{
    diagnosis::{Changes, Outcome, Stuck, Vigil, outcome},
    reason::Reason,
    table::{Ending, Source, Step},
    view::HistoryView,
};

/// CLOSE_WAIT that has lasted for two minutes at `time`.
fn leaked(port: u16, time: u64) -> RowView {
    changed(row(port, CloseWait, SECOND * 120), |figures| {
        figures.time = Ktime(time);
    })
}

fn look(vigil: &mut Vigil, rows: &[RowView]) -> Changes {
    let look = look_at(rows);
    vigil.look(&Looks {
        before: &look,
        now: &look,
        between: SECOND,
        reading: &Reading::default(),
        older: None,
        filter: None,
        reaches: &Reaches::default(),
    })
}

fn ports(stuck: &[Stuck]) -> Vec<Option<u16>> {
    stuck
        .iter()
        .map(|stuck| stuck.row.connection.remote.port())
        .collect()
}

const NOW: u64 = 1_000_000_000_000;

#[test]
fn what_is_stuck_is_told_once() {
    let mut vigil = Vigil::default();
    let first = look(&mut vigil, &[leaked(1, NOW), row(2, Established, HOUR)]);
    assert_eq!(ports(&first.stuck), [Some(1)]);
    assert_eq!(first.stuck[0].since(), Ktime(NOW - 120_000_000_000));
    let second = look(&mut vigil, &[leaked(1, NOW + 1), leaked(2, NOW + 1)]);
    assert_eq!(ports(&second.stuck), [Some(2)]);
    assert_eq!((second.recovered, second.left), (vec![], vec![]));
}

#[test]
fn what_gets_worse_is_told_again() {
    let unanswered = |times| {
        changed(row(1, TcpState::SynSent, SECOND * 10), |figures| {
            figures.attempts.retransmits = Some(times);
        })
    };
    let mut vigil = Vigil::default();
    assert_eq!(look(&mut vigil, &[unanswered(1)]).stuck.len(), 1);
    assert_eq!(look(&mut vigil, &[unanswered(3)]).stuck.len(), 0);
    let worse = look(&mut vigil, &[unanswered(6)]).stuck;
    assert_eq!(worse[0].symptom.severity, Severity::Critical);
    assert_eq!(look(&mut vigil, &[unanswered(1)]).stuck.len(), 0);
}

/// A queue that is full most of the time is not news each time.
#[test]
fn progress_counts_when_two_looks_find_it() {
    let full = |len, time| {
        changed(row(80, Listen, HOUR), |figures| {
            figures.queues = Queues {
                recv: len,
                send: 0,
                backlog: 5,
            };
            figures.time = Ktime(time);
        })
    };
    let waiting = changed(row(1, Established, SECOND * 3), |figures| figures.inode = None);
    let full = |len, time| [full(len, time), waiting.clone()];
    let mut vigil = Vigil::default();
    assert_eq!(look(&mut vigil, &full(6, 1)).stuck.len(), 1);
    for time in [2, 4] {
        let changes = look(&mut vigil, &full(0, time));
        assert_eq!(changes, Changes::default(), "not yet");
        assert_eq!(look(&mut vigil, &full(6, time + 1)), Changes::default());
    }
    assert_eq!(look(&mut vigil, &full(0, 6)), Changes::default());
    let recovered = look(&mut vigil, &full(0, 7)).recovered;
    assert_eq!(recovered.len(), 1);
    assert_eq!(recovered[0].1, Ktime(6), "since the first of the two");
}

#[test]
fn nobody_is_judged_without_figures() {
    let mut vigil = Vigil::default();
    look(&mut vigil, &[leaked(1, NOW)]);
    let blind = RowView {
        figures: None,
        ..leaked(1, NOW)
    };
    for _ in 0..3 {
        assert_eq!(look(&mut vigil, std::slice::from_ref(&blind)), Changes::default());
    }
    assert_eq!(look(&mut vigil, &[leaked(1, NOW + 9)]), Changes::default());
}

#[test]
fn what_moves_on_or_is_gone_has_left() {
    let mut vigil = Vigil::default();
    look(&mut vigil, &[leaked(1, NOW), leaked(2, NOW)]);
    let moved = look(&mut vigil, &[row(1, TcpState::LastAck, SECOND)]);
    assert_eq!(ports(&moved.left), [Some(1)]);
    assert_eq!(ports(&look(&mut vigil, &[]).left), [Some(2)]);
    assert_eq!(look(&mut vigil, &[]), Changes::default());
}

fn history(port: u16, steps: &[(u64, TcpState)], ending: Option<Ending>) -> HistoryView {
    let steps = steps.iter().map(|(time, to)| Step {
        time: Ktime(*time),
        from: None,
        to: *to,
        source: Source::Event,
    });
    HistoryView::of_steps(row(port, CloseWait, SECOND), steps.collect(), ending)
}

#[test]
fn a_history_tells_the_outcome() {
    let mut vigil = Vigil::default();
    let stuck = look(&mut vigil, &[leaked(1, NOW)]).stuck.remove(0);
    let ended = Ending {
        time: Ktime(NOW + 9),
        source: Source::Event,
        earliest: None,
        reason: Some(Reason::ResetByPeer),
    };
    let before = (5, CloseWait);
    let closed = (NOW + 7, TcpState::LastAck);
    assert_eq!(outcome(&stuck, &[]), Outcome::Gone);
    assert_eq!(
        outcome(&stuck, &[history(2, &[before, closed], None)]),
        Outcome::Gone,
        "another peer's"
    );
    assert_eq!(
        outcome(&stuck, &[history(1, &[before, closed], Some(ended))]),
        Outcome::Moved(Ktime(NOW + 7), TcpState::LastAck)
    );
    assert_eq!(
        outcome(&stuck, &[history(1, &[before], Some(ended))]),
        Outcome::Ended(Ktime(NOW + 9), Some(Reason::ResetByPeer))
    );
}
