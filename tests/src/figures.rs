//! The figures of sockets: the kernel's word, through `ss -tnoiem`, and netstate's, through the object `tcp` of
//! `list --json`.

use std::{collections::HashMap, path::Path};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{
    Namespace,
    snapshot::{self, Listed},
    wait::{SOON, wait_for},
};

/// A figure as `ss` calls it, and as netstate does.
type Pair = (&'static str, &'static str);

/// What `ss` leaves out while it is 0.
const COUNTS: &[Pair] = &[
    ("backoff", "backoff"),
    ("bytes_sent", "bytes_sent"),
    ("bytes_acked", "bytes_acked"),
    ("bytes_retrans", "bytes_retrans"),
    ("bytes_received", "bytes_received"),
    ("unacked", "packets_out"),
    ("retrans now", "packets_retrans"),
    ("retrans ever", "total_retrans"),
    ("lost", "packets_lost"),
    ("sacked", "packets_sacked"),
    ("notsent", "unsent"),
    ("snd_wnd", "snd_wnd"),
    ("rcv_ssthresh", "rcv_ssthresh"),
    ("mss", "mss"),
    ("cwnd", "cwnd"),
    ("ssthresh", "ssthresh"),
    ("rto", "rto_ms"),
    ("rtt", "rtt_us"),
    ("rttvar", "rttvar_us"),
    ("minrtt", "rtt_min_us"),
    ("mem r", "rcv_memory"),
    ("mem rb", "rcvbuf"),
    ("mem tb", "sndbuf"),
];

/// How long ago something happened, in milliseconds.
const AGES: &[Pair] = &[
    ("lastsnd", "last_sent_ms"),
    ("lastrcv", "last_received_ms"),
    ("lastack", "last_ack_ms"),
];

/// The figures of one socket, by name; times in milliseconds, round-trip times in microseconds.
type Truth = HashMap<String, f64>;

/// Waits until netstate's rows and `ss` have the same figures for every socket in `namespace` that `ss` has any for,
/// and returns the rows.
///
/// # Errors
/// When they still differ after a while; the message lists the differences.
pub fn agreement(namespace: &Namespace, socket: &Path) -> Result<Vec<Listed>> {
    let mut differences = Vec::new();
    let waited = wait_for("`netstate list --json` and `ss -i` to agree", SOON, || {
        let before = ss(namespace)?;
        let rows = snapshot::list(namespace, socket)?;
        let after = ss(namespace)?;
        differences = before
            .iter()
            .filter_map(|(cookie, before)| Some((cookie, before, after.get(cookie)?)))
            .flat_map(
                |(cookie, before, after)| match rows.iter().find(|row| row.cookie == *cookie) {
                    Some(row) => differing(row, before, after),
                    None => vec![format!("no row of {cookie}")],
                },
            )
            .collect();
        Ok(differences.is_empty().then_some(rows))
    });
    waited.with_context(|| format!("netstate and ss differ:\n{}", differences.join("\n")))
}

/// What is different in `row`, of what has not changed between two looks of `ss`.
fn differing(row: &Listed, before: &Truth, after: &Truth) -> Vec<String> {
    let Some(tcp) = &row.tcp else {
        return vec![format!("no figures: {row:?}")];
    };
    let mut found = Vec::new();
    if row.state == "LISTEN" {
        let drops = before.get("mem d").copied();
        if drops == after.get("mem d").copied() && tcp["accept_queue"]["drops"].as_f64() != drops {
            found.push(format!("drops {drops:?}: {tcp}"));
        }
        return found;
    }
    for (theirs, ours) in COUNTS {
        let (first, last) = (value(before, theirs), value(after, theirs));
        // `ss` leaves out what is 0, or infinite, or not measured.
        let mine = tcp[*ours].as_f64().unwrap_or(0.0);
        if (first - last).abs() < 0.5 && (mine - first).abs() >= 1.0 {
            found.push(format!(
                "{}: {ours} is {mine}, and {theirs} {first} with ss",
                row.cookie
            ));
        }
    }
    for (theirs, ours) in AGES {
        /// Two ticks at most, and the rounding.
        const SLACK: f64 = 21.0;
        let (first, last) = (value(before, theirs), value(after, theirs));
        if let Some(mine) = tcp[*ours].as_f64()
            && first <= last
            && !(first - SLACK..=last + SLACK).contains(&mine)
        {
            found.push(format!(
                "{}: {ours} is {mine}, and {theirs} {first} to {last} with ss",
                row.cookie
            ));
        }
    }
    found
}

fn value(truth: &Truth, name: &str) -> f64 {
    truth.get(name).copied().unwrap_or(0.0)
}

/// `ss -tanoiem`, run inside `namespace`: the figures by cookie, of the sockets that it has some for.
fn ss(namespace: &Namespace) -> Result<HashMap<u64, Truth>> {
    let printed = namespace.run("ss", "-tanoiemOH")?;
    let parse = |line: &str| parse(line).with_context(|| format!("not a line of ss: {line}"));
    let all: Vec<_> = printed.lines().map(parse).collect::<Result<_>>()?;
    // Minisocks and request socks have none.
    Ok(all
        .into_iter()
        .filter(|(_, truth)| truth.contains_key("mem d"))
        .collect())
}

fn parse(line: &str) -> Result<(u64, Truth)> {
    let mut cookie = None;
    let mut truth = Truth::new();
    for word in line.split_whitespace() {
        let Some((name, value)) = word.split_once(':') else {
            continue;
        };
        match name {
            "sk" => cookie = Some(u64::from_str_radix(value, 16)?),
            "skmem" => memory(value, &mut truth),
            "rtt" => {
                let (rtt, deviation) = value.split_once('/').context("no rttvar")?;
                truth.insert("rtt".to_owned(), 1000.0 * rtt.parse::<f64>()?);
                truth.insert("rttvar".to_owned(), 1000.0 * deviation.parse::<f64>()?);
            }
            "minrtt" => drop(truth.insert(name.to_owned(), 1000.0 * value.parse::<f64>()?)),
            "retrans" => {
                let (now, ever) = value.split_once('/').context("no total of retrans")?;
                truth.insert("retrans now".to_owned(), now.parse()?);
                truth.insert("retrans ever".to_owned(), ever.parse()?);
            }
            name => {
                if let Ok(value) = value.parse() {
                    truth.insert(name.to_owned(), value);
                }
            }
        }
    }
    Ok((cookie.context("no cookie")?, truth))
}

/// `(r0,rb131072,…,d0)`.
fn memory(list: &str, truth: &mut Truth) {
    for entry in list.trim_matches(['(', ')']).split(',') {
        let digits = entry
            .find(|char: char| char.is_ascii_digit())
            .unwrap_or(entry.len());
        let (name, value) = entry.split_at(digits);
        if let Ok(value) = value.parse() {
            truth.insert(format!("mem {name}"), value);
        }
    }
}

/// A row's figures once they are `enough`.
///
/// # Errors
/// When they are not after a while; the message has the last ones.
pub fn wait_for_figures(
    what: &str,
    namespace: &Namespace,
    socket: &Path,
    cookie: u64,
    enough: impl Fn(&Value) -> bool,
) -> Result<Value> {
    let mut last = None;
    let waited = wait_for(what, SOON, || {
        let rows = snapshot::list(namespace, socket)?;
        last = rows
            .into_iter()
            .find(|row| row.cookie == cookie)
            .and_then(|row| row.tcp);
        Ok(last.clone().filter(&enough))
    });
    waited.with_context(|| format!("the last figures were {last:?}"))
}
