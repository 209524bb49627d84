//! The stream of what happens, for any number of readers: one that is slow misses items, but never that the kernel
//! has lost some.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::broadcast::{
    self,
    error::{RecvError, TryRecvError},
};

use crate::view::{Loss, StreamItem};

/// Items that a reader may fall behind.
const CAPACITY: usize = 16_384;
/// Losses that are remembered one by one; older ones become one.
const LOSSES: usize = 64;

/// An item and its place in the stream.
type Numbered = (u64, StreamItem);

/// The end that items go into.
#[derive(Debug)]
pub(super) struct Publisher {
    readers: broadcast::Sender<Numbered>,
    shared: Arc<Mutex<Shared>>,
}

/// The end that readers come to.
#[derive(Debug, Clone)]
pub(super) struct Readers {
    readers: broadcast::Sender<Numbered>,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// The place of the next item.
    next: u64,
    /// Losses that have been told, with their places.
    losses: VecDeque<(u64, Loss)>,
}

impl Publisher {
    pub(super) fn new() -> Self {
        let (readers, _) = broadcast::channel(CAPACITY);
        Self {
            readers,
            shared: Arc::default(),
        }
    }

    pub(super) fn readers(&self) -> Readers {
        Readers {
            readers: self.readers.clone(),
            shared: Arc::clone(&self.shared),
        }
    }

    /// How many read.
    pub(super) fn count(&self) -> usize {
        self.readers.receiver_count()
    }

    pub(super) fn send(&self, items: impl IntoIterator<Item = StreamItem>) {
        // Held while they go out, so that a new reader knows the place that it begins at.
        let mut shared = lock(&self.shared);
        let anybody = self.readers.receiver_count() > 0;
        for item in items {
            let place = shared.next;
            shared.next += 1;
            if let StreamItem::Lost(loss) = item {
                shared.remember(place, loss);
            }
            if anybody {
                // An error says that the last of them has gone.
                let _ = self.readers.send((place, item));
            }
        }
    }
}

impl Shared {
    fn remember(&mut self, place: u64, loss: Loss) {
        self.losses.push_back((place, loss));
        if self.losses.len() > LOSSES
            && let (Some((_, oldest)), Some((_, second))) = (self.losses.pop_front(), self.losses.front_mut())
        {
            *second = oldest.and(*second);
        }
    }
}

impl Readers {
    /// Everything that happens from now on.
    pub(super) fn subscribe(&self) -> Subscription {
        let shared = lock(&self.shared);
        Subscription {
            receiver: self.readers.subscribe(),
            next: shared.next,
            shared: Arc::clone(&self.shared),
            overtaken: VecDeque::new(),
        }
    }
}

/// A reader's place in the stream.
#[derive(Debug)]
pub struct Subscription {
    receiver: broadcast::Receiver<Numbered>,
    /// The place of the item that comes next.
    next: u64,
    shared: Arc<Mutex<Shared>>,
    /// Losses that were among what was missed, and what followed.
    overtaken: VecDeque<StreamItem>,
}

impl Subscription {
    /// The next items, at most `most` of those that are there once there is one; `None` once the engine has
    /// stopped. A reader that falls too far behind gets [`StreamItem::Missed`], then the losses that it has missed
    /// to hear of, and goes on with what is still there.
    pub async fn next_batch(&mut self, most: usize) -> Option<Vec<StreamItem>> {
        let mut items = vec![self.next().await?];
        while items.len() < most
            && let Some(item) = self.try_next()
        {
            items.push(item);
        }
        Some(items)
    }

    /// What is there, without waiting for more: for after the engine has stopped.
    pub fn rest(&mut self) -> Vec<StreamItem> {
        std::iter::from_fn(|| self.try_next()).collect()
    }

    async fn next(&mut self) -> Option<StreamItem> {
        if let Some(item) = self.overtaken.pop_front() {
            return Some(item);
        }
        match self.receiver.recv().await {
            Ok(numbered) => Some(self.take(numbered)),
            Err(RecvError::Lagged(items)) => Some(self.overtake(items)),
            Err(RecvError::Closed) => None,
        }
    }

    /// As [`Subscription::next`], but `None` when there is nothing at the moment.
    fn try_next(&mut self) -> Option<StreamItem> {
        if let Some(item) = self.overtaken.pop_front() {
            return Some(item);
        }
        match self.receiver.try_recv() {
            Ok(numbered) => Some(self.take(numbered)),
            Err(TryRecvError::Lagged(items)) => Some(self.overtake(items)),
            Err(_) => None,
        }
    }

    fn take(&mut self, (place, item): Numbered) -> StreamItem {
        self.next = place + 1;
        item
    }

    /// So many items are gone.
    fn overtake(&mut self, items: u64) -> StreamItem {
        let missed = self.next..self.next.saturating_add(items);
        self.next = missed.end;
        let shared = lock(&self.shared);
        let losses = shared.losses.iter().filter(|(place, _)| missed.contains(place));
        self.overtaken
            .extend(losses.map(|(_, loss)| StreamItem::Lost(*loss)));
        StreamItem::Missed { items }
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Ktime;

    fn loss(ring_full: u64) -> StreamItem {
        StreamItem::Lost(Loss {
            ring_full,
            interrupted: 0,
            since: Ktime(ring_full),
            until: Ktime(ring_full + 1),
        })
    }

    /// Any item that is no loss.
    const OTHER: StreamItem = StreamItem::Missed { items: 0 };

    #[test]
    fn a_reader_that_keeps_up_gets_everything_once() {
        let publisher = Publisher::new();
        publisher.send([loss(1)]);
        let mut reader = publisher.readers().subscribe();
        publisher.send([OTHER, loss(2)]);
        assert_eq!(reader.rest(), [OTHER, loss(2)]);
    }

    #[test]
    fn a_reader_that_is_overtaken_still_hears_of_losses() {
        let publisher = Publisher::new();
        let mut reader = publisher.readers().subscribe();
        publisher.send([OTHER, loss(7)]);
        publisher.send(std::iter::repeat_n(OTHER, CAPACITY));
        publisher.send([loss(8)]);
        let items = reader.rest();
        assert_eq!(items[..2], [StreamItem::Missed { items: 3 }, loss(7)]);
        assert_eq!(items.len(), 2 + CAPACITY);
        assert_eq!(items.last(), Some(&loss(8)));
    }

    #[test]
    fn many_losses_become_one_and_none_is_forgotten() {
        let publisher = Publisher::new();
        let mut reader = publisher.readers().subscribe();
        publisher.send((1..=1000).map(loss));
        publisher.send(std::iter::repeat_n(OTHER, CAPACITY));
        let told: u64 = reader
            .rest()
            .iter()
            .map(|item| match item {
                StreamItem::Lost(loss) => loss.ring_full,
                _ => 0,
            })
            .sum();
        assert_eq!(told, 500_500);
    }
}
