//! Listeners that have ended, and may have left half-open connections behind: those stay until their timers run out
//! (`reqsk_timer_handler`), and belong to nobody who could be asked about them.

use std::time::Duration;

use rustc_hash::FxHashMap;

use super::Table;
use crate::{clock::Ktime, connection::Netns};

/// The timer of a request sock runs for no longer than this at a time (`TCP_RTO_MAX`), and a second.
const REQUEST: Duration = Duration::from_secs(121);
/// With more namespaces than this, those in which none has ended lately are forgotten.
const MANY: usize = 64;

/// Namespaces in which a listener has ended since they were last swept, and when the last one has.
#[derive(Debug, Default)]
pub(super) struct EndedListeners(FxHashMap<Netns, Ktime>);

impl EndedListeners {
    /// One has ended.
    pub(super) fn heard(&mut self, netns: Netns, time: Ktime) {
        if self.0.len() >= MANY {
            self.0.retain(|_, ended| ended.plus(REQUEST) > time);
        }
        self.0.insert(netns, time);
    }

    /// A sweep that began at `start` has shown what is left behind.
    pub(super) fn swept(&mut self, netns: Netns, start: Ktime) {
        if self.0.get(&netns).is_some_and(|ended| *ended < start) {
            self.0.remove(&netns);
        }
    }
}

impl Table {
    /// Whether every half-open connection, in a namespace or in all, is in the table or belongs to a listener that is there still.
    #[must_use]
    pub fn listeners_stand(&self, netns: Option<Netns>, now: Ktime) -> bool {
        let elsewhere = |ended_in: &Netns| netns.is_some_and(|netns| netns != *ended_in);
        let mut ended = self.ended_listeners.0.iter();
        ended.all(|(ended_in, ended)| elsewhere(ended_in) || ended.plus(REQUEST) < now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_listener_has_left_is_known_once_it_is_swept_or_old() {
        const ENDED: Ktime = Ktime(10);
        let mut table = Table::default();
        assert!(table.listeners_stand(None, ENDED));
        table.ended_listeners.heard(Netns(1), ENDED);
        assert!(!table.listeners_stand(None, ENDED));
        assert!(!table.listeners_stand(Some(Netns(1)), ENDED));
        assert!(table.listeners_stand(Some(Netns(2)), ENDED));
        assert!(table.listeners_stand(None, ENDED.plus(2 * REQUEST)));
        table.ended_listeners.swept(Netns(1), ENDED);
        assert!(
            !table.listeners_stand(None, ENDED),
            "the sweep may have been there before"
        );
        table.ended_listeners.swept(Netns(1), Ktime(11));
        assert!(table.listeners_stand(None, ENDED));
    }

    #[test]
    fn no_more_namespaces_are_remembered_than_there_is_a_use_for() {
        let mut ended = EndedListeners::default();
        for number in 0..1000 {
            ended.heard(Netns(number), Ktime(0).plus(REQUEST * number));
        }
        assert!(ended.0.len() <= MANY, "{}", ended.0.len());
    }
}
