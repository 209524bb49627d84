//! Who holds a socket, as far as is known: a bounded list, and the rules by which facts change it.
//!
//! - An event shows a process that holds the socket at that moment.
//! - A scan shows all that hold it, each at some moment of the scan. What has happened since the scan began is newer.
//! - Who was known to hold the socket, and by a newer fact does not, is listed on as its last owner.
//! - A connection that nobody has accepted is whoever's that holds the listener.

mod kept;
mod packed;

pub use kept::Kept;
pub(crate) use packed::PackedOwners;
use serde::{Deserialize, Serialize};

use crate::{
    clock::Ktime,
    connection::{Owner, OwnerSource},
    facts::Holder,
};

/// Processes that are listed of one socket; others are counted.
pub const MOST_OWNERS: usize = 16;

/// The owners of one socket: those that hold it, then those that have.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Owners {
    /// Most sockets have one at most.
    first: Option<Owner>,
    rest: Option<Box<[Owner]>>,
    /// How many processes hold the socket and are not listed.
    more: u32,
    /// When the last scan began that saw everybody.
    #[serde(skip)]
    scanned: Option<Ktime>,
    /// Since when it is known that nobody holds it.
    #[serde(skip)]
    released: Option<Ktime>,
    /// What holds the socket, where no process has a descriptor of it and somebody has found out.
    #[serde(skip)]
    kept: Option<Box<Kept>>,
}

impl Owners {
    /// The one to name if only one is named.
    #[must_use]
    pub const fn first(&self) -> Option<&Owner> {
        self.first.as_ref()
    }

    /// All that are listed, at most [`MOST_OWNERS`].
    pub fn iter(&self) -> impl Iterator<Item = &Owner> {
        self.first.iter().chain(self.rest.iter().flatten())
    }

    /// How many processes hold the socket, or its listener while nobody has accepted it, besides the first; 0 if
    /// none does.
    #[must_use]
    pub fn others(&self) -> usize {
        let holding = self.iter().filter(|owner| owner.source != OwnerSource::Last);
        holding.count().saturating_sub(1) + self.more as usize
    }

    /// How many of those that hold it are not listed.
    #[must_use]
    pub const fn unlisted(&self) -> u32 {
        self.more
    }

