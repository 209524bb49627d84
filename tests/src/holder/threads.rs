//! Threads that have descriptor tables of their own, or outlive the first thread.

use std::{io, thread};

use anyhow::{Result, ensure};

/// Which thread goes on taking orders, and what becomes of the one that has until now.
#[derive(Debug, Clone, Copy)]
pub(super) enum Handover {
    /// A thread that leaves the descriptor table of the others: what it opens from now on only it has.
    Apart,
    /// A thread that shares the table, and the first one exits.
    Leaderless,
}

impl Handover {
    pub(super) fn ordered(order: &str) -> Option<Self> {
        match order {
            "apart" => Some(Self::Apart),
            "leaderless" => Some(Self::Leaderless),
            _ => None,
        }
    }

    /// Runs `serve` on another thread; returns when it has ended, if at all.
    pub(super) fn take(self, serve: impl FnOnce(String) -> Result<()> + Send + 'static) -> Result<()> {
        let other = thread::spawn(move || {
            if let Self::Apart = self {
                // SAFETY: it takes a copy of this thread's own table, and no memory.
                let left = unsafe { libc::unshare(libc::CLONE_FILES) };
                ensure!(left == 0, "cannot unshare: {}", io::Error::last_os_error());
            }
            // SAFETY: it takes nothing and cannot fail.
            let id = unsafe { libc::gettid() };
            let served = serve(id.to_string());
            match self {
                Self::Apart => served,
                // Nobody is left to hear of it.
                Self::Leaderless => std::process::exit(i32::from(served.is_err())),
            }
        });
        match self {
            Self::Apart => other
                .join()
                .unwrap_or_else(|_| Err(anyhow::anyhow!("its thread broke off"))),
            Self::Leaderless => {
                // SAFETY: this thread ends, and what the other one uses is not on its stack.
                unsafe { libc::syscall(libc::SYS_exit, 0) };
                Err(io::Error::last_os_error().into())
            }
        }
    }
}

/// Starts threads that share the caller's table and do nothing until the process ends.
pub(super) fn start(count: usize) -> Result<String> {
    for _ in 0..count {
        thread::Builder::new().stack_size(64 * 1024).spawn(|| {
            loop {
                thread::park();
            }
        })?;
    }
    Ok("started".to_owned())
}
