//! Handshakes and accept queues.

use super::*;

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

/// By the kernel's stamp, or by the timeouts that are over and what is gone of the present one.
#[test]
fn a_half_open_connection_is_as_old_as_the_kernel_says() {
    let half_open = |change: &dyn Fn(&mut Figures)| {
        let row = row(1, TcpState::SynRecv, Duration::ZERO);
        let mut row = changed(row, |figures| {
            figures.form = Form::Request;
            figures.attempts.retransmits = Some(2);
            figures.attempts.total_retransmits = Some(2);
            figures.attempts.answered = Some(false);
            figures.limits.syn_retries = Some(5);
            figures.timer = Some(Timer {
                kind: TimerKind::SynAck,
                due: SECOND,
            });
            change(figures);
        });
        row.form = Form::Request;
        found(&[row], None)
    };
    // One and two seconds are over, and three of the present four.
    let by_timer = half_open(&|_| ());
    assert_eq!(by_timer[0].oldest, SECOND * 6);
    let shown = by_timer[0].evidence.join("; ");
    // The rest of four, and 8, 16 and 32 seconds.
    assert!(shown.contains("the kernel gives up in some 57.00 s"), "{shown}");
    let slow = half_open(&|figures| figures.attempts.first_timeout = Some(SECOND * 3));
    assert_eq!(slow[0].oldest, SECOND * (3 + 6 + 11));
    let by_stamp = half_open(&|figures| figures.age = Some(SECOND * 9));
    assert_eq!(by_stamp[0].oldest, SECOND * 9);
    // Its SYN comes again and again, so that the timer never runs out.
    let restless = half_open(&|figures| {
        figures.attempts.retransmits = Some(0);
        figures.attempts.total_retransmits = Some(5);
        figures.age = Some(SECOND * 5);
    });
    assert_eq!(restless[0].oldest, SECOND * 5);
    assert_eq!(half_open(&|figures| figures.attempts.answered = Some(true)), []);
}

