//! `netstate list -o`: netstat's Timer column.

use std::io::Write;

use anyhow::{Context, Result, ensure};
use netstat_tests::{
    Daemon, Link,
    binary::run_in,
    daemon::directory,
    mixture::Mixture,
    sockets::{Pair, start_connecting},
    wait::{SOON, wait_for},
};
use socket2::SockRef;

crate::tests![as_netstat_has_it, beside_other_columns];

/// A line without its time, and that in hundredths of a second.
type Timed = (String, Option<i64>);

/// Cuts `on (0.20/1/0)` into `on (/1/0)` and 20.
fn timed(line: &str) -> Result<Timed> {
    let Some((head, tail)) = line.split_once('(').filter(|_| line.starts_with("tcp")) else {
        return Ok((line.to_owned(), None));
    };
    let (time, counts) = tail
        .split_once('/')
        .with_context(|| format!("no timer: {line}"))?;
    let (seconds, hundredths) = time.split_once('.').with_context(|| format!("no time: {line}"))?;
    ensure!(hundredths.len() == 2, "not netstat's form: {line}");
    let time = seconds.parse::<i64>()? * 100 + hundredths.parse::<i64>()?;
    Ok((format!("{head}(/{counts}"), Some(time)))
}

fn lines(text: &str) -> Result<Vec<Timed>> {
    let mut lines: Vec<_> = text.lines().map(timed).collect::<Result<_>>()?;
    lines.sort();
    Ok(lines)
}

/// Whether `ours` are the lines of `before` and `after`, with times between theirs.
fn is_between(ours: &[Timed], before: &[Timed], after: &[Timed]) -> bool {
    /// A tick may be one hundredth of a second, and both sides round.
    const SLACK: i64 = 2;
    ours.len() == before.len()
        && ours.len() == after.len()
        && ours.iter().zip(before).zip(after).all(|((ours, before), after)| {
            let times = match (ours.1, before.1, after.1) {
                (Some(ours), Some(before), Some(after)) => (after - SLACK..=before + SLACK).contains(&ours),
                (None, None, None) => true,
                _ => false,
            };
            times && ours.0 == before.0 && ours.0 == after.0
        })
}

fn same(link: &Link, socket: &std::path::Path, flags: &[&str]) -> Result<()> {
    for flags in flags {
        let mut last = String::new();
        let compared = wait_for("netstate and netstat to agree", SOON, || {
            let before = link.left.run("netstat", flags)?;
            let ours = run_in(&link.left, socket, &format!("list {flags}"))?;
            let after = link.left.run("netstat", flags)?;
            let agree = is_between(&lines(&ours)?, &lines(&before)?, &lines(&after)?);
            last = format!("{flags}\nnetstate:\n{ours}\nnetstat:\n{before}");
            Ok(agree.then_some(()))
        });
        compared.context(last)?;
    }
    Ok(())
}

/// Sockets with every kind of timer, in the left namespace.
fn sockets(link: &Link) -> Result<(Mixture, Vec<Pair>, Vec<socket2::Socket>)> {
    let mixture = Mixture::new(link, 1)?;
    let address = format!("{}:0", Link::LEFT);
    let alive = Pair::new(&link.left, &address)?;
    SockRef::from(&alive.client).set_keepalive(true)?;
    let mut closed = Pair::new(&link.left, &address)?;
    closed.client.set_nonblocking(true)?;
    while closed.client.write(&[1; 16_000]).is_ok() {}
    // Nobody is there: its hardware address is never found, and the SYN waits for it.
    let syn = start_connecting(&link.left, "10.77.0.99:80".parse()?)?;
    Ok((mixture, vec![alive, closed], vec![syn]))
}

fn as_netstat_has_it() -> Result<()> {
    let link = Link::new()?;
    let daemon = Daemon::start()?;
    let _sockets = sockets(&link)?;
    for wanted in ["off (", "on (", "keepalive (", "probe (", "timewait ("] {
        wait_for(wanted, SOON, || {
            let text = run_in(&link.left, daemon.socket(), "list -tano")?;
            Ok(text.contains(wanted).then_some(()))
        })?;
    }
    same(&link, daemon.socket(), &["-tano", "-tno", "-tlno"])?;
    let directory = directory()?;
    same(&link, &directory.path().join("absent.sock"), &["-tano"])
}

fn beside_other_columns() -> Result<()> {
    let link = Link::new()?;
    let daemon = Daemon::start()?;
    let _sockets = sockets(&link)?;
    same(&link, daemon.socket(), &["-taneo", "-tanoW"])
}
