//! An answer of rows on its way to whoever asked: handed over as many at a time as fill a frame.

use tokio::sync::mpsc;

use crate::{
    clock::Ktime,
    facts::{FigureSet, Queues},
    table::Row,
    view::{About, PackedRows, RowPart, RowQuery, RowView},
};

/// Where the parts of an answer go, which has no more of them than the table has rows.
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
}

impl RowAnswer {
    /// To a question that is content with rows in `brief`, or not.
    pub(super) fn new(brief: bool, parts: Parts) -> Self {
        Self {
            parts: Some(parts),
            rows: PackedRows::new(brief),
            begun: false,
        }
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
            // Whoever asked may have gone since.
            let _ = parts.send(Ok(RowPart::Rows(self.rows.take())));
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
        table::{SweepPart, Table, Vacated},
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
            table.show_part(&part, &mut Vec::new(), |row| {
                answer.tell(&QUERY, row, &FigureSet::default(), Ktime(time + 2));
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

    /// The sweep is over: the rest of the answer out of the table.
    fn complete(table: &mut Table, answer: RowAnswer) {
        let unshown = table.end_sweep(&[], Ktime(1000), Ktime(1001), &mut Vec::new());
        let vacated = Vacated::from_now_on(table, Ktime(1001));
        let mut copies = Copies::default();
        copies.add(Copying {
            query: QUERY,
            figures: std::sync::Arc::default(),
            about: About::default(),
            answer,
            rest: Rest::These(std::sync::Arc::new(unshown), vacated),
        });
        while copies.pending() {
            copies.advance(table, Ktime(1002));
        }
    }

    #[test]
    fn each_row_is_told_once_whether_the_sweep_has_shown_it_or_not() {
        let mut table = Table::default();
        let (reply, mut parts) = mpsc::unbounded_channel();
        let mut answer = RowAnswer::new(QUERY.brief, reply);
        sweep(
            &mut table,
            10,
            [&[1, 2, 9], &[]],
            &mut RowAnswer::new(QUERY.brief, mpsc::unbounded_channel().0),
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
        let mut answer = RowAnswer::new(QUERY.brief, reply);
        let of = |number, state, form| samples::seen(number, Ktime(11), state, form);
        let earlier = vec![
            of(1, TcpState::SynRecv, Form::Request),
            of(2, TcpState::TimeWait, Form::Minisock),
            of(3, TcpState::FinWait2, Form::Minisock),
            // Its end would be announced.
            of(4, TcpState::Established, Form::Full),
        ];
        let nobody = &mut RowAnswer::new(QUERY.brief, mpsc::unbounded_channel().0);
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
        let mut answer = RowAnswer::new(QUERY.brief, reply);
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
            let mut answer = RowAnswer::new(QUERY.brief, reply);
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
