//! How the table grows: bytes for a connection, and facts folded in a second on one core, with ever more connections;
//! and what ever more facts a second take of a core.
//!
//! `cargo bench --package netstat-user --bench growth` prints one JSON object a line; sizes other than the usual ones
//! come as arguments, `-- 1000 190000`. Each size has a process of its own, so that its resident memory is its own.

#![allow(
    unused_crate_dependencies,
    reason = "they are the library's, or other benchmarks'"
)]

mod workload;

use std::{
    alloc::System,
    env, fs,
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use netstate::table::{AHEAD, Row, Table, Transition};
use serde_json::json;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use workload::{Fact, Parked, Traffic, fold, paced};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The sizes that are measured unless others are wanted.
const SIZES: [usize; 4] = [1000, 10_000, 100_000, 1_000_000];
/// Facts a second, at which the usual recording is replayed.
const RATES: [usize; 5] = [1000, 10_000, 50_000, 100_000, 500_000];
/// As many as the engine folds at once.
const BATCH: usize = 4096;
/// Facts folded for a rate.
const FACTS: usize = 4_000_000;
/// Parts of them that are timed each for itself: others work on the machine, so the best tells most.
const ROUNDS: usize = 20;
/// What an allocation takes besides what was asked for: the header, and rounding up to 16 bytes.
const OVERHEAD: usize = 16;

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if let [one, size] = &args[..]
        && one == "one"
        && let Ok(connections) = size.parse()
    {
        one_size(connections);
        return ExitCode::SUCCESS;
    }
    let wanted: Vec<String> = if args.is_empty() {
        RATES.into_iter().for_each(one_rate);
        SIZES.iter().map(ToString::to_string).collect()
    } else {
        args
    };
    let failed = wanted.iter().any(|size| {
        let this = env::current_exe().expect("the benchmark is a file");
        let child = Command::new(this).args(["one", size]).status();
        !child.is_ok_and(|status| status.success())
    });
    ExitCode::from(u8::from(failed))
}

fn one_size(connections: usize) {
    let churn = churn(connections);
    let time_wait = parked(connections, Parked::TimeWait);
    let established = parked(connections, Parked::Established);
    println!(
        "{}",
        json!({
            "connections": connections,
            "row_bytes": size_of::<Row>(),
            "bytes_per_connection": established.bytes,
            "bytes_per_time_wait": time_wait.bytes,
            "resident_mib": established.resident_mib,
            "facts_per_second": churn.best,
            "facts_per_second_median": churn.median,
            "nanoseconds_per_fact": churn.nanoseconds,
        })
    );
}

fn one_rate(rate: usize) {
    let taken = paced::replay(rate);
    println!(
        "{}",
        json!({
            "rate": rate,
            "reached": taken.reached,
            "cpu_percent": taken.cpu,
        })
    );
}

struct Memory {
    bytes: usize,
    resident_mib: u64,
}

/// What so many connections take, all of them known as well as they can be.
fn parked(connections: usize, state: Parked) -> Memory {
    let (mut table, mut traffic) = Traffic::new(connections);
    let mut out: Vec<Transition> = Vec::new();
    let region = Region::new(ALLOCATOR);
    traffic.settle(state, |fact| {
        fold(&mut table, &fact, &mut out);
        out.clear();
    });
    if state == Parked::Established {
        table.begin_sweep();
        let sweep = traffic.sweep();
        table.apply_sweep(&sweep, &mut out);
        table.end_sweep(&[], sweep.start, sweep.end, &mut out);
        drop(sweep);
        let scan = traffic.scan();
        table.apply_scan(scan);
    }
    drop(out);
    let change = region.change();
    let pieces = change.allocations - change.deallocations;
    let bytes = change.bytes_allocated - change.bytes_deallocated + pieces * OVERHEAD;
    assert_eq!(table.len(), connections + 1, "the listener and every connection");
    drop(traffic);
    Memory {
        bytes: bytes / connections,
        resident_mib: resident_mib(),
    }
}

struct Rate {
    best: u64,
    median: u64,
    nanoseconds: u64,
}

/// How many facts are folded in a second with so many connections at once.
fn churn(connections: usize) -> Rate {
    let (mut table, mut traffic) = Traffic::new(connections);
    let mut out = Vec::new();
    // Until every connection is somewhere in its life, and some have ended.
    for _ in 0..connections * 6 {
        fold(&mut table, &traffic.next(), &mut out);
        out.clear();
    }
    let mut facts: Vec<Fact> = Vec::with_capacity(BATCH);
    let mut rounds: Vec<u64> = (0..ROUNDS)
        .map(|_| {
            let batches = FACTS / ROUNDS / BATCH;
            let took: Duration = (0..batches)
                .map(|_| {
                    facts.clear();
                    facts.extend((0..BATCH).map(|_| traffic.next()));
                    timed(&mut table, &facts, &mut out)
                })
                .sum();
            let nanoseconds = took.as_nanos() * 1000 / (batches * BATCH) as u128;
            u64::try_from(nanoseconds).unwrap_or(u64::MAX).max(1)
        })
        .collect();
    rounds.sort_unstable();
    let rate = |picoseconds: u64| 1_000_000_000_000 / picoseconds;
    Rate {
        best: rate(rounds[0]),
        median: rate(rounds[ROUNDS / 2]),
        nanoseconds: rounds[0] / 1000,
    }
}

fn timed(table: &mut Table, facts: &[Fact], out: &mut Vec<Transition>) -> Duration {
    let start = Instant::now();
    for some in facts.chunks(AHEAD) {
        table.look_ahead(some.iter().map(Fact::cookie));
        for fact in some {
            fold(table, fact, out);
        }
    }
    let took = start.elapsed();
    out.clear();
    took
}

/// What the process has in memory, in MiB.
fn resident_mib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}
