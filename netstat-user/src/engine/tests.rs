//! The core where the event ring never runs dry.

use std::{sync::mpsc::channel, time::Duration};

use tokio::sync::oneshot;

use super::{samples, sweeps::Running, *};
use crate::{
    facts::{Form, StateEvent},
    loader::Losses,
    sources::Coverage,
    sweeper::SweepDone,
    table::SweepPart,
    tcp::TcpState::{Close, Established, SynSent},
    view::WatchQuery,
};

/// A ring that always has another event, each a microsecond later than the one before.
struct Endless {
    time: u64,
    taken: u64,
}

/// The bytes that a record takes here.
const ROOM: u64 = 8;

impl Events for Endless {
    fn take(&mut self) -> Option<Result<RingRecord, DecodeError>> {
        self.time += 1000;
        self.taken += 1;
        let number = u16::try_from(self.taken % 1000).unwrap() + 2;
        let (from, to) = [(Close, SynSent), (SynSent, Established), (Established, Close)]
            [usize::try_from(self.taken / 1000 % 3).unwrap()];
        Some(Ok(RingRecord::State(StateEvent {
            time: Ktime(self.time),
            connection: samples::connection(number),
            skaddr: samples::skaddr(number),
            from,
            to,
            error: None,
            peer_fin: false,
            orphan: false,
            no_linger2: false,
            standing: None,
            owner: None,
            uid: 0,
            cgroup: None,
            fwmark: 0,
        })))
    }

    fn consumed(&self) -> u64 {
        self.taken * ROOM
    }
}

/// A core whose counters of losses say this.
fn core(losses: Losses) -> Core {
    let table = Table::remembering(Coverage::default(), 1 << 20);
    let (jobs, _) = channel();
    let losses = LossWatch::new(move || Ok(losses.clone()), Ktime(0));
    Core::new(Told::new(table, None), jobs, Publisher::new().unwrap(), losses)
}

#[test]
fn reading_ends_where_it_is_to_end() {
    let mut core = core(Losses::default());
    let start = Ktime::now();
    let mut ring = Endless {
        time: start.0,
        taken: 0,
    };
    let until = Ktime(start.0 + 10_000_000);
    core.read_up_to(until, &mut ring);
    assert!(core.latest > until, "{:?}", core.latest);
    assert!(ring.taken < 10_000 + 2 * BATCH as u64, "{} events", ring.taken);
}

#[test]
fn a_loss_is_told_behind_what_happened_before_it() {
    let lost = Losses {
        ring_full: vec![7],
        ..Losses::default()
    };
    let mut core = core(lost);
    let mut readers = core.stream.readers().subscribe(WatchQuery::default());
    core.check_losses();
    let until = core.untold.expect("a loss").until;
    let mut ring = Endless {
        time: until.0 - 3_000_000,
        taken: 0,
    };
    while core.untold.is_some() {
        assert!(core.read(&mut ring), "it never runs dry");
        assert!(ring.taken < 100_000, "not told after {} events", ring.taken);
    }
    assert!(ring.taken >= 3000, "told before what had happened by then");
    drop(core);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let items = runtime.block_on(readers.rest());
    assert!(
        items
            .iter()
            .any(|item| matches!(item, StreamItem::Lost(told) if told.ring_full == 7))
    );
}

/// The ring has a turn between any two parts of other work, and each of those one between any two batches of events.
#[test]
fn repairs_and_answers_come_while_it_is_read() {
    let mut core = core(Losses::default());
    let mut ring = Endless {
        time: Ktime::now().0,
        taken: 0,
    };
    let sightings = (2..MANY).map(|number| samples::seen(number, Ktime(5), Established, Form::Full));
    let part = SweepPart {
        netns: samples::NETNS,
        start: Ktime(1),
        first: true,
        end: Some(Ktime(6)),
        sightings: sightings.collect(),
    };
    core.table.begin_sweep();
    core.table.show_part(&part, &mut core.fresh, |_| ());
    let (exists, mut answer) = oneshot::channel();
    core.sweeps.running = Some(Running {
        questions: vec![Question::Exists(samples::NETNS, exists)],
        done: Some(done()),
        ..Running::default()
    });
    let (reply, mut stats) = oneshot::channel();
    core.request(Request::Stats(reply));
    assert!(stats.try_recv().is_ok(), "stats take no scan");
    let mut rounds = 0;
    while !core.sweeps.idle() {
        assert!(core.read(&mut ring), "it never runs dry");
        core.work();
        rounds += 1;
        assert!(rounds < 100, "the scan never ends");
    }
    assert!(
        rounds >= usize::from(MANY) / PART,
        "all rows are judged in one turn"
    );
    assert_eq!(core.counters.events, (rounds * BATCH) as u64);
    assert_eq!(answer.try_recv(), Ok(Ok(())));
}

/// Rows that take several parts.
const MANY: u16 = 30_000;

/// A scan that has seen the only namespace.
fn done() -> SweepDone {
    SweepDone {
        everywhere: true,
        found: vec![samples::NETNS],
        absent: Vec::new(),
        gone: Vec::new(),
        unreachable: None,
        refused: None,
        others: Vec::new(),
        start: Ktime(1),
        end: Ktime(6),
        cost: Duration::ZERO,
        search: None,
        failed: Vec::new(),
        broken: None,
    }
}
