//! Addresses: with a prefix length, with a port, or with neither.

use std::net::{IpAddr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::{Names, Ports, problem::Fault};
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

    /// What `text` says: an address, perhaps with a prefix length.
    fn parse(text: &str) -> Result<Self, Fault> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let Ok(address) = address.parse::<IpAddr>() else {
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

/// What `text` says of an end: an address, a port, or both, and `*` for any.
pub(super) fn parse(text: &str, names: &dyn Names) -> Result<(Option<Prefix>, Option<Ports>), Fault> {
    let (address, port) = divide(text)?;
    let address = match address {
        "" | "*" => None,
        address => Some(Prefix::parse(address)?),
    };
    let ports = match port {
        None | Some("*") => None,
        Some(port) => Some(Ports::parse(port, names)?),
    };
    Ok((address, ports))
}

/// Whether a word that stands alone is meant as an address or a port.
pub(super) fn is_meant(word: &str) -> bool {
    word.contains([':', '*', '[', '.', '/'])
}

fn looks_numeric(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

/// The address and the port in `ADDR`, `ADDR:PORT`, `[ADDR]:PORT` and `:PORT`, where any `ADDR` may be `ADDR/LENGTH`.
fn divide(text: &str) -> Result<(&str, Option<&str>), Fault> {
    if let Some(rest) = text.strip_prefix('[') {
        let Some((address, rest)) = rest.split_once(']') else {
            return Err(Fault::new(
                format!("`{text}` has no `]`"),
                "an IPv6 address with a port is written `[::1]:443`".to_owned(),
            ));
        };
        return match rest.strip_prefix(':') {
            Some(port) => Ok((address, Some(port))),
            None if rest.is_empty() => Ok((address, None)),
            None => Err(Fault::new(
                format!("`{rest}` cannot come after the bracket"),
                "a prefix length goes inside, a port after a colon: `[fe80::/10]:443`".to_owned(),
            )),
        };
    }
    match text.split_once(':') {
        // More than one: an IPv6 address without a port.
        Some((_, rest)) if rest.contains(':') => Ok((text, None)),
        Some((address, port)) => Ok((address, Some(port))),
        None => Ok((text, None)),
    }
}

fn no_address(text: &str) -> Fault {
    let help = if text.contains('%') {
        "leave out what follows the address from `%` on"
    } else if text.contains(':') || looks_numeric(text) {
        "an address is IPv4 or IPv6, such as `10.0.0.1`, `10.0.0.0/8`, `::1` or, with a port, `[::1]:443`"
    } else {
        "names of hosts are not looked up, since one can have many addresses, or others tomorrow: give the address"
    };
    Fault::new(format!("`{text}` is no address"), help.to_owned())
}
