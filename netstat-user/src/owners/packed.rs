//! [`Owners`] as a row keeps them: without room for what most sockets do not have.

use std::num::{NonZeroU32, NonZeroU64};

use super::Owners;
use crate::{
    clock::Ktime,
    connection::{Comm, Owner, OwnerSource},
};

/// The owners of one socket. The rules are those of [`Owners`], which this is taken for and made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PackedOwners {
    first: Packed,
    scanned: Option<Moment>,
    released: Option<Moment>,
    rare: Option<Box<Rare>>,
    /// How the first is known; `None` if there is none.
    source: Option<OwnerSource>,
}

/// A process, the rarer parts excepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Packed {
    start: Ktime,
    seen: Ktime,
    comm: Comm,
    pid: u32,
    /// One more than the descriptor; 0 when none is known.
    fd: u32,
}

/// What few sockets have.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Rare {
    rest: Option<Box<[Owner]>>,
    more: u32,
    more_fds: u32,
    tid: Option<NonZeroU32>,
}

/// A time, one nanosecond late, so that there is room for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Moment(NonZeroU64);

impl From<Ktime> for Moment {
    fn from(time: Ktime) -> Self {
        Self(NonZeroU64::MIN.saturating_add(time.0))
    }
}

impl From<Moment> for Ktime {
    fn from(moment: Moment) -> Self {
        Self(moment.0.get() - 1)
    }
}

impl Default for PackedOwners {
    fn default() -> Self {
        Owners::default().into()
    }
}

impl From<Owners> for PackedOwners {
    fn from(owners: Owners) -> Self {
        let more_fds = owners.first.map_or(0, |first| first.more_fds);
        let tid = owners.first.and_then(|first| first.tid);
        let rare = owners.rest.is_some() || owners.more > 0 || more_fds > 0 || tid.is_some();
        Self {
            first: owners.first.map_or(NOBODY, |first| Packed {
                start: first.start,
                seen: first.seen,
                comm: first.comm,
                pid: first.pid,
                // The kernel deals out no descriptor that this is too small for (`sysctl_nr_open_max`).
                fd: first.fd.map_or(0, |fd| fd.saturating_add(1)),
            }),
            source: owners.first.map(|first| first.source),
            scanned: owners.scanned.map(Moment::from),
            released: owners.released.map(Moment::from),
            rare: rare.then(|| {
                Box::new(Rare {
                    rest: owners.rest,
                    more: owners.more,
                    more_fds,
                    tid,
                })
            }),
        }
    }
}

const NOBODY: Packed = Packed {
    start: Ktime(0),
    seen: Ktime(0),
    comm: Comm([0; 16]),
    pid: 0,
    fd: 0,
};

impl PackedOwners {
    /// All of it.
    pub(crate) fn unpacked(&self) -> Owners {
        Owners {
            rest: self.rare.as_ref().and_then(|rare| rare.rest.clone()),
            ..self.without_rest()
        }
    }

    fn without_rest(&self) -> Owners {
        Owners {
            first: self.first(),
            rest: None,
            more: self.rare.as_ref().map_or(0, |rare| rare.more),
            scanned: self.scanned.map(Ktime::from),
            released: self.released.map(Ktime::from),
            kept: None,
        }
    }

    /// Applies one of the rules.
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut Owners)) {
        let mut owners = self.without_rest();
        owners.rest = self.rare.take().and_then(|rare| rare.rest);
        change(&mut owners);
        *self = owners.into();
    }

    /// As [`Owners::first`].
    pub(crate) fn first(&self) -> Option<Owner> {
        let source = self.source?;
        let Packed {
            start,
            seen,
            comm,
            pid,
            fd,
        } = self.first;
        Some(Owner {
            pid,
            start,
            tid: self.rare.as_ref().and_then(|rare| rare.tid),
            fd: fd.checked_sub(1),
            more_fds: self.rare.as_ref().map_or(0, |rare| rare.more_fds),
            comm,
            seen,
            source,
        })
    }

    /// As [`Owners::is_held`].
    pub(crate) fn is_held(&self) -> bool {
        matches!(self.source, Some(OwnerSource::Event | OwnerSource::Scan))
    }

    /// As [`Owners::is_open`].
    pub(crate) fn is_open(&self) -> bool {
        self.released.is_none() && !self.is_held()
    }

    /// As [`Owners::let_go`].
    pub(crate) fn let_go(&mut self, time: Ktime) {
        if self.released.is_some() {
            return;
        }
        if self.source.is_none() && self.rare.is_none() {
            self.released = Some(time.into());
        } else {
            self.change(|owners| owners.let_go(time));
        }
    }

    /// As [`Owners::inherited`].
    pub(crate) fn inherited(&self) -> Self {
        if self.rare.is_none() {
            return self.without_rest().inherited().into();
        }
        self.unpacked().inherited().into()
    }

    /// Bytes that it takes besides its own place.
    pub(crate) fn heap_size(&self) -> usize {
        let rest = |rare: &Rare| rare.rest.as_ref().map_or(0, |rest| size_of_val(&rest[..]));
        self.rare
            .as_ref()
            .map_or(0, |rare| size_of::<Rare>() + rest(rare))
    }
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, sample::select};

    use super::*;

    fn owner() -> impl Strategy<Value = Owner> {
        let sources = vec![
            OwnerSource::Event,
            OwnerSource::Scan,
            OwnerSource::Inherited,
            OwnerSource::Last,
        ];
        let fd = prop::option::of(0..u32::MAX);
        (any::<u64>(), fd, 0..3_u32, any::<u8>(), select(sources)).prop_map(
            |(time, fd, more_fds, name, source)| Owner {
                pid: u32::from(name),
                start: Ktime(time / 2),
                tid: NonZeroU32::new(u32::from(name % 3)),
                fd,
                more_fds,
                comm: Comm([name; 16]),
                seen: Ktime(time),
                source,
            },
        )
    }

    fn owners() -> impl Strategy<Value = Owners> {
        let time = || prop::option::of((0..u64::MAX).prop_map(Ktime));
        (prop::collection::vec(owner(), 0..4), 0..3_u32, time(), time()).prop_map(
            |(listed, more, scanned, released)| {
                let mut owners = Owners {
                    more,
                    scanned,
                    released,
                    ..Owners::default()
                };
                owners.list(listed);
                owners
            },
        )
    }

    proptest! {
        #[test]
        fn nothing_is_lost_in_packing(owners in owners(), time in any::<u64>().prop_map(Ktime)) {
            let packed = PackedOwners::from(owners.clone());
            prop_assert_eq!(packed.unpacked(), owners.clone());
            prop_assert_eq!(packed.first(), owners.first().copied());
            prop_assert_eq!((packed.is_held(), packed.is_open()), (owners.is_held(), owners.is_open()));
            prop_assert_eq!(packed.inherited().unpacked(), owners.inherited());
            let (mut let_go, mut packed_let_go) = (owners.clone(), packed.clone());
            let_go.let_go(time);
            packed_let_go.let_go(time);
            prop_assert_eq!(packed_let_go.unpacked(), let_go);
            let mut unchanged = packed.clone();
            unchanged.change(|_| {});
            prop_assert_eq!(unchanged, packed);
        }
    }
}
