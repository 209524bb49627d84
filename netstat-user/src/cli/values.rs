//! The values that flags take.

use std::{path::PathBuf, time::Duration};

use clap::{ValueEnum, builder::PossibleValuesParser};
use jiff::SignedDuration;

use crate::{diagnosis::Severity, loader};

/// Which network namespaces are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetnsArg {
    /// All of them.
    All,
    /// The caller's.
    Own,
    /// The one with this inode number.
    Inode(u32),
    /// The one that `ip netns` calls so.
    Name(String),
    /// The one that this file stands for.
    Path(PathBuf),
}

impl std::str::FromStr for NetnsArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self::All),
            "own" | "self" => Ok(Self::Own),
            "" | "." | ".." => Err("a namespace has a name or a number".to_owned()),
            path if path.contains('/') => Ok(Self::Path(path.into())),
            number_or_name => Ok(number_or_name
                .parse()
                .map_or_else(|_| Self::Name(number_or_name.to_owned()), Self::Inode)),
        }
    }
}

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ColorArg {
    /// On a terminal, unless `NO_COLOR` is set or TERM is `dumb`
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

pub(super) fn hooks_parser() -> PossibleValuesParser {
    std::iter::once(loader::ALL_HOOKS)
        .chain(loader::hooked_functions())
        .collect::<Vec<_>>()
        .into()
}

/// A ring's size: a power of two, from a page up to what one map can have.
pub(super) fn parse_ring_size(text: &str) -> Result<u32, String> {
    const SMALLEST: u32 = 4096;
    const LARGEST: u32 = 1 << 30;
    match u32::try_from(parse_size(text)?) {
        Ok(bytes) if bytes.is_power_of_two() && (SMALLEST..=LARGEST).contains(&bytes) => Ok(bytes),
        _ => Err("the kernel takes a power of two from 4K to 1G".to_owned()),
    }
}

/// How severe a finding is.
pub(super) fn parse_severity(text: &str) -> Result<Severity, String> {
    let all = [Severity::Note, Severity::Warning, Severity::Critical];
    let found = all
        .into_iter()
        .find(|severity| severity.name() == text.to_ascii_lowercase());
    found.ok_or_else(|| "a finding is a note, a warning or critical".to_owned())
}

/// A duration with its unit.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let duration: SignedDuration = text
        .parse()
        .map_err(|_| "a duration has a unit: 500ms, 2s, 10m, 1h".to_owned())?;
    duration
        .try_into()
        .map_err(|_| "a duration is not negative".to_owned())
}

/// A number of bytes, in units of K, M or G if it says so.
pub(super) fn parse_size(text: &str) -> Result<usize, String> {
    let (digits, unit) = match text.to_ascii_uppercase().strip_suffix(['K', 'M', 'G']) {
        Some(digits) => (
            digits.to_owned(),
            text.as_bytes().last().map_or(b' ', u8::to_ascii_uppercase),
        ),
        None => (text.to_owned(), b' '),
    };
    let shift = match unit {
        b'K' => 10,
        b'M' => 20,
        b'G' => 30,
        _ => 0,
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| "not a number of bytes, such as 16M".to_owned())?;
    let bytes = number.checked_mul(1 << shift);
    bytes
        .and_then(|bytes| usize::try_from(bytes).ok())
        .ok_or_else(|| "more bytes than there can be".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_is_a_power_of_two() {
        assert_eq!(parse_ring_size("8M"), Ok(8 << 20));
        assert_eq!(parse_ring_size("4096"), Ok(4096));
        assert_eq!(parse_ring_size("1g"), Ok(1 << 30));
        for bad in ["", "M", "5M", "2048", "2G", "-1", "8MM", "99999999999999999999G"] {
            assert!(parse_ring_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_duration_has_a_unit() {
        assert_eq!(parse_duration("2s"), Ok(Duration::from_secs(2)));
        assert_eq!(parse_duration("10m"), Ok(Duration::from_mins(10)));
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        for bad in ["", "2", "s", "-2s", "2 parsecs"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_size_has_a_unit_or_none() {
        assert_eq!(parse_size("0"), Ok(0));
        assert_eq!(parse_size("3m"), Ok(3 << 20));
        assert_eq!(parse_size("1000"), Ok(1000));
        for bad in ["", "G", "1T", "-1", "1.5M", "18446744073709551615K"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_namespace_is_a_word_a_number_a_name_or_a_path() {
        assert_eq!("all".parse(), Ok(NetnsArg::All));
        assert_eq!("4026531840".parse(), Ok(NetnsArg::Inode(4_026_531_840)));
        assert_eq!("blue".parse(), Ok(NetnsArg::Name("blue".to_owned())));
        assert_eq!(
            "/proc/1/ns/net".parse(),
            Ok(NetnsArg::Path("/proc/1/ns/net".into()))
        );
        assert!("..".parse::<NetnsArg>().is_err());
    }
}
