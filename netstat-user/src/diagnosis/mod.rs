//! What makes no progress, why, on what evidence, and what to do about it: a pure judgement of rows and their
//! figures, seen twice with a moment in between.
//!
//! `rules` judges sockets one by one, `ports` and `addresses` what they take together, `context` each of them with what the others have
//! to do with it, `reading` remembers who reads; `finding` puts those that are alike together, `suspects` are the processes that
//! have to act, and `advice` says what to do; `vigil` compares one look
//! with the next.

mod addresses;
mod advice;
mod context;
mod elsewhere;
mod finding;
mod kind;
mod ports;
mod reading;
mod rules;
mod suspects;
mod vigil;

#[cfg(test)]
mod tests;

pub use finding::{Finding, Findings, Group, Service, crossings, diagnose};
pub use kind::{Kind, Severity};
pub use reading::Reading;
pub use rules::{Case, Symptom};
pub(crate) use suspects::AsHolder;
pub use suspects::{Suspect, Suspects};
pub use vigil::{Changes, Outcome, Stuck, Vigil, outcome};

use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::{
    connection::Netns,
    filter::Filter,
    reach::Reaches,
    settings::Settings,
    view::{RowView, Snapshot},
};

/// What the kernel said at one moment.
#[derive(Debug, Clone, Default)]
pub struct Look {
    /// The rows, with their figures.
    pub rows: Vec<RowView>,
    /// The settings of their namespaces.
    pub settings: FxHashMap<Netns, Settings>,
}

/// Two looks, and what is asked of them.
#[derive(Debug)]
pub struct Looks<'a> {
    /// The first one.
    pub before: &'a Look,
    /// The second one.
    pub now: &'a Look,
    /// How long lies between them.
    pub between: Duration,
    /// What has been read until the second one, which has taken note of both and of those before.
    pub reading: &'a Reading,
    /// Where packets go that are sent to other namespaces, as far as it is known: see [`crossings`].
    pub reaches: &'a Reaches,
    /// Only what has been stuck for so long; `None` for what fits each state.
    pub older: Option<Duration>,
    /// Only what this matches; the others are still looked at for what they have to do with it.
    pub filter: Option<&'a Filter>,
}

impl Looks<'_> {
    fn wants(&self, row: &RowView) -> bool {
        self.filter.is_none_or(|filter| filter.matches(&row.into()))
    }
}

impl From<Snapshot> for Look {
    fn from(snapshot: Snapshot) -> Self {
        Self {
            rows: snapshot.rows,
            settings: snapshot.about.settings.into_iter().collect(),
        }
    }
}
