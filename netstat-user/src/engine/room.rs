//! How much of an answer may wait until its reader takes it. The engine makes no more of an answer while there is no
//! room, and goes on once the reader has taken some: it waits for nobody, and slow readers take little memory.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use tokio::sync::mpsc;

use super::handle::Request;

/// Bytes of one answer that may wait, and a part more: it is looked at before each part.
const ONE: usize = 1 << 20;
/// Bytes of all answers together. An answer of which nothing waits has room for a part nevertheless.
const ALL: usize = 32 << 20;

/// The room of all answers.
#[derive(Debug, Clone, Default)]
pub(super) struct Rooms {
    waiting: Arc<AtomicUsize>,
}

/// The room of one answer.
#[derive(Debug)]
pub(super) struct Room {
    /// [`ONE`], but in tests.
    most: usize,
    waiting: AtomicUsize,
    all: Arc<AtomicUsize>,
    /// The engine goes on once there is room.
    wanted: AtomicBool,
    engine: mpsc::WeakSender<Request>,
}

impl Rooms {
    /// That of an answer of the engine that takes requests at the other end of `engine`.
    pub(super) fn one(&self, engine: mpsc::WeakSender<Request>) -> Arc<Room> {
        self.of(ONE, engine)
    }

    fn of(&self, most: usize, engine: mpsc::WeakSender<Request>) -> Arc<Room> {
        Arc::new(Room {
            most,
            waiting: AtomicUsize::new(0),
            all: Arc::clone(&self.waiting),
            wanted: AtomicBool::new(false),
            engine,
        })
    }
}

impl Room {
    /// For so many bytes, of an engine that nobody wakes.
    #[cfg(test)]
    pub(super) fn of(most: usize) -> Arc<Self> {
        Rooms::default().of(most, mpsc::channel(1).0.downgrade())
    }

    /// Whether there is any. If not, the engine gets [`Request::GoOn`] when there is.
    pub(super) fn is_there(&self) -> bool {
        if self.has_some() {
            return true;
        }
        self.wanted.store(true, Ordering::SeqCst);
        // It may have come in between.
        self.has_some()
    }

    /// The same, for who does not wait for it.
    pub(super) fn has_some(&self) -> bool {
        let waiting = self.waiting.load(Ordering::SeqCst);
        waiting == 0 || waiting < self.most && self.all.load(Ordering::Relaxed) < ALL
    }

    /// So many bytes wait from now on.
    pub(super) fn fill(&self, bytes: usize) {
        self.waiting.fetch_add(bytes, Ordering::SeqCst);
        self.all.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So many have been taken.
    pub(super) fn empty(&self, bytes: usize) {
        self.waiting.fetch_sub(bytes, Ordering::SeqCst);
        self.all.fetch_sub(bytes, Ordering::Relaxed);
        self.wake();
    }

    /// Nobody takes any more.
    pub(super) fn leave(&self) {
        let waiting = self.waiting.swap(0, Ordering::SeqCst);
        self.all.fetch_sub(waiting, Ordering::Relaxed);
        self.wake();
    }

    /// Has the engine look at the answer again, if it waits to.
    fn wake(&self) {
        if self.has_some()
            && self.wanted.swap(false, Ordering::SeqCst)
            && let Some(engine) = self.engine.upgrade()
        {
            // An engine that has as many requests as it can have looks at everything anyway.
            let _ = engine.try_send(Request::GoOn);
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.all.fetch_sub(*self.waiting.get_mut(), Ordering::Relaxed);
    }
}
