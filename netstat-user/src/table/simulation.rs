//! The fold against a model of the kernel: whatever the order of events and sweeps, whatever is lost, the table
//! ends as the kernel is.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::{NamespaceSweep, Settlement, Source, Table, Transition};
use crate::{
    clock::Ktime,
    connection::{Connection, Cookie, Endpoint, Family, Netns, SkAddr},
    facts::{Form, Queues, Sighting, StateEvent},
    tcp::TcpState::{
        self, Close, CloseWait, Closing, Established, FinWait1, FinWait2, LastAck, Listen, SynRecv, SynSent,
        TimeWait,
    },
};

const NETNS: Netns = Netns(1);
const SERVER: u16 = 80;

/// A socket of the model.
#[derive(Debug, Clone, Copy)]
struct Socket {
    connection: Connection,
    skaddr: SkAddr,
    state: TcpState,
    form: Form,
}

/// What comes out of the event ring.
#[derive(Debug)]
enum Record {
    Event(StateEvent),
    Fence,
}

/// A sweep under way: the sockets that it has yet to look at, and what it has seen.
#[derive(Debug)]
struct Sweep {
    start: Ktime,
    ahead: VecDeque<Cookie>,
    seen: Vec<Sighting>,
}

/// The kernel, the ring and the table.
#[derive(Debug, Default)]
struct World {
    now: u64,
    born: u64,
    sockets: BTreeMap<Cookie, Socket>,
    ring: VecDeque<Record>,
    walking: Option<Sweep>,
    /// Walked, and waiting for its fence.
    walked: Option<NamespaceSweep>,
    table: Table,
    transitions: Vec<Transition>,
    /// The ring is full: events are lost.
    deaf: bool,
    /// As kernels up to 6.12, which announce a child under its listener's cookie.
    old_kernel: bool,
}

impl World {
    fn tick(&mut self, nanoseconds: u64) -> Ktime {
        self.now += nanoseconds;
        Ktime(self.now)
    }

