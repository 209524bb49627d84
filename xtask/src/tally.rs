//! Adding up what tests print.

use std::fmt;

/// The results of tests, as the lines say that close each of their programs.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) ignored: u64,
}

impl Tally {
    /// Adds what a line says, if it is such a line.
    pub(crate) fn add(&mut self, line: &str) {
        if line.starts_with("test result:") {
            self.passed += number_before(line, " passed");
            self.failed += number_before(line, " failed");
            self.ignored += number_before(line, " ignored");
        }
    }

    /// Whether any test ran, or said why it could not.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            passed,
            failed,
            ignored,
        } = self;
        write!(out, "{passed} passed, {failed} failed, {ignored} ignored")
    }
}

/// The number before `word`; 0 if there is none.
fn number_before(line: &str, word: &str) -> u64 {
    let before = line.split(word).next().filter(|before| before.len() < line.len());
    before
        .and_then(|before| before.rsplit(' ').next()?.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::Tally;

    #[test]
    fn counts_are_read_from_the_line_that_closes_tests() {
        let mut tally = Tally::default();
        tally.add("test result: FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; finished in 0.01s");
        tally.add("test time_wait::runs_out ... ok");
        tally.add("test result: ok. 1 passed; 0 failed; 2 ignored; 0 measured; finished in 0.01s");
        assert_eq!(tally.to_string(), "13 passed, 3 failed, 2 ignored");
    }
}
