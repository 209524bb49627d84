//! Which processes read what they have received: since when each socket's unread data has stayed unread.

use rustc_hash::FxHashMap;

use super::Look;
use crate::{
    clock::Ktime,
    connection::Cookie,
    facts::{Figures, Form},
};

/// What is remembered from look to look of sockets with unread data.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    waiting: FxHashMap<Cookie, Waiting>,
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    /// Bytes that had been read.
    read: u64,
    since: Ktime,
}

impl Reading {
    /// Takes note of another look, later than those before.
    pub fn look(&mut self, look: &Look) {
        let rows = look.rows.iter();
        let unread = rows.filter_map(|row| Some((row.connection.cookie, row.figures.as_deref()?)));
        let waiting = unread.filter_map(|(cookie, figures)| {
            let read = read(figures).filter(|_| figures.queues.recv > 0)?;
            let known = self.waiting.get(&cookie).filter(|known| known.read == read);
            let since = known.map_or(figures.time, |known| known.since);
            Some((cookie, Waiting { read, since }))
        });
        self.waiting = waiting.collect();
    }

    /// Since when nothing has been read of what there is.
    pub(super) fn unread_since(&self, cookie: Cookie) -> Option<Ktime> {
        self.waiting.get(&cookie).map(|waiting| waiting.since)
    }
}

/// What the process has taken, in bytes: with a FIN behind the data it may count one more.
fn read(figures: &Figures) -> Option<u64> {
    let received = figures.received.bytes.filter(|_| figures.form == Form::Full)?;
    received.checked_sub(figures.queues.recv.into())
}
