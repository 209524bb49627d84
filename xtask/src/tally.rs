//! Adding up what tests print.

use std::{collections::VecDeque, fmt};

/// How much is kept of what a failed test has printed, in lines, of its beginning and of its end: why it failed may come
/// last.
const FIRST: usize = 10;
const LAST: usize = 30;

/// The results of tests, as the lines say that close each of their programs, and what the failed ones have printed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Tally {
    passed: u64,
    failed: u64,
    ignored: u64,
    failures: Vec<Failure>,
    /// Whether the last failure's lines are still coming.
    within: bool,
}

/// A test that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Failure {
    name: String,
    first: Vec<String>,
    last: VecDeque<String>,
    /// How many between them are left out.
    left_out: usize,
}

impl Failure {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            first: Vec::new(),
            last: VecDeque::new(),
            left_out: 0,
        }
    }

    fn add(&mut self, line: &str) {
        if self.first.len() < FIRST {
            self.first.push(line.to_owned());
            return;
        }
        self.last.push_back(line.to_owned());
        if self.last.len() > LAST {
            self.last.pop_front();
            self.left_out += 1;
        }
    }
}

impl Tally {
    /// Adds what a line says.
    pub(crate) fn add(&mut self, line: &str) {
        if let Some(name) = failure(line) {
            self.failures.push(Failure::new(name));
            self.within = true;
        } else if line == "failures:" {
            // The names alone follow, after which the closing line does.
            self.within = false;
        } else if line.starts_with("test result:") {
            self.within = false;
            self.passed += number_before(line, " passed");
            self.failed += number_before(line, " failed");
            self.ignored += number_before(line, " ignored");
        } else if let Some(failure) = self.failures.last_mut()
            && self.within
            && !line.is_empty()
        {
            failure.add(line);
        }
    }

    /// Whether any test ran, or said why it could not.
    pub(crate) fn is_empty(&self) -> bool {
        self.passed + self.failed + self.ignored == 0
    }

    /// The failed tests and what they have printed, each line on one of its own; where a summary is all that is left
    /// of a long output, this is what one wants to know.
    pub(crate) fn failures(&self) -> String {
        let mut text = String::new();
        for failure in &self.failures {
            text.extend(["\n", &failure.name]);
            for line in &failure.first {
                text.extend(["\n    ", line]);
            }
            if failure.left_out > 0 {
                let left_out = format!("\n    ({} lines are left out here)", failure.left_out);
                text.push_str(&left_out);
            }
            for line in &failure.last {
                text.extend(["\n    ", line]);
            }
        }
        text
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            passed,
            failed,
            ignored,
            ..
        } = self;
        write!(out, "{passed} passed, {failed} failed, {ignored} ignored")
    }
}

/// The name of the failed test whose output this line opens.
fn failure(line: &str) -> Option<&str> {
    let name = line.strip_prefix("---- ")?.strip_suffix(" ----")?;
    // What the standard harness adds.
    Some(name.strip_suffix(" stdout").unwrap_or(name))
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

    fn tally(text: &str) -> Tally {
        let mut tally = Tally::default();
        text.lines().for_each(|line| tally.add(line));
        tally
    }

    #[test]
    fn counts_are_read_from_the_line_that_closes_tests() {
        let tally = tally(
            "test result: FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; finished in 0.01s\n\
             test time_wait::runs_out ... ok\n\
             test result: ok. 1 passed; 0 failed; 2 ignored; 0 measured; finished in 0.01s",
        );
        assert_eq!(tally.to_string(), "13 passed, 3 failed, 2 ignored");
        assert_eq!(tally.failures(), "");
    }

    #[test]
    fn of_much_that_was_said_the_beginning_and_the_end_are_kept() {
        let said: Vec<_> = (0..100).map(|number| format!("line {number}")).collect();
        let failures = tally(&format!("---- open::refused ----\n{}", said.join("\n"))).failures();
        for kept in [
            "line 0\n",
            "line 9\n",
            "(60 lines are left out here)\n",
            "line 70\n",
            "line 99",
        ] {
            assert!(failures.contains(kept), "{kept}: {failures}");
        }
        assert!(!failures.contains("line 69\n"), "{failures}");
    }

    #[test]
    fn failures_are_named_with_what_they_said() {
        let tally = tally(
            "test open::refused ... FAILED\n\
             \n\
             failures:\n\
             \n\
             ---- open::refused ----\n\
             no event within 20s\n\
             \n\
             ---- tests::decoded stdout ----\n\
             left: 1\n\
             \n\
             failures:\n    open::refused\n    tests::decoded\n\
             \n\
             test result: FAILED. 0 passed; 2 failed; 0 ignored; 0 measured; finished in 0.01s\n\
             something else",
        );
        assert_eq!(
            tally.failures(),
            "\nopen::refused\n    no event within 20s\ntests::decoded\n    left: 1"
        );
    }
}
