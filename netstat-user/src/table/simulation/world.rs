//! A model of the kernel, its event ring and a sweep, with a table that listens.

use std::collections::{BTreeMap, VecDeque};

use crate::{
    clock::Ktime,
    connection::{Connection, Cookie, Endpoint, Family, Netns, SkAddr},
    facts::{Form, Occurrence, Queues, Sighting, SocketGone, SocketMark, SocketNews, StateEvent},
    reason::Reason,
    sources::Coverage,
    table::{NamespaceSweep, SweepPart, Table, Transition},
    tcp::TcpState,
};

pub(super) const NETNS: Netns = Netns(1);
pub(super) const SERVER: u16 = 80;

/// A socket of the model.
#[derive(Debug, Clone, Copy)]
pub(super) struct Socket {
    pub(super) connection: Connection,
    pub(super) skaddr: SkAddr,
    pub(super) state: TcpState,
    pub(super) form: Form,
}

/// What comes out of the event ring.
#[derive(Debug)]
pub(super) enum Record {
    Event(StateEvent),
    News(SocketNews),
    Gone(SocketGone),
    Mark(SocketMark),
    Fence,
}

/// A sweep under way: the sockets that it has yet to look at, and what it has seen.
#[derive(Debug)]
pub(super) struct Sweep {
    pub(super) start: Ktime,
    pub(super) ahead: VecDeque<Cookie>,
    pub(super) seen: Vec<Sighting>,
    /// No part of it has been handed over.
    pub(super) first: bool,
}

/// The kernel, the ring and the table.
#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) now: u64,
    pub(super) born: u64,
    pub(super) sockets: BTreeMap<Cookie, Socket>,
    pub(super) ring: VecDeque<Record>,
    pub(super) walking: Option<Sweep>,
    /// Parts that are walked, and wait for their fences.
    pub(super) walked: VecDeque<SweepPart>,
    pub(super) table: Table,
    pub(super) transitions: Vec<Transition>,
    /// Why connections were reset, by the time of their events.
    pub(super) resets: BTreeMap<Ktime, Reason>,
    /// The ring is full: events are lost.
    pub(super) deaf: bool,
    /// The kernel has hooks, and tells of minisocks, request socks and ports.
    pub(super) hooked: bool,
    /// As kernels up to 6.12, which announce a child under its listener's cookie.
    pub(super) old_kernel: bool,
}

impl World {
    /// A kernel that has hooks for everything.
    pub(super) fn hooked() -> Self {
        let coverage = Coverage {
            ports: true,
            requests: true,
            minisocks: true,
        };
        Self {
            hooked: true,
            table: Table::new(coverage),
            ..Self::default()
        }
    }

    fn push(&mut self, record: Record) {
        if !self.deaf {
            self.ring.push_back(record);
        }
    }

    pub(super) fn tell(&mut self, socket: Socket, made: bool) {
        let time = self.tick(1);
        if self.hooked {
            self.push(Record::News(SocketNews {
                time,
                connection: socket.connection,
                form: socket.form,
                made,
                state: socket.state,
            }));
        }
    }

    pub(super) fn tell_gone(&mut self, socket: Socket) {
        let time = self.tick(1);
        if self.hooked {
            self.push(Record::Gone(SocketGone {
                time,
                cookie: socket.connection.cookie,
                form: socket.form,
                ports: socket.connection.ports(),
                why: None,
            }));
        }
    }

    pub(super) fn mark(&mut self, socket: Socket, what: Occurrence) {
        let time = self.tick(1);
        self.push(Record::Mark(SocketMark {
            time,
            cookie: socket.connection.cookie,
            form: socket.form,
            closed: socket.state == TcpState::Close,
            what,
        }));
    }

    pub(super) fn tick(&mut self, nanoseconds: u64) -> Ktime {
        self.now += nanoseconds;
        Ktime(self.now)
    }

    pub(super) fn announce(&mut self, socket: Socket, to: TcpState, more: impl FnOnce(&mut StateEvent)) {
        let time = self.tick(1);
        let mut event = StateEvent {
            time,
            connection: socket.connection,
            skaddr: socket.skaddr,
            from: socket.state,
            to,
            error: None,
            peer_fin: false,
            orphan: false,
            no_linger2: false,
            standing: None,
            owner: None,
            uid: 0,
            fwmark: 0,
            cgroup: None,
        };
        more(&mut event);
        self.push(Record::Event(event));
    }

