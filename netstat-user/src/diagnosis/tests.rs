//! What is stuck and what is not, with figures made up for it.

use super::*;
use crate::{
    clock::Ktime,
    connection::{Comm, Connection, Cookie, Endpoint, Family, Owner, OwnerSource},
    facts::{Attempts, Figures, Form, Limits, Path, Queues, Received, Sent},
    owners::Owners,
    tcp::TcpState::{self, CloseWait, Established, Listen},
};

const NETNS: Netns = Netns(1);

fn figures(state: TcpState) -> Figures {
    Figures {
        time: Ktime(1),
        state,
        form: Form::Full,
        inode: Some(1),
        orphan: Some(false),
        queues: Queues::default(),
        timer: None,
        attempts: Attempts::default(),
        limits: Limits::default(),
        path: Path::default(),
        sent: Sent::default(),
        received: Received::default(),
        send_shutdown: Some(false),
        receive_shutdown: Some(false),
        soft_error: None,
        listening: None,
        listener: None,
    }
}

/// A socket on port 80 that has been in its state for so long, held by process 7.
fn row(port: u16, state: TcpState, age: Duration) -> RowView {
    let end = |port| Endpoint::new("10.0.0.1".parse().unwrap(), port);
    let mut owners = Owners::default();
    owners.acted(owner(7));
    RowView {
        connection: Connection {
            cookie: Cookie(port.into()),
            netns: NETNS,
            family: Family::Inet,
            local: end(80),
            remote: end(if state == Listen { 0 } else { port }),
            device: None,
            mptcp: false,
        },
        state,
        form: Form::Full,
        since: Ktime(1),
        in_state: age,
        at_least: false,
        queues: None,
        uid: Some(0),
        owners,
        cgroup: None,
        inode: Some(1),
        figures: Some(Box::new(figures(state))),
    }
}

fn owner(pid: u32) -> Owner {
    Owner {
        pid,
        start: Ktime(1),
        fd: Some(3),
        more_fds: 0,
        comm: Comm(*b"server\0\0\0\0\0\0\0\0\0\0"),
        seen: Ktime(1),
        source: OwnerSource::Event,
    }
}

fn changed(mut row: RowView, change: impl FnOnce(&mut Figures)) -> RowView {
    if let Some(figures) = &mut row.figures {
        change(figures);
    }
    row
}

/// What is found of `rows`, which were the same half a second ago.
fn found(rows: &[RowView], older: Option<Duration>) -> Vec<Finding> {
    let look = Look {
        rows: rows.to_vec(),
        settings: FxHashMap::default(),
    };
    let looks = Looks {
        before: &look,
        now: &look,
        between: Duration::from_millis(500),
        older,
        filter: None,
    };
    diagnose(&looks).found
}

fn kinds(rows: &[RowView], older: Option<Duration>) -> Vec<Kind> {
    let found = found(rows, older);
    found.iter().map(|finding| finding.group.kind).collect()
}

const HOUR: Duration = Duration::from_hours(1);
const SECOND: Duration = Duration::from_secs(1);

#[test]
fn what_rests_is_not_stuck() {
    assert_eq!(
        kinds(&[row(1, Established, HOUR), row(2, Listen, HOUR)], None),
        []
    );
}

#[test]
fn a_peer_that_closed_counts_when_it_has_waited() {
    let waits = |age| [row(1, CloseWait, age)];
    assert_eq!(kinds(&waits(SECOND * 59), None), []);
    assert_eq!(kinds(&waits(SECOND * 61), None), [Kind::NotClosed]);
    assert_eq!(kinds(&waits(SECOND * 3), Some(SECOND * 2)), [Kind::NotClosed]);
    assert_eq!(kinds(&waits(SECOND * 61), Some(HOUR)), []);
    // Nobody has accepted it yet: that is the listener's matter.
    let waiting = changed(row(1, CloseWait, HOUR), |figures| figures.inode = None);
    assert_eq!(kinds(&[waiting], None), []);
}

#[test]
fn a_row_that_was_there_before_is_as_old_as_its_last_acknowledgement() {
    let old = changed(row(1, CloseWait, Duration::ZERO), |figures| {
        figures.sent.last_ack = Some(HOUR);
    });
    assert_eq!(found(&[old], None)[0].oldest, HOUR);
}

#[test]
fn data_that_is_sent_again_once_is_nothing() {
    let lost = |times, rto: Duration| {
        changed(row(1, Established, HOUR), |figures| {
            figures.sent.unacked = Some(1000);
            figures.sent.last_ack = Some(HOUR);
            figures.attempts.retransmits = Some(times);
            figures.attempts.backoff = Some(times);
            figures.path.rto = Some(rto);
        })
    };
    let first = Duration::from_millis(200);
    assert_eq!(kinds(&[lost(1, first * 2)], None), []);
    let few = found(&[lost(3, first * 8)], None);
    assert_eq!(few[0].group.kind, Kind::DataUnacknowledged);
    assert_eq!(few[0].severity, Severity::Warning);
    // 200, 400 and 800 ms have passed in vain, and nothing yet of the present timeout.
    assert_eq!(few[0].oldest, first * 7);
    let many = found(&[lost(6, first * 64)], None);
    assert_eq!(many[0].severity, Severity::Critical);
}

