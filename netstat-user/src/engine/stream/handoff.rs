//! Items on their way from the engine to the thread that gives them to readers.
//!
//! The engine only appends. It never waits for that thread, beyond the moment in which it takes what is here.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::queue::Queue;
use crate::view::{Loss, StreamItem};

/// Losses behind a gap that are kept one by one; later ones are added to the last.
const LOSSES: usize = 64;

/// The place where the engine leaves items.
#[derive(Debug)]
pub(super) struct Handoff {
    capacity: usize,
    state: Mutex<State>,
    filled: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// With a [`StreamItem::Missed`] for what found no room.
    items: Vec<StreamItem>,
    /// The place in `items` of the gap that counts on; what follows it are losses.
    gap: Option<usize>,
    /// Readers that begin behind so many of the items.
    arrivals: Vec<(usize, Arc<Queue>)>,
    closed: bool,
    /// The thread waits to be woken.
    idle: bool,
}

/// What waited.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) items: Vec<StreamItem>,
    /// Readers that begin behind so many of the items.
    pub(super) arrivals: Vec<(usize, Arc<Queue>)>,
    /// There will be no more.
    pub(super) closed: bool,
}

impl Handoff {
    /// For so many items. Losses always find room.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            state: Mutex::default(),
            filled: Condvar::new(),
        }
    }

    /// Appends items. Of those that find no room, losses are kept and transitions counted.
    pub(super) fn put(&self, items: impl IntoIterator<Item = StreamItem>) {
        let mut state = self.lock();
        for item in items {
            state.put(item, self.capacity);
        }
        self.wake(state);
    }

    /// Adds a reader, which is to get what is put from now on.
    pub(super) fn join(&self, reader: Arc<Queue>) {
        let mut state = self.lock();
        // What finds no room from now on is a gap of its own, since the reader did not miss the one before.
        state.gap = None;
        let behind = state.items.len();
        state.arrivals.push((behind, reader));
        self.wake(state);
    }

    /// There will be no more items.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        self.wake(state);
    }

    /// Takes everything, after waiting for something.
    pub(super) fn take(&self) -> Taken {
        let mut state = self.lock();
        while state.items.is_empty() && state.arrivals.is_empty() && !state.closed {
            state.idle = true;
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.idle = false;
        state.gap = None;
        Taken {
            items: std::mem::take(&mut state.items),
            arrivals: std::mem::take(&mut state.arrivals),
            closed: state.closed,
        }
    }

    fn wake(&self, mut state: MutexGuard<'_, State>) {
        let idle = std::mem::take(&mut state.idle);
        drop(state);
        if idle {
            self.filled.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn put(&mut self, item: StreamItem, capacity: usize) {
        if self.gap.is_none() && self.items.len() < capacity {
            self.items.push(item);
        } else if let StreamItem::Lost(loss) = item {
            self.keep(loss);
        } else {
            self.skip(item);
        }
    }

    fn skip(&mut self, item: StreamItem) {
        let gap = *self.gap.get_or_insert_with(|| {
            self.items.push(StreamItem::Missed {
                items: 0,
                at_most: true,
            });
            self.items.len() - 1
        });
        if let StreamItem::Missed { items, .. } = &mut self.items[gap] {
            *items += match item {
                StreamItem::Missed { items, .. } => items,
                _ => 1,
            };
        }
    }

    fn keep(&mut self, loss: Loss) {
        let behind = self.gap.map_or(0, |gap| self.items.len() - gap - 1);
        match self.items.last_mut() {
            Some(StreamItem::Lost(last)) if behind >= LOSSES => *last = last.and(loss),
            _ => self.items.push(StreamItem::Lost(loss)),
        }
    }
}
