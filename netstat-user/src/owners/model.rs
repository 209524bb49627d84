//! The rules against a model: processes that open, share, pass on and close one socket, with events that come late
//! and scans that take their time.

use std::collections::{BTreeSet, VecDeque};

use proptest::prelude::*;

use super::{MOST_OWNERS, Owners};
use crate::{
    clock::Ktime,
    connection::{Comm, Cookie, Owner, OwnerSource},
    facts::Holder,
};

/// More than can be listed.
const PROCESSES: u32 = 20;

/// Two processes each have had the same id, one after the other.
fn process(number: u32) -> Owner {
    Owner {
        pid: number / 2,
        start: Ktime(u64::from(number)),
        tid: None,
        fd: None,
        more_fds: 0,
        comm: Comm([0; 16]),
        seen: Ktime(0),
        source: OwnerSource::Event,
    }
}

/// One that acts.
fn acting(number: u32, time: Ktime) -> Owner {
    Owner {
        seen: time,
        ..process(number)
    }
}

/// One that a scan has found.
fn holder(number: u32, time: Ktime) -> Holder {
    Holder {
        cookie: Cookie(1),
        owner: Owner {
            fd: Some(3),
            seen: time,
            source: OwnerSource::Scan,
            ..process(number)
        },
    }
}

fn number(owner: &Owner) -> u32 {
    u32::try_from(owner.start.0).unwrap()
}

enum Fact {
    Acted(u32, Ktime),
    LetGo(Ktime),
}

struct Scan {
    start: Ktime,
    next: u32,
    found: Vec<Holder>,
}

#[derive(Default)]
struct World {
    now: u64,
    holders: BTreeSet<u32>,
    ever: BTreeSet<u32>,
    queue: VecDeque<Fact>,
    scan: Option<Scan>,
    over: bool,
    /// When somebody last came or went without an event.
    changed: u64,
    owners: Owners,
}

impl World {
    fn tick(&mut self) -> Ktime {
        self.now += 1;
        Ktime(self.now)
    }

    fn take(&mut self, number: u32) {
        self.changed = self.tick().0;
        self.holders.insert(number);
        self.ever.insert(number);
    }

    fn step(&mut self, op: u8, which: u32) {
        match op {
            0 if self.ever.is_empty() => {
                self.take(which);
                let time = self.tick();
                self.queue.push_back(Fact::Acted(which, time));
            }
            1 if !self.holders.is_empty() => self.take(which),
            2 if self.holders.contains(&which) => {
                let time = self.tick();
                self.queue.push_back(Fact::Acted(which, time));
            }
            3 if self.holders.remove(&which) => {
                let time = self.tick();
                self.changed = time.0;
                if self.holders.is_empty() {
                    // The last one to let go closes the socket, for good.
                    self.over = true;
                    self.queue.push_back(Fact::Acted(which, time));
                    let time = self.tick();
                    self.queue.push_back(Fact::LetGo(time));
                }
            }
            4 => self.begin_scan(),
            5 => self.walk(which),
            6 => self.read(which as usize),
            _ => {}
        }
    }

    fn begin_scan(&mut self) {
        if self.scan.is_none() {
            let start = self.tick();
            self.scan = Some(Scan {
                start,
                next: 0,
                found: Vec::new(),
            });
        }
    }

    /// Lets the scan look at some more processes.
    fn walk(&mut self, count: u32) {
        for _ in 0..count {
            let time = self.tick();
            let Some(scan) = &mut self.scan else { return };
            if scan.next == PROCESSES {
                self.finish_scan();
                return;
            }
            let found = self.holders.get(&scan.next);
            scan.found.extend(found.map(|&number| holder(number, time)));
            scan.next += 1;
        }
    }

    fn finish_scan(&mut self) {
        let Some(scan) = self.scan.take() else { return };
        self.owners.scanned(scan.start, &scan.found, true);
        if self.changed < scan.start.0 && self.queue.is_empty() {
            self.assert_exact();
        }
    }

    fn read(&mut self, count: usize) {
        for fact in self.queue.drain(..count.min(self.queue.len())) {
            match fact {
                Fact::Acted(number, time) => self.owners.acted(acting(number, time)),
                Fact::LetGo(time) => self.owners.let_go(time),
            }
        }
    }

    /// What holds at every moment.
    fn assert_sound(&self) {
        let listed: Vec<_> = self.owners.iter().collect();
        assert!(listed.len() <= MOST_OWNERS);
        let mut seen = BTreeSet::new();
        for owner in &listed {
            assert!(self.ever.contains(&number(owner)), "{owner:?} never held it");
            assert!(seen.insert(number(owner)), "{owner:?} is there twice");
        }
        assert!(
            listed.is_sorted_by_key(|owner| owner.source == OwnerSource::Last),
            "{listed:?}"
        );
    }

