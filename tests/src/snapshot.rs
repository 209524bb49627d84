//! Which sockets there are: the kernel's word, through `ss`, and netstate's, through `list --json`.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::{
    Namespace, binary, brief,
    rows::{End, Row},
    wait::{SOON, wait_for},
};

/// One object of `netstate list --json`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[expect(
    missing_docs,
    reason = "the keys are the contract's, in docs/ and `netstate list --help`"
)]
pub struct Listed {
    pub cookie: u64,
    pub netns: u32,
    pub netns_name: Option<String>,
    pub family: String,
    pub local_addr: IpAddr,
    pub local_port: Option<u16>,
    pub remote_addr: IpAddr,
    pub remote_port: Option<u16>,
    pub state: String,
    pub since: Option<String>,
    pub in_state_ms: Option<u64>,
    pub at_least: bool,
    pub recv_q: Option<u32>,
    pub send_q: Option<u32>,
    pub uid: Option<u32>,
    pub pid: Option<u32>,
    pub comm: Option<String>,
    pub fd: Option<u32>,
    pub owner_source: Option<String>,
    pub owners: Vec<Owner>,
    pub more_owners: u32,
    pub exe: Option<String>,
    pub user: Option<String>,
    pub cgroup: Option<serde_json::Value>,
    pub fwmark: Option<u32>,
    pub autobound: Option<bool>,
    pub bound: bool,
    pub inode: Option<u64>,
    #[serde(default)]
    pub tcp: Option<serde_json::Value>,
}

/// One of a row's owners.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[expect(missing_docs, reason = "as of `Listed`")]
pub struct Owner {
    pub pid: u32,
    pub tid: Option<u32>,
    pub fd: Option<u32>,
    pub fds: Option<u32>,
    pub comm: String,
    pub exe: Option<String>,
    pub source: String,
}

impl Owner {
    /// Whether it is said to hold the socket.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.source == "event" || self.source == "scan"
    }
}

impl Listed {
    /// The processes that are said to hold it, by their ids.
    #[must_use]
    pub fn held_by(&self) -> Vec<u32> {
        let current = self.owners.iter().filter(|owner| owner.is_current());
        let mut pids: Vec<u32> = current.map(|owner| owner.pid).collect();
        pids.sort_unstable();
        pids
    }

    /// Checks that the descriptor which the row names is the socket which the row names.
    ///
    /// # Errors
    /// When it is not, or the row names none.
    pub fn descriptor_is_right(&self) -> Result<()> {
        let named = self.pid.zip(self.fd);
        let (pid, fd) = named.with_context(|| format!("no descriptor: {self:?}"))?;
        let target = std::fs::read_link(format!("/proc/{pid}/fd/{fd}"))?;
        let expected = self.inode.map(|inode| format!("socket:[{inode}]"));
        ensure!(
            target.to_str() == expected.as_deref(),
            "descriptor {fd} is {}: {self:?}",
            target.display()
        );
        Ok(())
    }

    /// The local end.
    #[must_use]
    pub fn local(&self) -> End {
        End {
            addr: self.local_addr,
            port: self.local_port,
        }
    }

    /// The remote end.
    #[must_use]
    pub fn remote(&self) -> End {
        End {
            addr: self.remote_addr,
            port: self.remote_port,
        }
    }

    /// What `ss` has to show for it.
    ///
    /// # Errors
    /// When its queues are not known.
    pub fn row(&self) -> Result<Row> {
        let queue = |value: Option<u32>| value.with_context(|| format!("no queue length in {self:?}"));
        let row = Row {
            state: self.state.clone(),
            local: self.local(),
            remote: self.remote(),
            recv_q: queue(self.recv_q)?,
            send_q: queue(self.send_q)?,
            cookie: self.cookie,
        };
        Ok(row.without_backlog())
    }
}

/// `netstate list -an --json`, run inside `namespace`.
///
/// # Errors
/// When it fails or prints something else than such objects.
pub fn list(namespace: &Namespace, socket: &Path) -> Result<Vec<Listed>> {
    parse_list(&binary::run_in(namespace, socket, "list -an --json")?)
}