    /// Whether a process is known to hold the socket.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.first.is_some_and(|owner| owner.is_current())
    }

    /// Whether nobody is known to hold the socket, and it is not known either that nobody does.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.released.is_none() && !self.is_held()
    }

    /// `owner` did something with the socket.
    pub(crate) fn acted(&mut self, owner: Owner) {
        let late = self.scanned.max(self.released) > Some(owner.seen);
        // Most sockets have one owner in their lives, which takes no list.
        if self.first.is_none() && !late {
            self.first = Some(owner);
            self.released = None;
            return;
        }
        if self.rest.is_none()
            && let Some(first) = &mut self.first
            && first.is_same_process(&owner)
            && first.is_current()
        {
            if first.seen <= owner.seen {
                let Owner {
                    tid, fd, more_fds, ..
                } = *first;
                *first = Owner {
                    tid,
                    fd,
                    more_fds,
                    ..owner
                };
            }
            return;
        }
        let mut owners: Vec<Owner> = self.iter().copied().collect();
        let known = owners.iter().position(|known| known.is_same_process(&owner));
        match known {
            Some(at) if owners[at].is_current() => {
                let Owner {
                    tid,
                    fd,
                    more_fds,
                    seen,
                    ..
                } = owners[at];
                if seen <= owner.seen {
                    owners[at] = Owner {
                        tid,
                        fd,
                        more_fds,
                        ..owner
                    };
                }
            }
            Some(_) if late => {}
            None if late => owners.push(last(owner)),
            known => {
                owners.retain(|known| !known.is_same_process(&owner));
                owners.insert(0, owner);
                self.released = None;
                let was_waiting = known.is_none() && owners.iter().any(is_inherited);
                self.more = if was_waiting { 0 } else { self.more };
            }
        }
        if owners.iter().any(Owner::is_current) {
            owners.retain(|owner| !is_inherited(owner));
        }
        self.list(owners);
    }

    /// At `time` nobody holds the socket.
    pub(crate) fn let_go(&mut self, time: Ktime) {
        let holds_later = |owner: &Owner| owner.is_current() && owner.seen > time;
        if self.released.is_some() || self.iter().any(holds_later) {
            return;
        }
        self.released = Some(time);
        if self.is_held() {
            self.more = 0;
            self.list(self.iter().copied().map(last).collect());
        }
    }

    /// A scan that began at `start` has found `found`, sorted by process and descriptor. It is `complete` if it went
    /// through all processes: else others may hold the socket, too.
    pub(crate) fn scanned(&mut self, start: Ktime, found: &[Holder], complete: bool) {
        if found.is_empty() && self.first.is_none() {
            return;
        }
        if complete {
            self.scanned = self.scanned.max(Some(start));
        }
        // So it is with nearly every socket the first time; the rest comes to the same, with room for many.
        if self.first.is_none()
            && let [Holder { owner, .. }] = found
            && self.released < Some(owner.seen)
        {
            self.first = Some(Owner {
                more_fds: 0,
                ..*owner
            });
            (self.more, self.released) = (0, None);
            return;
        }
        let mut found = processes(found);
        found.retain(|found| self.released < Some(found.seen));
        let stays = |known: &Owner| match known.source {
            OwnerSource::Event | OwnerSource::Scan | OwnerSource::IoUring => known.seen >= start || !complete,
            OwnerSource::Inherited => found.is_empty(),
            OwnerSource::Last => false,
        };
        let (mut holding, mut gone) = (Vec::new(), Vec::new());
        for known in self.iter() {
            match found.iter().find(|found| found.is_same_process(known)) {
                Some(found) => holding.push(confirmed(known, found)),
                None if stays(known) => holding.push(*known),
                None if is_inherited(known) => {}
                None => gone.push(*known),
            }
        }
        // Those that were there before come first, so that a socket is not now this one's and now that one's.
        let known = holding.len();
        let is_new = |owner: &&Owner| !holding[..known].iter().any(|known| known.is_same_process(owner));
        let new: Vec<Owner> = found.iter().filter(is_new).copied().collect();
        holding.extend(new);
        if !found.is_empty() {
            self.released = None;
        }
        if !holding.iter().any(is_inherited) {
            let unlisted = holding.len().saturating_sub(MOST_OWNERS);
            self.more = u32::try_from(unlisted).unwrap_or(u32::MAX);
        }
        // Who has only now let go comes before those who had before.
        gone.sort_by_key(|owner| owner.source == OwnerSource::Last);
        holding.extend(gone.into_iter().map(last));
        self.list(holding);
    }

    /// The owners of a connection that nobody has accepted yet, out of those of its listener.
    pub(crate) fn inherited(&self) -> Self {
        let first = self.first.filter(Owner::is_current).map(|owner| Owner {
            tid: None,
            fd: None,
            more_fds: 0,
            source: OwnerSource::Inherited,
            ..owner
        });
        let others = first.map_or(0, |_| self.others());
        Self {
            first,
            more: u32::try_from(others).unwrap_or(u32::MAX),
            ..Self::default()
        }
    }

    fn list(&mut self, mut owners: Vec<Owner>) {
        owners.truncate(MOST_OWNERS);
        let mut owners = owners.into_iter();
        self.first = owners.next();
        self.rest = (owners.len() > 0).then(|| owners.collect());
    }
}

fn is_inherited(owner: &Owner) -> bool {
    owner.source == OwnerSource::Inherited
}

/// Somebody who holds the socket no longer. Whoever only held the listener never did.
fn last(owner: Owner) -> Owner {
    Owner {
        source: if is_inherited(&owner) {
            owner.source
        } else {
            OwnerSource::Last
        },
        ..owner
    }
}

/// What is known of a process that a scan has found again. It may have taken another name, by `exec` or otherwise.
fn confirmed(known: &Owner, found: &Owner) -> Owner {
    let acted = known.source == OwnerSource::Event;
    let newer = acted && known.seen > found.seen;
    Owner {
        comm: if newer { known.comm } else { found.comm },
        seen: known.seen.max(found.seen),
        source: if acted {
            OwnerSource::Event
        } else {
            OwnerSource::Scan
        },
        ..*found
    }
}

/// The processes among `found`, the oldest first, each with its lowest descriptor, in its first thread's table if there is one
/// in that.
fn processes(found: &[Holder]) -> Vec<Owner> {
    let of_one = |a: &Holder, b: &Holder| a.owner.is_same_process(&b.owner);
    let one = |fds: &[Holder]| {
        let more = u32::try_from(fds.len().saturating_sub(1)).unwrap_or(u32::MAX);
        let first = fds.first()?.owner;
        Some(Owner {
            more_fds: more,
            ..first
        })
    };
    found.chunk_by(of_one).filter_map(one).collect()
}

#[cfg(test)]
mod model;
