//! What happens to a fact and to a row on their way, one part at a time: for timing, and for counting instructions.

use std::{hint::black_box, net::IpAddr};

use netstat_ebpf::wire;
use netstate::{
    clock::{Ktime, WallClock},
    connection::Netns,
    decode::ring_record,
    facts::FigureSet,
    filter::{self, Filter},
    namespaces::Names,
    output::{
        color::Palette,
        json,
        line::Lines,
        netstat::{self, Columns, Which},
    },
    protocol,
    recording::{self, Reader},
    table::{Table, Transition},
    view::{PackedRows, RowQuery, RowView, StreamItem, unpack},
};
use zerocopy::IntoBytes;

use super::{
    Fact, Parked, Traffic, fold,
    recorded::{recorded, recording},
};

/// Things that each part is done to.
pub(crate) const ITEMS: usize = 4096;
/// Connections at once.
const CONNECTIONS: usize = ITEMS;

/// The parts.
pub(crate) const NAMES: [&str; 9] = [
    "decode", "fold", "filter", "view", "brief", "lines", "json", "record", "read",
];

/// One part, ready to be done.
pub(crate) enum Part {
    Decode(Vec<u8>),
    Fold(Table, Vec<Fact>),
    Filter(Table, Filter),
    View(Table),
    Brief(Table),
    Lines(Lines, Vec<StreamItem>),
    Json(Names, Vec<StreamItem>),
    Record(Vec<recording::Fact>),
    Read(Vec<u8>),
}

impl Part {
    /// The part of this name.
    pub(crate) fn new(name: &str) -> Option<Self> {
        let (mut table, mut traffic) = Traffic::new(CONNECTIONS);
        Some(match name {
            "decode" => Self::Decode(change().as_bytes().to_vec()),
            "fold" => {
                let warm: Vec<Fact> = (0..CONNECTIONS * 8).map(|_| traffic.next()).collect();
                told(&mut table, &warm);
                let facts = (0..ITEMS).map(|_| traffic.next()).collect();
                Self::Fold(table, facts)
            }
            "filter" => {
                settled(&mut table, &mut traffic);
                let words = "dport 443 and not state TIME_WAIT or src 192.168.0.0/16";
                Self::Filter(table, filter::parse(words, &Nameless).ok()?)
            }
            "view" => {
                settled(&mut table, &mut traffic);
                Self::View(table)
            }
            "brief" => {
                settled(&mut table, &mut traffic);
                Self::Brief(table)
            }
            "lines" => {
                let lines = Lines::new(Palette::new(netstate::cli::ColorArg::Never), None);
                Self::Lines(lines.with_names(nobody()), items(&mut table, &mut traffic))
            }
            "json" => Self::Json(nobody(), items(&mut table, &mut traffic)),
            "record" => Self::Record((0..ITEMS).map(|_| recorded(&traffic.next())).collect()),
            "read" => Self::Read(recording(&mut traffic, [ITEMS])),
            _ => return None,
        })
    }

    /// Does it, to [`ITEMS`] things.
    #[inline(never)]
    pub(crate) fn measured(&mut self) {
        match self {
            Self::Decode(bytes) => {
                for _ in 0..ITEMS {
                    let _ = black_box(ring_record(black_box(bytes)));
                }
            }
            Self::Fold(table, facts) => told(table, facts),
            Self::Filter(table, filter) => {
                let rows = table.rows().take(ITEMS);
                black_box(rows.filter(|row| filter.matches_row(row)).count());
            }
            Self::View(table) => {
                for row in table.rows().take(ITEMS) {
                    let _ = black_box(protocol::encode(&RowView::new(row, Ktime(1 << 40))));
                }
            }
            Self::Brief(table) => brief(table),
            Self::Lines(lines, items) => {
                let mut out = Vec::with_capacity(1 << 20);
                for item in items {
                    let _ = lines.item(&mut out, item, WallClock::default());
                }
                black_box(out);
            }
            Self::Json(names, items) => {
                let mut out = Vec::with_capacity(1 << 22);
                for item in items {
                    let _ = json::item(&mut out, item, names, WallClock::default());
                }
                black_box(out);
            }
            Self::Record(facts) => {
                let mut encoded = Vec::with_capacity(1 << 20);
                for fact in facts {
                    recording::encode(fact, &mut encoded);
                }
                black_box(encoded);
            }
            Self::Read(bytes) => {
                let mut facts = Vec::new();
                if let Ok(mut reader) = Reader::new(&bytes[..]) {
                    while let Ok(Some(_)) = reader.next(&mut facts) {
                        black_box(&facts);
                    }
                }
            }
        }
    }
}

