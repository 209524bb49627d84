//! Which sockets a user wants to see: the words of `netstate list` and `netstate watch`, as a small program.
//!
//! A [`Filter`] comes from a user's words ([`parse()`]) or out of a client's frame. Neither is trusted: a program is
//! checked before it is one, has no nesting that could exhaust the stack, and is run without any memory of its own.

mod address;
mod grouping;
mod help;
mod keyword;
mod lex;
mod nearest;
mod parse;
mod pattern;
mod ports;
mod possible;
mod predicate;
mod problem;
mod state_words;
mod states;
mod test;
mod value;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

pub use address::Prefix;
pub use help::HELP;
pub use parse::{Parsed, parse, read};
pub use pattern::Pattern;
pub use ports::Ports;
pub use possible::Beforehand;
pub use problem::Problem;
pub use states::StateSet;
pub use test::{Ends, Side, Subject, Test};

use crate::{
    connection::{Cookie, Netns},
    table::Row,
};

/// Steps that a filter has at most, so that it fits into a question.
pub const MOST_OPS: usize = 256;
/// Values that wait at the same time, at most: one bit each of the machine that runs it.
pub const DEEPEST: usize = 64;
/// A filter's text is at most this long.
pub const LONGEST_TEXT: usize = 4096;

/// What names stand for on this machine.
pub trait Names {
    /// The port of a TCP service, if there is such a service.
    ///
    /// # Errors
    ///
    /// When nobody answers: a message that says so.
    fn port(&self, service: &str) -> Result<Option<u16>, String>;
    /// The id of a user, if there is such a user.
    ///
    /// # Errors
    ///
    /// When nobody answers: a message that says so.
    fn uid(&self, user: &str) -> Result<Option<u32>, String>;
    /// The network namespace that is called so, or has this number.
    ///
    /// # Errors
    ///
    /// When there is none: a message that says so.
    fn netns(&self, name: &str) -> Result<Netns, String>;
    /// The interfaces that are called so, each by its namespace and its number there.
    ///
    /// # Errors
    ///
    /// When there is none: a message that says so.
    fn devices(&self, name: &str) -> Result<Vec<(Netns, u32)>, String>;
    /// The number of the control group at this path, or with this number.
    ///
    /// # Errors
    ///
    /// When there is none: a message that says so.
    fn cgroup(&self, path: &str) -> Result<u64, String>;
    /// The addresses of a host that this machine knows without asking others.
    fn hosts(&self, name: &str) -> Vec<IpAddr>;
    /// All names of a kind, to find out what an unknown word was meant as.
    fn all(&self, kind: Kind) -> Vec<String>;
}

/// What a name can be of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A process that runs.
    Process,
    /// A TCP service.
    Service,
    /// A user.
    User,
}

impl Kind {
    /// The test for what is called `name`.
    fn test(self, name: &str) -> String {
        let plain = name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/".contains(&byte));
        let quote = match (plain, name.contains('"')) {
            (true, _) => "",
            (false, false) => "\"",
            (false, true) => "'",
        };
        let keyword = match self {
            Self::Process => "comm",
            Self::Service => "port",
            Self::User => "user",
        };
        format!("{keyword} {quote}{name}{quote}")
    }
}

/// One step of a filter, in postfix order: operands come before what combines them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// Pushes whether the test holds.
    Test(Test),
    /// Turns the last value around.
    Not,
    /// Replaces the last two values by whether both hold.
    And,
    /// Replaces the last two values by whether one of them holds.
    Or,
}

/// Steps that are no filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadProgram {
    /// More than [`MOST_OPS`].
    #[error("it has more than {MOST_OPS} tests and operators")]
    Long,
    /// More than [`DEEPEST`] values wait.
    #[error("it is nested more deeply than {DEEPEST} values")]
    Deep,
    /// An operator lacks a value, or there is not one value in the end.
    #[error("its operators do not fit its tests")]
    Unbalanced,
}

/// A condition on sockets and their transitions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Op>")]
pub struct Filter(Vec<Op>);