    pub(super) fn new_socket(&mut self, state: TcpState, form: Form, local: u16, remote: u16) -> Socket {
        self.born += 1;
        let end = |port| Endpoint::new("127.0.0.1".parse().unwrap(), port);
        let connection = Connection {
            cookie: Cookie(self.born),
            netns: NETNS,
            family: Family::Inet,
            local: end(local),
            remote: end(remote),
            device: None,
            mptcp: false,
        };
        Socket {
            connection,
            skaddr: SkAddr(1 + self.born % 8),
            state,
            form,
        }
    }

    pub(super) fn port(&self) -> u16 {
        10_000 + u16::try_from(self.born).unwrap()
    }

    pub(super) fn put(&mut self, socket: Socket) {
        self.sockets.insert(socket.connection.cookie, socket);
    }

    pub(super) fn pick(&self, which: u8) -> Option<Socket> {
        let nth = usize::from(which) % self.sockets.len().max(1);
        self.sockets.values().nth(nth).copied()
    }

    pub(super) fn start_sweep(&mut self) {
        if self.walking.is_some() || !self.walked.is_empty() {
            return;
        }
        self.table.begin_sweep();
        let start = self.tick(1);
        let ahead = self.sockets.keys().copied().collect();
        self.walking = Some(Sweep {
            start,
            ahead,
            seen: Vec::new(),
            first: true,
        });
    }

    /// Lets the sweep look at some more sockets.
    pub(super) fn walk(&mut self, count: u8) {
        for _ in 0..count {
            let time = self.tick(1);
            let Some(sweep) = &mut self.walking else { return };
            match sweep.ahead.pop_front() {
                Some(cookie) => sweep
                    .seen
                    .extend(self.sockets.get(&cookie).map(|socket| sighting(socket, time))),
                None => self.finish_walk(),
            }
        }
        self.hand_over(None);
    }

    pub(super) fn finish_walk(&mut self) {
        let end = self.tick(1);
        self.hand_over(Some(end));
        self.walking = None;
    }

    /// Hands over what the sweep has seen since it last did: the last part, if the sweep ends.
    fn hand_over(&mut self, end: Option<Ktime>) {
        let Some(sweep) = &mut self.walking else { return };
        self.walked.push_back(SweepPart {
            netns: NETNS,
            start: sweep.start,
            first: std::mem::replace(&mut sweep.first, false),
            end,
            sightings: std::mem::take(&mut sweep.seen),
        });
        self.ring.push_back(Record::Fence);
    }

    /// A whole sweep that sees these, in this order.
    pub(super) fn sweep_that_sees(&mut self, sockets: &[Socket]) {
        let start = self.tick(1);
        let sightings = sockets
            .iter()
            .map(|socket| sighting(socket, self.tick(1)))
            .collect();
        let end = self.tick(1);
        let sweep = NamespaceSweep {
            netns: NETNS,
            start,
            end,
            sightings,
        };
        self.table.begin_sweep();
        self.table.apply_sweep(&sweep, &mut self.transitions);
        self.table.end_sweep(&[], start, end, &mut self.transitions);
    }

    /// Reads some records off the ring.
    pub(super) fn read(&mut self, count: usize) {
        for _ in 0..count {
            match self.ring.pop_front() {
                None => return,
                Some(Record::Event(event)) => self.table.apply_event(&event, &mut self.transitions),
                Some(Record::News(news)) => self.table.apply_news(&news, &mut self.transitions),
                Some(Record::Gone(gone)) => self.table.apply_gone(&gone, &mut self.transitions),
                Some(Record::Mark(mark)) => self.table.apply_mark(&mark, &mut self.transitions),
                Some(Record::Fence) => {
                    let Some(part) = self.walked.pop_front() else {
                        continue;
                    };
                    self.table.apply_part(&part, &mut self.transitions);
                    if let Some(end) = part.end {
                        self.table.end_sweep(&[], part.start, end, &mut self.transitions);
                    }
                }
            }
        }
    }

