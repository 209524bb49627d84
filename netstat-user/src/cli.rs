//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, builder::PossibleValuesParser};

use crate::loader;

use crate::filter::HELP;

/// TCP state transitions as they happen, and a netstat table with a memory.
#[derive(Debug, Parser)]
#[command(name = "netstate", version, max_term_width = 100)]
pub struct Cli {
    /// The daemon's query socket
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "NETSTATE_SOCKET",
        default_value = "/run/netstate/netstate.sock"
    )]
    pub socket: PathBuf,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print TCP state transitions as they happen
    Watch(WatchArgs),
    /// Trace, keep the table and answer queries, in the foreground
    Daemon(DaemonArgs),
    /// List sockets, in netstat's columns
    List(ListArgs),
    /// Show the life of a connection, live or ended: each state, when, how long, and why it ended
    Show(ShowArgs),
    /// Show the daemon's counts: rows by state, events, losses, the cost of sweeps
    Stats(StatsArgs),
    /// Compare the daemon's table with the kernel, and print every difference that lasts
    Verify(VerifyArgs),
    /// Check whether netstate can run here, and say what to do about what is missing
    Doctor(DoctorArgs),
}

/// How transitions are printed.
#[derive(Debug, Clone, Args)]
pub struct StreamArgs {
    /// One JSON object per line
    #[arg(long)]
    pub json: bool,
    /// Only the sockets of this network namespace: `all`, `own`, a name of `ip netns`, an inode number, or a
    /// path such as /proc/PID/ns/net
    #[arg(long, value_name = "NETNS", default_value = "all")]
    pub netns: NetnsArg,
    /// When to colour
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub color: ColorArg,
}

/// How the tracer is set up.
#[derive(Debug, Clone, Args)]
pub struct TracerArgs {
    /// Size of the kernel's event ring, a power of two such as 512K or 16M
    #[arg(long, value_name = "BYTES", default_value = "8M", value_parser = parse_ring_size)]
    pub ring_size: u32,
    /// Memory for the histories of connections that have ended, such as 64M: the latest are kept, some 3,000 in a
    /// megabyte
    #[arg(long, value_name = "BYTES", default_value = "32M", value_parser = parse_size)]
    pub history: usize,
    /// Leave these functions of the kernel alone, or all of them, and let sweeps find what hooks there would
    /// tell: for a host where hooks cost too much, or to find out which one does
    #[arg(
        long,
        value_name = "FUNCTION",
        num_args = 0..=1,
        require_equals = true,
        value_delimiter = ',',
        default_missing_value = loader::ALL_HOOKS,
        value_parser = hooks_parser(),
    )]
    pub without_hooks: Vec<String>,
}

/// `netstate watch`
#[derive(Debug, Clone, Args)]
#[command(after_long_help = HELP)]
pub struct WatchArgs {
    /// How to print
    #[command(flatten)]
    pub stream: StreamArgs,
    /// How to trace, when there is no daemon
    #[command(flatten)]
    pub tracer: TracerArgs,
    /// Trace here, even if a daemon answers
    #[arg(long)]
    pub alone: bool,
    /// Only transitions that match, such as `dport 443 or TIME_WAIT`; --help explains the words
    #[arg(value_name = "FILTER")]
    pub filter: Vec<String>,
}

/// `netstate daemon`
#[derive(Debug, Clone, Args)]
pub struct DaemonArgs {
    /// Print no transitions
    #[arg(long, short)]
    pub quiet: bool,
    /// How to print
    #[command(flatten)]
    pub stream: StreamArgs,
    /// How to trace
    #[command(flatten)]
    pub tracer: TracerArgs,
}

