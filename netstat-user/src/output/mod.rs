//! From views to text: one file per form.

pub mod color;
mod day;
pub mod history;
pub mod json;
pub mod line;
pub mod name_files;
pub mod names;
pub mod netstat;
mod present;
pub mod stuck;
mod suspected;
mod text;
pub mod verify;
pub mod vigil;

use std::{
    fmt,
    io::{self, Write},
    thread,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
};
use tokio::sync::oneshot;

/// Items of the stream written at once.
pub const BATCH: usize = 1024;

/// What a pipe is made to hold that goes to another program; the most that the kernel lets everybody have, unless it is set to
/// something else.
const PIPE: usize = 1 << 20;

/// Standard output, written in large pieces.
#[must_use]
pub fn stdout() -> io::BufWriter<io::StdoutLock<'static>> {
    io::BufWriter::with_capacity(64 * 1024, io::stdout().lock())
}

/// The same for a stream of lines without end. If it is a pipe, it gets room for what comes while its reader does something
/// else.
#[must_use]
pub fn streaming() -> io::BufWriter<io::StdoutLock<'static>> {
    let room = rustix::pipe::fcntl_getpipe_size(io::stdout());
    if room.is_ok_and(|room| room < PIPE) {
        // If there is no more to be had, it works as well.
        let _ = rustix::pipe::fcntl_setpipe_size(io::stdout(), PIPE);
    }
    stdout()
}

/// Standard output is closed: whoever read it has seen enough.
#[must_use]
pub fn is_closed(error: &anyhow::Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<Closed>());
    causes.next().is_some()
}

/// Writing to standard output failed because its reader has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("standard output is closed")]
pub struct Closed;

/// Tells a reader that has left from an output that cannot be written.
///
/// # Errors
///
/// [`Closed`], or what `result` has.
pub fn written(result: io::Result<()>) -> anyhow::Result<()> {
    match result {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Closed.into()),
        Err(error) => Err(anyhow::Error::new(error).context("cannot write to standard output")),
    }
}

/// Returns once nobody can read standard output any more. Of a file this is never so.
///
/// Writing would find out too, but a stream may have nothing to write for hours.
pub async fn reader_gone() {
    let (sender, gone) = oneshot::channel();
    thread::spawn(move || {
        let stdout = io::stdout();
        let mut polled = [PollFd::new(&stdout, PollFlags::empty())];
        loop {
            match poll(&mut polled, None) {
                Err(Errno::INTR) => {}
                Ok(_) if polled[0].revents().intersects(PollFlags::ERR | PollFlags::HUP) => {
                    // Without a receiver, nobody waits any more.
                    let _ = sender.send(());
                    return;
                }
                _ => return,
            }
        }
    });
    if gone.await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Writes `text` and hands it on at once.
///
/// # Errors
///
/// As [`written`].
pub fn print(text: impl fmt::Display) -> anyhow::Result<()> {
    let mut out = stdout();
    written(write!(out, "{text}").and_then(|()| out.flush()))
}

/// A duration for people: three figures or so, and a unit.
#[derive(Debug, Clone, Copy)]
pub struct Short(pub Duration);

impl Short {
    fn write(self, out: &mut impl fmt::Write) -> fmt::Result {
        const MINUTE: u64 = 60;
        const HOUR: u64 = 60 * MINUTE;
        const DAY: u64 = 24 * HOUR;
        match (self.0.as_secs(), self.0.as_micros()) {
            (0, micros @ 0..1_000) => write!(out, "{micros} µs"),
            (0, _) => write!(out, "{:.1} ms", self.0.as_secs_f64() * 1e3),
            (0..MINUTE, _) => write!(out, "{:.2} s", self.0.as_secs_f64()),
            (seconds @ ..HOUR, _) => write!(out, "{}m{:02}s", seconds / MINUTE, seconds % MINUTE),
            (seconds @ ..DAY, _) => write!(out, "{}h{:02}m", seconds / HOUR, seconds % HOUR / MINUTE),
            (seconds, _) => write!(out, "{}d{:02}h", seconds / DAY, seconds % DAY / HOUR),
        }
    }
}

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.width().is_none() {
            return self.write(f);
        }
        let mut text = String::new();
        self.write(&mut text)?;
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_short() {
        let cases = [
            (Duration::from_nanos(85_900), "85 µs"),
            (Duration::from_micros(1_234), "1.2 ms"),
            (Duration::from_millis(60_010), "1m00s"),
            (Duration::from_millis(2_350), "2.35 s"),
            (Duration::from_mins(62), "1h02m"),
            (Duration::from_secs(100_000), "1d03h"),
        ];
        for (duration, text) in cases {
            assert_eq!(Short(duration).to_string(), text);
        }
    }
}