    pub(super) fn step(&mut self, op: u8, which: u8, count: u8) {
        match op {
            0 => self.connect(),
            1 => self.listen(),
            2 => self.request(),
            3 => self.start_sweep(),
            4 => self.walk(count),
            5 => self.read(usize::from(count)),
            6 => drop(self.tick(u64::from(count) * 40_000_000)),
            _ => {
                if let Some(socket) = self.pick(which) {
                    self.advance(socket, count);
                }
            }
        }
    }

    /// Reads everything and sweeps twice, long after the last change.
    pub(super) fn settle(&mut self) {
        self.walk(u8::MAX);
        self.finish_walk();
        for _ in 0..2 {
            self.read(usize::MAX);
            self.tick(1_000_000_000);
            self.start_sweep();
            self.walk(u8::MAX);
            self.walk(u8::MAX);
            self.finish_walk();
            self.read(usize::MAX);
        }
    }

    /// Once every event has been read, full socks are right, whatever sweep comes or goes.
    pub(super) fn assert_full_socks(&self) {
        if self.ring.is_empty() {
            let (table, kernel) = self.both();
            assert_eq!(full_socks(table), full_socks(kernel));
            self.assert_places();
        }
    }

    /// Whatever is known to be somewhere is there; and every full sock is known to be somewhere, and counted.
    fn assert_places(&self) {
        let mut full = 0;
        for row in self.table.rows().filter(|row| !row.announced()) {
            let socket = self.sockets.get(&row.connection.cookie);
            let there = socket.filter(|socket| socket.form == row.form).map(address);
            assert!(
                row.skaddr().is_none() || there.is_none() || row.skaddr() == there,
                "{row:?}"
            );
            assert!(row.form != Form::Full || row.skaddr().is_some(), "{row:?}");
            full += usize::from(row.form == Form::Full);
        }
        assert_eq!(self.table.census(NETNS).full, full);
    }

    /// Where the kernel tells of everything, so are all others.
    pub(super) fn assert_all(&self) {
        if self.ring.is_empty() {
            let (table, kernel) = self.both();
            let minisocks = kernel.values().filter(|fact| fact.3 == Form::Minisock).count();
            assert_eq!(table, kernel);
            assert_eq!(self.table.census(NETNS).minisocks, minisocks);
            self.assert_places();
        }
    }

    /// The table's rows and the kernel's sockets, to be compared. An end that waits for its reason is one.
    pub(super) fn both(&self) -> (Facts, Facts) {
        let rows = self.table.rows().filter(|row| !row.announced());
        let table = rows.map(|row| (row.connection, row.state, row.form));
        let kernel = self
            .sockets
            .values()
            .map(|socket| (socket.connection, socket.state, socket.form));
        (facts(table), facts(kernel))
    }
}

pub(super) type Facts = BTreeMap<Cookie, (Option<u16>, Option<u16>, TcpState, Form)>;

pub(super) fn facts(sockets: impl Iterator<Item = (Connection, TcpState, Form)>) -> Facts {
    sockets
        .map(|(connection, state, form)| {
            (
                connection.cookie,
                (connection.local.port(), connection.remote.port(), state, form),
            )
        })
        .collect()
}

pub(super) fn full_socks(facts: Facts) -> Vec<(Cookie, TcpState)> {
    facts
        .into_iter()
        .filter(|(_, fact)| fact.3 == Form::Full)
        .map(|(cookie, fact)| (cookie, fact.2))
        .collect()
}

/// Where the kernel has a socket: what takes over from a full sock, or comes before it, is a structure of its own.
fn address(socket: &Socket) -> SkAddr {
    let number = match socket.form {
        Form::Full => socket.skaddr.0,
        Form::Minisock => 1 << 16 | socket.connection.cookie.0,
        Form::Request => 1 << 17 | socket.connection.cookie.0,
    };
    SkAddr(number)
}

pub(super) fn sighting(socket: &Socket, time: Ktime) -> Sighting {
    Sighting {
        time,
        connection: socket.connection,
        skaddr: address(socket),
        state: socket.state,
        form: socket.form,
        uid: None,
        fwmark: None,
        autobound: None,
        cgroup: None,
        // A listener always has a file.
        inode: (socket.state == TcpState::Listen).then_some(1),
        mptcp: None,
        due: None,
        queues: Queues::default(),
    }
}