/// `netstate list`
#[derive(Debug, Clone, Args)]
#[command(after_long_help = HELP)]
#[expect(clippy::struct_excessive_bools, reason = "they are netstat's flags")]
pub struct ListArgs {
    /// Listeners too
    #[arg(long, short)]
    pub all: bool,
    /// Listeners only
    #[arg(long, short)]
    pub listening: bool,
    /// TCP, which is all there is; taken so that netstat's habits work
    #[arg(long, short)]
    pub tcp: bool,
    /// Numbers instead of names for hosts, ports and users
    #[arg(long, short)]
    pub numeric: bool,
    /// The process that holds each socket
    #[arg(long, short)]
    pub programs: bool,
    /// User and inode of each socket
    #[arg(long, short)]
    pub extend: bool,
    /// IPv4 sockets only
    #[arg(short = '4', long = "inet")]
    pub ipv4: bool,
    /// IPv6 sockets only
    #[arg(short = '6', long = "inet6")]
    pub ipv6: bool,
    /// Do not cut long addresses
    #[arg(short = 'W', long)]
    pub wide: bool,
    /// One JSON object per line
    #[arg(long)]
    pub json: bool,
    /// Only the sockets of this network namespace: `own`, `all`, a name of `ip netns`, an inode number, or a
    /// path such as /proc/PID/ns/net
    ///
    /// [default: own, or all if the filter names one]
    #[arg(long, value_name = "NETNS")]
    pub netns: Option<NetnsArg>,
    /// Ask the kernel here, even if a daemon answers
    #[arg(long)]
    pub alone: bool,
    /// Only sockets that match, such as `state established dport 443`; --help explains the words
    #[arg(value_name = "FILTER")]
    pub filter: Vec<String>,
}

/// `netstate show`
#[derive(Debug, Clone, Args)]
pub struct ShowArgs {
    /// Cookies, as `list --json` has them, or a filter as `list` takes it: 10.0.0.7:443, `dport 443 state ESTABLISHED`
    #[arg(value_name = "COOKIE or FILTER", required = true)]
    pub which: Vec<String>,
    /// Show so many connections, those first of which something was heard last
    #[arg(long, value_name = "COUNT", default_value = "10", value_parser = clap::value_parser!(u32).range(1..=256))]
    pub most: u32,
    /// One JSON object per connection
    #[arg(long)]
    pub json: bool,
    /// Only connections of this network namespace: `all`, `own`, a name of `ip netns`, an inode number, or a path
    #[arg(long, value_name = "NETNS", default_value = "all")]
    pub netns: NetnsArg,
    /// When to colour
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub color: ColorArg,
}

/// `netstate stats`
#[derive(Debug, Clone, Copy, Args)]
pub struct StatsArgs {
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}

/// `netstate verify`
#[derive(Debug, Clone, Args)]
pub struct VerifyArgs {
    /// Exit with status 1 when there is a difference
    #[arg(long)]
    pub fail: bool,
    /// Repeat every second
    #[arg(long)]
    pub watch: bool,
    /// With --watch: end after so many rounds
    #[arg(long, value_name = "ROUNDS", requires = "watch", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// One JSON object per line
    #[arg(long)]
    pub json: bool,
    /// Only the sockets of this network namespace: `all`, `own`, a name of `ip netns`, an inode number, or a path
    #[arg(long, value_name = "NETNS", default_value = "all")]
    pub netns: NetnsArg,
}

/// `netstate doctor`
#[derive(Debug, Clone, Copy, Args)]
pub struct DoctorArgs {
    /// One JSON object per check
    #[arg(long)]
    pub json: bool,
}

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
    /// On a terminal, unless `NO_COLOR` is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

fn hooks_parser() -> PossibleValuesParser {
    std::iter::once(loader::ALL_HOOKS)
        .chain(loader::hooked_functions())
        .collect::<Vec<_>>()
        .into()
}

/// A ring's size: a power of two, from a page up to what one map can have.
fn parse_ring_size(text: &str) -> Result<u32, String> {
    const SMALLEST: u32 = 4096;
    const LARGEST: u32 = 1 << 30;
    match u32::try_from(parse_size(text)?) {
        Ok(bytes) if bytes.is_power_of_two() && (SMALLEST..=LARGEST).contains(&bytes) => Ok(bytes),
        _ => Err("the kernel takes a power of two from 4K to 1G".to_owned()),
    }
}

/// A number of bytes, in units of K, M or G if it says so.
fn parse_size(text: &str) -> Result<usize, String> {
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
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

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
