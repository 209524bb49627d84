//! Addresses: with a prefix length, with a port, or with neither.

use std::{
    borrow::Cow,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use serde::{Deserialize, Serialize};

use super::{Ends, Names, Ports, Test, problem::Fault, value};
use crate::connection::{Endpoint, Family};

/// The addresses that begin with the same bits. IPv4 ones are meant in their v4-mapped form too, in which a
/// dual-stack socket has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prefix {
    bits: [u8; 16],
    length: u8,
}

/// Bits of a v4-mapped address before the IPv4 address.
const MAPPED: u8 = 96;

impl Prefix {
    /// The addresses that have the first `length` bits of `address`.
    #[must_use]
    pub fn new(address: IpAddr, length: u8) -> Self {
        let (v6, length) = match address {
            IpAddr::V4(v4) => (v4.to_ipv6_mapped(), length.saturating_add(MAPPED)),
            IpAddr::V6(v6) => (v6, length),
        };
        Self {
            bits: v6.octets(),
            length,
        }
    }

    /// Whether the address of `end`, of a socket of `family`, begins so.
    #[must_use]
    pub fn covers(self, end: &Endpoint, family: Family) -> bool {
        // The mapped form of an IPv4 socket's address is ours, not the socket's.
        if family == Family::Inet && self.length < MAPPED {
            return false;
        }
        // It may come from anywhere, and be longer than an address.
        let rest = 128_u32.saturating_sub(self.length.into());
        let mask = u128::MAX.checked_shl(rest).unwrap_or(0);
        let address = u128::from(Ipv6Addr::from(end.octets()));
        (address ^ u128::from_be_bytes(self.bits)) & mask == 0
    }

    /// Whether an IPv4 socket may have such an address.
    pub(super) fn may_cover_ipv4(self) -> bool {
        self.length >= MAPPED && Ipv6Addr::from(self.bits).to_ipv4_mapped().is_some()
    }

    /// What `text` says: an address, perhaps with a prefix length.
    fn parse(text: &str) -> Result<Self, Fault> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let parsed = match length {
            Some(_) => address.parse().ok().or_else(|| network(address).map(IpAddr::V4)),
            None => address.parse().ok(),
        };
        let Some(address) = parsed else {
            return Err(no_address(address));
        };
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let length = match length.map(str::parse::<u8>) {
            None => longest,
            Some(Ok(length)) if length <= longest => length,
            _ => {
                return Err(Fault::new(
                    format!("`{text}` is no prefix"),
                    format!("after the slash comes how many bits count, 0 to {longest} for {address}"),
                ));
            }
        };
        Ok(Self::new(address, length))
    }
}

/// The first bytes of an IPv4 address, the others being 0: `127`, `193.233.7`.
fn network(text: &str) -> Option<Ipv4Addr> {
    let mut octets = [0; 4];
    let mut parts = text.split('.');
    for (octet, part) in octets.iter_mut().zip(&mut parts) {
        *octet = part.parse().ok().filter(|_| looks_numeric(part))?;
    }
    parts.next().is_none().then(|| octets.into())
}

/// What a text says of an end: it has one of these forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Meaning {
    /// The family that its socket has, if the text says so.
    pub(super) family: Option<Family>,
    /// Mostly one.
    pub(super) forms: Vec<Ends>,
    /// The interface behind `%`, in each namespace where there is one of that name; none if there is no `%`.
    pub(super) devices: Vec<Test>,
}

impl Meaning {
    /// Any address, with one of these ports.
    pub(super) fn ports(ports: Option<Ports>) -> Self {
        let prefix = None;
        Self {
            family: None,
            forms: vec![Ends { prefix, ports }],
            devices: Vec::new(),
        }
    }

    /// This or `other`, which stood before it in a list.
    pub(super) fn or(self, other: Option<Self>) -> Result<Self, Fault> {
        let Some(mut other) = other else {
            return Ok(self);
        };
        if other.family != self.family {
            return Err(Fault::new(
                "the values of one list have different families".to_owned(),
                "combine tests with `or`: `src inet:10.0.0.1 or src inet6:*`".to_owned(),
            ));
        }
        if other.devices != self.devices {
            return Err(Fault::new(
                "the values of one list have different interfaces".to_owned(),
                "combine tests with `or`: `src fe80::1%eth0 or src fe80::1%eth1`".to_owned(),
            ));
        }
        other.forms.extend(self.forms);
        Ok(other)
    }
}

/// What `text` says of an end: an address, a port, or both, and `*` for any; perhaps with a family before.
pub(super) fn parse(text: &str, names: &dyn Names) -> Result<Meaning, Fault> {
    let (family, text) = family(text)?;
    let (text, zone) = without_zone(text);
    let text = &*text;
    let devices = zone.map_or(Ok(Vec::new()), |zone| value::devices(zone, names))?;
    let mut forms = Vec::new();
    for (address, port) in divide(text, names)? {
        let ports = match port {
            // netstat has `*` for a port that is none, and `watch` has `-`.
            None | Some("*" | "-") => None,
            Some(port) => Some(Ports::parse(port, names)?),
        };
        let end = |prefix| Ends { prefix, ports };
        match address {
            "" | "*" => forms.push(end(None)),
            _ if is_any(address) => forms.push(end(None)),
            _ => match Prefix::parse(address) {
                Ok(prefix) => forms.push(end(Some(prefix))),
                Err(fault) => {
                    let hosts = names.hosts(address);
                    if hosts.is_empty() {
                        return Err(fault);
                    }
                    let prefix = |host: IpAddr| Prefix::new(host, if host.is_ipv4() { 32 } else { 128 });
                    forms.extend(hosts.into_iter().map(|host| end(Some(prefix(host)))));
                }
            },
        }
    }
    Ok(Meaning {
        family,
        forms,
        devices,
    })
}