/// `netstate list --json` with these flags and words, run inside `namespace`.
///
/// # Errors
/// As [`list`].
pub fn list_matching(namespace: &Namespace, socket: &Path, arguments: &str) -> Result<Vec<Listed>> {
    parse_list(&binary::run_in(
        namespace,
        socket,
        &format!("list --json {arguments}"),
    )?)
}

/// The cookies that `ss -tnHe` shows with these flags and words, run inside `namespace`, sorted.
///
/// # Errors
/// When it fails or prints a line without one.
pub fn ss_matching(namespace: &Namespace, arguments: &str) -> Result<Vec<u64>> {
    // Of the columns nothing is taken: with a filter for one state, there is none for the state.
    let printed = namespace.run("ss", &format!("-tnHe {arguments}"))?;
    let cookie = |line: &str| -> Result<u64> {
        let mut words = line.split_whitespace();
        let cookie = words.find_map(|word| word.strip_prefix("sk:"));
        let cookie = cookie.with_context(|| format!("no cookie: {line}"))?;
        Ok(u64::from_str_radix(cookie, 16)?)
    };
    let mut cookies: Vec<u64> = printed.lines().map(cookie).collect::<Result<_>>()?;
    cookies.sort_unstable();
    Ok(cookies)
}

/// `netstate list -an --json --netns NETNS`.
///
/// # Errors
/// As [`list`].
pub fn list_of(netns: &str, socket: &Path) -> Result<Vec<Listed>> {
    let output = binary::run(socket, &format!("list -an --json --netns {netns}"))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "list --netns {netns}: {}: {}",
        output.status,
        complaint.trim()
    );
    parse_list(&String::from_utf8(output.stdout)?)
}

fn parse_list(printed: &str) -> Result<Vec<Listed>> {
    let parse = |line: &str| serde_json::from_str(line).with_context(|| format!("not a row: {line}"));
    printed.lines().map(parse).collect()
}

/// `ss -tane`, run inside `namespace`, sorted.
///
/// # Errors
/// When it fails or prints a line that is not understood.
pub fn ss(namespace: &Namespace) -> Result<Vec<Row>> {
    parse_ss_output(&namespace.run("ss", "-tanHe")?)
}

/// What `ss -tanHe` printed, as rows, sorted.
///
/// # Errors
/// When there is a line that is not understood.
pub fn parse_ss_output(printed: &str) -> Result<Vec<Row>> {
    let parse = |line: &str| parse_ss(line).with_context(|| format!("not a line of ss: {line}"));
    let mut rows: Vec<Row> = printed.lines().map(parse).collect::<Result<_>>()?;
    rows.sort();
    Ok(rows)
}

/// Waits until `netstate list`, in brief and in full, and `ss` show the same sockets in `namespace`; returns netstate's rows.
///
/// # Errors
/// When they still differ after `limit`; the message lists the differences.
pub fn agreement(namespace: &Namespace, socket: &Path, limit: Duration) -> Result<Vec<Listed>> {
    let mut difference = String::new();
    let waited = wait_for("`netstate list` and `ss` to agree", limit, || {
        // `ss` between two looks of `netstate` could catch a change in progress, so they are only compared,
        // again and again, until nothing moves.
        let truth = ss(namespace)?;
        let listed = list(namespace, socket)?;
        let mut rows: Vec<Row> = listed.iter().map(Listed::row).collect::<Result<_>>()?;
        rows.sort();
        let brief = (brief::list(namespace, socket)?, brief::without_cookies(&truth));
        let as_brief = describe_difference(&brief.0, &brief.1);
        difference = format!("{}\nin brief:\n{as_brief}", describe_difference(&rows, &truth));
        Ok((rows == truth && brief.0 == brief.1).then_some(listed))
    });
    waited.with_context(|| format!("netstate and ss differ:\n{difference}"))
}

/// Compares `netstate list` with `ss` in `namespace` while nothing moves there, which `ss` says before and after; returns
/// netstate's rows. Unlike [`agreement`], it gives netstate no second try.
///
/// # Errors
/// When they differ, or something moves all the time.
pub fn agreement_at_once(namespace: &Namespace, socket: &Path) -> Result<Vec<Listed>> {
    let still = wait_for("nothing to move", SOON, || {
        let before = ss(namespace)?;
        let listed = list(namespace, socket)?;
        Ok((ss(namespace)? == before).then_some((before, listed)))
    });
    let (truth, listed) = still?;
    let mut rows: Vec<Row> = listed.iter().map(Listed::row).collect::<Result<_>>()?;
    rows.sort();
    ensure!(
        rows == truth,
        "netstate and ss differ:\n{}",
        describe_difference(&rows, &truth)
    );
    Ok(listed)
}

