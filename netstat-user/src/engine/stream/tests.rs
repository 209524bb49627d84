use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{
    clock::Ktime,
    connection::Netns,
    engine::samples,
    table::{Source, Transition},
    tcp::TcpState,
    view::Loss,
};

const SMALL: Bounds = Bounds {
    handoff: 12,
    reader: 6,
    all: 12,
    least: 2,
    turn: 5,
};

fn loss(count: u64) -> StreamItem {
    StreamItem::Lost(Loss {
        ring_full: count,
        interrupted: 0,
        since: Ktime(count),
        until: Ktime(count + 1),
    })
}

/// One that can be told from others by its number.
fn transition(number: u64, netns: Netns) -> StreamItem {
    let mut connection = samples::connection(1);
    connection.netns = netns;
    StreamItem::Transition(Transition {
        connection,
        time: Ktime(number),
        from: None,
        to: TcpState::Established,
        in_state: None,
        at_least: false,
        source: Source::Event,
        earliest: None,
        reason: None,
        owner: None,
        uid: None,
        cgroup: None,
        fwmark: None,
    })
}

const HERE: Netns = Netns(1);
const THERE: Netns = Netns(2);

fn all() -> WatchQuery {
    WatchQuery::default()
}

fn only(netns: Netns) -> WatchQuery {
    WatchQuery {
        netns: Some(netns),
        filter: None,
    }
}

fn missed(items: u64) -> StreamItem {
    StreamItem::Missed {
        items,
        at_most: false,
    }
}

fn at_most(items: u64) -> StreamItem {
    StreamItem::Missed { items, at_most: true }
}

#[test]
fn a_reader_that_keeps_up_gets_everything_once_from_when_it_came() {
    let (publisher, mut fan_out) = Publisher::with(SMALL);
    let early = publisher.readers().subscribe(all());
    publisher.send([loss(1)]);
    let mut reader = publisher.readers().subscribe(all());
    publisher.send([transition(1, HERE), loss(2)]);
    fan_out.turn();
    assert_eq!(reader.try_next_batch(9), [transition(1, HERE), loss(2)]);
    assert_eq!(reader.try_next_batch(9), []);
    assert_eq!(publisher.count(), 2);
    drop(early);
    assert_eq!(publisher.count(), 1);
}

/// However much there is of it, and however slow the reader.
#[test]
fn a_reader_misses_nothing_that_it_did_not_ask_for() {
    let (publisher, mut fan_out) = Publisher::with(SMALL);
    let mut reader = publisher.readers().subscribe(only(HERE));
    publisher.send([transition(1, HERE)]);
    for number in 0..1000 {
        publisher.send([transition(number, THERE)]);
        fan_out.turn();
    }
    publisher.send([transition(2, HERE)]);
    fan_out.turn();
    assert_eq!(
        reader.try_next_batch(9),
        [transition(1, HERE), transition(2, HERE)]
    );
}

#[test]
fn a_reader_that_is_slow_gets_how_much_it_missed_then_losses_then_the_latest() {
    let (publisher, mut fan_out) = Publisher::with(SMALL);
    let mut reader = publisher.readers().subscribe(only(HERE));
    for number in 0..20 {
        publisher.send([
            transition(number, HERE),
            transition(number, THERE),
            loss(number + 1),
        ]);
        fan_out.turn();
    }
    let items = reader.try_next_batch(usize::MAX);
    assert_eq!(items[0], missed(17));
    assert_eq!(items[1..18], (1..=17).map(loss).collect::<Vec<_>>());
    assert_eq!(items[18..20], [transition(17, HERE), loss(18)]);
    assert_eq!(items.len(), 1 + 17 + 6);
}

/// What found no room before it could be compared may not have been asked for.
#[test]
fn what_nobody_could_compare_is_a_bound_for_those_who_filter() {
    let (publisher, mut fan_out) = Publisher::with(Bounds {
        reader: 100,
        all: 300,
        ..SMALL
    });
    let mut filtering = publisher.readers().subscribe(only(HERE));
    let mut seeing_all = publisher.readers().subscribe(all());
    publisher.send((0..20).map(|number| transition(number, THERE)));
    publisher.send([loss(3), transition(21, HERE)]);
    let mut late = publisher.readers().subscribe(all());
    publisher.send([transition(22, HERE)]);
    fan_out.turn();
    publisher.send([transition(23, HERE)]);
    fan_out.turn();
    let last = transition(23, HERE);
    assert_eq!(
        filtering.try_next_batch(99),
        [at_most(9), loss(3), at_most(1), last]
    );
    assert_eq!(
        seeing_all.try_next_batch(99)[12..],
        [missed(9), loss(3), missed(1), last]
    );
    assert_eq!(late.try_next_batch(99), [missed(1), last]);
}

#[test]
fn many_losses_become_one_and_none_is_forgotten() {
    for turns in [1, 1000] {
        let (publisher, mut fan_out) = Publisher::with(SMALL);
        let mut reader = publisher.readers().subscribe(only(HERE));
        for number in 1..=1000 {
            publisher.send([loss(number), transition(number, HERE)]);
            if turns > 1 {
                fan_out.turn();
            }
        }
        publisher.send((0..20).map(|number| transition(number, HERE)));
        fan_out.turn();
        let items = reader.try_next_batch(usize::MAX);
        assert!(items.len() < 200, "{}", items.len());
        let counted: u64 = items.iter().map(lost).sum();
        assert_eq!(counted, 500_500);
    }
}