impl TryFrom<Vec<Op>> for Filter {
    type Error = BadProgram;

    fn try_from(ops: Vec<Op>) -> Result<Self, BadProgram> {
        if ops.len() > MOST_OPS {
            return Err(BadProgram::Long);
        }
        let mut depth = 0_usize;
        for op in &ops {
            let (taken, given) = match op {
                Op::Test(_) => (0, 1),
                Op::Not => (1, 1),
                Op::And | Op::Or => (2, 1),
            };
            depth = depth.checked_sub(taken).ok_or(BadProgram::Unbalanced)? + given;
            if depth > DEEPEST {
                return Err(BadProgram::Deep);
            }
        }
        if depth != 1 {
            return Err(BadProgram::Unbalanced);
        }
        Ok(Self(ops))
    }
}

impl Filter {
    /// Any socket with one of these cookies: of the first ones, if there are more than a filter can hold.
    #[must_use]
    pub fn any_cookie(cookies: &[Cookie]) -> Option<Self> {
        let (first, others) = cookies.split_first()?;
        let others = others.iter().take(MOST_OPS / 2 - 1);
        let mut ops = vec![Op::Test(Test::Cookie(*first))];
        ops.extend(others.flat_map(|cookie| [Op::Test(Test::Cookie(*cookie)), Op::Or]));
        Some(Self(ops))
    }

    /// Whether `subject` is wanted.
    #[must_use]
    pub fn matches(&self, subject: &Subject<'_>) -> bool {
        // The values that wait, the last one in the lowest bit. There are never more than bits: `try_from` has counted.
        let mut values = 0_u64;
        for op in &self.0 {
            match op {
                Op::Test(test) => values = values << 1 | u64::from(test.holds(subject)),
                Op::Not => values ^= 1,
                Op::And => values = (values >> 1) & (values | !1),
                Op::Or => values = (values >> 1) | (values & 1),
            }
        }
        values & 1 == 1
    }

    /// Whether a row of the table is wanted.
    #[must_use]
    pub fn matches_row(&self, row: &Row) -> bool {
        // They are not in the row in this form.
        let owners = self.names_holders().then(|| row.owners());
        self.matches(&Subject {
            owners: owners.as_ref(),
            ..row.into()
        })
    }

    /// Whether a row is wanted if some other process holds it, of which nobody knows yet.
    #[must_use]
    pub fn can_match_kept(&self, row: &Row) -> bool {
        let subject = Subject::from(row);
        self.can_hold(|test| (!test.is_about_holders()).then(|| test.holds(&subject)))
    }

    /// The steps.
    #[must_use]
    pub fn ops(&self) -> &[Op] {
        &self.0
    }

    /// Whether it is about states: then it says itself whether listeners are wanted.
    #[must_use]
    pub fn names_states(&self) -> bool {
        self.tests().any(|test| matches!(test, Test::State(_)))
    }

    /// Whether it is about who holds a socket.
    #[must_use]
    pub fn names_holders(&self) -> bool {
        self.tests().any(Test::is_about_holders)
    }

    /// Whether it is about sockets that are bound, and neither listen nor connect.
    #[must_use]
    pub fn names_bound(&self) -> bool {
        self.tests().any(|test| matches!(test, Test::Bound))
    }

    /// Whether it is about who has chosen a port, which only a scan with metrics reads.
    #[must_use]
    pub fn names_autobound(&self) -> bool {
        self.tests().any(|test| matches!(test, Test::Autobound))
    }

    /// Whether it is about network namespaces.
    #[must_use]
    pub fn names_namespaces(&self) -> bool {
        self.namespaces().next().is_some()
    }

    /// The network namespaces that it names.
    pub fn namespaces(&self) -> impl Iterator<Item = Netns> {
        self.tests().filter_map(|test| match test {
            Test::Netns(netns) => Some(*netns),
            _ => None,
        })
    }

    fn tests(&self) -> impl Iterator<Item = &Test> {
        self.0.iter().filter_map(|op| match op {
            Op::Test(test) => Some(test),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests;