/// `text` without `%` and the interface behind it, which may stand inside of brackets or behind them.
fn without_zone(text: &str) -> (Cow<'_, str>, Option<&str>) {
    let Some((before, rest)) = text.split_once('%') else {
        return (text.into(), None);
    };
    let end = rest.find([']', ':', '/']).unwrap_or(rest.len());
    let (zone, after) = rest.split_at(end);
    // What comes after it is a port, and no part of the address.
    let text = if after.starts_with(':') && !before.starts_with('[') {
        format!("[{before}]{after}")
    } else {
        format!("{before}{after}")
    };
    (text.into(), Some(zone))
}

/// The words that iproute2 takes for any address.
fn is_any(text: &str) -> bool {
    ["any", "default"]
        .iter()
        .any(|word| text.eq_ignore_ascii_case(word))
}

/// The family that `ss` lets stand before an address or a port, and what follows it.
pub(super) fn family(text: &str) -> Result<(Option<Family>, &str), Fault> {
    let Some((name, rest)) = text.split_once(':') else {
        return Ok((None, text));
    };
    match name.to_ascii_lowercase().as_str() {
        "inet" => Ok((Some(Family::Inet), rest)),
        "inet6" => Ok((Some(Family::Inet6), rest)),
        name @ ("unix" | "link" | "netlink" | "packet" | "vsock" | "tipc" | "xdp") => Err(Fault::new(
            format!("`{text}` is about {name} sockets, and netstate has TCP sockets alone"),
            "the families are `inet:` and `inet6:`; for the others ask `ss`".to_owned(),
        )),
        _ => Ok((None, text)),
    }
}

/// Whether a word that stands alone is meant as an address or a port.
pub(super) fn is_meant(word: &str, names: &dyn Names) -> bool {
    word.contains([':', '*', '[', '.', '/']) || !names.hosts(word).is_empty()
}

fn looks_numeric(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

/// An address and a port, as they stand in a text.
type Divided<'a> = (&'a str, Option<&'a str>);

/// The address and the port in `ADDR`, `ADDR:PORT`, `[ADDR]:PORT` and `:PORT`, where any `ADDR` may be `ADDR/LENGTH`.
/// Without brackets an IPv6 address and a port can be another address as well: then both are meant.
fn divide<'a>(text: &'a str, names: &dyn Names) -> Result<Vec<Divided<'a>>, Fault> {
    if let Some(rest) = text.strip_prefix('[') {
        return Ok(vec![in_brackets(text, rest)?]);
    }
    let Some((first, rest)) = text.split_once(':') else {
        return Ok(vec![(text, None)]);
    };
    if !rest.contains(':') {
        return Ok(vec![(first, Some(rest))]);
    }
    if let Some(slash) = text.find('/') {
        let colon = text[slash..].find(':').map(|colon| slash + colon);
        return Ok(vec![colon.map_or((text, None), |colon| {
            (&text[..colon], Some(&text[colon + 1..]))
        })]);
    }
    // As netstat writes it: `::1:631`, `:::*`.
    let with_port = text
        .rsplit_once(':')
        .filter(|(address, port)| address.parse::<Ipv6Addr>().is_ok() && is_port(port, names));
    let mut ways: Vec<_> = with_port
        .map(|(address, port)| (address, Some(port)))
        .into_iter()
        .collect();
    if ways.is_empty() || text.parse::<Ipv6Addr>().is_ok() {
        ways.push((text, None));
    }
    Ok(ways)
}

fn in_brackets<'a>(text: &str, rest: &'a str) -> Result<Divided<'a>, Fault> {
    let Some((address, rest)) = rest.split_once(']') else {
        return Err(Fault::new(
            format!("`{text}` has no `]`"),
            "an IPv6 address with a port is written `[::1]:443`".to_owned(),
        ));
    };
    match rest.strip_prefix(':') {
        Some(port) => Ok((address, Some(port))),
        None if rest.is_empty() => Ok((address, None)),
        None => Err(Fault::new(
            format!("`{rest}` cannot come after the bracket"),
            "a prefix length goes inside, a port after a colon: `[fe80::/10]:443`".to_owned(),
        )),
    }
}

/// Whether the last part of an IPv6 address may be a port: netstat writes no zeros before it.
fn is_port(text: &str, names: &dyn Names) -> bool {
    if text.starts_with('0') {
        return false;
    }
    matches!(text, "*" | "-")
        || text.parse::<u16>().is_ok()
        || !looks_hexadecimal(text) && names.port(text) != Ok(None)
}

fn looks_hexadecimal(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn no_address(text: &str) -> Fault {
    let network = network(text).map(|network| {
        let bits = 8 * text.split('.').count();
        format!("an address has four numbers, such as `{network}`; a network is `{text}/{bits}`")
    });
    let help = if let Some(network) = &network {
        network
    } else if text.contains(':') || looks_numeric(text) {
        "an address is IPv4 or IPv6, such as `10.0.0.1`, `10.0.0.0/8`, `::1` or, with a port, `[::1]:443`"
    } else {
        "names of hosts are not looked up, since one can have many addresses, or others tomorrow: give the address,\n\
         which `list -n` shows"
    };
    Fault::new(format!("`{text}` is no address"), help.to_owned())
}
