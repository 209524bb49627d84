//! `netstate show`: the life of a connection, while it lasts and afterwards.

use std::io::{Read, Write};

use anyhow::{Context, Result, ensure};
use netstat_tests::{
    Daemon, Link, Namespace, binary,
    daemon::directory,
    link::Way,
    sockets::{LOOPBACK, Pair, accept, connect, cookie, deliver, listen, reset, wait_for_fin},
    traffic::come_and_go,
    wait::{SOON, wait_for},
};
use serde_json::Value;

crate::tests![
    a_life_with_its_end,
    what_was_sent_again,
    how_it_stands,
    by_cookie_and_by_address,
    the_latest_first,
    only_what_there_is_room_for,
    nothing_known,
    without_a_daemon,
];

/// The histories that `show --json` prints.
fn show(daemon: &Daemon, arguments: &str) -> Result<Vec<Value>> {
    let output = binary::run(daemon.socket(), &format!("show --json {arguments}"))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "show {arguments}: {complaint}");
    let text = String::from_utf8(output.stdout)?;
    let lines = text.lines().map(serde_json::from_str);
    Ok(lines.collect::<Result<_, _>>()?)
}

fn states(history: &Value) -> Vec<&str> {
    let stays = history["stays"].as_array().into_iter().flatten();
    stays.filter_map(|stay| stay["state"].as_str()).collect()
}

/// A connection that the client closes first, then the server: the server's end is over at once.
fn a_life_with_its_end() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let watch = daemon.watch_in(&namespace)?;
    let pair = Pair::new(&namespace, LOOPBACK)?;
    let (near, far) = (cookie(&pair.client)?, cookie(&pair.server)?);
    let before = show(&daemon, &near.to_string())?;
    ensure!(states(&before[0]) == ["SYN_SENT", "ESTABLISHED"], "{before:?}");
    ensure!(before[0]["ended"].is_null(), "{before:?}");
    drop(pair.client);
    wait_for_fin(&pair.server)?;
    drop(pair.server);
    let end = watch.wait("the server's end", |seen| {
        seen.cookie == far && seen.to == "CLOSE"
    })?;
    let [history] = &show(&daemon, &far.to_string())?[..] else {
        anyhow::bail!("not one history");
    };
    ensure!(
        states(history) == ["SYN_RECV", "ESTABLISHED", "CLOSE_WAIT", "LAST_ACK"],
        "{history}"
    );
    ensure!(history["state"] == "CLOSE", "{history}");
    ensure!(
        history["ended"]["time"] == end.time.as_str(),
        "not at {}: {history}",
        end.time
    );
    let told: Vec<_> = watch.of(far).iter().filter_map(|step| step.in_state_us).collect();
    let lasted = history["stays"].as_array().into_iter().flatten();
    let lasted: Vec<_> = lasted.filter_map(|stay| stay["lasted_us"].as_u64()).collect();
    ensure!(lasted == told, "watch has told {told:?}: {history}");
    let other = show(&daemon, &near.to_string())?;
    let path = ["SYN_SENT", "ESTABLISHED", "FIN_WAIT1", "FIN_WAIT2", "TIME_WAIT"];
    ensure!(states(&other[0]) == path, "{other:?}");
    // As a person sees it: the states in their order, and the end.
    let text = binary::run(daemon.socket(), &format!("show {far}"))?;
    let text = String::from_utf8(text.stdout)?;
    let places: Vec<_> = ["SYN_RECV", "ESTABLISHED", "CLOSE_WAIT", "LAST_ACK", "CLOSE\n"]
        .iter()
        .map(|state| text.find(state))
        .collect();
    ensure!(places.is_sorted() && places[0].is_some(), "{text}");
    ensure!(text.contains("ended") && text.contains('█'), "{text}");
    Ok(())
}

/// What the kernel says of a live connection at that moment, for people.
fn how_it_stands() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let pair = Pair::new(&namespace, LOOPBACK)?;
    deliver(&pair.client, &pair.server, b"to be read")?;
    let text = |cookie: u64| -> Result<String> {
        let output = binary::run(daemon.socket(), &format!("show {cookie}"))?;
        Ok(String::from_utf8(output.stdout)?)
    };
    let server = text(cookie(&pair.server)?)?;
    for part in [
        "now  10 bytes not read, 0 not acknowledged",
        "congestion window",
        "peer's window",
    ] {
        ensure!(server.contains(part), "no {part}: {server}");
    }
    // Somebody waits to be accepted.
    let _other = connect(&namespace, pair.listener.local_addr()?)?;
    let listener = text(cookie(&pair.listener)?)?;
    ensure!(listener.contains("now  accept queue 1 of"), "{listener}");
    Ok(())
}

