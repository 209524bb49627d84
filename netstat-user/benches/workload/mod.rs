//! Made-up traffic for the benchmarks: many connections at once, each of which goes through its life step by step, in
//! an order that follows from a seed. It is the same on every machine.

#![allow(dead_code, reason = "each benchmark takes what it needs")]

mod lives;
pub(crate) mod paced;
pub(crate) mod parts;
mod recorded;

use std::net::{IpAddr, Ipv4Addr};

pub(crate) use lives::Fact;
use lives::{CLIENT, SERVER, Stage};
use netstate::{
    clock::Ktime,
    connection::{Comm, Connection, Cookie, Endpoint, Family, Netns, Owner, OwnerSource, SkAddr},
    facts::{Form, Holder, HolderScan, Queues, Sighting, StateEvent},
    sources::Coverage,
    table::{NamespaceSweep, Table, Transition},
    tcp::TcpState,
};

/// The namespace of all of it.
const NETNS: Netns = Netns(4_026_531_840);
/// Where the servers listen.
const PORT: u16 = 443;
/// The listener's cookie.
const LISTENER: Cookie = Cookie(1);
/// Processes that connect.
const PROCESSES: u64 = 64;

/// A kernel that announces everything.
pub(crate) const ALL_HOOKS: Coverage = Coverage {
    ports: true,
    requests: true,
    minisocks: true,
};

/// One connection of the traffic: a number that says who it is, and how far it has come.
#[derive(Clone, Copy)]
struct Life {
    number: u64,
    step: usize,
}

/// Traffic with so many connections at once.
pub(crate) struct Traffic {
    lives: Vec<Life>,
    born: u64,
    now: u64,
    dice: u64,
}

impl Traffic {
    /// The table that it is folded into, which has a listener already, and the traffic.
    pub(crate) fn new(connections: usize) -> (Table, Self) {
        let mut table = Table::remembering(ALL_HOOKS, 1 << 20);
        let mut out = Vec::new();
        table.apply_event(&listening(), &mut out);
        table.apply_scan(HolderScan {
            start: Ktime(2),
            complete: true,
            holders: vec![Holder {
                cookie: LISTENER,
                owner: owner(7, OwnerSource::Scan, 3),
            }],
        });
        let mut traffic = Self {
            lives: Vec::with_capacity(connections),
            born: 0,
            now: 10_000,
            dice: 0x9e37_79b9_7f4a_7c15,
        };
        for _ in 0..connections {
            let life = traffic.bear();
            traffic.lives.push(life);
        }
        (table, traffic)
    }

    fn bear(&mut self) -> Life {
        self.born += 1;
        Life {
            number: self.born,
            step: 0,
        }
    }

    fn roll(&mut self) -> u64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        self.dice
    }

    /// The next fact: some connection, any one, takes its next step. One that has ended makes room for a new one.
    pub(crate) fn next(&mut self) -> Fact {
        let place = usize::try_from(self.roll() % self.lives.len() as u64).unwrap_or(0);
        self.advance(place)
    }

    fn advance(&mut self, place: usize) -> Fact {
        self.now += 300 + self.roll() % 1000;
        let life = self.lives[place];
        let stages = stages(life.number);
        let fact = stages[life.step].fact(life.number, Ktime(self.now));
        self.lives[place] = if life.step + 1 == stages.len() {
            self.bear()
        } else {
            Life {
                step: life.step + 1,
                ..life
            }
        };
        fact
    }

    /// Has every connection go on until it is in `state`, so that all are in the table.
    pub(crate) fn settle(&mut self, state: Parked, mut tell: impl FnMut(Fact)) {
        for place in 0..self.lives.len() {
            if state == Parked::TimeWait {
                self.lives[place].number = 2 * (place as u64 + 1);
            }
            let until = match state {
                Parked::TimeWait => lives::CLIENT_TIME_WAIT,
                Parked::Established if is_client(self.lives[place].number) => lives::CLIENT_ESTABLISHED,
                Parked::Established => lives::SERVER_ESTABLISHED,
            };
            while self.lives[place].step < until {
                tell(self.advance(place));
            }
        }
    }

    /// A sweep that sees every connection as it is after [`Traffic::settle`] with [`Parked::Established`].
    pub(crate) fn sweep(&mut self) -> NamespaceSweep {
        let start = Ktime(self.now + 1);
        let sightings = self.lives.iter().map(|life| sighting(life.number, start.0));
        let sightings = sightings.collect();
        self.now += 1_000_000;
        NamespaceSweep {
            netns: NETNS,
            start,
            end: Ktime(self.now),
            sightings,
        }
    }

    /// A scan that finds a holder of every connection.
    pub(crate) fn scan(&mut self) -> HolderScan {
        let start = Ktime(self.now + 1);
        self.now += 1_000_000;
        let now = self.now;
        let holders = self.lives.iter().map(|life| Holder {
            cookie: cookie(life.number),
            owner: Owner {
                seen: Ktime(now),
                ..owner(process(life.number), OwnerSource::Scan, 5)
            },
        });
        HolderScan {
            start,
            complete: true,
            holders: holders.collect(),
        }
    }
}

