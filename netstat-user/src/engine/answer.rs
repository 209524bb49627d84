//! An answer of rows on its way to whoever asked: handed over as many at a time as fill a frame.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::room::Room;
use crate::{
    clock::Ktime,
    facts::{FigureSet, Queues},
    table::{Place, Row},
    view::{About, PackedRows, RowPart, RowQuery, RowView},
};

/// Where the parts of an answer go. How many wait there is bounded by [`Room`].
pub(super) type Parts = mpsc::UnboundedSender<Result<RowPart, String>>;

/// The rows that answer a question. Most are told while the sweep for it goes on, each when the sweep has shown it, and
/// the others when it is over.
#[derive(Debug)]
pub(super) struct RowAnswer {
    /// `None` when it came to nothing.
    parts: Option<Parts>,
    /// Those that are yet to be handed over.
    rows: PackedRows,
    /// Some have been handed over.
    begun: bool,
    room: Arc<Room>,
    /// Rows that a scan has shown when there was no room.
    deferred: Vec<Place>,
}

impl RowAnswer {
    /// To a question that is content with rows in `brief`, or not.
    pub(super) fn new(brief: bool, parts: Parts, room: Arc<Room>) -> Self {
        Self {
            parts: Some(parts),
            rows: PackedRows::new(brief),
            begun: false,
            room,
            deferred: Vec::new(),
        }
    }

    /// Whether it can go on now. The engine is woken when it can again.
    pub(super) fn can_go_on(&self) -> bool {
        self.is_idle() || self.room.is_there()
    }

    /// Tells of a row that the scan for this answer has just shown, or, if the reader is too slow for that, keeps its place for
    /// later.
    pub(super) fn tell_shown(
        &mut self,
        query: &RowQuery,
        (place, row): (Place, &Row),
        figures: &FigureSet,
        now: Ktime,
    ) {
        if self.deferred.is_empty() && self.room.has_some() {
            self.tell(query, row, figures, now);
        } else if query.wants(row) {
            self.deferred.push(place);
        }
    }

    /// The rows that were kept for later.
    pub(super) fn take_deferred(&mut self) -> Vec<Place> {
        std::mem::take(&mut self.deferred)
    }

    /// Whether nobody waits for it any more.
    pub(super) fn is_idle(&self) -> bool {
        self.parts.as_ref().is_none_or(Parts::is_closed)
    }

    /// Tells of a row whose queues are these, read just now, if `query` wants it.
    pub(super) fn tell_with(&mut self, query: &RowQuery, row: &Row, queues: Queues) {
        if query.wants(row) {
            self.push(&RowView {
                queues: Some(queues),
                ..RowView::in_brief(row)
            });
        }
    }

    /// What it was told from has come to nothing, and something else will tell the same rows again.
    pub(super) fn begin_again(&mut self) {
        drop(self.rows.take());
        self.deferred = Vec::new();
        if let Some(parts) = self.parts.as_ref().filter(|_| std::mem::take(&mut self.begun)) {
            let _ = parts.send(Ok(RowPart::Again));
        }
    }

    /// Tells of a row, if `query` wants it.
    pub(super) fn tell(&mut self, query: &RowQuery, row: &Row, figures: &FigureSet, now: Ktime) {
        // A row that the sweep for this very answer did not find is not there.
        if !row.doubtful() && query.wants(row) {
            self.push(&RowView::answering(query, row, figures, now));
        }
    }

    /// Adds a row.
    pub(super) fn push(&mut self, view: &RowView) {
        if let Err(error) = self.rows.push(view) {
            self.fail(format!("a row cannot be encoded: {error}; please report this"));
        } else if self.rows.is_full() {
            self.hand_over();
        }
    }

    fn hand_over(&mut self) {
        if let Some(parts) = &self.parts {
            self.begun = true;
            let rows = self.rows.take();
            self.room.fill(rows.bytes());
            // Whoever asked may have gone since.
            let _ = parts.send(Ok(RowPart::Rows(rows)));
        }
    }

    fn fail(&mut self, why: String) {
        if let Some(parts) = self.parts.take() {
            let _ = parts.send(Err(why));
        }
    }

    /// There are no more.
    pub(super) fn end(mut self, about: About) {
        if !self.rows.is_empty() {
            self.hand_over();
        }
        if let Some(parts) = self.parts {
            let _ = parts.send(Ok(RowPart::End(about)));
        }
    }

    /// There is none.
    pub(super) fn refuse(mut self, why: String) {
        self.fail(why);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::{
            copies::{Copies, Copying, Rest},
            samples::{self, NETNS},
        },
        facts::{Form, Sighting},
        table::{SweepPart, Table, Unshown, Vacated},
        tcp::TcpState,
        view::unpack,
    };

    const QUERY: RowQuery = RowQuery {
        netns: None,
        filter: None,
        holders: false,
        figures: false,
        as_is: false,
        brief: false,
    };

    /// An answer that there is always room for.
    fn answer_to(parts: Parts) -> RowAnswer {
        RowAnswer::new(QUERY.brief, parts, Room::of(usize::MAX))
    }