fn describe_difference(listed: &[Row], truth: &[Row]) -> String {
    let only = |mark: &'static str, these: &[Row], those: &[Row]| -> Vec<String> {
        these
            .iter()
            .filter(|row| !those.contains(row))
            .map(|row| format!("{mark}: {row}"))
            .collect()
    };
    let mut lines = only("only in netstate", listed, truth);
    lines.extend(only("only in ss", truth, listed));
    if lines.is_empty() && listed.len() != truth.len() {
        lines.push(format!(
            "{} rows in netstate, {} in ss: some are there twice",
            listed.len(),
            truth.len()
        ));
    }
    lines.join("\n")
}

/// `STATE RECV-Q SEND-Q LOCAL REMOTE … sk:COOKIE …`.
fn parse_ss(line: &str) -> Result<Row> {
    let mut words = line.split_whitespace();
    let mut next = |what: &'static str| words.next().context(what);
    let state = netstat_name(next("no state")?)?.to_owned();
    let (recv_q, send_q) = (parse_queue(next("no Recv-Q")?)?, parse_queue(next("no Send-Q")?)?);
    let (local, remote) = (
        parse_end(next("no local end")?)?,
        parse_end(next("no remote end")?)?,
    );
    let cookie = words
        .find_map(|word| word.strip_prefix("sk:"))
        .context("no cookie")?;
    let cookie = u64::from_str_radix(cookie, 16)?;
    let row = Row {
        state,
        local,
        remote: same_family(remote, local),
        recv_q,
        send_q,
        cookie,
    };
    Ok(row.without_backlog())
}

/// `ss` prints the kernel's `u32` as an `int`. That makes a difference where a connect waits for its first data
/// (`TCP_FASTOPEN_CONNECT`): there the queue is the first sequence number, since `snd_una` is not set yet.
fn parse_queue(text: &str) -> Result<u32> {
    match text.parse::<i32>() {
        Ok(queue) => Ok(queue.cast_unsigned()),
        Err(_) => Ok(text.parse()?),
    }
}

/// `ADDR:PORT`, `[ADDR]:PORT`, `ADDR%DEV:PORT`, `*:PORT`.
fn parse_end(text: &str) -> Result<End> {
    let (addr, port) = text.rsplit_once(':').context("no port")?;
    let addr = addr.split('%').next().unwrap_or(addr).trim_matches(['[', ']']);
    let addr = if addr == "*" {
        Ipv6Addr::UNSPECIFIED.into()
    } else {
        addr.parse()?
    };
    let port = if port == "*" { None } else { Some(port.parse()?) };
    Ok(End { addr, port })
}

/// `ss` prints `*` for "any address of either family" on both sides of a dual-stack listener.
fn same_family(remote: End, local: End) -> End {
    match (remote.addr.is_unspecified(), local.addr) {
        (true, IpAddr::V4(_)) => End {
            addr: Ipv4Addr::UNSPECIFIED.into(),
            ..remote
        },
        (true, IpAddr::V6(_)) => End {
            addr: Ipv6Addr::UNSPECIFIED.into(),
            ..remote
        },
        (false, _) => remote,
    }
}

fn netstat_name(ss_name: &str) -> Result<&'static str> {
    Ok(match ss_name {
        "ESTAB" => "ESTABLISHED",
        "SYN-SENT" => "SYN_SENT",
        "SYN-RECV" => "SYN_RECV",
        "FIN-WAIT-1" => "FIN_WAIT1",
        "FIN-WAIT-2" => "FIN_WAIT2",
        "TIME-WAIT" => "TIME_WAIT",
        "UNCONN" => "CLOSE",
        "CLOSE-WAIT" => "CLOSE_WAIT",
        "LAST-ACK" => "LAST_ACK",
        "LISTEN" => "LISTEN",
        "CLOSING" => "CLOSING",
        other => bail!("unknown state {other}"),
    })
}
