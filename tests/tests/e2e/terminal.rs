//! What people see: colours, dates, and notes that read well.

use std::{
    fs::File,
    io::Read,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use jiff::{Timestamp, civil::Date, tz::Offset};
use netstat_tests::{
    Daemon, Namespace, Watch, binary,
    daemon::{STOP, directory},
    sockets::{LOOPBACK, cookie, listen},
    traffic::come_and_go,
    wait::{SOON, wait_for},
};
use rustix::{
    fs::{Mode, OFlags, open},
    process::Signal,
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
};

crate::tests![
    a_dumb_terminal_has_no_colours,
    a_history_has_a_date,
    a_replay_has_a_date_for_each_day,
    one_history_of_many,
];

/// What a command prints to a terminal that calls itself so.
fn on_a_terminal(command: &mut Command, called: &str) -> Result<String> {
    let mut terminal = File::from(openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?);
    grantpt(&terminal)?;
    unlockpt(&terminal)?;
    let name = ptsname(&terminal, Vec::new())?;
    let far = open(
        name,
        OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let mut child = command.env("TERM", called).stdout(Stdio::from(far)).spawn()?;
    // The command holds the only other end.
    command.stdout(Stdio::null());
    let mut printed = Vec::new();
    let mut bytes = [0; 4096];
    // EIO says that nobody has the other end any more.
    while let Ok(count @ 1..) = terminal.read(&mut bytes) {
        printed.extend_from_slice(&bytes[..count]);
    }
    ensure!(child.wait()?.success(), "{command:?} failed");
    Ok(String::from_utf8(printed)?)
}

fn a_dumb_terminal_has_no_colours() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let listener = listen(&namespace, LOOPBACK)?;
    let listener_cookie = cookie(&listener)?.to_string();
    let cases = [
        ("xterm", "auto", true),
        ("dumb", "auto", false),
        ("dumb", "always", true),
    ];
    for (called, when, coloured) in cases {
        let mut command = binary::netstate(daemon.socket())?;
        let command = command.args(["show", "--color", when, &listener_cookie]);
        let printed = on_a_terminal(command, called)?;
        ensure!(printed.contains("LISTEN"), "{printed:?}");
        ensure!(
            printed.contains('\x1b') == coloured,
            "TERM={called} --color {when}: {printed:?}"
        );
    }
    Ok(())
}

/// A time zone in which it is midnight at `time`, as `TZ` has it; and the date that begins then.
fn midnight_at(time: Timestamp) -> Result<(String, Date)> {
    const DAY: i64 = 24 * 60 * 60;
    let into_the_day = time.as_second().rem_euclid(DAY);
    // East of Greenwich is negative there.
    let west = if into_the_day < DAY / 2 {
        into_the_day
    } else {
        into_the_day - DAY
    };
    let sign = if west < 0 { "-" } else { "" };
    let (hours, minutes, seconds) = (west.abs() / 3600, west.abs() / 60 % 60, west.abs() % 60);
    let offset = Offset::from_seconds(i32::try_from(-west)?)?;
    let zone = format!("<here>{sign}{hours:02}:{minutes:02}:{seconds:02}");
    Ok((zone, offset.to_datetime(time).date()))
}

/// Runs `netstate` in a time zone; returns what it prints.
fn in_zone(socket: &Path, zone: &str, arguments: &str) -> Result<String> {
    let mut command = binary::netstate(socket)?;
    command.args(arguments.split_whitespace()).env("TZ", zone);
    let output = command.output().context("cannot start netstate")?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{arguments}: {complaint}");
    Ok(String::from_utf8(output.stdout)?)
}

/// The first time that is not in the same second as `time`.
fn a_second_after(time: Timestamp) -> Result<()> {
    wait_for("the next second", SOON, || {
        Ok((Timestamp::now().as_second() > time.as_second()).then_some(()))
    })
}

/// Midnight comes between two connections, in a time zone of its own.
fn a_replay_has_a_date_for_each_day() -> Result<()> {
    let (directory, namespace) = (directory()?, Namespace::new()?);
    let (socket, file) = (
        directory.path().join("absent"),
        directory.path().join("recording"),
    );
    let mut watch = Watch::start_recording(&socket, &file)?;
    come_and_go(&namespace, 1)?;
    let before = Timestamp::now();
    a_second_after(before)?;
    come_and_go(&namespace, 1)?;
    wait_for("all of it to be printed", SOON, || {
        Ok((watch.count_in(namespace.inode()) == 2 * 8).then_some(()))
    })?;
    watch.signal(Signal::INT)?;
    watch.wait_for_end(STOP)?;
    let midnight = Timestamp::from_second(before.as_second() + 1)?;
    let (zone, date) = midnight_at(midnight)?;
    let replay = format!("replay --netns {} {}", namespace.inode(), file.display());
    let text = in_zone(&socket, &zone, &replay)?;
    let lines: Vec<_> = text.lines().collect();
    let first = format!("-- {} --", date.yesterday()?);
    let second = format!("-- {date} --");
    ensure!(lines[1] == first, "not {first}: {text}");
    let turn = lines.iter().position(|line| *line == second);
    let turn = turn.with_context(|| format!("no {second}: {text}"))?;
    ensure!(
        lines[2..turn].iter().all(|line| line.starts_with("23:59:5"))
            && lines[turn + 1..].iter().all(|line| line.starts_with("00:00:0")),
        "{text}"
    );
    let dates = lines.iter().filter(|line| line.starts_with("--")).count();
    ensure!(dates == 2, "{text}");
    Ok(())
}

/// What began yesterday says so; what began today needs no date.
fn a_history_has_a_date() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let listener = listen(&namespace, LOOPBACK)?;
    let show = format!("show {}", cookie(&listener)?);
    let since = Timestamp::now();
    a_second_after(since)?;
    let (zone, today) = midnight_at(Timestamp::from_second(since.as_second() + 1)?)?;
    let text = in_zone(daemon.socket(), &zone, &show)?;
    let dated = |date: Date| text.lines().any(|line| line.trim() == date.to_string());
    ensure!(dated(today.yesterday()?) && !dated(today), "{text}");
    let (zone, today) = midnight_at(Timestamp::from_second(since.as_second() - 60)?)?;
    let text = in_zone(daemon.socket(), &zone, &show)?;
    ensure!(!text.contains(&today.to_string()), "{text}");
    Ok(())
}

fn one_history_of_many() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let _listeners = [
        listen(&namespace, LOOPBACK)?,
        listen(&namespace, LOOPBACK)?,
        listen(&namespace, LOOPBACK)?,
    ];
    let notes = [
        (
            1,
            "netstate: this is the one that changed last; 2 more match: --most shows more, a longer filter fewer\n",
        ),
        (
            2,
            "netstate: these are the 2 that changed last; 1 more match: --most shows more, a longer filter fewer\n",
        ),
    ];
    for (most, note) in notes {
        let show = format!("show --netns {} --most {most} LISTEN", namespace.inode());
        let output = binary::run(daemon.socket(), &show)?;
        let said = String::from_utf8(output.stderr)?;
        ensure!(output.status.success() && said == note, "--most {most}: {said}");
    }
    Ok(())
}
