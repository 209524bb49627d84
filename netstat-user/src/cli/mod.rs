//! The command line.

mod values;

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};

pub use values::{ColorArg, NetnsArg};

use crate::{diagnosis::Severity, engine::DEFAULT_NICE, filter::HELP, loader};
use values::{hooks_parser, parse_duration, parse_ring_size, parse_severity, parse_size};

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
    /// Print the transitions in a recording of `watch --record` or `daemon --record`
    Replay(ReplayArgs),
    /// Trace, keep the table and answer the other commands, in the foreground
    Daemon(DaemonArgs),
    /// List sockets, in netstat's columns
    List(ListArgs),
    /// Show the life of a connection, live or ended: each state, when, how long, and why it ended
    Show(ShowArgs),
    /// Find connections that make no progress: why, the evidence, the process, what to do
    Stuck(StuckArgs),
    /// Show the daemon's counts: rows by state, events, losses, the cost of scans
    Stats(StatsArgs),
    /// Compare the daemon's table with the kernel, and print every difference that lasts
    Verify(VerifyArgs),
    /// Check whether netstate can run here, and what to do about what is missing
    Doctor(DoctorArgs),
}

/// What is shown of the host, and how.
#[derive(Debug, Clone, Args)]
pub struct OutputArgs {
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

/// How often a command repeats.
#[derive(Debug, Clone, Copy, Args)]
pub struct RoundsArgs {
    /// Repeat until interrupted: `stuck` every five seconds, `verify` every second
    #[arg(long)]
    pub watch: bool,
    /// With --watch: end after so many rounds
    #[arg(long, value_name = "ROUNDS", requires = "watch", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
}

impl RoundsArgs {
    /// Whether so many rounds are enough.
    #[must_use]
    pub fn are_over(&self, rounds: u64) -> bool {
        !self.watch || self.count.is_some_and(|count| rounds >= count)
    }
}

/// How the tracer is set up.
#[derive(Debug, Clone, Args)]
pub struct TracerArgs {
    /// Size of the kernel's event ring, a power of two such as 512K or 16M
    #[arg(long, value_name = "BYTES", default_value = "8M", value_parser = parse_ring_size)]
    pub ring_size: u32,
    /// Memory for the histories of connections that have ended, such as 64M: the latest are kept, some 3,500 in a
    /// megabyte
    #[arg(long, value_name = "BYTES", default_value = "32M", value_parser = parse_size)]
    pub history: usize,
    /// Nice value of the thread that reads the ring, from -20 to 19. Above the default, a host without processor time
    /// to spare loses events. Below 0 needs the capability `CAP_SYS_NICE`; without it the thread keeps the value that
    /// the process has
    #[arg(long, value_name = "N", default_value_t = DEFAULT_NICE, allow_hyphen_values = true, value_parser = clap::value_parser!(i32).range(-20..=19))]
    pub nice: i32,
    /// Do not attach to these functions and tracepoints of the kernel, or to none at all: for a host where they cost too
    /// much, or to find out which one does. Scans find what hooks in functions would report; retransmissions, RSTs and
    /// failed connects are then not reported
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
    pub output: OutputArgs,
    /// How to trace, when there is no daemon
    #[command(flatten)]
    pub tracer: TracerArgs,
    /// Instead of transitions, print when a connection becomes stuck, and when it recovers or ends: `netstate stuck`
    /// says more of each
    #[arg(long)]
    pub stuck: bool,
    /// With --stuck: only what has been stuck for so long, such as 2s or 10m, whatever the state; without it, for as
    /// long as each state can be normal
    #[arg(long, value_name = "DURATION", requires = "stuck", value_parser = parse_duration)]
    pub older: Option<Duration>,
    /// Trace here, even if a daemon answers
    #[arg(long)]
    pub alone: bool,
    /// Also record all events of all sockets in this file, which is overwritten: `netstate replay` prints the
    /// transitions again. Traces here, even if a daemon answers
    #[arg(long, value_name = "FILE", conflicts_with = "stuck")]
    pub record: Option<PathBuf>,
    /// Only transitions that match, such as `dport 443 or TIME_WAIT`; --help explains the words
    #[arg(value_name = "FILTER")]
    pub filter: Vec<String>,
}

/// `netstate replay`
#[derive(Debug, Clone, Args)]
#[command(after_long_help = HELP)]
pub struct ReplayArgs {
    /// How to print
    #[command(flatten)]
    pub output: OutputArgs,
    /// Instead of transitions, print how long it takes to read the recording and to apply it to a table
    #[arg(long)]
    pub time: bool,
    /// What `netstate watch --record` has written
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
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
    /// Also record all events in this file, which is overwritten: `netstate replay` prints the transitions again
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// How to print
    #[command(flatten)]
    pub output: OutputArgs,
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
    /// Sockets that are bound and neither listen nor connect, which other lists leave out; with -a or -l in addition
    #[arg(long = "bound-inactive", short = 'B')]
    pub bound: bool,
    /// TCP sockets: the default, and the only kind that is supported so far
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
    /// The timer of each socket: what for, when it runs out, timeouts and probes so far
    #[arg(long, short = 'o')]
    pub timers: bool,
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
    /// Show at most so many connections, those with the latest events first
    #[arg(long, value_name = "COUNT", default_value = "10", value_parser = clap::value_parser!(u32).range(1..=256))]
    pub most: u32,
    /// How to print
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `netstate stuck`
#[derive(Debug, Clone, Args)]
#[command(after_long_help = HELP)]
pub struct StuckArgs {
    /// Only what has been stuck for so long, such as 2s or 10m, whatever the state; without it, for as long as each
    /// state can be normal
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub older: Option<Duration>,
    /// Leave out what is less severe: note, warning or critical
    #[arg(long, value_name = "SEVERITY", default_value = "note", value_parser = parse_severity)]
    pub severity: Severity,
    /// Exit with status 1 when something is stuck; with --severity, when something so severe is
    #[arg(long)]
    pub fail: bool,
    /// How often
    #[command(flatten)]
    pub rounds: RoundsArgs,
    /// How to print
    #[command(flatten)]
    pub output: OutputArgs,
    /// Ask the kernel here, even if a daemon answers
    #[arg(long)]
    pub alone: bool,
    /// Only sockets that match, such as `dport 5432`; --help explains the words
    #[arg(value_name = "FILTER")]
    pub filter: Vec<String>,
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
    /// How often
    #[command(flatten)]
    pub rounds: RoundsArgs,
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