/// Where connections stay.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parked {
    /// Half of them clients, half of them servers.
    Established,
    /// All of them clients.
    TimeWait,
}

/// Folds a fact.
pub(crate) fn fold(table: &mut Table, fact: &Fact, out: &mut Vec<Transition>) {
    match fact {
        Fact::State(event) => table.apply_event(event, out),
        Fact::News(news) => table.apply_news(news, out),
        Fact::Gone(gone) => table.apply_gone(gone, out),
    }
}

fn is_client(number: u64) -> bool {
    number.is_multiple_of(2)
}

fn stages(number: u64) -> &'static [Stage] {
    if is_client(number) { CLIENT } else { SERVER }
}

/// The kernel deals cookies out in order.
fn cookie(number: u64) -> Cookie {
    Cookie(number + 4096)
}

fn process(number: u64) -> u64 {
    100 + number % PROCESSES
}

fn owner(pid: u64, source: OwnerSource, seen: u64) -> Owner {
    Owner {
        pid: u32::try_from(pid).unwrap_or(0),
        start: Ktime(pid),
        tid: None,
        fd: (source == OwnerSource::Scan).then_some(9),
        more_fds: 0,
        comm: Comm(*b"client\0\0\0\0\0\0\0\0\0\0"),
        seen: Ktime(seen),
        source,
    }
}

/// The ends of a connection, as this host sees them.
fn connection(number: u64) -> Connection {
    let server = Endpoint::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), PORT);
    let [.., b, c, d] = (number / 50_000).to_be_bytes();
    let port = u16::try_from(10_000 + number % 50_000).unwrap_or(0);
    let client = Endpoint::new(IpAddr::V4(Ipv4Addr::new(10, b, c, d)), port);
    let (local, remote) = if is_client(number) {
        (client, server)
    } else {
        (server, client)
    };
    Connection {
        cookie: cookie(number),
        netns: NETNS,
        family: Family::Inet,
        local,
        remote,
        device: None,
        mptcp: false,
    }
}

fn sighting(number: u64, time: u64) -> Sighting {
    Sighting {
        time: Ktime(time),
        connection: connection(number),
        skaddr: SkAddr(number),
        state: TcpState::Established,
        form: Form::Full,
        uid: Some(1000),
        fwmark: Some(0),
        autobound: None,
        cgroup: Some(77),
        inode: Some(number + 1_000_000),
        mptcp: None,
        due: None,
        queues: Queues {
            recv: 0,
            send: 1448,
            backlog: 0,
        },
    }
}

fn listening() -> StateEvent {
    let connection = Connection {
        cookie: LISTENER,
        netns: NETNS,
        family: Family::Inet,
        local: Endpoint::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), PORT),
        remote: Endpoint::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
        device: None,
        mptcp: false,
    };
    StateEvent {
        time: Ktime(1),
        connection,
        skaddr: SkAddr(1),
        from: TcpState::Close,
        to: TcpState::Listen,
        error: None,
        peer_fin: false,
        orphan: false,
        no_linger2: false,
        standing: None,
        owner: Some(owner(7, OwnerSource::Event, 1)),
        uid: 0,
        fwmark: 0,
        cgroup: Some(77),
    }
}
