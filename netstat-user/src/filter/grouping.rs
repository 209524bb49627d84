//! Where a text mixes `and` and `or` without parentheses, and where they would have to be.

use std::ops::Range;

/// Reads along: what stands between two `or`s, and within which parentheses.
#[derive(Debug)]
pub(super) struct Grouping {
    /// One for each parenthesis that is open, and the outermost.
    levels: Vec<Level>,
    /// What belongs together by `and`, beside an `or`.
    groups: Vec<Range<usize>>,
}

impl Default for Grouping {
    fn default() -> Self {
        Self {
            levels: vec![Level::default()],
            groups: Vec::new(),
        }
    }
}

/// What stands within one pair of parentheses.
#[derive(Debug, Default)]
struct Level {
    /// Where what follows the last `or` begins.
    start: usize,
    /// An `and` has followed it.
    has_and: bool,
    has_or: bool,
    groups: Vec<Range<usize>>,
}

impl Level {
    /// What has followed the last `or` ends here.
    fn end_group(&mut self, end: usize) {
        if self.has_and {
            self.groups.push(self.start..end);
        }
    }
}

impl Grouping {
    /// A parenthesis has been opened.
    pub(super) fn open(&mut self, start: usize) {
        let level = Level {
            start,
            ..Level::default()
        };
        self.levels.push(level);
    }

    /// Two tests belong together.
    pub(super) fn and(&mut self) {
        if let Some(level) = self.levels.last_mut() {
            level.has_and = true;
        }
    }

    /// An `or` that begins at `end`, and is followed by something at `start`.
    pub(super) fn or(&mut self, end: usize, start: usize) {
        if let Some(level) = self.levels.last_mut() {
            level.end_group(end);
            level.has_or = true;
            (level.start, level.has_and) = (start, false);
        }
    }

    /// The parenthesis that was opened last is closed at `end`.
    pub(super) fn close(&mut self, end: usize) {
        if let Some(mut level) = self.levels.pop() {
            level.end_group(end);
            if level.has_or {
                self.groups.append(&mut level.groups);
            }
        }
    }

    /// The text is over.
    pub(super) fn end(&mut self, end: usize) {
        while !self.levels.is_empty() {
            self.close(end);
        }
    }

    /// `text` with the parentheses that say how it is understood; `None` if it has no need of any.
    pub(super) fn applied_to(&self, text: &str) -> Option<String> {
        let mut signs = Vec::new();
        for Range { start, end } in &self.groups {
            let end = text.get(..*end)?.trim_end().len();
            signs.extend([(end, 0, ')'), (*start, 1, '(')]);
        }
        // What ends somewhere ends before something else begins there.
        signs.sort_unstable();
        let mut grouped = text.to_owned();
        for (at, _, sign) in signs.iter().rev() {
            grouped.insert(*at, *sign);
        }
        (!signs.is_empty()).then(|| grouped.trim().to_owned())
    }
}
