//! What the kernel's own stamps and timers tell of ages, and of when it gives up.

use std::net::IpAddr;

use super::*;

fn minisock(state: TcpState, change: impl FnOnce(&mut Figures)) -> RowView {
    let mut row = changed(row(1, state, Duration::ZERO), |figures| {
        figures.form = Form::Minisock;
        figures.inode = None;
        change(figures);
    });
    row.form = Form::Minisock;
    row
}

fn timer(kind: TimerKind, due: Duration) -> Timer {
    Timer { kind, due }
}

#[test]
fn a_closed_connection_is_as_old_as_the_rest_of_its_time_tells() {
    let closed = |whole: u64, left: u64, stamp: Option<u64>| {
        minisock(TcpState::FinWait2, |figures| {
            figures.limits.fin_timeout = Some(SECOND * u32::try_from(whole).unwrap());
            figures.timer = Some(timer(TimerKind::TimeWait, Duration::from_secs(left)));
            figures.age = stamp.map(Duration::from_secs);
        })
    };
    let age = |row: RowView| {
        let found = found(&[row], Some(SECOND));
        found.first().map(|one| one.oldest.as_secs())
    };
    assert_eq!(age(closed(60, 47, None)), Some(13));
    // What is longer than a minute was spent before.
    assert_eq!(age(closed(90, 17, None)), Some(13));
    // With a time of its own (`TCP_LINGER2`).
    assert_eq!(age(closed(60, 75, None)), None);
    assert_eq!(age(closed(60, 10, Some(5))), Some(5));
}

#[test]
fn an_orphan_that_is_a_full_sock_waits_for_its_peer_too() {
    let orphan = changed(row(1, TcpState::FinWait2, SECOND * 40), |figures| {
        figures.inode = None;
        figures.orphan = Some(true);
        figures.timer = Some(timer(TimerKind::FinWait2, SECOND * 80));
    });
    assert_eq!(kinds(&[orphan], None), [Kind::PeerNotClosing]);
}

#[test]
fn data_is_as_old_as_its_first_retransmission() {
    let lost = |since: Option<Duration>, last_ack: Duration| {
        changed(row(1, Established, HOUR), |figures| {
            figures.sent.unacked = Some(5);
            figures.sent.last_ack = Some(last_ack);
            figures.attempts.retransmits = Some(6);
            figures.attempts.since = since;
            figures.attempts.backoff = Some(1);
            figures.path.rto = Some(SECOND);
            figures.soft_error = Some(113);
        })
    };
    let oldest = |row: RowView| found(&[row], None)[0].oldest;
    // Six timeouts, of which none has doubled but one.
    assert_eq!(oldest(lost(None, HOUR)), SECOND * 3);
    let stamped = lost(Some(SECOND * 10), HOUR);
    assert_eq!(oldest(stamped.clone()), SECOND * 10);
    assert_eq!(oldest(lost(Some(SECOND * 10), SECOND * 4)), SECOND * 4);
    let shown = found(&[stamped], None)[0].evidence.join("; ");
    assert!(
        shown.contains("last error on the way: no route to host (errno 113)"),
        "{shown}"
    );
}

#[test]
fn a_syn_is_as_old_as_the_first_one() {
    let connecting = changed(row(1, TcpState::SynSent, Duration::ZERO), |figures| {
        figures.attempts.retransmits = Some(1);
        figures.attempts.since = Some(SECOND * 7);
        figures.path.rto = Some(SECOND);
    });
    assert_eq!(found(&[connecting], None)[0].oldest, SECOND * 7);
}

/// Data that was not acknowledged before the close either is no part of the closing.
#[test]
fn a_connection_has_been_closing_since_it_was_closed() {
    let mut closing = changed(row(1, TcpState::FinWait1, SECOND * 2), |figures| {
        figures.attempts.retransmits = Some(7);
        figures.attempts.since = Some(SECOND * 30);
        figures.sent.last_ack = Some(SECOND * 31);
    });
    closing.at_least = false;
    let shown = found(&[closing], None)[0].evidence.join("; ");
    assert!(
        shown.contains("closing for 2.00 s") && shown.contains("nothing acknowledged for 30.00 s"),
        "{shown}"
    );
}

