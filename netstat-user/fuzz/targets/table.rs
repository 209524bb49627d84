//! Any facts in any order, sensible or not: the table never panics, its counts are its rows', its steps have
//! durations, and what two sweeps do not find is gone.

#![no_main]

use libfuzzer_sys::fuzz_target;
use netstate::{
    clock::Ktime,
    connection::{Connection, Cookie, Endpoint, Family, Netns, SkAddr},
    facts::{ConnectFailure, Form, Gone, Occurrence, Queues, Sighting, Standing, SocketGone, SocketMark, SocketNews, StateEvent},
    sources::Coverage,
    table::{NamespaceSweep, Table, Transition},
    tcp::TcpState,
};

/// Far more than the table's settling time, and than TIME_WAIT lasts.
const LONG: u64 = 200_000_000_000;

/// A fact takes this many bytes.
const FACT: usize = 6;

fuzz_target!(|bytes: &[u8]| {
    let Some((&kernel, bytes)) = bytes.split_first() else {
        return;
    };
    let mut world = World::new(kernel);
    for fact in bytes.chunks_exact(FACT) {
        world.tell(fact);
        world.check();
    }
    world.empty();
});

struct World {
    table: Table,
    now: u64,
    /// Sightings of a sweep that is under way, and when it began.
    sweep: Option<(u64, Vec<Sighting>)>,
    out: Vec<Transition>,
}

impl World {
    fn new(kernel: u8) -> Self {
        let coverage = Coverage {
            ports: kernel & 1 != 0,
            requests: kernel & 2 != 0,
            minisocks: kernel & 4 != 0,
        };
        Self {
            table: Table::new(coverage),
            now: 1,
            sweep: None,
            out: Vec::new(),
        }
    }

    fn tell(&mut self, fact: &[u8]) {
        let &[what, who, ends, states, flags, pause] = fact else {
            return;
        };
        // Facts can be a little older than the last one.
        self.now += u64::from(pause) * 1_000_000;
        let time = Ktime(self.now.saturating_sub(u64::from(flags >> 4) * 500_000));
        let connection = connection(who, ends);
        let (from, to) = (state(states & 15), state(states >> 4));
        let form = [Form::Full, Form::Minisock, Form::Request][usize::from(flags % 3)];
        match what % 9 {
            0 | 1 => {
                let event = StateEvent {
                    time,
                    connection,
                    skaddr: SkAddr(u64::from(who % 4)),
                    from,
                    to,
                    error: (flags & 1 != 0).then_some(96 + u32::from(flags >> 4)),
                    peer_fin: flags & 2 != 0,
                    orphan: flags & 4 != 0,
                    no_linger2: flags & 8 != 0,
                    standing: (to == TcpState::Close).then(|| standing(what, flags)),
                    owner: None,
                    uid: 0,
                    fwmark: 0,
                    cgroup: None,
                };
                self.table.apply_event(&event, &mut self.out);
            }
            2 => {
                let news = SocketNews {
                    time,
                    connection,
                    form,
                    made: flags & 4 != 0,
                    state: to,
                };
                self.table.apply_news(&news, &mut self.out);
            }
            3 => {
                let gone = SocketGone {
                    time,
                    cookie: connection.cookie,
                    form,
                    ports: connection.ports(),
                    why: [None, Some(Gone::Expired), Some(Gone::Unanswered(flags)), Some(Gone::ListenerGone)]
                        [usize::from(flags >> 3 & 3)],
                };
                self.table.apply_gone(&gone, &mut self.out);
            }
            4 => {
                if self.sweep.is_none() {
                    self.table.begin_sweep();
                }
                let start = self.now;
                let (_, seen) = self.sweep.get_or_insert_with(|| (start, Vec::new()));
                seen.push(sighting(time, connection, to, form));
            }
            5 => {
                let whats = [
                    Occurrence::Retransmit,
                    Occurrence::ResetSent,
                    Occurrence::ResetAnswered,
                    Occurrence::ResetReceived,
                ];
                let mark = SocketMark {
                    time,
                    cookie: connection.cookie,
                    form,
                    closed: flags & 8 != 0,
                    what: whats[usize::from(states & 3)],
                };
                self.table.apply_mark(&mark, &mut self.out);
            }
            6 => self.table.release(Ktime(self.now), &mut self.out),
            7 => {
                let failure = ConnectFailure {
                    time,
                    connection,
                    error: u32::from(flags),
                    fwmark: 0,
                    owner: None,
                    uid: 0,
                    cgroup: None,
                };
                self.table.apply_connect_failure(&failure, &mut self.out);
            }
            _ => self.end_sweep(),
        }
    }

    fn end_sweep(&mut self) {
        let Some((start, sightings)) = self.sweep.take() else {
            return;
        };
        let (start, end) = (Ktime(start), Ktime(self.now));
        let sweep = NamespaceSweep {
            netns: Netns(1),
            start,
            end,
            sightings,
        };
        self.table.apply_sweep(&sweep, &mut self.out);
        self.table.end_sweep(&[], start, end, &mut self.out);
    }

    fn check(&mut self) {
        let by_state = self.table.by_state();
        let mut counted = [0; TcpState::ALL.len()];
        for row in self.table.rows() {
            counted[row.state.index()] += 1;
            assert!(row.history().is_sorted_by_key(|step| step.time));
        }
        assert_eq!(by_state, counted);
        assert_eq!(by_state.iter().sum::<usize>(), self.table.len());
        let unsettled = self.table.unsettled();
        assert!(unsettled.urgent + unsettled.lingering <= self.table.len());
        for step in self.out.drain(..) {
            if let Some(earliest) = step.earliest {
                assert!(earliest <= step.time, "{step:?}");
            }
        }
    }

    /// Sweeps that find nothing, long after the last fact, leave nothing.
    fn empty(&mut self) {
        self.end_sweep();
        for _ in 0..2 {
            self.now += LONG;
            self.table.begin_sweep();
            self.sweep = Some((self.now, Vec::new()));
            self.now += 1;
            self.end_sweep();
            self.check();
        }
        assert!(self.table.is_empty(), "{:?}", self.table.rows().next());
    }
}

fn state(index: u8) -> TcpState {
    TcpState::ALL[usize::from(index) % TcpState::ALL.len()]
}

fn standing(what: u8, flags: u8) -> Standing {
    Standing {
        receive_shutdown: what & 8 != 0,
        send_shutdown: what & 16 != 0,
        held: what & 32 != 0,
        in_system_call: what & 64 != 0,
        linger0: what & 128 != 0,
        unacked: u32::from(flags & 3),
        unread: u32::from(flags >> 6),
        ..Standing::default()
    }
}

fn connection(who: u8, ends: u8) -> Connection {
    let end = |port: u8| Endpoint::new([127, 0, 0, 1].into(), u16::from(port));
    Connection {
        cookie: Cookie(u64::from(who % 8)),
        netns: Netns(1),
        family: Family::Inet,
        local: end(ends & 3),
        remote: end(ends >> 2 & 3),
        device: None,
        mptcp: false,
    }
}

fn sighting(time: Ktime, connection: Connection, state: TcpState, form: Form) -> Sighting {
    Sighting {
        time,
        connection,
        skaddr: SkAddr(connection.cookie.0 % 4),
        state,
        form,
        uid: None,
        fwmark: None,
        autobound: None,
        cgroup: None,
        inode: None,
        mptcp: None,
        due: None,
        queues: Queues::default(),
    }
}
