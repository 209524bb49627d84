//! How long it takes from a transition to the line that tells of it.

use std::{
    collections::HashMap,
    io::Read,
    net::Shutdown,
    process::{ChildStdout, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};

use super::{churn, figure::Figure};
use crate::{
    Namespace, daemon, process,
    sockets::{LOOPBACK, Pair, cookie},
};

/// Connections that are looked at.
const PROBES: usize = 300;
/// Between two of them.
const INTERVAL: Duration = Duration::from_millis(25);
/// The core of the connections that come and go meanwhile.
const CORE: usize = 0;

const SUBJECT: &str = "netstate daemon --json";

/// When the lines of sockets that were shut down have come, by cookie.
type Arrivals = Arc<Mutex<HashMap<u64, Instant>>>;

/// Measures a daemon that prints JSON into a pipe: on a host where nothing else happens, and at full churn.
pub(super) fn measure() -> Result<()> {
    let namespace = Namespace::new()?;
    let directory = daemon::directory()?;
    let socket = directory.path().join("netstate.sock");
    let mut child = daemon::spawn_printing(&socket, &["--json"], Stdio::piped())?;
    let arrivals = Arrivals::default();
    let reader = child.stdout.take().context("no pipe")?;
    let noted = Arc::clone(&arrivals);
    thread::spawn(move || note(reader, &noted));
    let measured = daemon::wait_until_it_answers(&socket).and_then(|()| {
        thread::sleep(Duration::from_secs(2));
        print("latency, idle host", &probe(&namespace, &arrivals)?)?;
        print("latency, full churn", &busy(&namespace, &arrivals)?)
    });
    process::end(&mut child, "netstate daemon");
    measured
}

/// Probes while connections come and go.
fn busy(namespace: &Namespace, arrivals: &Arrivals) -> Result<Latencies> {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let churning = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                churn::run(namespace, CORE, Duration::from_millis(500))?;
            }
            Ok::<_, anyhow::Error>(())
        });
        thread::sleep(Duration::from_secs(1));
        let latencies = probe(namespace, arrivals);
        over.store(true, Ordering::Relaxed);
        churning.join().map_err(|_| anyhow!("the churn panicked"))??;
        latencies
    })
}

/// Shuts connections down, one after the other, and waits for what is told of it.
fn probe(namespace: &Namespace, arrivals: &Arrivals) -> Result<Latencies> {
    let mut shut = Vec::new();
    for _ in 0..PROBES {
        let pair = Pair::new(namespace, LOOPBACK)?;
        thread::sleep(INTERVAL);
        let now = Instant::now();
        pair.client.shutdown(Shutdown::Write)?;
        shut.push((cookie(&pair.client)?, now));
        thread::sleep(INTERVAL);
    }
    thread::sleep(Duration::from_millis(500));
    let arrivals = arrivals.lock().unwrap_or_else(PoisonError::into_inner);
    let latency = |(cookie, shut): &(u64, Instant)| {
        let arrived = arrivals.get(cookie)?;
        Some(arrived.saturating_duration_since(*shut))
    };
    let mut sorted: Vec<_> = shut.iter().filter_map(latency).collect();
    sorted.sort_unstable();
    ensure!(!sorted.is_empty(), "no line tells of what was shut down");
    Ok(Latencies {
        untold: shut.len() - sorted.len(),
        sorted,
    })
}

/// What was measured.
struct Latencies {
    sorted: Vec<Duration>,
    /// Transitions that no line told of: the printer had fallen too far behind, which it says.
    untold: usize,
}

fn print(measure: &str, Latencies { sorted, untold }: &Latencies) -> Result<()> {
    for (name, percent) in [("p50", 50), ("p99", 99), ("longest", 100)] {
        let place = (sorted.len() * percent / 100).min(sorted.len() - 1);
        let figure = Figure {
            measure: &format!("{measure}, {name}"),
            subject: SUBJECT,
            unit: "ms",
            value: sorted[place].as_secs_f64() * 1e3,
        };
        figure.print()?;
    }
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let untold = Figure {
        measure: &format!("{measure}, untold"),
        subject: SUBJECT,
        unit: "lines",
        value: *untold as f64,
    };
    untold.print()
}

/// Reads lines until they end, and notes when those came that tell of ESTABLISHED → FIN_WAIT1.
fn note(mut lines: ChildStdout, arrivals: &Arrivals) {
    let (mut buffer, mut kept) = (vec![0; 1 << 16], Vec::new());
    while let Ok(read) = lines.read(&mut buffer)
        && read > 0
    {
        let now = Instant::now();
        kept.extend_from_slice(&buffer[..read]);
        let Some(end) = kept.iter().rposition(|byte| *byte == b'\n') else {
            continue;
        };
        let text = String::from_utf8_lossy(&kept[..end]);
        let mut arrivals = arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        for (place, _) in text.match_indices("\"to\":\"FIN_WAIT1\"") {
            let begin = text[..place].rfind('\n').unwrap_or(0);
            if let Some(cookie) = cookie_of(&text[begin..place]) {
                arrivals.entry(cookie).or_insert(now);
            }
        }
        drop(arrivals);
        kept.drain(..=end);
    }
}

fn cookie_of(line: &str) -> Option<u64> {
    let (_, rest) = line.split_once("\"cookie\":")?;
    let digits = rest.find(|c: char| !c.is_ascii_digit())?;
    rest[..digits].parse().ok()
}
