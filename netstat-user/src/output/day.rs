//! The date that lines with a time of day belong to.

use jiff::civil::Date;

/// The date of the lines so far.
#[derive(Debug, Default)]
pub(super) struct Day(Option<Date>);

impl Day {
    /// Lines that go without a date on this day.
    pub(super) const fn of(date: Date) -> Self {
        Self(Some(date))
    }

    /// The date of the next line, if it has to be said.
    pub(super) fn turn(&mut self, date: Date) -> Option<Date> {
        let other = self.0 != Some(date);
        self.0 = Some(date);
        other.then_some(date)
    }
}
