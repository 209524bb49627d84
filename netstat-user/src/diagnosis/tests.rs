//! What is stuck and what is not, with figures made up for it.

use super::*;
use crate::{
    clock::Ktime,
    connection::{Comm, Connection, Cookie, Endpoint, Family, Owner, OwnerSource},
    facts::{Attempts, Figures, Form, Limits, Listening, Path, Queues, Received, Sent, Timer, TimerKind},
    owners::Owners,
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
    let mut reading = Reading::default();
    reading.look(before);
    reading.look(now);
    diagnose(&Looks {
        before,
        now,
        between,
        reading: &reading,
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
    let unread = |read: u64, time: Ktime| {
        changed(row(1, Established, HOUR), |figures| {
            figures.queues.recv = 100;
            figures.received.bytes = Some(read + 100);
            figures.received.last = Some(HOUR);
            figures.time = time;
        })
    };
    let looks = |before: u64, now: u64| {
        let then = Ktime(1_000_000_000_000);
        let before = look_at(&[unread(before, then)]);
        let now = look_at(&[unread(now, then.plus(SECOND))]);
        judged(&before, &now, SECOND, None).found.len()
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
    let waiting = changed(row(2, Established, SECOND * 2), |figures| figures.inode = None);
    assert_eq!(kinds(&[listener(4)], None), [], "nobody has waited for long");
    assert_eq!(
        kinds(&[listener(4), waiting.clone()], None),
        [Kind::AcceptQueueFilling]
    );
    assert_eq!(kinds(&[listener(5), waiting], None), [Kind::AcceptQueueFull]);
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

/// The timeout grows up to a limit, the doublings are counted on.
#[test]
fn data_has_been_sent_in_vain_for_as_long_as_its_timeouts_say() {
    let dead = |timeouts: u32, rto: Duration, longest: Option<Duration>| {
        changed(row(1, Established, HOUR), |figures| {
            figures.sent.unacked = Some(2);
            figures.attempts.retransmits = Some(timeouts);
            figures.attempts.backoff = Some(timeouts);
            figures.path.rto = Some(rto);
            figures.path.rto_max = longest;
            figures.path.rtt = Some(Duration::from_millis(1));
            figures.timer = Some(Timer {
                kind: TimerKind::Retransmit,
                due: Duration::ZERO,
            });
            figures.sent.last_ack = Some(HOUR);
        })
    };
    let oldest = |row: RowView| found(&[row], None)[0].oldest;
    // 0.2, 0.4, 0.8 and 1.6 seconds.
    assert_eq!(oldest(dead(3, SECOND * 16 / 10, None)), SECOND * 3);
    // Ten that double up to 102.4 s, then two minutes each.
    let long = dead(12, SECOND * 120, None);
    assert_eq!(oldest(long.clone()), SECOND * 2046 / 10 + SECOND * 360);
    assert_eq!(kinds(&[long], Some(SECOND * 300)), [Kind::DataUnacknowledged]);
    // Three that double up to 0.8 s, then a second each.
    let short = dead(9, SECOND, Some(SECOND));
    assert_eq!(oldest(short), SECOND * 14 / 10 + SECOND * 7);
    // Nothing is older than the last acknowledgement.
    let recent = changed(dead(9, SECOND, Some(SECOND)), |figures| {
        figures.sent.last_ack = Some(SECOND * 4);
    });
    assert_eq!(oldest(recent), SECOND * 4);
}

#[test]
fn when_the_kernel_gives_up_depends_on_the_longest_timeout_and_on_the_user() {
    let dead = |change: &dyn Fn(&mut Figures)| {
        let row = changed(row(1, Established, HOUR), |figures| {
            figures.sent.unacked = Some(2);
            figures.attempts.retransmits = Some(4);
            figures.path.rto = Some(SECOND * 4);
            figures.limits.retries = Some(15);
            change(figures);
        });
        found(&[row], None)[0].evidence.join("; ")
    };
    assert!(dead(&|_| ()).contains("gives up after some 15m24s"));
    assert!(dead(&|figures| figures.path.rto_max = Some(SECOND)).contains("gives up after some 14.40 s"));
    assert!(
        dead(&|figures| figures.limits.user_timeout = Some(SECOND * 8)).contains("gives up after 8.00 s")
    );
    let connecting = changed(row(1, TcpState::SynSent, SECOND * 5), |figures| {
        figures.attempts.retransmits = Some(3);
        figures.limits.syn_retries = Some(10);
        figures.limits.user_timeout = Some(SECOND * 8);
    });
    let shown = found(&[connecting], None)[0].evidence.join("; ");
    assert!(
        shown.contains("gives up after 8.00 s (TCP_USER_TIMEOUT)"),
        "{shown}"
    );
}

/// The first timeouts of a SYN are alike (`tcp_syn_linear_timeouts`).
#[test]
fn a_syn_is_as_old_as_its_timeouts() {
    let row = changed(row(1, TcpState::SynSent, Duration::ZERO), |figures| {
        figures.attempts.retransmits = Some(6);
        figures.attempts.backoff = Some(2);
        figures.path.rto = Some(SECOND * 4);
        figures.timer = Some(Timer {
            kind: TimerKind::Retransmit,
            due: SECOND,
        });
    });
    // Four of a second, one of one and one of two, and three of the present four.
    assert_eq!(found(&[row], None)[0].oldest, SECOND * 10);
}

/// Data that keeps coming takes time to tell; once it is told, it counts.
#[test]
fn unread_data_that_grows_is_found() {
    let unread = |bytes: u32, read: u64, time: Duration| {
        changed(row(1, Established, HOUR), |figures| {
            figures.queues.recv = bytes;
            figures.received.bytes = Some(u64::from(bytes) + read);
            figures.received.last = Some(Duration::ZERO);
            figures.received.window = Some(5000);
            figures.time = Ktime(1_000_000_000_000).plus(time);
        })
    };
    let at = |bytes, read, time| look_at(&[unread(bytes, read, time)]);
    let first = judged(
        &at(100, 9, Duration::ZERO),
        &at(110, 9, SECOND / 2),
        SECOND / 2,
        None,
    );
    assert!(first.found.is_empty() && first.undecided);
    let later = judged(
        &at(100, 9, Duration::ZERO),
        &at(200, 9, SECOND * 5),
        SECOND * 5,
        None,
    );
    assert_eq!(later.found[0].group.kind, Kind::DataUnread);
    let shown = later.found[0].evidence.join("; ");
    assert!(
        shown.contains("100 more in 5.00 s") && shown.contains("nothing read for 5.00 s"),
        "{shown}"
    );
    // Somebody reads, however slowly.
    let read = judged(
        &at(100, 9, Duration::ZERO),
        &at(200, 10, SECOND * 5),
        SECOND * 5,
        None,
    );
    assert!(read.found.is_empty() && !read.undecided);
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
fn a_queue_that_is_full_for_a_moment_is_nothing() {
    let full = |drops: u32| {
        changed(row(80, Listen, HOUR), |figures| {
            figures.queues.recv = 6;
            figures.queues.backlog = 5;
            figures.listening = Some(Listening {
                requests: None,
                drops: Some(drops),
            });
        })
    };
    let waiting = |age| changed(row(1, Established, age), |figures| figures.inode = None);
    let moment = SECOND / 20;
    assert_eq!(kinds(&[full(3), waiting(moment)], None), []);
    assert_eq!(
        kinds(&[full(3), waiting(SECOND * 2)], None),
        [Kind::AcceptQueueFull]
    );
    let before = look_at(&[full(3), waiting(moment)]);
    let now = look_at(&[full(4), waiting(moment)]);
    let dropping = judged(&before, &now, SECOND / 2, None).found;
    assert_eq!(dropping[0].group.kind, Kind::AcceptQueueFull);
}

/// A peer that keeps its window closed says so when it is asked; one that says nothing is gone.
#[test]
fn probes_without_an_answer_are_not_the_peers_application() {
    let probing = |probes: u32| {
        changed(row(1, Established, HOUR), |figures| {
            figures.sent.unsent = Some(10);
            figures.sent.window = Some(0);
            figures.attempts.probing = Some(SECOND * 20);
            figures.attempts.probes = Some(probes);
            figures.timer = Some(Timer {
                kind: TimerKind::WindowProbe,
                due: SECOND,
            });
        })
    };
    assert_eq!(kinds(&[probing(0)], None), [Kind::ZeroWindow]);
    assert_eq!(kinds(&[probing(5)], None), [Kind::DataUnacknowledged]);
}

/// `TCP_DEFER_ACCEPT`: the timer runs out, and nothing is sent again.
#[test]
fn a_client_that_has_answered_is_not_gone() {
    let half_open = |sent_again: u32| {
        let row = row(1, TcpState::SynRecv, SECOND * 10);
        let mut row = changed(row, |figures| {
            figures.form = Form::Request;
            figures.attempts.retransmits = Some(3);
            figures.attempts.total_retransmits = Some(sent_again);
        });
        row.form = Form::Request;
        row
    };
    assert_eq!(kinds(&[half_open(3)], None), [Kind::SynAckUnanswered]);
    assert_eq!(kinds(&[half_open(0)], None), []);
    assert_eq!(kinds(&[half_open(1)], None), []);
}

/// The client takes itself for connected; the listener has no room for it.
#[test]
fn an_end_that_is_kept_out_is_held_by_the_accept_queue() {
    let listener = changed(row(80, Listen, HOUR), |figures| {
        figures.queues.recv = 2;
        figures.queues.backlog = 1;
    });
    let mut held = changed(row(5, TcpState::SynRecv, SECOND * 10), |figures| {
        figures.form = Form::Request;
        figures.attempts.retransmits = Some(3);
        figures.listener = Some(listener.connection.cookie);
    });
    held.form = Form::Request;
    let mut client = changed(row(6, Established, SECOND * 10), |figures| {
        figures.sent.unacked = Some(5);
        figures.attempts.retransmits = Some(5);
        figures.attempts.backoff = Some(5);
        figures.path.rto = Some(SECOND * 8);
    });
    (client.connection.local, client.connection.remote) = (held.connection.remote, held.connection.local);
    let waiting = changed(row(7, Established, SECOND * 10), |figures| figures.inode = None);
    let rows = [listener.clone(), held, client.clone(), waiting.clone()];
    let found = kinds(&rows, None);
    assert_eq!(
        found
            .iter()
            .filter(|kind| **kind == Kind::HeldByAcceptQueue)
            .count(),
        2,
        "{found:?}"
    );
    assert!(!found.contains(&Kind::DataUnacknowledged));
    // From another namespace, to an address that this one has.
    let mut elsewhere = changed(client, |figures| figures.sent.unacked = None);
    elsewhere.state = TcpState::SynSent;
    elsewhere.connection.netns = Netns(2);
    elsewhere.connection.local = Endpoint::new("10.0.0.9".parse().unwrap(), 9);
    let found = kinds(&[listener, waiting, elsewhere], None);
    assert!(found.contains(&Kind::HeldByAcceptQueue), "{found:?}");
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
        found
            .iter()
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
        let look = look_at(rows);
        vigil.look(&Looks {
            before: &look,
            now: &look,
            between: SECOND,
            reading: &Reading::default(),
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
}