fn lost(item: &StreamItem) -> u64 {
    match item {
        StreamItem::Lost(loss) => loss.ring_full,
        _ => 0,
    }
}

#[tokio::test]
async fn the_stream_ends_behind_its_last_item() {
    let publisher = Publisher::new().unwrap();
    let mut reader = publisher.readers().subscribe(all());
    publisher.send([transition(1, HERE)]);
    assert_eq!(reader.next_batch(9).await.unwrap(), [transition(1, HERE)]);
    publisher.send([transition(2, HERE)]);
    publisher.send([loss(1)]);
    drop(publisher);
    assert_eq!(reader.rest().await, [transition(2, HERE), loss(1)]);
    assert_eq!(reader.next_batch(9).await, None);
}

#[derive(Debug, Clone)]
enum Act {
    Send(Vec<(bool, bool)>),
    Subscribe(bool),
    Leave(usize),
    Turn,
    Read(usize, usize),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        3 => vec((any::<bool>(), prop::bool::weighted(0.1)), 0..10).prop_map(Act::Send),
        1 => any::<bool>().prop_map(Act::Subscribe),
        1 => (0..4_usize).prop_map(Act::Leave),
        3 => Just(Act::Turn),
        3 => (0..4_usize, 1..9_usize).prop_map(|(reader, most)| Act::Read(reader, most)),
    ];
    vec(act, 0..120)
}

/// A reader, and what it is to get.
struct Reader {
    subscription: Subscription,
    query: WatchQuery,
    sent: Vec<StreamItem>,
    /// Everything else that has been sent.
    unwanted: u64,
    got: Vec<StreamItem>,
}

impl Reader {
    fn check(&self) {
        let count = |items: &[StreamItem]| items.iter().map(lost).sum::<u64>();
        assert_eq!(count(&self.got), count(&self.sent), "losses");
        let transitions = |items: &[StreamItem]| -> Vec<StreamItem> {
            let found = items
                .iter()
                .filter(|item| matches!(item, StreamItem::Transition(_)));
            found.copied().collect()
        };
        let (got, sent) = (transitions(&self.got), transitions(&self.sent));
        let mut rest = sent.iter();
        assert!(got.iter().all(|item| rest.any(|other| other == item)), "order");
        let (mut missed, mut bound) = (0, false);
        for item in &self.got {
            if let StreamItem::Missed { items, at_most } = item {
                missed += items;
                bound |= at_most;
            }
        }
        let (got, sent) = (got.len() as u64, sent.len() as u64);
        assert!(got + missed >= sent, "{got} and {missed} missed of {sent}");
        let most = if bound { sent + self.unwanted } else { sent };
        assert!(got + missed <= most, "{got} and {missed} missed of {most}");
        assert!(!bound || !self.query.wants_all());
    }
}

proptest! {
    #[test]
    fn what_was_sent_has_been_got_or_is_counted(acts in acts()) {
        let (publisher, mut fan_out) = Publisher::with(SMALL);
        let mut readers: Vec<Reader> = Vec::new();
        let mut number = 0;
        let mut open = false;
        for act in acts {
            match act {
                Act::Send(items) => {
                    let items: Vec<_> = items
                        .into_iter()
                        .map(|(here, lost)| {
                            number += 1;
                            if lost { loss(number) } else { transition(number, if here { HERE } else { THERE }) }
                        })
                        .collect();
                    open |= !items.is_empty() && !readers.is_empty();
                    for reader in &mut readers {
                        let (wanted, unwanted): (Vec<_>, Vec<_>) =
                            items.iter().copied().partition(|item| reader.query.wants(item));
                        reader.sent.extend(wanted);
                        reader.unwanted += unwanted.len() as u64;
                    }
                    publisher.send(items);
                }
                Act::Subscribe(filtering) => {
                    let query = if filtering { only(HERE) } else { all() };
                    open = true;
                    readers.push(Reader {
                        subscription: publisher.readers().subscribe(query.clone()),
                        query,
                        sent: Vec::new(),
                        unwanted: 0,
                        got: Vec::new(),
                    });
                }
                Act::Leave(which) if which < readers.len() => drop(readers.remove(which)),
                // It waits where there is nothing.
                Act::Turn if open => {
                    fan_out.turn();
                    open = false;
                }
                Act::Read(which, most) if which < readers.len() => {
                    let reader = &mut readers[which];
                    let items = reader.subscription.try_next_batch(most);
                    prop_assert!(items.len() <= most);
                    reader.got.extend(items);
                }
                Act::Leave(_) | Act::Turn | Act::Read(..) => {}
            }
        }
        drop(publisher);
        prop_assert!(!fan_out.turn());
        for reader in &mut readers {
            reader.got.extend(reader.subscription.try_next_batch(usize::MAX));
            reader.check();
        }
    }
}
