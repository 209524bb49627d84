//! Whether the table knows of every socket, by what the kernel counts: asked before a question is answered without a sweep.
//!
//! Every full sock is announced, so the table should have as many as the kernel counts; if it has, and each of them is there
//! when it is looked at, it has all. An event that has been lost without anybody's noticing shows here.

use std::collections::VecDeque;

use super::{Core, answer::RowAnswer, looks::must_ask_listeners, questions::Question};
use crate::{
    census::Census, clock::Ktime, connection::Netns, loader::EventRing, sweeper::Job, table::Table,
    view::RowQuery,
};

/// How often the kernel is asked again when something changes just then.
const TRIES: u8 = 3;

/// A question for which the kernel's sockets are counted.
#[derive(Debug)]
struct Counting {
    query: RowQuery,
    answer: RowAnswer,
    tries: u8,
}

/// The questions for which that is under way, in the order in which the kernel is asked.
#[derive(Debug, Default)]
pub(super) struct Countings(VecDeque<Counting>);

impl Core {
    /// Begins to answer `query` without a sweep, if that is possible; else it waits for one.
    pub(super) fn begin_looks(&mut self, query: RowQuery, answer: RowAnswer) {
        self.count(Counting {
            query,
            answer,
            tries: 0,
        });
    }

    fn count(&mut self, counting: Counting) {
        let namespaces = match counting.query.netns {
            Some(netns) => vec![netns],
            None => self.table.namespaces().collect(),
        };
        // If the sweeper is gone, the engine is about to end for it.
        if self.jobs.send(Job::Count(namespaces)).is_ok() {
            self.countings.0.push_back(counting);
        }
    }

    /// The kernel has counted for whoever has waited longest.
    pub(super) fn counted(&mut self, counted: &[(Netns, Census)], ring: &mut EventRing) {
        let Some(counting) = self.countings.0.pop_front() else {
            return;
        };
        let now = Ktime::now();
        self.read_up_to(now, ring);
        let known = self.sweeps.seeded && knows_all(&self.table, &counting.query, now);
        let alike = counted
            .iter()
            .all(|(netns, census)| is_plausible(*census, self.table.census(*netns)));
        let Counting { query, answer, tries } = counting;
        if known && alike {
            self.looks.add(query, answer, now);
        } else if known && tries < TRIES {
            self.count(Counting {
                query,
                answer,
                tries: tries + 1,
            });
        } else {
            self.sweeps.want(Question::Rows(query, answer));
        }
    }
}

/// Whether the kernel can count this if the table, which knows this, knows of every socket. A minisock may have ended
/// without a word.
fn is_plausible(kernel: Census, table: Census) -> bool {
    (kernel.inet, kernel.inet6) == (table.inet, table.inet6) && kernel.minisocks <= table.minisocks
}

/// Whether `table`, which has been told all that happened up to `now`, can know of every connection that `query` is about, those
/// that listeners can be asked about excepted.
pub(super) fn knows_all(table: &Table, query: &RowQuery, now: Ktime) -> bool {
    query.netns.is_none_or(|netns| table.rows_in(netns) > 0)
        && (!must_ask_listeners(query, table.coverage()) || table.listeners_stand(query.netns, now))
        && !table.is_expecting(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_the_table_lacks_is_noticed() {
        let table = Census {
            inet: 3,
            inet6: 2,
            minisocks: 2,
        };
        assert!(is_plausible(table, table));
        assert!(
            is_plausible(
                Census {
                    minisocks: 1,
                    ..table
                },
                table
            ),
            "one has ended"
        );
        assert!(!is_plausible(
            Census {
                minisocks: 3,
                ..table
            },
            table
        ));
        assert!(!is_plausible(Census { inet: 4, ..table }, table));
        assert!(!is_plausible(Census { inet6: 1, ..table }, table));
        // As many, but not the same.
        let other = Census {
            inet: 2,
            inet6: 3,
            ..table
        };
        assert!(!is_plausible(other, table));
    }
}
