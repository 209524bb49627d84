//! The stream of what happens, for any number of readers: one that is slow misses items, but never that the kernel
//! has lost some.
//!
//! The engine leaves items in a [`handoff`]. A thread of its own takes them from there, compares them with what each
//! reader asks for, and fills the reader's [`queue`] with what matches. So a reader misses only what it asked for, and
//! filters cost the engine no time.
//!
//! The thread has the priority of the thread that calls [`Publisher::new`].

mod handoff;
mod queue;
#[cfg(test)]
mod tests;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

pub use queue::Subscription;

use crate::view::{StreamItem, WatchQuery};
use handoff::{Handoff, Taken};
use queue::Queue;

/// Bounds of what waits, in items of some 200 bytes.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    /// What waits to be compared with the readers' filters.
    handoff: usize,
    /// What waits for one reader,
    reader: usize,
    /// and for all readers together, as long as each has [`Bounds::least`].
    all: usize,
    /// A reader can always fall so far behind, however many there are.
    least: usize,
    /// Items that are given to all readers before the next.
    turn: usize,
}

/// 26 MB in the handoff, and 38 MB in all queues together.
const BOUNDS: Bounds = Bounds {
    handoff: 1 << 17,
    reader: 1 << 14,
    all: 192 << 10,
    least: 1 << 10,
    turn: 1 << 10,
};

/// The end that items go into. The stream ends when it is dropped.
#[derive(Debug)]
pub(super) struct Publisher {
    readers: Readers,
}

/// The end that readers come to.
#[derive(Debug, Clone)]
pub(super) struct Readers {
    handoff: Arc<Handoff>,
    count: Arc<AtomicUsize>,
}

impl Publisher {
    /// Starts the thread that gives items to readers.
    pub(super) fn new() -> io::Result<Self> {
        let (publisher, mut fan_out) = Self::with(BOUNDS);
        thread::Builder::new()
            .name("readers".to_owned())
            .spawn(move || while fan_out.turn() {})?;
        Ok(publisher)
    }

    fn with(bounds: Bounds) -> (Self, FanOut) {
        let handoff = Arc::new(Handoff::new(bounds.handoff));
        let readers = Readers {
            handoff: Arc::clone(&handoff),
            count: Arc::default(),
        };
        let fan_out = FanOut {
            handoff,
            bounds,
            readers: Vec::new(),
        };
        (Self { readers }, fan_out)
    }

    pub(super) fn readers(&self) -> Readers {
        self.readers.clone()
    }

    /// How many read.
    pub(super) fn count(&self) -> usize {
        self.readers.count.load(Ordering::Relaxed)
    }

    /// Hands items over to be given to readers. Waits for nobody.
    pub(super) fn send(&self, items: impl IntoIterator<Item = StreamItem>) {
        let mut items = items.into_iter().peekable();
        if self.count() > 0 && items.peek().is_some() {
            self.readers.handoff.put(items);
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.readers.handoff.close();
    }
}

impl Readers {
    /// Everything that happens from now on and that `query` asks for.
    pub(super) fn subscribe(&self, query: WatchQuery) -> Subscription {
        let queue = Arc::new(Queue::new(query));
        let subscription = Subscription::new(Arc::clone(&queue), Arc::clone(&self.count));
        self.handoff.join(queue);
        subscription
    }
}

/// What fills the readers' queues.
#[derive(Debug)]
struct FanOut {
    handoff: Arc<Handoff>,
    bounds: Bounds,
    readers: Vec<Arc<Queue>>,
}

impl FanOut {
    /// Gives what waits to the readers, after waiting for something. Returns `false` at the end of the stream.
    fn turn(&mut self) -> bool {
        let Taken {
            items,
            arrivals,
            closed,
        } = self.handoff.take();
        let mut from = 0;
        for (behind, reader) in arrivals {
            self.deliver(&items[from..behind]);
            from = behind;
            self.readers.push(reader);
        }
        self.deliver(&items[from..]);
        // Of readers that came and went while nothing happened.
        self.readers.retain(|reader| reader.deliver(&[], usize::MAX));
        if closed {
            self.readers.iter().for_each(|reader| reader.close());
        }
        !closed
    }

    fn deliver(&mut self, items: &[StreamItem]) {
        for some in items.chunks(self.bounds.turn) {
            let share = self.bounds.all / self.readers.len().max(1);
            let capacity = share.max(self.bounds.least).min(self.bounds.reader);
            self.readers.retain(|reader| reader.deliver(some, capacity));
        }
    }
}
