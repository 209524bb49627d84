//! Connections that come and go as fast as one core makes them.

use std::{
    io::Read as _,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};
use rustix::{
    thread::{CpuSet, sched_setaffinity},
    time::{ClockId, clock_gettime},
};

use crate::Namespace;

/// What so many connections took.
#[derive(Debug, Clone, Copy)]
pub struct Taken {
    /// How many there were.
    pub connections: u64,
    /// From the first to the last.
    pub wall: Duration,
    /// Processor time of the two threads that made them, interrupts on their core included.
    pub processor: Duration,
}

impl Taken {
    /// Microseconds for each connection.
    #[must_use]
    pub fn wall_each(&self) -> f64 {
        each(self.wall, self.connections)
    }

    /// Microseconds of processor time for each connection.
    #[must_use]
    pub fn processor_each(&self) -> f64 {
        each(self.processor, self.connections)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn each(time: Duration, connections: u64) -> f64 {
    time.as_secs_f64() * 1e6 / connections.max(1) as f64
}

/// Lets connections come and go inside `namespace`, one after the other, for as long as `time`: a client connects, the
/// server accepts and closes, the client reads the end and closes. Both threads run on `core`.
///
/// The server closes first, so the minisock is on the listener's side: clients never run out of ports, and there are never
/// more minisocks than those.
///
/// # Errors
/// When the kernel refuses something.
pub fn run(namespace: &Namespace, core: usize, time: Duration) -> Result<Taken> {
    let listener = namespace.enter(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
    let address = listener.local_addr()?;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let server = scope.spawn(|| serve(core, &listener, &over));
        let client = scope.spawn(|| {
            namespace.enter_for_good()?;
            connect(core, address, time)
        });
        let taken = client.join().map_err(|_| anyhow!("the client panicked"))?;
        over.store(true, Ordering::Relaxed);
        // The last connection, for which the server waits.
        let _ = namespace.enter(|| TcpStream::connect(address));
        let serving = server.join().map_err(|_| anyhow!("the server panicked"))??;
        let mut taken = taken?;
        taken.processor += serving;
        Ok(taken)
    })
}

/// Accepts and closes; returns the processor time that it took.
fn serve(core: usize, listener: &TcpListener, over: &AtomicBool) -> Result<Duration> {
    pin(core)?;
    let before = processor_time();
    while !over.load(Ordering::Relaxed) {
        drop(listener.accept().context("cannot accept")?);
    }
    Ok(processor_time().saturating_sub(before))
}

fn connect(core: usize, address: SocketAddr, time: Duration) -> Result<Taken> {
    pin(core)?;
    let (begun, before) = (Instant::now(), processor_time());
    let mut connections = 0;
    while begun.elapsed() < time {
        for _ in 0..64 {
            connections += 1;
            one(address)?;
        }
    }
    Ok(Taken {
        connections,
        wall: begun.elapsed(),
        processor: processor_time().saturating_sub(before),
    })
}

fn one(address: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect(address).context("cannot connect")?;
    stream.read(&mut [0]).context("the server did not close")?;
    Ok(())
}

/// Keeps the calling thread on `core`.
///
/// # Errors
/// When the kernel refuses.
pub fn pin(core: usize) -> Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    sched_setaffinity(None, &cores).with_context(|| format!("cannot run on core {core}"))
}

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        time.tv_nsec.try_into().unwrap_or_default(),
    )
}
