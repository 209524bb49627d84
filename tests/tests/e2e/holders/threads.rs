//! Sockets in descriptor tables that are not the first thread's.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result, ensure};
use netstat_tests::{Daemon, Holder, Namespace, binary, snapshot::Listed};

use crate::stuck::find;

crate::tests![
    a_thread_with_a_table_of_its_own,
    a_process_without_its_first_thread,
];

/// Threads that share what the one that takes orders has open.
const THREADS: usize = 50;

/// The row of the listener has one owner, whose descriptor is where it says that it is.
fn is_owned(row: &Listed, holder: &Holder) -> Result<u32> {
    let [owner] = row.owners.as_slice() else {
        anyhow::bail!("not one owner: {row:?}");
    };
    ensure!(
        owner.pid == holder.pid() && owner.fds == Some(1),
        "one descriptor of {}: {row:?}",
        holder.pid()
    );
    let exe = std::env::current_exe()?;
    ensure!(
        owner.exe.as_deref() == exe.to_str() && row.exe == owner.exe,
        "{row:?}"
    );
    let tid = owner.tid.with_context(|| format!("no thread: {row:?}"))?;
    let fd = owner.fd.context("no descriptor")?;
    let link = PathBuf::from(format!("/proc/{}/task/{tid}/fd/{fd}", holder.pid()));
    let inode = row.inode.context("no inode")?;
    ensure!(
        fs::read_link(&link)?.to_str() == Some(&format!("socket:[{inode}]")),
        "{} is not the socket: {row:?}",
        link.display()
    );
    Ok(tid)
}

/// A holder whose sockets are not in its first thread's table is found, counted once, and advice leads to it.
fn is_found(hand_over: impl FnOnce(&mut Holder) -> Result<u32>) -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let mut holder = Holder::start(&namespace, "e2e-threads")?;
    hand_over(&mut holder)?;
    holder.start_threads(THREADS)?;
    let target = holder.listen()?;
    let listening = daemon.wait_for_row(&namespace, "a listener whose descriptor is found", |row| {
        row.state == "LISTEN" && row.fd.is_some()
    })?;
    let tid = is_owned(&listening, &holder)?;
    // The peer closes, and the holder does not.
    let mut peer = Holder::start(&namespace, "e2e-peer")?;
    peer.connect(target)?;
    holder.accept()?;
    peer.told("close")?;
    let waiting = daemon.wait_for_row(&namespace, "a descriptor of CLOSE_WAIT", |row| {
        row.state == "CLOSE_WAIT" && row.owners.iter().any(|owner| owner.tid.is_some())
    })?;
    is_owned(&waiting, &holder)?;
    let finding = find(&daemon, &namespace, "not_closed", "--older 1s")?;
    let next = finding["next"].as_str().unwrap_or_default();
    let place = format!("/proc/{}/task/{tid}/fd", holder.pid());
    ensure!(next.contains(&place), "the advice does not name {place}: {next}");
    Ok(())
}

fn a_thread_with_a_table_of_its_own() -> Result<()> {
    is_found(Holder::take_apart)
}

fn a_process_without_its_first_thread() -> Result<()> {
    is_found(Holder::leave_leader)
}

/// A scan reports each descriptor once, whichever threads share the table that it is in.
pub(super) fn threads_do_not_multiply_the_scan() -> Result<()> {
    const SOCKETS: usize = 4000;
    /// Of the whole host: what 20 of the threads would make of it if each counted.
    const MOST: usize = 20 * SOCKETS;
    let namespace = Namespace::new()?;
    for hand_over in [Holder::take_apart, Holder::leave_leader] {
        let mut holder = Holder::start(&namespace, "e2e-threads")?;
        hand_over(&mut holder)?;
        holder.start_threads(100)?;
        // Each has two ends.
        holder.told(&format!("pairs {}", SOCKETS / 2))?;
        let doctor = binary::run("/absent.sock".as_ref(), "doctor --json")?;
        let said = String::from_utf8(doctor.stdout)?;
        let holders = said.lines().find(|line| line.contains("iter/task_file"));
        let holders = holders.with_context(|| format!("no count of holders: {said}"))?;
        let count = holders.split(|char: char| !char.is_ascii_digit());
        let count = count.filter_map(|digits| digits.parse::<usize>().ok()).max();
        ensure!(
            count.is_some_and(|count| (SOCKETS..MOST).contains(&count)),
            "{holders}"
        );
        holder.finish()?;
    }
    Ok(())
}
