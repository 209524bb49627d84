//! What takes a machine of one's own, as `cargo xtask vm` boots them: its clock is set, and it has modules that many
//! hosts lack. Elsewhere these tests do not exist.

use std::net::TcpListener;

use anyhow::{Context, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use netstat_tests::{
    Daemon, Namespace,
    sockets::{LOOPBACK, Pair, cookie, wait_for_fin},
};
use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};
use socket2::{Domain, Protocol, Socket, Type};

crate::tests![clock_is_set, sctp];

/// Moves the time of day, and back when it is dropped.
struct Moved {
    by: i64,
}

impl Moved {
    fn by(seconds: i64) -> Result<Self> {
        shift(seconds)?;
        Ok(Self { by: seconds })
    }
}

impl Drop for Moved {
    fn drop(&mut self) {
        if let Err(error) = shift(-self.by) {
            eprintln!("the clock stays moved: {error:#}");
        }
    }
}

fn shift(seconds: i64) -> Result<()> {
    let now = clock_gettime(ClockId::Realtime);
    let then = Timespec {
        tv_sec: now.tv_sec + seconds,
        ..now
    };
    clock_settime(ClockId::Realtime, then).context("cannot set the clock")
}

/// Whoever sets the clock moves all times of day alike; what lasted lasted as long as before.
fn clock_is_set() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let watch = daemon.watch_in(&namespace)?;
    for seconds in [-7200, 86_400] {
        let pair = Pair::new(&namespace, LOOPBACK)?;
        let near = cookie(&pair.client)?;
        watch.wait_for_path(near, &["CLOSE", "SYN_SENT", "ESTABLISHED"])?;
        let moved = Moved::by(seconds)?;
        let row = daemon.wait_for_row(&namespace, "the client", |row| row.cookie == near)?;
        let since: Timestamp = row.since.context("no time")?.parse()?;
        close_to(Timestamp::now(), since).context("since, in list")?;
        drop(pair.client);
        wait_for_fin(&pair.server)?;
        let ended = watch.wait("FIN_WAIT1", |seen| seen.cookie == near && seen.to == "FIN_WAIT1")?;
        close_to(Timestamp::now(), ended.time.parse()?).context("the time in watch")?;
        let lasted = ended.in_state_us.context("no duration")?;
        ensure!(lasted < 600_000_000, "ESTABLISHED for {lasted} µs");
        drop(moved);
    }
    Ok(())
}

/// A minute apart at most: less than the clock is moved by, more than the slowest machine takes.
fn close_to(now: Timestamp, time: Timestamp) -> Result<()> {
    let apart = now.duration_since(time).abs();
    ensure!(
        apart < SignedDuration::from_mins(1),
        "{time} is {apart:#} from {now}"
    );
    Ok(())
}

/// SCTP passes the tracepoint with states of its own, some of them with the numbers of TCP's.
fn sctp() -> Result<()> {
    const IPPROTO_SCTP: i32 = 132;
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let watch = daemon.watch_in(&namespace)?;
    let socket = || {
        let make = || Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::from(IPPROTO_SCTP)));
        namespace.enter(make).context("cannot make a socket of SCTP")
    };
    let listener = socket()?;
    listener.bind(&LOOPBACK.parse::<std::net::SocketAddr>()?.into())?;
    listener.listen(8)?;
    let client = socket()?;
    client.connect(&listener.local_addr()?)?;
    let listener = TcpListener::from(listener);
    let (server, _) = listener.accept().context("SCTP does not accept")?;
    drop((client, server, listener));
    // What TCP does afterwards is told afterwards.
    let pair = Pair::new(&namespace, LOOPBACK)?;
    let mut told = 0;
    let ends = [
        cookie(&pair.client)?,
        cookie(&pair.server)?,
        cookie(&pair.listener)?,
    ];
    for (end, last) in ends.into_iter().zip(["ESTABLISHED", "ESTABLISHED", "LISTEN"]) {
        watch.wait(last, |seen| seen.cookie == end && seen.to == last)?;
        told += watch.of(end).len();
    }
    ensure!(
        watch.count_in(namespace.inode()) == told,
        "{} transitions are told, and TCP's are {told}",
        watch.count_in(namespace.inode())
    );
    ensure!(daemon.agrees(&namespace)?.len() == 3, "more than TCP is listed");
    Ok(())
}
