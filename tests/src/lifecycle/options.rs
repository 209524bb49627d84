//! What the generator is told.

use std::{path::PathBuf, time::SystemTime};

use clap::Parser;

/// Makes TCP sockets live every kind of life, and judges what netstate says of them.
#[derive(Debug, Clone, Parser)]
#[command(name = "lifecycle", max_term_width = 100)]
pub struct Options {
    /// Decides every choice; a failure prints it. Without it, one is made from the time
    #[arg(long, default_value_t = seed_of_now())]
    pub seed: u64,
    /// How long sockets come and go before the judgement
    #[arg(long, default_value_t = 10)]
    pub seconds: u64,
    /// Network namespaces, joined in pairs; those that come and go are added
    #[arg(long, default_value_t = 4)]
    pub namespaces: usize,
    /// Actions per second, of all threads together
    #[arg(long, default_value = "unlimited", value_parser = parse_rate)]
    pub rate: Rate,
    /// Threads in each namespace
    #[arg(long, default_value_t = 2)]
    pub threads: usize,
    /// Threads that only compute beside them, so that no processor time is left to spare
    #[arg(long, default_value_t = 0)]
    pub neighbours: usize,
    /// Sockets held open at any time, of all threads together
    #[arg(long, default_value_t = 4000)]
    pub sockets: usize,
    /// Leaves out a kind of life, to narrow down what a finding comes from
    #[arg(long, value_name = "KIND")]
    pub without: Vec<String>,
    /// Lets netstate go without its hooks in the kernel
    #[arg(long)]
    pub without_hooks: bool,
    /// Has netstate record what it is told, for `netstate replay`
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// The netstate to judge; else `NETSTATE_BIN` says
    #[arg(long)]
    pub netstate: Option<PathBuf>,
}

/// How fast to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rate {
    /// As fast as the machine can.
    Unlimited,
    /// So many actions per second.
    PerSecond(u32),
}

fn parse_rate(text: &str) -> Result<Rate, String> {
    if text == "unlimited" {
        return Ok(Rate::Unlimited);
    }
    match text.trim_end_matches("/s").parse() {
        Ok(number) if number > 0 => Ok(Rate::PerSecond(number)),
        _ => Err("`unlimited`, or a number of actions per second".to_owned()),
    }
}

/// A seed that no run before had.
#[must_use]
fn seed_of_now() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(1, |now| now.as_secs() * 1000 + u64::from(now.subsec_millis()))
}