    fn seen(number: u16, time: u64) -> Sighting {
        samples::seen(number, Ktime(time), TcpState::Established, Form::Full)
    }

    /// A sweep, in two parts, that sees these sockets, and shows them to `answer`.
    fn sweep(table: &mut Table, time: u64, parts: [&[u16]; 2], answer: &mut RowAnswer) {
        let seen = |sockets: &[u16]| sockets.iter().map(|socket| seen(*socket, time + 1)).collect();
        sweep_of(table, time, parts.map(seen), answer);
    }

    fn sweep_of(table: &mut Table, time: u64, parts: [Vec<Sighting>; 2], answer: &mut RowAnswer) {
        table.begin_sweep();
        for (number, sightings) in parts.into_iter().enumerate() {
            let part = SweepPart {
                netns: NETNS,
                start: Ktime(time),
                first: number == 0,
                end: (number == 1).then_some(Ktime(time + 2)),
                sightings,
            };
            table.show_part(&part, &mut Vec::new(), |shown| {
                answer.tell_shown(&QUERY, shown, &FigureSet::default(), Ktime(time + 2));
            });
        }
    }

    fn told(parts: &mut mpsc::UnboundedReceiver<Result<RowPart, String>>) -> Vec<u64> {
        let mut told = Vec::new();
        while let Ok(part) = parts.try_recv() {
            match part.unwrap() {
                RowPart::Rows(rows) => {
                    unpack(&rows.into_frame(), |row| told.push(row.connection.cookie.0)).unwrap();
                }
                RowPart::Again => told.clear(),
                RowPart::End(_) => {}
            }
        }
        told
    }

    /// The scan is over: the rest of the answer comes out of the table.
    fn rest(table: &mut Table, mut answer: RowAnswer) -> Copies {
        let unshown = table.end_sweep(&[], Ktime(1000), Ktime(1001), &mut Vec::new());
        let vacated = Vacated::from_now_on(table, Ktime(1001));
        let rest = Rest::These(Arc::new(unshown), Unshown::default(), vacated);
        let rest = rest.and(answer.take_deferred());
        let mut copies = Copies::default();
        copies.add(Copying {
            query: QUERY,
            figures: Arc::default(),
            about: About::default(),
            answer,
            rest,
        });
        copies
    }

    fn complete(table: &mut Table, answer: RowAnswer) {
        let mut copies = rest(table, answer);
        while copies.pending() {
            copies.advance(table, Ktime(1002));
        }
    }

    /// A scan shows many times what there is room for, and then the answer is completed. Nothing is told twice or left out, and
    /// what waits is bounded all the while.
    #[test]
    fn an_answer_goes_at_the_pace_of_its_reader() {
        const MANY: u16 = 60_000;
        const MOST: usize = 300_000;
        let mut table = Table::default();
        let room = Room::of(MOST);
        let (reply, mut parts) = mpsc::unbounded_channel();
        let mut answer = RowAnswer::new(QUERY.brief, reply, Arc::clone(&room));
        let sockets: Vec<u16> = (1..=MANY).collect();
        let nobody = &mut answer_to(mpsc::unbounded_channel().0);
        sweep(&mut table, 10, [&[], &[MANY + 1]], nobody);
        sweep(&mut table, 20, [&sockets, &[]], &mut answer);
        let mut copies = rest(&mut table, answer);
        let mut told = Vec::new();
        let mut pauses = 0;
        loop {
            while copies.pending() {
                copies.advance(&table, Ktime(1002));
            }
            let Ok(part) = parts.try_recv() else { break };
            pauses += 1;
            let waiting = parts.len() + 1;
            assert!(waiting <= 4, "{waiting} frames wait");
            if let RowPart::Rows(rows) = part.unwrap() {
                room.empty(rows.bytes());
                unpack(&rows.into_frame(), |row| told.push(row.connection.cookie.0)).unwrap();
            }
        }
        told.sort_unstable();
        let all: Vec<u64> = (1..=u64::from(MANY) + 1).collect();
        assert_eq!(told, all);
        assert!(pauses > 4, "it was told at once");
    }

