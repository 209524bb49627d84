//! The crowd as a program.

use std::{
    ffi::OsString,
    io::{Read, Write},
    os::unix::{fs::MetadataExt, process::CommandExt},
    process::{Command, ExitCode},
};

use anyhow::{Context, Error, Result, ensure};
use clap::Parser;

use super::{Crowd, Options, member};

/// Runs the crowd as these arguments say, the program's name first.
///
/// When all connections stand it prints one line, and then holds them until its input ends:
/// `ready PID NETNS SOCKETS`, its process id, the inode of the network namespace, and the number of sockets. It ends
/// after the last of them.
#[must_use]
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    match run(&Options::parse_from(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("crowd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    if let Some(number) = options.member {
        return member::hold(options.sockets, number);
    }
    if !options.here {
        // Nothing has to be cleaned up: the namespace ends with the last process in it.
        let mut again = Command::new("unshare");
        again.arg("--net").arg(std::env::current_exe()?);
        again.args(std::env::args_os().skip(1)).arg("--here");
        return Err(Error::new(again.exec()).context("cannot run `unshare`"));
    }
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
    ensure!(up.context("cannot run `ip`")?.success(), "cannot set `lo` up");
    let crowd = Crowd::start(options)?;
    let netns = std::fs::metadata("/proc/self/ns/net")?.ino();
    let mut out = std::io::stdout().lock();
    writeln!(out, "ready {} {netns} {}", std::process::id(), crowd.sockets)?;
    out.flush()?;
    drop(out);
    std::io::stdin().lock().read_to_end(&mut Vec::new())?;
    Ok(())
}
