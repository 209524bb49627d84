//! Whether the table knows of every socket, by what the kernel counts: asked before a question is answered without a sweep.
//!
//! Every full sock is announced, so the table should have as many as the kernel counts; if it has, and each of them is there
//! when it is looked at, it has all. An event that has been lost without anybody's noticing shows here.

use super::{Core, Events, answer::RowAnswer, looks::must_ask_listeners, questions::Question};
use crate::{census::Census, clock::Ktime, connection::Netns, sweeper::Job, table::Table, view::RowQuery};

/// How often the kernel is asked again when something changes just then.
const TRIES: u8 = 3;

/// A question for which the kernel's sockets are counted.
#[derive(Debug)]
struct Counting {
    number: u64,
    query: RowQuery,
    answer: RowAnswer,
    tries: u8,
}

/// The questions for which that is under way.
#[derive(Debug, Default)]
pub(super) struct Countings {
    next: u64,
    waiting: Vec<Counting>,
}

impl Core {
    /// Begins to answer `query` without a sweep, if that is possible; else it waits for one.
    pub(super) fn begin_looks(&mut self, query: RowQuery, answer: RowAnswer) {
        self.countings.next += 1;
        self.count(Counting {
            number: self.countings.next,
            query,
            answer,
            tries: 0,
        });
    }

    fn count(&mut self, counting: Counting) {
        let (wanted, everywhere) = match counting.query.netns {
            Some(netns) => (vec![netns], false),
            None => (self.table.namespaces().collect(), true),
        };
        let job = Job::Count {
            number: counting.number,
            wanted,
            everywhere,
        };
        // If the sweeper is gone, the engine is about to end for it.
        let _ = self.jobs.send(job);
        self.countings.waiting.push(counting);
    }

    /// The kernel has counted for the question with this number; `None` if it cannot be asked everywhere.
    pub(super) fn counted(
        &mut self,
        number: u64,
        counted: Option<&[(Netns, Census)]>,
        ring: &mut impl Events,
    ) {
        let waiting = &mut self.countings.waiting;
        let Some(at) = waiting.iter().position(|counting| counting.number == number) else {
            return;
        };
        let counting = waiting.swap_remove(at);
        if counting.answer.is_idle() {
            return;
        }
        let now = Ktime::now();
        self.read_up_to(now, ring);
        let known = counted.filter(|_| knows_all(&self.table, &counting.query, now));
        let alike = |(netns, census): &(Netns, Census)| is_plausible(*census, self.table.census(*netns));
        let alike = known.map(|counted| counted.iter().all(alike));
        match alike {
            Some(true) => {
                let Counting {
                    number,
                    query,
                    answer,
                    ..
                } = counting;
                let vacated = self.table.vacated_from_now_on(now);
                self.looks.add(number, query, answer, vacated, now);
            }
            Some(false) if counting.tries < TRIES => self.count(Counting {
                tries: counting.tries + 1,
                ..counting
            }),
            _ => self.sweeps.want(Question::Rows(counting.query, counting.answer)),
        }
    }
}

/// Whether the kernel can count this if the table, which knows this, knows of every socket. A minisock may have ended
/// without a word.
fn is_plausible(kernel: Census, table: Census) -> bool {
    kernel.full == table.full && kernel.minisocks <= table.minisocks
}

/// Whether `table`, which has been told all that happened up to `now`, can know of every connection that `query` is about, those
/// that listeners can be asked about excepted.
pub(super) fn knows_all(table: &Table, query: &RowQuery, now: Ktime) -> bool {
    let stands = !must_ask_listeners(query, table.coverage()) || table.listeners_stand(query.netns, now);
    stands && !table.is_expecting(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_the_table_lacks_is_noticed() {
        let census = |full, minisocks| Census { full, minisocks };
        let table = census(3, 2);
        for (kernel, plausible) in [
            (table, true),
            // One has ended.
            (census(3, 1), true),
            (census(3, 3), false),
            (census(4, 2), false),
            (census(2, 2), false),
        ] {
            assert_eq!(is_plausible(kernel, table), plausible, "{kernel:?}");
        }
    }
}