    /// A row that a scan has shown when there was no room ends, and others take its place: one that the scan shows, and one that it
    /// does not.
    #[test]
    fn what_comes_to_a_deferred_place_is_told_once() {
        for shown in [true, false] {
            let mut table = Table::default();
            let room = Room::of(1);
            let (reply, mut parts) = mpsc::unbounded_channel();
            let mut answer = RowAnswer::new(QUERY.brief, reply, Arc::clone(&room));
            let nobody = &mut answer_to(mpsc::unbounded_channel().0);
            sweep(&mut table, 10, [&[1], &[2]], nobody);
            room.fill(1);
            table.begin_sweep();
            let mut show = |table: &mut Table, time, first, end, sockets: &[u16]| {
                let part = SweepPart {
                    netns: NETNS,
                    start: Ktime(20),
                    first,
                    end,
                    sightings: sockets.iter().map(|socket| seen(*socket, time)).collect(),
                };
                table.show_part(&part, &mut Vec::new(), |shown| {
                    answer.tell_shown(&QUERY, shown, &FigureSet::default(), Ktime(28));
                });
            };
            show(&mut table, 23, true, None, &[1, 2]);
            let event = |socket, from, to| samples::event(socket, Ktime(25), from, to);
            let mut out = Vec::new();
            table.apply_event(&event(1, TcpState::Established, TcpState::Close), &mut out);
            table.apply_event(&event(3, TcpState::SynSent, TcpState::Established), &mut out);
            assert_eq!(table.len(), 2, "3 has come to the place of 1");
            show(
                &mut table,
                27,
                false,
                Some(Ktime(28)),
                if shown { &[3] } else { &[] },
            );
            let mut copies = rest(&mut table, answer);
            room.empty(1);
            while copies.pending() {
                copies.advance(&table, Ktime(1002));
            }
            let mut told = told(&mut parts);
            told.sort_unstable();
            assert_eq!(told, [2, 3], "shown: {shown}");
        }
    }

    #[test]
    fn an_answer_that_nobody_waits_for_any_more_is_dropped() {
        let mut table = Table::default();
        let room = Room::of(1);
        let (reply, parts) = mpsc::unbounded_channel();
        let answer = RowAnswer::new(QUERY.brief, reply, Arc::clone(&room));
        let mut copies = rest(&mut table, answer);
        room.fill(1);
        assert!(!copies.pending());
        drop(parts);
        assert!(copies.pending());
        copies.advance(&table, Ktime(1002));
        assert!(!copies.pending());
    }

    #[test]
    fn each_row_is_told_once_whether_the_sweep_has_shown_it_or_not() {
        let mut table = Table::default();
        let (reply, mut parts) = mpsc::unbounded_channel();
        let mut answer = answer_to(reply);
        sweep(
            &mut table,
            10,
            [&[1, 2, 9], &[]],
            &mut answer_to(mpsc::unbounded_channel().0),
        );
        // A socket that the kernel shows twice, and one that it passes over.
        sweep(&mut table, 20, [&[1, 3], &[1, 2]], &mut answer);
        complete(&mut table, answer);
        let mut told = told(&mut parts);
        told.sort_unstable();
        assert_eq!(told, [1, 2, 3, 9]);
    }

    /// An earlier scan saw them a moment ago, and their timers have ended them since: no event tells of that.
    #[test]
    fn what_this_scan_did_not_find_and_no_event_ends_is_not_told() {
        let mut table = Table::default();
        let (reply, mut parts) = mpsc::unbounded_channel();
        let mut answer = answer_to(reply);
        let of = |number, state, form| samples::seen(number, Ktime(11), state, form);
        let earlier = vec![
            of(1, TcpState::SynRecv, Form::Request),
            of(2, TcpState::TimeWait, Form::Minisock),
            of(3, TcpState::FinWait2, Form::Minisock),
            // Its end would be announced.
            of(4, TcpState::Established, Form::Full),
        ];
        let nobody = &mut answer_to(mpsc::unbounded_channel().0);
        sweep_of(&mut table, 10, [earlier, vec![]], nobody);
        table.end_sweep(&[], Ktime(10), Ktime(12), &mut Vec::new());
        sweep(&mut table, 20, [&[5], &[]], &mut answer);
        complete(&mut table, answer);
        assert_eq!(told(&mut parts), [5, 4]);
    }

    /// It keeps its cookie, and so does the minisock that it leaves behind.
    #[test]
    fn a_socket_that_is_used_again_meanwhile_is_told_once_and_so_is_its_minisock() {
        let mut table = Table::default();
        let (reply, mut parts) = mpsc::unbounded_channel();
        let mut answer = answer_to(reply);
        let minisock = Sighting {
            state: TcpState::TimeWait,
            form: Form::Minisock,
            ..seen(1, 11)
        };
        let mut again = seen(1, 12);
        again.connection.local = seen(5, 12).connection.local;
        sweep_of(&mut table, 10, [vec![minisock], vec![again]], &mut answer);
        complete(&mut table, answer);
        assert_eq!(told(&mut parts), [1, 1]);
    }

    /// Whether it has been handed over by then or not.
    #[test]
    fn what_a_sweep_has_shown_that_came_to_nothing_is_told_again_and_nothing_twice() {
        const MANY: u16 = 20_000;
        for count in [2, MANY] {
            let mut table = Table::default();
            let (reply, mut parts) = mpsc::unbounded_channel();
            let mut answer = answer_to(reply);
            let sockets: Vec<u16> = (1..=count).collect();
            sweep(&mut table, 10, [&sockets, &[]], &mut answer);
            assert_eq!(parts.is_empty(), count < MANY, "{count}");
            answer.begin_again();
            sweep(&mut table, 20, [&sockets, &[count + 1]], &mut answer);
            complete(&mut table, answer);
            let expected: Vec<u64> = (1..=u64::from(count) + 1).collect();
            assert_eq!(told(&mut parts), expected, "{count}");
        }
    }
}
