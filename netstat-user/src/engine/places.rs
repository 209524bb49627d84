//! What the engine knows of the network namespaces that its rows are in.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use rustc_hash::FxHashSet;

use crate::{
    connection::{Netns, Owner},
    namespaces::Refused,
    sweeper::SweepDone,
    table::Lost,
    view::{Stats, Trouble, Unswept},
};

/// After a search in vain, the wait before the next: first this, and twice as long each time.
const FIRST: Duration = Duration::from_millis(50);
/// But no longer.
const LONGEST: Duration = Duration::from_secs(1);
/// Processes remembered for one namespace that is not known yet.
const HINTS: usize = 4;

/// A namespace that was looked for in vain.
#[derive(Debug, Clone, Copy)]
struct Hidden {
    until: Instant,
    wait: Duration,
    /// A search that went everywhere has not found it. It takes no other to say so again: whoever was just handed
    /// the namespace when that search passed is seen by a quick one.
    nowhere: bool,
}

/// A namespace that events have told of.
#[derive(Debug)]
struct Stranger {
    since: Instant,
    hints: Vec<u32>,
}

/// The namespaces.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// Those that have been walked, or could be.
    known: FxHashSet<Netns>,
    /// Those that an event has told of and that are not known, and processes that may be in them.
    strangers: HashMap<Netns, Stranger>,
    hidden: HashMap<Netns, Hidden>,
    /// Those that are there although nothing leads into them, by the last search that went everywhere.
    unreachable: FxHashSet<Netns>,
    /// Processes that the last search of all namespaces could not look into.
    refused: Option<Refused>,
    /// Those that could not be walked, and why.
    closed: BTreeMap<Netns, String>,
    /// The user has been told that there are such.
    told: bool,
    /// There are strangers since [`Places::take_news`].
    news: bool,
}

impl Places {
    /// An event came from `netns`, from a socket of `owner`.
    pub(super) fn heard(&mut self, netns: Netns, owner: Option<Owner>) {
        if self.known.contains(&netns) || self.closed.contains_key(&netns) {
            return;
        }
        // One that was looked for in vain is a stranger again: its number may be another's by now.
        let Stranger { hints, .. } = self.strangers.entry(netns).or_insert_with(|| {
            self.news = true;
            Stranger {
                since: Instant::now(),
                hints: Vec::new(),
            }
        });
        if let Some(Owner { pid, .. }) = owner
            && hints.len() < HINTS
            && !hints.contains(&pid)
        {
            hints.push(pid);
        }
    }