/// Nothing has a name.
struct Nameless;

impl filter::Names for Nameless {
    fn port(&self, _: &str) -> Result<Option<u16>, String> {
        Ok(None)
    }

    fn uid(&self, _: &str) -> Result<Option<u32>, String> {
        Ok(None)
    }

    fn netns(&self, name: &str) -> Result<Netns, String> {
        Err(name.to_owned())
    }

    fn devices(&self, name: &str) -> Result<Vec<(Netns, u32)>, String> {
        Err(format!("no interface is called `{name}`"))
    }

    fn cgroup(&self, path: &str) -> Result<u64, String> {
        Err(path.to_owned())
    }

    fn hosts(&self, _: &str) -> Vec<IpAddr> {
        Vec::new()
    }

    fn all(&self, _: filter::Kind) -> Vec<String> {
        Vec::new()
    }
}

/// An answer of rows in brief, from the table to lines.
fn brief(table: &Table) {
    let query = RowQuery {
        netns: None,
        filter: None,
        holders: false,
        figures: false,
        as_is: false,
        brief: true,
    };
    let mut rows = PackedRows::new(query.brief);
    for row in table.rows().take(ITEMS) {
        let _ = rows.push(&RowView::answering(
            &query,
            row,
            &FigureSet::default(),
            Ktime(1 << 40),
        ));
    }
    let columns = Columns {
        extend: false,
        programs: false,
        timers: false,
        wide: false,
        numeric: true,
    };
    let mut lines = netstat::Table::new(columns, netstat::Names::default());
    let _ = unpack(&rows.into_frame(), |row| lines.add(&row, None));
    let mut out = Vec::with_capacity(1 << 20);
    let _ = lines.write(&mut out, Which::All, false);
    black_box(out);
}

fn nobody() -> Names {
    Names::told([])
}

fn told(table: &mut Table, facts: &[Fact]) {
    let mut out = Vec::with_capacity(facts.len());
    for fact in facts {
        fold(table, fact, &mut out);
    }
    black_box(out);
}

fn settled(table: &mut Table, traffic: &mut Traffic) {
    traffic.settle(Parked::Established, |fact| fold(table, &fact, &mut Vec::new()));
    table.apply_scan(traffic.scan());
}

fn items(table: &mut Table, traffic: &mut Traffic) -> Vec<StreamItem> {
    let mut out: Vec<Transition> = Vec::new();
    while out.len() < ITEMS {
        fold(table, &traffic.next(), &mut out);
    }
    out.truncate(ITEMS);
    out.into_iter().map(StreamItem::Transition).collect()
}

/// A record of the event ring.
fn change() -> wire::StateChange {
    wire::StateChange {
        kind: wire::kind::STATE_CHANGE,
        flags: wire::flag::TASK_IS_OWNER,
        time: 1 << 40,
        socket: wire::Socket {
            cookie: 7,
            skaddr: 8,
            cgroup: 9,
            local_addr: [127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            remote_addr: [10, 1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            netns: 4_026_531_840,
            uid: 1000,
            local_port: 40_000,
            remote_port: 80,
            family: 2,
            protocol: 6,
            device: 0,
            flags: 0,
        },
        pid: 1,
        fwmark: 0,
        comm: *b"curl\0\0\0\0\0\0\0\0\0\0\0\0",
        start: 3,
        sk_err: 0,
        old_state: 1,
        new_state: 4,
        reserved: [0; 2],
    }
}