    fn announce(&mut self, socket: Socket, to: TcpState, more: impl FnOnce(&mut StateEvent)) {
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
            owner: None,
            uid: 0,
            cgroup: None,
        };
        more(&mut event);
        if !self.deaf {
            self.ring.push_back(Record::Event(event));
        }
    }

    fn new_socket(&mut self, state: TcpState, form: Form, local: u16, remote: u16) -> Socket {
        self.born += 1;
        let end = |port| Endpoint::new("127.0.0.1".parse().unwrap(), port);
        let connection = Connection {
            cookie: Cookie(self.born),
            netns: NETNS,
            family: Family::Inet,
            local: end(local),
            remote: end(remote),
        };
        Socket {
            connection,
            skaddr: SkAddr(self.born % 8),
            state,
            form,
        }
    }

    fn port(&self) -> u16 {
        10_000 + u16::try_from(self.born).unwrap()
    }

    /// Changes a full sock, with its event.
    fn go(&mut self, mut socket: Socket, to: TcpState) {
        self.announce(socket, to, |_| {});
        socket.state = to;
        self.put(socket);
    }

    /// Ends a full sock, with its event, and may leave a minisock.
    fn end(&mut self, mut socket: Socket, minisock: Option<TcpState>, more: impl FnOnce(&mut StateEvent)) {
        self.announce(socket, Close, more);
        match minisock {
            Some(state) => {
                socket.state = state;
                socket.form = Form::Minisock;
                self.put(socket);
            }
            None => {
                self.sockets.remove(&socket.connection.cookie);
            }
        }
    }

    fn put(&mut self, socket: Socket) {
        self.sockets.insert(socket.connection.cookie, socket);
    }

    fn pick(&self, which: u8) -> Option<Socket> {
        let nth = usize::from(which) % self.sockets.len().max(1);
        self.sockets.values().nth(nth).copied()
    }

    fn connect(&mut self) {
        let mut socket = self.new_socket(Close, Form::Full, 0, SERVER);
        self.announce(socket, SynSent, |_| {});
        socket.state = SynSent;
        socket.connection.local = Endpoint::new("127.0.0.1".parse().unwrap(), self.port());
        self.put(socket);
    }

    fn listen(&mut self) {
        let port = self.port();
        let socket = self.new_socket(Close, Form::Full, port, 0);
        self.go(socket, Listen);
    }

    fn request(&mut self) {
        let port = self.port();
        let socket = self.new_socket(SynRecv, Form::Request, SERVER, port);
        self.put(socket);
    }

    /// The handshake of a request sock is complete: a full sock with its cookie takes its place.
    fn accept(&mut self, mut child: Socket) {
        child.form = Form::Full;
        child.state = Listen;
        let full = child;
        if self.old_kernel {
            child.connection.cookie = Cookie(0);
            child.connection.remote = Endpoint::new("0.0.0.0".parse().unwrap(), 0);
        }
        self.announce(child, SynRecv, |_| {});
        self.go(
            Socket {
                state: SynRecv,
                ..full
            },
            Established,
        );
    }

    /// The next thing that can happen to a socket; `choice` picks one.
    fn advance(&mut self, socket: Socket, choice: u8) {
        let choice = choice % 4;
        match (socket.form, socket.state, choice) {
            (Form::Request | Form::Minisock, _, 0) | (Form::Minisock, TimeWait, _) => {
                self.sockets.remove(&socket.connection.cookie);
            }
            (Form::Request, ..) => self.accept(socket),
            (Form::Minisock, ..) => self.put(Socket {
                state: TimeWait,
                ..socket
            }),
            (_, state, 3) if state != Listen => self.end(socket, None, |event| event.error = Some(104)),
            (_, SynSent, _) => self.go(socket, Established),
            (_, Established, 0) => self.go(socket, CloseWait),
            (_, Established, _) => self.go(socket, FinWait1),
            (_, CloseWait, _) => self.go(socket, LastAck),
            (_, FinWait1, 0) => self.go(socket, Closing),
            (_, FinWait1, _) => self.go(socket, FinWait2),
            (_, FinWait2, 0) => self.end(socket, Some(FinWait2), |event| event.orphan = true),
            // Out of memory for minisocks, or `tcp_max_tw_buckets` reached.
            (_, FinWait2, 1) => self.end(socket, None, |event| event.peer_fin = true),
            (_, FinWait2, _) => self.end(socket, Some(TimeWait), |event| event.peer_fin = true),
            (_, Closing, _) => self.end(socket, Some(TimeWait), |_| {}),
            _ => self.end(socket, None, |_| {}),
        }
    }

    fn start_sweep(&mut self) {
        if self.walking.is_some() || self.walked.is_some() {
            return;
        }
        self.table.begin_sweep();
        let start = self.tick(1);
        let ahead = self.sockets.keys().copied().collect();
        self.walking = Some(Sweep {
            start,
            ahead,
            seen: Vec::new(),
        });
    }

    /// Lets the sweep look at some more sockets.
    fn walk(&mut self, count: u8) {
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
    }

    fn finish_walk(&mut self) {
        let Some(Sweep { start, seen, .. }) = self.walking.take() else {
            return;
        };
        let end = self.tick(1);
        self.walked = Some(NamespaceSweep {
            netns: NETNS,
            start,
            end,
            sightings: seen,
        });
        self.ring.push_back(Record::Fence);
    }

    /// Reads some records off the ring.
    fn read(&mut self, count: usize) {
        for _ in 0..count {
            match self.ring.pop_front() {
                None => return,
                Some(Record::Event(event)) => self.table.apply_event(&event, &mut self.transitions),
                Some(Record::Fence) => {
                    let Some(sweep) = self.walked.take() else { continue };
                    self.table.apply_sweep(&sweep, &mut self.transitions);
                    self.table
                        .end_sweep(&[NETNS], sweep.start, sweep.end, &mut self.transitions);
                }
            }
        }
    }

    fn step(&mut self, op: u8, which: u8, count: u8) {
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
    fn settle(&mut self) {
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
    fn assert_full_socks(&self) {
        if self.ring.is_empty() {
            let (table, kernel) = self.both();
            assert_eq!(full_socks(table), full_socks(kernel));
        }
    }

    /// The table's rows and the kernel's sockets, to be compared.
    fn both(&self) -> (Facts, Facts) {
        let table = self.table.rows().map(|row| (row.connection, row.state, row.form));
        let kernel = self
            .sockets
            .values()
            .map(|socket| (socket.connection, socket.state, socket.form));
        (facts(table), facts(kernel))
    }
}

type Facts = BTreeMap<Cookie, (Option<u16>, Option<u16>, TcpState, Form)>;

fn facts(sockets: impl Iterator<Item = (Connection, TcpState, Form)>) -> Facts {
    sockets
        .map(|(connection, state, form)| {
            (
                connection.cookie,
                (connection.local.port(), connection.remote.port(), state, form),
            )
        })
        .collect()
}

fn full_socks(facts: Facts) -> Vec<(Cookie, TcpState)> {
    facts
        .into_iter()
        .filter(|(_, fact)| fact.3 == Form::Full)
        .map(|(cookie, fact)| (cookie, fact.2))
        .collect()
}

fn sighting(socket: &Socket, time: Ktime) -> Sighting {
    Sighting {
        time,
        connection: socket.connection,
        state: socket.state,
        form: socket.form,
        uid: None,
        cgroup: None,
        inode: None,
        queues: Queues::default(),
    }
}

/// Each connection's steps join: none begins elsewhere than the one before has ended.
fn assert_joined(transitions: &[Transition]) {
    let mut last: BTreeMap<Cookie, TcpState> = BTreeMap::new();
    for step in transitions {
        let before = last.insert(step.connection.cookie, step.to);
        if let (Some(before), Some(from)) = (before, step.from)
            && before != Close
        {
            assert_eq!(before, from, "{step:?}");
        }
    }
}

fn ops() -> impl Strategy<Value = Vec<(u8, u8, u8)>> {
    prop::collection::vec((0..14_u8, any::<u8>(), any::<u8>()), 0..300)
}

proptest! {
    #[test]
    fn the_table_ends_as_the_kernel_is(ops in ops(), old_kernel: bool) {
        let mut world = World { old_kernel, ..World::default() };
        for (op, which, count) in ops {
            world.step(op, which, count);
            world.assert_full_socks();
        }
        world.settle();
        let (table, kernel) = world.both();
        prop_assert_eq!(table, kernel);
        assert_joined(&world.transitions);
        prop_assert!(world.table.departed.is_empty());
    }

    #[test]
    fn what_is_lost_is_made_good_by_sweeps(ops in ops(), deaf in prop::collection::vec(any::<bool>(), 300)) {
        let mut world = World::default();
        for ((op, which, count), deaf) in ops.into_iter().zip(deaf) {
            world.deaf = deaf;
            world.step(op, which, count);
        }
        world.deaf = false;
        world.settle();
        let (table, kernel) = world.both();
        prop_assert_eq!(table, kernel);
    }

    #[test]
    fn what_is_counted_is_what_is_there(ops in ops()) {
        let mut world = World::default();
        for (op, which, count) in ops {
            world.step(op, which, count);
            let table = &world.table;
            for state in TcpState::ALL {
                let rows = table.rows().filter(|row| row.state == state).count();
                prop_assert_eq!(table.by_state()[state.index()], rows);
            }
            let waiting = |what| table.rows().filter(|row| row.settlement() == what).count();
            prop_assert_eq!(table.namespaces().count(), usize::from(!table.is_empty()));
            let unsettled = table.rows().any(|row| row.settlement() != Settlement::Settled);
            prop_assert_eq!(table.unsettled_namespaces().count(), usize::from(unsettled));
            prop_assert_eq!(table.unsettled().urgent, waiting(Settlement::Urgent));
            prop_assert_eq!(table.unsettled().lingering, waiting(Settlement::Lingering));
            let mut parts = 0;
            let mut place = 0;
            while let Some(part) = table.part(place, 3) {
                parts += part.count();
                place += 3;
            }
            prop_assert_eq!(parts, table.len());
        }
    }
}

#[test]
fn a_client_that_closes_first_ends_in_time_wait() {
    let mut world = World::default();
    world.connect();
    for choice in [1, 1, 1, 2] {
        let socket = world.pick(0).unwrap();
        world.advance(socket, choice);
    }
    world.read(usize::MAX);
    let steps: Vec<_> = world
        .transitions
        .iter()
        .map(|step| (step.to, step.source))
        .collect();
    assert_eq!(
        steps,
        [
            (SynSent, Source::Event),
            (Established, Source::Event),
            (FinWait1, Source::Event),
            (FinWait2, Source::Event),
            (TimeWait, Source::Inferred),
        ]
    );
    let row = world.table.get(Cookie(1)).unwrap();
    assert_eq!((row.state, row.form), (TimeWait, Form::Minisock));
    assert_eq!(row.history().len(), 5);
}

#[test]
fn an_orphan_that_the_kernel_calls_closed_is_still_in_fin_wait2() {
    let mut world = World::default();
    world.connect();
    for choice in [1, 1, 1, 0] {
        let socket = world.pick(0).unwrap();
        world.advance(socket, choice);
    }
    world.read(usize::MAX);
    let row = world.table.get(Cookie(1)).unwrap();
    assert_eq!((row.state, row.form), (FinWait2, Form::Minisock));
    assert_eq!(
        world.transitions.last().unwrap().to,
        FinWait2,
        "the kernel's CLOSE is not the connection's"
    );
}

#[test]
fn a_child_of_an_older_kernel_does_not_move_its_listener() {
    let mut world = World {
        old_kernel: true,
        ..World::default()
    };
    world.listen();
    let listener = world.pick(0).unwrap();
    world.request();
    let request = world.pick(1).unwrap();
    world.accept(request);
    world.read(usize::MAX);
    assert_eq!(world.table.get(listener.connection.cookie).unwrap().state, Listen);
    let child = world.table.get(request.connection.cookie).unwrap();
    assert_eq!(child.state, Established);
    let steps: Vec<_> = child.history().iter().map(|step| step.to).collect();
    assert_eq!(steps, [SynRecv, Established]);
}

#[test]
fn a_reset_leaves_no_minisock() {
    for choices in [&[1, 1, 1, 3][..], &[1, 1, 0, 3]] {
        let mut world = World::default();
        world.connect();
        for &choice in choices {
            let socket = world.pick(0).unwrap();
            world.advance(socket, choice);
        }
        world.read(usize::MAX);
        assert!(world.table.is_empty(), "{:?}", world.transitions);
        assert_eq!(
            world.transitions.last().unwrap().reason,
            Some(crate::reason::Reason::ResetByPeer)
        );
    }
}

#[test]
fn a_sweep_right_after_an_event_does_not_miss_the_socket() {
    let mut world = World::default();
    world.connect();
    world.read(usize::MAX);
    // The kernel has announced the state and not yet put the socket into the hash that sweeps walk.
    let socket = world.sockets.pop_first().unwrap().1;
    for (pause, rows, doubtful) in [(1_000_000, 1, 0), (1_000_000_000, 1, 1), (1_000_000_000, 0, 0)] {
        world.tick(pause);
        world.start_sweep();
        world.walk(1);
        world.read(usize::MAX);
        let doubted = world.table.rows().filter(|row| row.doubtful()).count();
        assert_eq!((world.table.len(), doubted), (rows, doubtful), "{pause}");
    }
    assert_eq!(
        world.transitions.last().unwrap().connection.cookie,
        socket.connection.cookie
    );
}

#[test]
fn the_end_of_one_end_tells_of_the_other() {
    let mut world = World::default();
    world.connect();
    for choice in [1, 1, 1, 0] {
        let socket = world.pick(0).unwrap();
        world.advance(socket, choice);
    }
    let client = world.pick(0).unwrap();
    let mut server = world.new_socket(LastAck, Form::Full, 0, 0);
    server.connection.local = client.connection.remote;
    server.connection.remote = client.connection.local;
    world.put(server);
    world.end(server, None, |_| {});
    // The port of the client came after its first event: what the later ones told must be enough.
    world.read(usize::MAX);
    let last = world.transitions.last().unwrap();
    assert_eq!(
        (last.connection.cookie, last.from, last.to),
        (client.connection.cookie, Some(FinWait2), TimeWait)
    );
    assert_eq!(last.source, Source::Inferred);
}
