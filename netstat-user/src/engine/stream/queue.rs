//! What waits for one reader of the stream: only what its query asks for, and not more than there is room for.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::Notify;

use crate::view::{Loss, StreamItem, WatchQuery};

/// Losses among what was missed that are kept one by one; older ones are added together.
const LOSSES: usize = 64;
/// A queue that has been emptied keeps room for so many items.
const KEPT: usize = 1024;

/// The queue of one reader.
#[derive(Debug)]
pub(super) struct Queue {
    query: WatchQuery,
    waiting: Mutex<Waiting>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    items: VecDeque<StreamItem>,
    /// What had to go before those: transitions and failed connects,
    missed: u64,
    /// the number of which is a bound,
    at_most: bool,
    /// and losses.
    losses: VecDeque<Loss>,
    /// The engine has stopped.
    closed: bool,
    /// The reader has gone.
    left: bool,
}

impl Queue {
    pub(super) fn new(query: WatchQuery) -> Self {
        Self {
            query,
            waiting: Mutex::default(),
            filled: Notify::new(),
        }
    }

    /// Adds those of `items` that the query asks for. The oldest go where there are more than `capacity` then. Returns
    /// `false` when the reader has gone.
    pub(super) fn deliver(&self, items: &[StreamItem], capacity: usize) -> bool {
        // Compared before the lock, so that the reader can go on meanwhile.
        let wanted: Vec<_> = items
            .iter()
            .filter(|item| self.query.wants(item))
            .map(|item| self.seen_by_reader(*item))
            .collect();
        let mut waiting = self.lock();
        if waiting.left {
            return false;
        }
        let any = !wanted.is_empty();
        waiting.items.extend(wanted);
        while waiting.items.len() > capacity {
            waiting.forget_oldest();
        }
        drop(waiting);
        if any {
            self.filled.notify_one();
        }
        true
    }

    /// A gap that the reader's query was not compared with is a bound, unless the query asks for everything.
    fn seen_by_reader(&self, item: StreamItem) -> StreamItem {
        match item {
            StreamItem::Missed { items, at_most } => StreamItem::Missed {
                items,
                at_most: at_most && !self.query.wants_all(),
            },
            item => item,
        }
    }

    /// There will be no more.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_one();
    }

    /// At most `most` items; `None` when there are none and there will be none.
    fn take(&self, most: usize) -> Option<Vec<StreamItem>> {
        let mut waiting = self.lock();
        waiting.tell_gap();
        let count = waiting.items.len().min(most);
        let items: Vec<_> = waiting.items.drain(..count).collect();
        if waiting.items.is_empty() {
            waiting.items.shrink_to(KEPT);
        }
        if items.is_empty() && waiting.closed {
            return None;
        }
        Some(items)
    }

    fn leave(&self) {
        let mut waiting = self.lock();
        *waiting = Waiting {
            left: true,
            ..Waiting::default()
        };
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn forget_oldest(&mut self) {
        match self.items.pop_front() {
            Some(StreamItem::Transition(_) | StreamItem::ConnectFailed(_)) => self.missed += 1,
            Some(StreamItem::Missed { items, at_most }) => {
                self.missed += items;
                self.at_most |= at_most;
            }
            Some(StreamItem::Lost(loss)) => self.forget(loss),
            None => {}
        }
    }

    fn forget(&mut self, loss: Loss) {
        self.losses.push_back(loss);
        if self.losses.len() > LOSSES
            && let (Some(oldest), Some(second)) = (self.losses.pop_front(), self.losses.front_mut())
        {
            *second = oldest.and(*second);
        }
    }

    /// Puts what stands for the gap in front of the items.
    fn tell_gap(&mut self) {
        while let Some(loss) = self.losses.pop_back() {
            self.items.push_front(StreamItem::Lost(loss));
        }
        if self.missed > 0 {
            self.items.push_front(StreamItem::Missed {
                items: std::mem::take(&mut self.missed),
                at_most: std::mem::take(&mut self.at_most),
            });
        }
    }
}

/// A reader of the stream.
#[derive(Debug)]
pub struct Subscription {
    queue: Arc<Queue>,
    readers: Arc<AtomicUsize>,
}

impl Subscription {
    /// One of `readers`.
    pub(super) fn new(queue: Arc<Queue>, readers: Arc<AtomicUsize>) -> Self {
        readers.fetch_add(1, Ordering::Relaxed);
        Self { queue, readers }
    }

    /// The next items, at most `most` of those that are there once there is one; `None` once the engine has
    /// stopped. A reader that falls too far behind gets [`StreamItem::Missed`], then the losses that it has missed,
    /// and goes on with what is still there.
    pub async fn next_batch(&mut self, most: usize) -> Option<Vec<StreamItem>> {
        loop {
            let items = self.queue.take(most)?;
            if !items.is_empty() {
                return Some(items);
            }
            self.queue.filled.notified().await;
        }
    }

    /// Everything up to the end of the stream, which comes when the engine has stopped.
    pub async fn rest(&mut self) -> Vec<StreamItem> {
        let mut rest = Vec::new();
        while let Some(items) = self.next_batch(usize::MAX).await {
            rest.extend(items);
        }
        rest
    }

    /// What is there at the moment.
    #[cfg(test)]
    pub(super) fn try_next_batch(&mut self, most: usize) -> Vec<StreamItem> {
        self.queue.take(most).unwrap_or_default()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.readers.fetch_sub(1, Ordering::Relaxed);
        self.queue.leave();
    }
}
