//! The precedence of the thread that reads the event ring.
//!
//! On a saturated host a thread of ordinary precedence waits for its turn longer than the ring has room for. Only this
//! thread is given more: whoever formats, sends and prints can wait.

use std::{
    io,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicI32, Ordering},
    },
};

use rustix::{
    process::{Pid, getpriority_process, setpriority_process},
    thread::gettid,
};

/// The nice value that the thread has by default: that of auditd and others that must not lose what the kernel says.
pub const DEFAULT: i32 = -10;
/// What every thread has that asks for nothing.
const ORDINARY: i32 = 0;

/// The nice value of the thread that reads the ring, and how to change it.
#[derive(Debug)]
pub(super) struct Precedence {
    wanted: i32,
    actual: AtomicI32,
    refusal: OnceLock<String>,
    thread: OnceLock<Pid>,
    /// How many wait for an answer.
    waiting: Mutex<usize>,
}

/// Somebody waits for an answer.
#[derive(Debug)]
pub(super) struct Waiting(Arc<Precedence>);

impl Precedence {
    /// For a thread that is to have this nice value once it runs.
    pub(super) fn new(wanted: i32) -> Self {
        Self {
            wanted,
            actual: AtomicI32::new(ORDINARY),
            refusal: OnceLock::new(),
            thread: OnceLock::new(),
            waiting: Mutex::default(),
        }
    }

    /// Gives the calling thread its nice value, if that is permitted; else the thread keeps the one that it has.
    pub(super) fn take(&self) {
        let thread = gettid();
        let _ = self.thread.set(thread);
        match setpriority_process(Some(thread), self.wanted) {
            Ok(()) => self.actual.store(self.wanted, Ordering::Relaxed),
            Err(error) => {
                // It has inherited one, which is the service manager's choice or `nice`'s.
                let inherited = getpriority_process(Some(thread)).unwrap_or(ORDINARY);
                self.actual.store(inherited, Ordering::Relaxed);
                let why = refused(self.wanted, &error.into());
                if self.wanted == DEFAULT {
                    log::info!("{why}");
                } else {
                    log::warn!("{why}");
                }
                let _ = self.refusal.set(why);
            }
        }
    }

    /// The nice value that the thread has.
    pub(super) fn nice(&self) -> i32 {
        self.actual.load(Ordering::Relaxed)
    }

    /// Why it is not the one that was asked for.
    pub(super) fn refusal(&self) -> Option<&str> {
        self.refusal.get().map(String::as_str)
    }

    /// Says that somebody waits for an answer. Until that is dropped, a thread of less than ordinary precedence has
    /// ordinary precedence, if that is permitted: else it might not be scheduled for seconds.
    pub(super) fn wait(self: &Arc<Self>) -> Waiting {
        self.count(|waiting| waiting + 1);
        Waiting(Arc::clone(self))
    }

    fn count(&self, change: impl FnOnce(usize) -> usize) {
        if self.wanted <= ORDINARY {
            return;
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let before = *waiting;
        *waiting = change(before);
        let nice = match (before, *waiting) {
            (0, 1) => ORDINARY,
            (1, 0) => self.nice(),
            _ => return,
        };
        if let Some(thread) = self.thread.get() {
            // Not permitted: then the answer comes when it comes.
            let _ = setpriority_process(Some(*thread), nice);
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.count(|waiting| waiting.saturating_sub(1));
    }
}

/// Whether this process may give a thread this nice value: tried on a thread that ends at once.
///
/// # Errors
///
/// Why it may not.
pub fn try_nice(nice: i32) -> Result<(), String> {
    let tried = std::thread::spawn(move || setpriority_process(Some(gettid()), nice)).join();
    match tried {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(refused(nice, &error.into())),
        Err(_) => Err("cannot start a thread".to_owned()),
    }
}

fn refused(nice: i32, error: &io::Error) -> String {
    let why = match error.kind() {
        io::ErrorKind::PermissionDenied => "CAP_SYS_NICE is missing".to_owned(),
        _ => error.to_string(),
    };
    format!(
        "the ring is read without precedence, since nice {nice} is not permitted: {why}; a busy host may lose events: use sudo or grant it"
    )
}