/// What a listener has dropped is told with its half-open connections, but not the SYNs that they have sent again.
#[test]
fn what_a_listener_drops_belongs_to_its_half_open_connections() {
    let evidence = |before: u32, drops: u32, syncookies: u8| {
        let listener = |drops| {
            changed(row(80, Listen, HOUR), |figures| {
                figures.queues.backlog = 128;
                figures.listening = Some(Listening {
                    requests: Some(128),
                    drops: Some(drops),
                });
            })
        };
        let mut held = changed(row(5, TcpState::SynRecv, SECOND * 10), |figures| {
            figures.form = Form::Request;
            figures.attempts.retransmits = Some(3);
            figures.attempts.total_retransmits = Some(4);
            figures.listener = Some(Cookie(80));
        });
        held.form = Form::Request;
        let before = look_at(&[listener(before), held.clone()]);
        let mut now = look_at(&[listener(drops), held]);
        let settings = Settings {
            syncookies: Some(syncookies),
            ..Settings::default()
        };
        now.settings.insert(NETNS, settings);
        judged(&before, &now, SECOND / 2, None).found[0]
            .evidence
            .join("; ")
    };
    let shown = evidence(2900, 2975, 0);
    for part in [
        "128 half-open connections of its listener (backlog 128)",
        "the listener has dropped 2975 packets so far, 75 of them in 500.0 ms",
        "tcp_syncookies is 0",
    ] {
        assert!(shown.contains(part), "{shown}");
    }
    let shown = evidence(2975, 2975, 1);
    assert!(
        shown.contains("2975 packets so far") && !shown.contains("of them"),
        "{shown}"
    );
    assert!(!shown.contains("tcp_syncookies"), "{shown}");
    let repeated = evidence(0, 128, 0);
    assert!(!repeated.contains("dropped"), "{repeated}");
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
    let half_open = held.clone();
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
    // The same ends in another namespace: another connection, unless packets lead from one to the other.
    let mut apart = client.clone();
    apart.connection.netns = Netns(2);
    let look = look_at(&[listener.clone(), half_open, apart]);
    let crossing = (Netns(2), "10.0.0.1".parse().unwrap());
    let asked = crossings(&Looks {
        before: &look,
        now: &look,
        between: SECOND / 2,
        reading: &Reading::default(),
        reaches: &Reaches::default(),
        older: None,
        filter: None,
    });
    assert_eq!(asked, [crossing]);
    for (reach, kind) in [
        (Reach::Namespace(NETNS), Kind::HeldByAcceptQueue),
        (Reach::Elsewhere, Kind::DataUnacknowledged),
    ] {
        let reaches = [(crossing, reach)].into_iter().collect();
        let found = judged_with(&reaches, &look, &look, SECOND / 2, None).found;
        let found = found.iter().find(|one| one.group.netns == Netns(2));
        assert_eq!(found.unwrap().group.kind, kind, "{reach:?}");
    }
    // From another namespace, to an address that this one has.
    let mut elsewhere = changed(client, |figures| figures.sent.unacked = None);
    elsewhere.state = TcpState::SynSent;
    elsewhere.connection.netns = Netns(2);
    elsewhere.connection.local = Endpoint::new("10.0.0.9".parse().unwrap(), 9);
    let kinds_if = |reach: Option<Reach>| {
        let look = look_at(&[listener.clone(), waiting.clone(), elsewhere.clone()]);
        let reaches = reach.map(|reach| (crossing, reach)).into_iter().collect();
        let found = judged_with(&reaches, &look, &look, SECOND / 2, None).found;
        found
            .into_iter()
            .filter(|finding| finding.group.state == TcpState::SynSent)
            .map(|finding| (finding.group.kind, finding.evidence.join("; ")))
            .collect::<Vec<_>>()
    };
    let kind = |found: &[(Kind, String)]| found[0].0;
    assert_eq!(
        kind(&kinds_if(Some(Reach::Namespace(NETNS)))),
        Kind::HeldByAcceptQueue
    );
    let open = kinds_if(None);
    assert_eq!(kind(&open), Kind::SynUnanswered);
    assert!(open[0].1.contains("not known"), "{open:?}");
    for other in [Reach::Elsewhere, Reach::Namespace(Netns(3))] {
        let found = kinds_if(Some(other));
        assert_eq!(kind(&found), Kind::SynUnanswered);
        assert!(!found[0].1.contains("accept queue"), "{found:?}");
    }
}

/// Where packets go is not known: a listener that drops what is sent again is the one.
#[test]
fn drops_that_rise_with_retransmissions_are_evidence() {
    let look = |sent_again, drops| {
        let listener = changed(row(80, Listen, HOUR), |figures| {
            figures.queues.recv = 2;
            figures.queues.backlog = 1;
            figures.listening = Some(Listening {
                requests: None,
                drops: Some(drops),
            });
        });
        let mut client = changed(row(6, TcpState::SynSent, SECOND * 10), |figures| {
            figures.attempts.retransmits = Some(sent_again);
        });
        let local = client.connection.local;
        client.connection.netns = Netns(2);
        client.connection.local = Endpoint::new("10.0.0.9".parse().unwrap(), 9);
        client.connection.remote = local;
        look_at(&[listener, client])
    };
    let kind = |before: (u32, u32), now: (u32, u32)| {
        let found = judged(&look(before.0, before.1), &look(now.0, now.1), SECOND / 2, None).found;
        let client = found.iter().find(|one| one.group.state == TcpState::SynSent);
        client.unwrap().group.kind
    };
    assert_eq!(kind((3, 7), (4, 8)), Kind::HeldByAcceptQueue);
    assert_eq!(kind((3, 7), (4, 7)), Kind::SynUnanswered, "it has not come there");
    assert_eq!(
        kind((3, 7), (3, 9)),
        Kind::SynUnanswered,
        "that was somebody else"
    );
}
