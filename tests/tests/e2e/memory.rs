//! The memory that answers take: the daemon gives it back.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netstat_tests::{Daemon, Namespace, binary, process, unaccepted::Unaccepted, wait::wait_for};

crate::tests![answers_give_it_back];

/// Each has two sockets. A tenth of what the daemon takes for those is less than what an answer with timers takes at once.
const CONNECTIONS: usize = 10_000;
/// After an answer, what it took is given back within this.
const GIVEN_BACK: Duration = Duration::from_secs(2);

/// After each answer, of whatever kind and however often, the daemon has as much memory as before the first one, within a tenth.
fn answers_give_it_back() -> Result<()> {
    let namespace = Namespace::new()?;
    let _connections = Unaccepted::new(&namespace, CONNECTIONS)?;
    let daemon = Daemon::start()?;
    let rows = || anyhow::Ok(daemon.stats()?["rows"].as_u64());
    let (before, rows_before) = (process::memory(daemon.pid())?, rows()?);
    for arguments in [
        "list -an",
        "list -ano",
        "list -anp",
        "list -an --json",
        "list -ano --json",
        "stuck",
        "stats",
    ] {
        for round in 1..=3 {
            let printed = binary::run_in(&namespace, daemon.socket(), arguments)?;
            let listed = printed.lines().filter(|line| line.contains("127.0.0.1")).count();
            ensure!(
                !arguments.starts_with("list") || listed == 1 + 2 * CONNECTIONS,
                "{arguments}: {listed} rows"
            );
            let mut after = 0;
            wait_for("memory to be given back", GIVEN_BACK, || {
                after = process::memory(daemon.pid())?;
                Ok((after <= before + before / 10).then_some(()))
            })
            .with_context(|| {
                format!(
                    "{after} bytes with {:?} rows after {arguments} for the {round}. time, and {before} with {rows_before:?} before",
                    rows().ok().flatten()
                )
            })?;
        }
    }
    Ok(())
}
