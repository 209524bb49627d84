//! What is wrong with a filter's text, where, and what would be right.

use std::{fmt, ops::Range};

use crate::connection::Printable;

/// A value that is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    what: String,
    help: String,
}

impl Fault {
    pub(super) fn new(what: String, help: String) -> Self {
        Self { what, help }
    }

    /// The same as what is wrong with these bytes of `text`.
    pub(super) fn at(self, place: Range<usize>, text: &str) -> Problem {
        Problem {
            fault: self,
            place,
            text: text.to_owned(),
        }
    }
}

/// Why a text is no filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    fault: Fault,
    /// The bytes of the text that it is about; what is missing is missing at its end.
    place: Range<usize>,
    text: String,
}

impl Problem {
    /// The part of the text that is wrong; empty where something is missing.
    #[must_use]
    pub fn word(&self) -> &str {
        self.text.get(self.place.clone()).unwrap_or_default()
    }
}

impl std::error::Error for Problem {}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One character for each, so that the marks below stand where they belong, and none that a terminal obeys.
        let shown = |char: char| if char.is_control() { ' ' } else { char };
        let line: String = self.text.chars().map(shown).collect();
        let before = self.text.get(..self.place.start).unwrap_or(&self.text);
        let before = before.chars().count();
        let marks = self.word().chars().count().max(1);
        writeln!(f, "{}", printable(&self.fault.what))?;
        writeln!(f)?;
        writeln!(f, "  {line}")?;
        writeln!(f, "  {:before$}{:^<marks$}", "", "")?;
        writeln!(f)?;
        for (number, line) in self.fault.help.lines().enumerate() {
            let end = if number == 0 { "" } else { "\n" };
            write!(f, "{end}{}", printable(line))?;
        }
        Ok(())
    }
}

fn printable(text: &str) -> Printable<'_> {
    Printable(text.as_bytes())
}
