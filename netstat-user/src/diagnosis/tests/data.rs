//! Data that does not arrive, or is not read.

use super::*;

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
