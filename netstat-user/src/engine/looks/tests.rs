use tokio::sync::mpsc;

use super::*;
use crate::{
    connection::Endpoint,
    engine::{
        room::Room,
        samples::{self, NETNS, connection},
    },
    facts::{Sight, Sighting, SocketGone, StateEvent},
    table::NamespaceSweep,
    view::{RowPart, unpack},
};

const SEEN: Ktime = Ktime(1_000_000_000);
const ASKED: Ktime = Ktime(2_000_000_000);
const ANNOUNCED: Coverage = Coverage {
    ports: true,
    requests: true,
    minisocks: true,
};

fn seen(number: u16, state: TcpState, form: Form) -> Sighting {
    samples::seen(number, SEEN, state, form)
}

fn table(coverage: Coverage, sightings: Vec<Sighting>) -> Table {
    // No history is needed.
    let mut table = Table::new(coverage);
    let sweep = NamespaceSweep {
        netns: NETNS,
        start: Ktime(0),
        end: SEEN,
        sightings,
    };
    table.begin_sweep();
    table.apply_sweep(&sweep, &mut Vec::new());
    table.end_sweep(&[], Ktime(0), SEEN, &mut Vec::new());
    table
}

fn event(number: u16, from: TcpState, to: TcpState) -> StateEvent {
    samples::event(number, Ktime(ASKED.0 + 1), from, to)
}

fn sight(state: TcpState, recv: u32) -> Sight {
    Sight {
        state,
        requests: 0,
        queues: Queues {
            recv,
            ..Queues::default()
        },
    }
}

fn there(state: TcpState, recv: u32) -> Looked {
    Looked::There(sight(state, recv))
}

/// A question, and where its answer comes.
struct Question {
    looking: Looking,
    parts: mpsc::UnboundedReceiver<Result<RowPart, String>>,
}

impl Question {
    fn new(state: Option<TcpState>, table: &mut Table) -> Self {
        let filter = |state: TcpState| vec![Op::Test(Test::State(state.into()))].try_into().unwrap();
        let query = RowQuery {
            netns: None,
            filter: state.map(filter),
            holders: false,
            figures: false,
            as_is: false,
            brief: true,
        };
        let (reply, parts) = mpsc::unbounded_channel();
        let mut looks = Looks::default();
        looks.add(
            1,
            query,
            RowAnswer::new(true, reply, Room::of(usize::MAX)),
            Vacated::from_now_on(table, ASKED),
            ASKED,
        );
        Self {
            looking: looks.questions.pop().unwrap(),
            parts,
        }
    }

    /// What the kernel is asked about.
    fn search(&mut self, table: &Table) -> Result<Aims, Unclear> {
        let aims = self.looking.search(table)?;
        assert!(
            self.looking.search(table)?.looks.is_empty(),
            "one part is enough here"
        );
        Ok(aims)
    }

    /// The kernel answers the same to all.
    fn compare(&mut self, aims: Aims, looked: Looked, table: &Table) -> Result<(), Unclear> {
        let mut pairs = aims.targets.into_iter().zip(aims.looks);
        pairs.try_for_each(|(target, look)| self.looking.compare(target, look, looked, table))
    }

    /// The rows that were told, with what waits to be read; and how many are to be looked at again.
    fn told(mut self) -> (Vec<(u64, u32)>, usize) {
        let again = self.looking.again.len();
        self.looking.answer.end(About::default());
        let mut told = Vec::new();
        while let Ok(Ok(part)) = self.parts.try_recv() {
            if let RowPart::Rows(rows) = part {
                let take = |row: crate::view::RowView| {
                    told.push((row.connection.cookie.0, row.queues.unwrap().recv));
                };
                unpack(&rows.into_frame(), take).unwrap();
            }
        }
        (told, again)
    }
}

fn addresses(aims: &Aims) -> Vec<u64> {
    aims.looks.iter().map(|look| look.skaddr.0).collect()
}

#[test]
fn full_socks_are_looked_at_and_told_with_their_queues() {
    let mut table = table(ANNOUNCED, vec![seen(1, TcpState::Established, Form::Full)]);
    let mut question = Question::new(None, &mut table);
    let aims = question.search(&table).ok().unwrap();
    assert_eq!(addresses(&aims), [1001]);
    let found = there(TcpState::Established, 7);
    question.compare(aims, found, &table).ok().unwrap();
    assert_eq!(question.told(), (vec![(1, 7)], 0));
}

#[test]
fn what_the_kernel_says_otherwise_is_looked_at_again() {
    let mut table = table(ANNOUNCED, vec![seen(1, TcpState::Established, Form::Full)]);
    for found in [Looked::Gone, Looked::Unclear, there(TcpState::CloseWait, 0)] {
        let mut question = Question::new(None, &mut table);
        let aims = question.search(&table).ok().unwrap();
        question.compare(aims, found, &table).ok().unwrap();
        let again = question.looking.search_again(&table).ok().unwrap();
        assert_eq!(addresses(&again), [1001]);
        question.compare(again, found, &table).ok().unwrap();
        assert_eq!(question.told(), (vec![], 1), "{found:?}");
    }
}