    /// What holds once everything has been told.
    fn assert_exact(&self) {
        let current: BTreeSet<_> = self
            .owners
            .iter()
            .filter(|owner| owner.is_current())
            .map(number)
            .collect();
        if self.holders.len() <= MOST_OWNERS {
            assert_eq!((&current, self.owners.unlisted()), (&self.holders, 0));
        } else {
            assert!(current.is_subset(&self.holders) && current.len() == MOST_OWNERS);
            let unlisted = self.owners.unlisted() as usize;
            assert_eq!(unlisted + MOST_OWNERS, self.holders.len());
        }
        let others = self.holders.len().saturating_sub(1);
        assert_eq!(self.owners.others(), others);
    }
}

proptest! {
    #[test]
    fn owners_end_as_they_are(ops in prop::collection::vec((0..7_u8, 0..PROCESSES), 0..120)) {
        let mut world = World::default();
        for (op, which) in ops {
            world.step(op, which);
            world.assert_sound();
        }
        world.walk(PROCESSES + 1);
        world.read(usize::MAX);
        let known = world.owners.first().is_some();
        world.begin_scan();
        world.walk(PROCESSES + 1);
        world.assert_sound();
        world.assert_exact();
        prop_assert!(!known || world.owners.first().is_some(), "whoever was known is remembered");
        prop_assert!(!world.over || !world.owners.is_held());
    }
}

fn scanned(numbers: &[u32], time: u64) -> Vec<Holder> {
    numbers
        .iter()
        .map(|&number| holder(number, Ktime(time)))
        .collect()
}

fn told(owners: &Owners) -> Vec<(u32, OwnerSource)> {
    owners.iter().map(|owner| (number(owner), owner.source)).collect()
}

#[test]
fn a_scan_does_not_undo_what_has_happened_since_it_began() {
    let mut owners = Owners::default();
    owners.acted(acting(2, Ktime(10)));
    owners.scanned(Ktime(9), &[], true);
    assert_eq!(told(&owners), [(2, OwnerSource::Event)]);
    owners.scanned(Ktime(11), &[], true);
    assert_eq!(told(&owners), [(2, OwnerSource::Last)]);
    owners.let_go(Ktime(12));
    owners.scanned(Ktime(11), &scanned(&[2], 11), true);
    assert_eq!(told(&owners), [(2, OwnerSource::Last)]);
}

#[test]
fn a_pid_that_is_given_again_is_another_process() {
    let mut owners = Owners::default();
    owners.acted(acting(2, Ktime(10)));
    owners.scanned(Ktime(11), &scanned(&[3], 11), true);
    assert_eq!(process(2).pid, process(3).pid);
    assert_eq!(told(&owners), [(3, OwnerSource::Scan), (2, OwnerSource::Last)]);
}

#[test]
fn descriptors_of_one_process_are_counted() {
    let mut owners = Owners::default();
    owners.scanned(Ktime(1), &scanned(&[4, 4, 4, 5], 1), true);
    assert_eq!(told(&owners), [(4, OwnerSource::Scan), (5, OwnerSource::Scan)]);
    assert_eq!(
        owners.first().map(|owner| (owner.fd, owner.more_fds)),
        Some((Some(3), 2))
    );
    assert_eq!(owners.others(), 1);
}

#[test]
fn whoever_holds_the_listener_gives_way_to_whoever_accepts() {
    let mut listener = Owners::default();
    listener.scanned(Ktime(1), &scanned(&[6, 8, 9], 1), true);
    let mut child = listener.inherited();
    assert_eq!(
        (told(&child), child.others()),
        (vec![(6, OwnerSource::Inherited)], 2)
    );
    assert!(child.is_open() && !child.is_held());
    child.scanned(Ktime(2), &[], true);
    assert_eq!(
        (told(&child), child.others()),
        (vec![(6, OwnerSource::Inherited)], 2)
    );
    let mut accepted = child.clone();
    accepted.scanned(Ktime(3), &scanned(&[9], 3), true);
    assert_eq!(
        (told(&accepted), accepted.others()),
        (vec![(9, OwnerSource::Scan)], 0)
    );
    child.acted(acting(8, Ktime(4)));
    assert_eq!((told(&child), child.others()), (vec![(8, OwnerSource::Event)], 0));
    assert!(Owners::default().inherited().first().is_none());
}

#[test]
fn who_does_not_see_everybody_does_not_contradict() {
    let mut owners = Owners::default();
    owners.acted(acting(2, Ktime(10)));
    owners.scanned(Ktime(11), &[], false);
    assert_eq!(told(&owners), [(2, OwnerSource::Event)]);
    owners.scanned(Ktime(12), &scanned(&[5], 12), false);
    assert_eq!(told(&owners), [(2, OwnerSource::Event), (5, OwnerSource::Scan)]);
}