#[test]
fn a_peer_that_does_not_answer_keepalive_is_found() {
    let asked = |probes: u32, due: Duration| {
        changed(row(1, Established, HOUR), |figures| {
            figures.attempts.probes = Some(probes);
            figures.limits.keepalive_interval = Some(SECOND * 75);
            figures.limits.keepalive_probes = Some(9);
            figures.timer = Some(timer(TimerKind::Keepalive, due));
            figures.sent.last_ack = Some(HOUR * 3);
        })
    };
    assert_eq!(kinds(&[asked(0, SECOND)], None), []);
    assert_eq!(
        kinds(&[asked(1, SECOND * 74)], None),
        [],
        "the answer is on its way"
    );
    assert_eq!(kinds(&[asked(1, SECOND * 70)], None), [Kind::KeepaliveUnanswered]);
    let found = found(&[asked(3, SECOND * 60)], None);
    assert_eq!(
        found[0].oldest,
        SECOND * 165,
        "two intervals, and what is gone of the third"
    );
    let shown = found[0].evidence.join("; ");
    assert!(shown.contains("3 of 9 keepalive probes unanswered"), "{shown}");
    // The present interval, and six more.
    assert!(shown.contains("the kernel gives up in 8m30s"), "{shown}");
    let by_user = changed(asked(3, SECOND * 60), |figures| {
        figures.sent.last_ack = Some(SECOND * 200);
        figures.limits.user_timeout = Some(SECOND * 300);
    });
    let shown = super::found(&[by_user], None)[0].evidence.join("; ");
    // At the first end of an interval that is later than 300 seconds of silence.
    assert!(
        shown.contains("the kernel gives up in 2m15s (TCP_USER_TIMEOUT)"),
        "{shown}"
    );
}

#[test]
fn an_open_window_is_not_the_peers_fault() {
    let waiting = |window: u32| {
        changed(row(1, Established, HOUR), |figures| {
            figures.sent.unsent = Some(3000);
            figures.sent.unacked = Some(0);
            figures.sent.window = Some(window);
            figures.path.mss = Some(1448);
            figures.attempts.probes = Some(1);
            figures.attempts.probing = Some(SECOND * 3);
            figures.timer = Some(timer(TimerKind::WindowProbe, SECOND));
        })
    };
    assert_eq!(kinds(&[waiting(65_000)], None), [Kind::DataNotSent]);
    assert_eq!(kinds(&[waiting(1447)], None), [Kind::ZeroWindow]);
}

/// `bind` to port 0 takes no port that the address has, or the wildcard.
#[test]
fn ports_of_an_address_run_out() {
    let socket = |address: &str, port: u16, state: TcpState| {
        let mut row = row(80, state, HOUR);
        row.connection.cookie = Cookie(port.into());
        row.connection.local = Endpoint::new(address.parse().unwrap(), port);
        row.connection.remote = Endpoint::new("10.9.9.9".parse().unwrap(), port);
        row
    };
    let told = |rows: &[RowView]| {
        let mut look = look_at(rows);
        let settings = Settings {
            ports: Some((40_000, 40_009)),
            reserved: vec![(40_009, 40_100)],
            ..Settings::default()
        };
        look.settings.insert(NETNS, settings);
        let found = judged(&look, &look, SECOND, None).found;
        let of_bind = found
            .into_iter()
            .filter(|one| one.group.kind == Kind::BindPortsRunningOut);
        of_bind
            .map(|one| (one.group.service, one.severity))
            .collect::<Vec<_>>()
    };
    let at = |address: &str| Service::At(address.parse::<IpAddr>().unwrap());
    let mut rows: Vec<_> = (40_000..40_008)
        .map(|port| socket("10.0.0.1", port, TcpState::TimeWait))
        .collect();
    assert_eq!(told(&rows), [], "one is left");
    rows.push(socket("10.0.0.2", 40_008, Established));
    assert_eq!(told(&rows), [(at("0.0.0.0"), Severity::Warning)]);
    rows.push(socket("0.0.0.0", 40_008, Listen));
    assert_eq!(told(&rows), [(at("10.0.0.1"), Severity::Warning)]);
}