    /// Whether an event has told of a new namespace since the last call.
    pub(super) fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.news)
    }

    /// Whether it makes sense to look into this namespace now.
    pub(super) fn is_worth_a_look(&self, netns: Netns, now: Instant) -> bool {
        !self.closed.contains_key(&netns) && !self.is_hidden(netns, now)
    }

    fn is_hidden(&self, netns: Netns, now: Instant) -> bool {
        self.hidden.get(&netns).is_some_and(|hidden| hidden.until > now)
    }

    /// Whether there are namespaces that an event has told of and that are not known.
    pub(super) fn has_strangers(&self) -> bool {
        !self.strangers.is_empty()
    }

    /// The namespaces that an event has told of and that are not known.
    pub(super) fn strangers(&self) -> impl Iterator<Item = Netns> {
        self.strangers.keys().copied()
    }

    /// Processes that may be in them.
    pub(super) fn hints(&self) -> Vec<u32> {
        let hints = self.strangers.values().flat_map(|stranger| &stranger.hints);
        hints.copied().collect()
    }

    /// Takes over what a sweep has found. Returns, once, why namespaces cannot be walked.
    pub(super) fn swept(&mut self, done: &SweepDone, now: Instant) -> Option<String> {
        if done.everywhere && done.broken.is_none() {
            self.known.clear();
            self.refused = done.refused;
            self.closed
                .retain(|netns, _| done.failed.iter().any(|(failed, _)| failed == netns));
        }
        if let Some(unreachable) = &done.unreachable {
            self.unreachable = unreachable.iter().copied().collect();
        }
        for netns in &done.found {
            self.known.insert(*netns);
            self.unreachable.remove(netns);
            if let Some(stranger) = self.strangers.remove(netns) {
                let waited = now - stranger.since;
                log::debug!(
                    "network namespace {} was scanned {waited:?} after its first event",
                    netns.0
                );
            }
            self.hidden.remove(netns);
            self.closed.remove(netns);
        }
        for netns in &done.absent {
            self.known.remove(netns);
            let nowhere = done.gone.contains(netns) || self.is_nowhere(*netns);
            if done.search.is_some() || nowhere {
                self.hide(*netns, nowhere, now);
            }
        }
        let mut news = None;
        for (netns, error) in &done.failed {
            self.strangers.remove(netns);
            if error.is_forbidden() {
                let why = error.to_string();
                if !std::mem::replace(&mut self.told, true) {
                    news = Some(why.clone());
                }
                self.closed.insert(*netns, why);
            } else {
                self.known.insert(*netns);
            }
        }
        if let Some(refused) = self.refused.filter(|_| !self.told) {
            self.told = true;
            news = Some(refused.to_string());
        }
        news
    }

    fn is_nowhere(&self, netns: Netns) -> bool {
        self.hidden.get(&netns).is_some_and(|hidden| hidden.nowhere)
    }

    /// The namespaces that the sweep has looked for in vain.
    pub(super) fn lost(&self, done: &SweepDone) -> Vec<Lost> {
        let lost = |netns: &Netns| Lost {
            netns: *netns,
            nowhere: self.is_nowhere(*netns),
        };
        done.absent.iter().map(lost).collect()
    }

    fn hide(&mut self, netns: Netns, nowhere: bool, now: Instant) {
        self.strangers.remove(&netns);
        let wait = self.hidden.get(&netns).map_or(FIRST, |hidden| hidden.wait * 2);
        let wait = wait.min(LONGEST);
        self.hidden.insert(
            netns,
            Hidden {
                until: now + wait,
                wait,
                nowhere,
            },
        );
    }

    /// Forgets namespaces that were looked for in vain and of which `has_rows` knows nothing any more.
    pub(super) fn forget(&mut self, has_rows: impl Fn(Netns) -> bool) {
        self.hidden.retain(|netns, _| has_rows(*netns));
    }

    /// Processes that could not be looked into, if they matter to `netns` or all.
    pub(super) fn refused(&self, netns: Option<Netns>) -> Option<Refused> {
        self.refused.filter(|_| netns.is_none())
    }

    /// As [`unswept`](Self::unswept), for one namespace if it is given.
    pub(super) fn unswept_in(&self, netns: Option<Netns>) -> Vec<Unswept> {
        let mut unswept = self.unswept();
        unswept.retain(|unswept| netns.is_none_or(|netns| netns == unswept.netns));
        unswept
    }

    /// Namespaces that are there although nothing leads into them: whether they still are takes another search.
    pub(super) fn unreachable(&self) -> impl Iterator<Item = Netns> {
        self.unreachable.iter().copied()
    }

    /// What is known to be missing: namespaces that cannot be walked.
    pub(super) fn unswept(&self) -> Vec<Unswept> {
        let closed = self.closed.iter().map(|(netns, why)| Unswept {
            netns: *netns,
            trouble: Trouble::Closed(why.clone()),
        });
        // Once is not enough to say so: it may just be about to go.
        let hidden = self.hidden.iter().filter(|(_, hidden)| hidden.wait > FIRST);
        let hidden = hidden
            .map(|(netns, _)| *netns)
            .filter(|netns| !self.unreachable.contains(netns));
        let unreachable = self
            .unreachable
            .iter()
            .copied()
            .chain(hidden)
            .map(|netns| Unswept {
                netns,
                // Where processes may not be looked into, more than sockets may keep it.
                trouble: self.refused.map_or(Trouble::Unreachable, Trouble::Refused),
            });
        let mut unswept: Vec<_> = closed.chain(unreachable).collect();
        unswept.sort_by_key(|unswept| unswept.netns);
        unswept.truncate(Stats::MOST_NAMESPACES);
        unswept
    }
}
