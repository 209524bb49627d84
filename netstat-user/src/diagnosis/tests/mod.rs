//! What is stuck and what is not, with figures made up for it.

mod ages;
mod data;
mod opening;
mod vigil;

use super::*;
use crate::{
    clock::Ktime,
    connection::{Comm, Connection, Cookie, Endpoint, Family, Owner, OwnerSource},
    facts::{Attempts, Figures, Form, Limits, Listening, Path, Queues, Received, Sent, Timer, TimerKind},
    owners::Owners,
    reach::Reach,
    tcp::TcpState::{self, CloseWait, Established, Listen},
};

const NETNS: Netns = Netns(1);

fn figures(state: TcpState) -> Figures {
    Figures {
        time: Ktime(1_000_000_000_000),
        state,
        form: Form::Full,
        inode: Some(1),
        orphan: Some(false),
        age: None,
        queues: Queues::default(),
        timer: None,
        attempts: Attempts::default(),
        limits: Limits::default(),
        path: Path::default(),
        sent: Sent::default(),
        received: Received::default(),
        send_shutdown: Some(false),
        receive_shutdown: Some(false),
        v6only: None,
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
        fwmark: None,
        autobound: None,
        bound: false,
        inode: Some(1),
        figures: Some(Box::new(figures(state))),
    }
}

fn owner(pid: u32) -> Owner {
    Owner {
        pid,
        start: Ktime(1),
        tid: None,
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

fn look_at(rows: &[RowView]) -> Look {
    Look {
        rows: rows.to_vec(),
        settings: FxHashMap::default(),
    }
}

/// What is found of `rows`, which were the same half a second ago.
fn found(rows: &[RowView], older: Option<Duration>) -> Vec<Finding> {
    let between = Duration::from_millis(500);
    let mut before = look_at(rows);
    for figures in before.rows.iter_mut().filter_map(|row| row.figures.as_mut()) {
        figures.time = figures.time.minus(between);
    }
    judged(&before, &look_at(rows), between, older).found
}

fn judged(before: &Look, now: &Look, between: Duration, older: Option<Duration>) -> Findings {
    judged_with(&Reaches::default(), before, now, between, older)
}

fn judged_with(
    reaches: &Reaches,
    before: &Look,
    now: &Look,
    between: Duration,
    older: Option<Duration>,
) -> Findings {
    let mut reading = Reading::default();
    reading.look(before);
    reading.look(now);
    diagnose(&Looks {
        before,
        now,
        between,
        reading: &reading,
        reaches,
        older,
        filter: None,
    })
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

#[test]
fn who_still_sends_need_not_close() {
    let sends = |last: Duration| {
        changed(row(1, CloseWait, HOUR), |figures| {
            figures.sent.last = Some(last);
        })
    };
    assert_eq!(kinds(&[sends(SECOND)], None), []);
    assert_eq!(kinds(&[sends(SECOND * 61)], None), [Kind::NotClosed]);
}

#[test]
fn ports_of_time_wait_that_may_be_reused_are_not_taken() {
    let rows: Vec<_> = (0..10_u16)
        .map(|port| {
            let mut row = row(80, TcpState::TimeWait, SECOND * 5);
            let end = |port| Endpoint::new("127.0.0.1".parse().unwrap(), port);
            row.connection.cookie = Cookie(port.into());
            (row.connection.local, row.connection.remote) = (end(40_000 + port), end(8080));
            row.form = Form::Minisock;
            row
        })
        .collect();
    let running_out = |tw_reuse| {
        let mut look = look_at(&rows);
        let settings = Settings {
            ports: Some((40_000, 40_009)),
            tw_reuse: Some(tw_reuse),
            ..Settings::default()
        };
        look.settings.insert(NETNS, settings);
        let found = judged(&look, &look, SECOND, None).found;
        let connects = found
            .iter()
            .filter(|finding| finding.group.kind == Kind::PortsRunningOut);
        connects
            .map(|finding| (finding.group.kind, finding.count))
            .collect::<Vec<_>>()
    };
    assert_eq!(running_out(0), [(Kind::PortsRunningOut, 10)]);
    assert_eq!(running_out(1), []);
    assert_eq!(running_out(2), [], "it is loopback");
}

#[test]
fn advice_fits_whoever_follows_it() {
    let finding = |row: RowView, kind| {
        let found = found(&[row], None);
        assert_eq!(found[0].group.kind, kind);
        found[0].clone()
    };
    let mut shared = row(1, CloseWait, HOUR);
    shared.owners.acted(owner(8));
    let advice = finding(shared, Kind::NotClosed).advice("");
    assert!(
        !advice.contains("restarting it closes all") && advice.contains("hold it too"),
        "{advice}"
    );
    let mut dead = changed(row(1, Established, HOUR), |figures| {
        figures.sent.unacked = Some(2);
        figures.attempts.retransmits = Some(4);
        figures.path.rto = Some(SECOND * 4);
    });
    dead.connection.family = Family::Inet6;
    dead.connection.remote = Endpoint::new("2001:db8::1".parse().unwrap(), 443);
    let advice = finding(dead, Kind::DataUnacknowledged).advice("ip netns exec blue ");
    assert!(
        advice.contains("`ip netns exec blue ss -K dst [2001:db8::1] dport = 443`"),
        "{advice}"
    );
    assert!(
        advice.contains("`ip netns exec blue ping 2001:db8::1`"),
        "{advice}"
    );
}