#[test]
fn data_that_is_read_is_not_stuck() {
    let unread = |read: u64| {
        changed(row(1, Established, HOUR), |figures| {
            figures.queues.recv = 100;
            figures.received.bytes = Some(read + 100);
            figures.received.last = Some(HOUR);
        })
    };
    let looks = |before: u64, now: u64| {
        let look = |read| Look {
            rows: vec![unread(read)],
            settings: FxHashMap::default(),
        };
        let (before, now) = (look(before), look(now));
        let looks = Looks {
            before: &before,
            now: &now,
            between: SECOND,
            older: None,
            filter: None,
        };
        diagnose(&looks).found.len()
    };
    assert_eq!(looks(500, 500), 1, "nothing has been read meanwhile");
    assert_eq!(looks(500, 501), 0, "something has");
}

#[test]
fn what_is_alike_is_told_once() {
    let mut rows: Vec<_> = (1..=3).map(|port| row(port, CloseWait, HOUR)).collect();
    rows.push(row(9, Listen, HOUR));
    let mut of_another = row(4, CloseWait, HOUR * 2);
    of_another.owners = Owners::default();
    of_another.owners.acted(owner(8));
    rows.push(of_another);
    let found = found(&rows, None);
    let told: Vec<_> = found
        .iter()
        .map(|one| (one.group.pid, one.count, one.oldest))
        .collect();
    assert_eq!(told, [(Some(7), 3, HOUR), (Some(8), 1, HOUR * 2)]);
    assert!(found.iter().all(|one| one.group.service == Service::Here(80)));
}

#[test]
fn a_listener_is_full_with_one_more_than_its_limit() {
    let listener = |waiting| {
        changed(row(1, Listen, HOUR), |figures| {
            figures.queues.recv = waiting;
            figures.queues.backlog = 4;
        })
    };
    assert_eq!(kinds(&[listener(4)], None), [], "nobody has waited for long");
    assert_eq!(kinds(&[listener(5)], None), [Kind::AcceptQueueFull]);
}

#[test]
fn no_row_breaks_the_judgement() {
    for state in TcpState::ALL {
        for form in [Form::Full, Form::Minisock, Form::Request] {
            let mut odd = row(1, state, Duration::MAX);
            odd.form = form;
            let odd = changed(odd, |figures| {
                figures.attempts.retransmits = Some(u32::MAX - 1);
                figures.attempts.backoff = Some(u32::MAX);
                figures.limits.retries = Some(u32::MAX);
                figures.limits.syn_retries = Some(u32::MAX - 1);
                figures.path.rto = Some(Duration::MAX);
                figures.received.bytes = Some(0);
                figures.queues.recv = u32::MAX;
            });
            let _ = found(&[odd.clone(), RowView { figures: None, ..odd }], None);
        }
    }
}

/// What counts at once by itself counts by its age, too, when that is asked for.
#[test]
fn an_age_that_is_asked_for_holds_for_everything() {
    let full = changed(row(80, Listen, HOUR), |figures| {
        figures.queues.recv = 6;
        figures.queues.backlog = 5;
    });
    let waiting = changed(row(1, Established, SECOND * 3), |figures| figures.inode = None);
    let rows = [full, waiting];
    assert_eq!(kinds(&rows, None), [Kind::AcceptQueueFull]);
    assert_eq!(kinds(&rows, Some(SECOND)), [Kind::AcceptQueueFull]);
    assert_eq!(kinds(&rows, Some(HOUR)), []);
    let unread = changed(row(1, Established, HOUR), |figures| {
        figures.queues.recv = 5000;
        figures.received = Received {
            bytes: Some(9000),
            window: Some(0),
            last: Some(SECOND),
            ..Received::default()
        };
    });
    let rows = [unread];
    assert_eq!(kinds(&rows, None), [Kind::DataUnread]);
    assert_eq!(kinds(&rows, Some(SECOND * 2)), []);
}

mod vigil {
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
        let look = Look {
            rows: rows.to_vec(),
            settings: FxHashMap::default(),
        };
        vigil.look(&Looks {
            before: &look,
            now: &look,
            between: SECOND,
            older: None,
            filter: None,
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
        let mut vigil = Vigil::default();
        assert_eq!(look(&mut vigil, &[full(6, 1)]).stuck.len(), 1);
        for time in [2, 4] {
            let changes = look(&mut vigil, &[full(0, time)]);
            assert_eq!(changes, Changes::default(), "not yet");
            assert_eq!(look(&mut vigil, &[full(6, time + 1)]), Changes::default());
        }
        assert_eq!(look(&mut vigil, &[full(0, 6)]), Changes::default());
        let recovered = look(&mut vigil, &[full(0, 7)]).recovered;
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
}
