//! `netstate list -atnW`: ends, states and queues alone, which the daemon answers by other means than what takes more.

use std::{net::IpAddr, path::Path};

use anyhow::{Context, Result};

use crate::{
    Namespace, binary,
    rows::{End, Row},
};

/// What makes a list brief.
pub const ARGUMENTS: &str = "list -atnW";

/// Its rows inside `namespace`, sorted. They have no cookies, which are 0.
///
/// # Errors
/// When it fails or prints a line that is not understood.
pub fn list(namespace: &Namespace, socket: &Path) -> Result<Vec<Row>> {
    parse(&binary::run_in(namespace, socket, ARGUMENTS)?)
}

/// What it printed, as rows, sorted.
///
/// # Errors
/// When there is a line that is not understood.
pub fn parse(printed: &str) -> Result<Vec<Row>> {
    let lines = printed.lines().filter(|line| line.starts_with("tcp"));
    let mut rows: Vec<Row> = lines
        .map(|line| row(line).with_context(|| format!("not a line of netstat's: {line}")))
        .collect::<Result<_>>()?;
    rows.sort();
    Ok(rows)
}

/// The same rows without their cookies, sorted.
#[must_use]
pub fn without_cookies(rows: &[Row]) -> Vec<Row> {
    let mut rows: Vec<Row> = rows
        .iter()
        .map(|row| Row {
            cookie: 0,
            ..row.clone()
        })
        .collect();
    rows.sort();
    rows
}

fn row(line: &str) -> Result<Row> {
    let mut words = line.split_whitespace();
    let mut next = || words.next().context("it ends early");
    let inet6 = next()? == "tcp6";
    let row = Row {
        recv_q: next()?.parse()?,
        send_q: next()?.parse()?,
        local: end(next()?, inet6)?,
        remote: end(next()?, inet6)?,
        state: next()?.to_owned(),
        cookie: 0,
    };
    Ok(row.without_backlog())
}

/// netstat shows what an `AF_INET6` socket has for an IPv4 address as that.
fn end(text: &str, inet6: bool) -> Result<End> {
    let (addr, port) = text.rsplit_once(':').context("no port")?;
    // The interface of a link-local address, which `End` does not have.
    let addr = addr.split_once('%').map_or(addr, |(addr, _)| addr);
    let addr = match addr.parse()? {
        IpAddr::V4(addr) if inet6 => addr.to_ipv6_mapped().into(),
        addr => addr,
    };
    let port = (port != "*").then(|| port.parse()).transpose()?;
    Ok(End { addr, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_rows() {
        let printed = "Active Internet connections (servers and established)\n\
                       Proto Recv-Q Send-Q Local Address           Foreign Address         State\n\
                       tcp        1    128 0.0.0.0:22              0.0.0.0:*               LISTEN\n\
                       tcp6       7      0 ::1:443                 10.0.0.1:4000           ESTABLISHED\n";
        let rows = parse(printed).unwrap();
        let found: Vec<String> = rows.iter().map(ToString::to_string).collect();
        let expected = [
            "ESTABLISHED [::1]:443 → [::ffff:10.0.0.1]:4000 recv 7 send 0 cookie 0",
            "LISTEN 0.0.0.0:22 → 0.0.0.0:* recv 0 send 0 cookie 0",
        ];
        assert_eq!(found, expected);
        parse("tcp 1 2 0.0.0.0:22").unwrap_err();
    }
}