#[test]
fn what_has_changed_meanwhile_is_told_as_it_is() {
    let mut table = table(
        ANNOUNCED,
        vec![
            seen(1, TcpState::Established, Form::Full),
            seen(2, TcpState::LastAck, Form::Full),
        ],
    );
    let mut question = Question::new(None, &mut table);
    let aims = question.search(&table).ok().unwrap();
    let mut out = Vec::new();
    table.apply_event(&event(1, TcpState::Established, TcpState::CloseWait), &mut out);
    table.apply_event(&event(2, TcpState::LastAck, TcpState::Close), &mut out);
    // And what has begun since then was not asked about.
    table.apply_event(&event(3, TcpState::Close, TcpState::SynSent), &mut out);
    let found = there(TcpState::CloseWait, 3);
    question.compare(aims, found, &table).ok().unwrap();
    assert_eq!(question.told(), (vec![(1, 3)], 0));
    let mut late = Question::new(None, &mut table);
    let aims = late.search(&table).ok().unwrap();
    assert_eq!(addresses(&aims), [1001]);
}

/// The kernel chooses a port when it has announced the connection, and takes that of a minisock.
#[test]
fn ends_that_have_changed_hands_are_told_once() {
    let mut table = table(ANNOUNCED, vec![seen(1, TcpState::TimeWait, Form::Minisock)]);
    let mut connecting = event(9, TcpState::Close, TcpState::SynSent);
    connecting.time = Ktime(ASKED.0 - 1);
    connecting.connection.local = Endpoint::new("127.0.0.1".parse().unwrap(), 0);
    table.apply_event(&connecting, &mut Vec::new());
    let mut question = Question::new(None, &mut table);
    assert!(addresses(&question.search(&table).ok().unwrap()).is_empty());
    let ended = SocketGone {
        time: Ktime(ASKED.0 + 1),
        cookie: Cookie(1),
        form: Form::Minisock,
        ports: connection(1).ports(),
        why: None,
    };
    table.apply_gone(&ended, &mut Vec::new());
    let mut connected = event(9, TcpState::SynSent, TcpState::Established);
    connected.time = Ktime(ASKED.0 + 2);
    connected.connection.local = connection(1).local;
    table.apply_event(&connected, &mut Vec::new());
    assert_eq!(table.len(), 1);
    assert!(addresses(&question.looking.search_again(&table).ok().unwrap()).is_empty());
    assert_eq!(question.told(), (vec![(1, 0)], 0));
    // Who asks now is told of the one that has them.
    let mut late = Question::new(None, &mut table);
    late.looking.time = Ktime(ASKED.0 + 3);
    assert_eq!(addresses(&late.search(&table).ok().unwrap()), [1009]);
}

#[test]
fn minisocks_are_looked_at_where_their_end_is_not_announced() {
    let time_wait = || vec![seen(1, TcpState::TimeWait, Form::Minisock)];
    let mut announced = table(ANNOUNCED, time_wait());
    let mut question = Question::new(None, &mut announced);
    assert!(addresses(&question.search(&announced).ok().unwrap()).is_empty());
    assert_eq!(question.told(), (vec![(1, 0)], 0));

    let mut silent = table(Coverage::default(), time_wait());
    for (found, told, again) in [
        (there(TcpState::TimeWait, 0), vec![(1, 0)], 0),
        (Looked::Gone, vec![], 0),
        (Looked::Unclear, vec![], 1),
    ] {
        let mut question = Question::new(None, &mut silent);
        let aims = question.search(&silent).ok().unwrap();
        assert_eq!(addresses(&aims), [1001]);
        question.compare(aims, found, &silent).ok().unwrap();
        assert_eq!(question.told(), (told, again));
    }
}

#[test]
fn a_minisock_that_nobody_has_come_upon_takes_a_sweep() {
    let mut table = table(Coverage::default(), vec![seen(1, TcpState::FinWait2, Form::Full)]);
    let closed = event(1, TcpState::FinWait2, TcpState::Close);
    table.apply_event(&closed, &mut Vec::new());
    assert_eq!(table.get(Cookie(1)).unwrap().state, TcpState::TimeWait);
    assert!(Question::new(None, &mut table).search(&table).is_err());
    assert!(
        Question::new(Some(TcpState::Established), &mut table)
            .search(&table)
            .is_ok()
    );
}

#[test]
fn half_open_connections_are_known_of_by_their_listeners() {
    let listener = || seen(1, TcpState::Listen, Form::Full);
    let mut silent = table(Coverage::default(), vec![listener()]);
    for (state, requests, clear) in [
        (None, 0, true),
        (None, 1, false),
        (Some(TcpState::SynRecv), 0, true),
        (Some(TcpState::SynRecv), 1, false),
        (Some(TcpState::Listen), 1, true),
    ] {
        let mut question = Question::new(state, &mut silent);
        let aims = question.search(&silent).ok().unwrap();
        assert_eq!(addresses(&aims), [1001], "{state:?}");
        let found = Looked::There(Sight {
            requests,
            ..sight(TcpState::Listen, 0)
        });
        let compared = question.compare(aims, found, &silent);
        assert_eq!(compared.is_ok(), clear, "{state:?} {requests:?}");
    }
    let half_open = vec![listener(), seen(2, TcpState::SynRecv, Form::Request)];
    let mut unknown = table(Coverage::default(), half_open.clone());
    assert!(Question::new(None, &mut unknown).search(&unknown).is_err());
    let mut announced = table(ANNOUNCED, half_open);
    let mut question = Question::new(Some(TcpState::SynRecv), &mut announced);
    assert!(addresses(&question.search(&announced).ok().unwrap()).is_empty());
    assert_eq!(question.told(), (vec![(2, 0)], 0));
}
