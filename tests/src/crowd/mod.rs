//! Very many TCP connections that stand still: what a large host looks like to whoever asks.
//!
//! They are on the loopback of a network namespace of their own, and held by several processes, since each may
//! open only so many files. Everything ends when the program's input does, and with the process that has started it,
//! however that ends.

pub mod command;
mod member;

use std::{
    io::{BufRead, BufReader},
    process::{Child, ChildStdin, Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use rustix::process::{Resource, Signal, getrlimit, set_parent_process_death_signal};

/// Holds TCP connections in a network namespace of its own until its input ends.
#[derive(Debug, Clone, Parser)]
#[command(name = "crowd", max_term_width = 100)]
pub struct Options {
    /// How many sockets; each connection has two, and each process a listener
    #[arg(long, default_value_t = 190_000)]
    pub sockets: usize,
    /// Sockets that a process holds; without it, as many as it may open
    #[arg(long)]
    pub each: Option<usize>,
    /// In the network namespace that it is started in instead of a new one
    #[arg(long)]
    pub here: bool,
    /// As one of the processes, the so-manieth, that hold the sockets
    #[arg(long, hide = true)]
    pub member: Option<usize>,
}

/// Files that a process needs for itself.
const SPARE: usize = 64;

/// The processes; they end when this is dropped, or ends.
#[derive(Debug)]
struct Crowd {
    members: Vec<(Child, Option<ChildStdin>)>,
    sockets: usize,
}

impl Crowd {
    /// Starts the processes and waits until all of their connections stand.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn start(options: &Options) -> Result<Self> {
        // It comes when the thread ends that has started this; the members end when their pipes break.
        set_parent_process_death_signal(Some(Signal::KILL)).context("cannot end with the parent")?;
        let most = getrlimit(Resource::Nofile).maximum.unwrap_or(1 << 20);
        let most = usize::try_from(most)?.saturating_sub(SPARE);
        let each = options.each.unwrap_or(most).min(most);
        ensure!(
            each >= 3,
            "a process that holds {each} sockets holds no connection"
        );
        let mut crowd = Self {
            members: Vec::new(),
            sockets: 0,
        };
        let mut left = options.sockets;
        // What is left and makes no connection is not worth a process.
        while left >= 3 {
            let sockets = left.min(each);
            crowd.add(sockets)?;
            left -= sockets;
        }
        for (child, _) in &mut crowd.members {
            let said = child.stdout.take().context("no pipe")?;
            let mut line = String::new();
            BufReader::new(said).read_line(&mut line)?;
            let Ok(sockets) = line.trim().parse::<usize>() else {
                bail!("a process that was to hold sockets has failed");
            };
            crowd.sockets += sockets;
        }
        Ok(crowd)
    }

    fn add(&mut self, sockets: usize) -> Result<()> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(format!("--sockets={sockets}"));
        command.arg(format!("--member={}", self.members.len()));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command
            .spawn()
            .context("cannot start a process to hold sockets")?;
        let stdin = child.stdin.take();
        self.members.push((child, stdin));
        Ok(())
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        // They hold the sockets for as long as their input is open.
        for (_, stdin) in &mut self.members {
            *stdin = None;
        }
        for (child, _) in &mut self.members {
            let _ = child.wait();
        }
    }
}
