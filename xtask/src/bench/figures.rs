//! The figures of a run, by what was measured and of whom.

use anyhow::{Context as _, Result};
use serde::Deserialize;

/// Everything that was measured, in the order in which it first came.
#[derive(Debug, Default)]
pub(super) struct Figures(Vec<Series>);

/// All figures of one measure and subject.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) measure: String,
    pub(super) subject: String,
    pub(super) unit: String,
    /// Sorted.
    values: Vec<f64>,
}

/// One figure, as the helper prints it.
#[derive(Deserialize)]
pub(super) struct Line {
    pub(super) measure: String,
    pub(super) subject: String,
    pub(super) unit: String,
    pub(super) value: f64,
}

impl Figures {
    /// Adds what the helper has printed.
    pub(super) fn add(&mut self, printed: &str) -> Result<()> {
        for line in printed.lines() {
            let line: Line = serde_json::from_str(line)
                .with_context(|| format!("the helper printed something that is no figure: {line}"))?;
            self.insert(line);
        }
        Ok(())
    }

    /// Adds one.
    pub(super) fn insert(&mut self, line: Line) {
        let known = self
            .0
            .iter_mut()
            .find(|series| series.measure == line.measure && series.subject == line.subject);
        let Some(series) = known else {
            self.0.push(Series {
                measure: line.measure,
                subject: line.subject,
                unit: line.unit,
                values: vec![line.value],
            });
            return;
        };
        let place = series.values.partition_point(|value| *value < line.value);
        series.values.insert(place, line.value);
    }

    /// All series.
    pub(super) fn series(&self) -> &[Series] {
        &self.0
    }

    /// The median of one.
    pub(super) fn median(&self, measure: &str, subject: &str) -> Option<f64> {
        let mut found = self.0.iter();
        let found = found.find(|series| series.measure == measure && series.subject == subject)?;
        Some(found.median())
    }
}

impl Series {
    /// The one in the middle.
    pub(super) fn median(&self) -> f64 {
        self.values
            .get(self.values.len() / 2)
            .copied()
            .unwrap_or_default()
    }

    /// The smallest and the largest.
    pub(super) fn spread(&self) -> (f64, f64) {
        let least = self.values.first().copied().unwrap_or_default();
        (least, self.values.last().copied().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_gathered_by_measure_and_subject() {
        let mut figures = Figures::default();
        let line =
            |value| format!("{{\"measure\":\"m\",\"subject\":\"s\",\"unit\":\"ms\",\"value\":{value}}}\n");
        figures.add(&[line(3), line(1), line(2)].concat()).unwrap();
        assert_eq!(figures.median("m", "s"), Some(2.0));
        assert_eq!(figures.series()[0].spread(), (1.0, 3.0));
        assert_eq!(figures.median("m", "other"), None);
        assert!(figures.add("no figure").is_err());
    }
}