/// Data is lost and sent again: that is a part of its life, and what went over it is told at the end.
fn what_was_sent_again() -> Result<()> {
    let link = Link::new()?;
    let daemon = Daemon::start()?;
    let watch = daemon.watch_in(&link.left)?;
    let listener = listen(&link.right, &format!("{}:0", Link::RIGHT))?;
    let mut client = connect(&link.left, listener.local_addr()?)?;
    let mut server = accept(&listener)?;
    let near = cookie(&client)?;
    link.lose(Way::ToRight)?;
    client.write_all(&[1; 5000])?;
    let history = wait_for("the data to be sent again", SOON, || {
        let found = show(&daemon, &near.to_string())?;
        let marks = found[0]["annotations"].as_array().map_or(0, Vec::len);
        Ok((marks > 0).then(|| found[0].clone()))
    })?;
    ensure!(history["annotations"][0]["what"] == "retransmit", "{history}");
    link.restore(Way::ToRight)?;
    server.read_exact(&mut [0; 5000])?;
    reset(client)?;
    watch.wait("the end", |seen| seen.cookie == near && seen.to == "CLOSE")?;
    let history = show(&daemon, &near.to_string())?.swap_remove(0);
    ensure!(history["ended"]["reason"] == "reset_by_us", "{history}");
    let totals = &history["totals"];
    // The SYN counts as one.
    ensure!(
        totals["bytes_acked"] == 5001 && totals["bytes_received"] == 0,
        "{history}"
    );
    let told: u64 = history["annotations"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|mark| mark["what"] == "retransmit")
        .filter_map(|mark| mark["count"].as_u64())
        .sum();
    ensure!(
        totals["retransmits"].as_u64() >= Some(told) && told > 0,
        "{history}"
    );
    let text = String::from_utf8(binary::run(daemon.socket(), &format!("show {near}"))?.stdout)?;
    for part in [
        "sent again",
        "5001 bytes acknowledged",
        "round trip",
        "reset by us",
    ] {
        ensure!(text.contains(part), "no {part:?}: {text}");
    }
    Ok(())
}

fn by_cookie_and_by_address() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let pair = Pair::new(&namespace, LOOPBACK)?;
    let (near, far) = (cookie(&pair.client)?, cookie(&pair.server)?);
    let port = pair.client.local_addr()?.port();
    let cookies = |arguments: &str| -> Result<Vec<u64>> {
        let arguments = format!("--netns {} {arguments}", namespace.inode());
        let found = show(&daemon, &arguments)?;
        let mut cookies: Vec<_> = found.iter().filter_map(|one| one["cookie"].as_u64()).collect();
        cookies.sort_unstable();
        Ok(cookies)
    };
    let mut both = [near, far];
    both.sort_unstable();
    ensure!(cookies(&format!("{near} {far}"))? == both, "by cookies");
    ensure!(cookies(&format!("127.0.0.1:{port}"))? == both, "by an end");
    ensure!(cookies(&format!("sport {port}"))? == [near], "by the local port");
    ensure!(
        cookies(&format!("dport {port} and state established"))? == [far],
        "by port and state"
    );
    Ok(())
}

fn the_latest_first() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let old = Pair::new(&namespace, LOOPBACK)?;
    let new = Pair::new(&namespace, LOOPBACK)?;
    let arguments = format!("--netns {} --most 1", namespace.inode());
    let filter = |pair: &Pair| -> Result<String> { Ok(format!("port {}", pair.client.local_addr()?.port())) };
    let either = format!("{arguments} {} or {}", filter(&old)?, filter(&new)?);
    let output = binary::run(daemon.socket(), &format!("show --json {either}"))?;
    let found: Value = serde_json::from_slice(&output.stdout)?;
    let (near, far) = (cookie(&new.client)?, cookie(&new.server)?);
    ensure!(
        [near, far].map(Value::from).contains(&found["cookie"]),
        "not one of {near} and {far}: {found}"
    );
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(
        complaint.contains("3 more"),
        "does not say that there are more: {complaint}"
    );
    Ok(())
}

/// The oldest go first, and all of them without room.
fn only_what_there_is_room_for() -> Result<()> {
    const CONNECTIONS: usize = 300;
    let namespace = Namespace::new()?;
    for (size, least, most) in [("0", 0, 0), ("64K", 20, 256), ("32M", CONNECTIONS, 256)] {
        let daemon = Daemon::start_with(&["--history", size])?;
        let watch = daemon.watch_in(&namespace)?;
        come_and_go(&namespace, CONNECTIONS)?;
        let pair = Pair::new(&namespace, LOOPBACK)?;
        let last = cookie(&pair.client)?;
        reset(pair.client)?;
        watch.wait("the last connection's end", |seen| {
            seen.cookie == last && seen.to == "CLOSE"
        })?;
        let stats = daemon.stats()?;
        let ended = stats["ended"].as_u64().context("no count of what has ended")?;
        let bytes = stats["ended_bytes"]
            .as_u64()
            .context("no size of what has ended")?;
        ensure!(ended >= u64::try_from(least)?, "{size}: {ended} remembered");
        ensure!(
            size != "64K" || bytes <= 65_536 && bytes > 32_768,
            "{size}: {bytes} bytes"
        );
        let arguments = format!("show --json --most 256 --netns {} state CLOSE", namespace.inode());
        let found = binary::run(daemon.socket(), &arguments)?.stdout;
        let found = String::from_utf8(found)?;
        ensure!(found.lines().count() <= most, "{size}: more than {most}");
        // Nobody else may have ended a thousand connections since.
        ensure!(
            size != "32M" || found.contains(&format!("\"cookie\":{last},")),
            "{size}: the last one is forgotten"
        );
    }
    Ok(())
}

fn nothing_known() -> Result<()> {
    let daemon = Daemon::start()?;
    let output = binary::run(daemon.socket(), "show 18446744073709551615")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.code() == Some(1) && output.stdout.is_empty(),
        "{output:?}"
    );
    ensure!(
        said.contains("nothing is known") && said.contains("--history"),
        "{said}"
    );
    let output = binary::run(daemon.socket(), "show no such thing")?;
    ensure!(output.status.code() == Some(2), "{output:?}");
    Ok(())
}

fn without_a_daemon() -> Result<()> {
    let directory = directory()?;
    let output = binary::run(&directory.path().join("none.sock"), "show 1")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1), "{output:?}");
    ensure!(said.contains("netstate daemon"), "{said}");
    Ok(())
}
