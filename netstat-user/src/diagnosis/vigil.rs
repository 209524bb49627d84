//! From one look to the next: which sockets have become stuck, and which are so no longer.

use std::{net::IpAddr, time::Duration};

use rustc_hash::FxHashMap;

use super::{
    Kind, Looks, Suspects,
    context::Context,
    finding::{self, Service},
    rules::Symptom,
};
use crate::{
    clock::Ktime,
    connection::{Cookie, Netns},
    reason::Reason,
    tcp::TcpState,
    view::{HistoryView, RowView},
};

/// What is not stuck, or not there, counts as that when so many looks in a row find it so: a queue that is full most of the
/// time is not news each time, and an end may be told in a moment.
const PATIENCE: u8 = 2;

/// What is stuck: a socket, or what several take together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Subject {
    /// One socket. A minisock may share the cookie of a socket that is used again, but not its peer.
    Socket(Cookie, IpAddr, Option<u16>),
    /// Ports, or places for TIME_WAIT.
    Shared(Kind, Netns, Service),
}

impl Subject {
    fn of(row: &RowView) -> Self {
        let connection = &row.connection;
        let peer = connection.remote.addr(connection.family);
        Self::Socket(connection.cookie, peer, connection.remote.port())
    }
}

/// Something that is stuck.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stuck {
    /// The socket, or one of several, as it was seen so last.
    pub row: RowView,
    /// What is wrong with it.
    pub symptom: Symptom,
    /// What it is a connection to.
    pub service: Service,
    /// The processes on this end that it depends on.
    pub suspects: Suspects,
    /// When it was seen so last.
    pub seen: Ktime,
    /// How many looks in a row have not found it so,
    quiet: u8,
    /// and when the first of them saw that it makes progress.
    progress: Option<Ktime>,
}

impl Stuck {
    /// Since when it has been stuck, at the latest.
    #[must_use]
    pub fn since(&self) -> Ktime {
        self.seen.minus(self.symptom.age)
    }

    /// Why it is stuck: what keeps the processes from running comes first.
    #[must_use]
    pub fn cause(&self) -> String {
        finding::cause(self.symptom.kind, &self.suspects)
    }

    /// Whether it is worse than it was, or stuck in another state.
    fn is_news_after(&self, known: &Self) -> bool {
        self.symptom.severity > known.symptom.severity || self.row.state != known.row.state
    }

    /// For how long it was stuck if that was over at `end`.
    #[must_use]
    pub fn lasted(&self, end: Ktime) -> Duration {
        end.since(self.since())
    }
}

/// What has become of something that was stuck.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It makes progress in the state that it is in, as was seen at that time.
    Progress(Ktime),
    /// It has gone on to another state.
    Moved(Ktime, TcpState),
    /// It has ended, and why, if that is known.
    Ended(Ktime, Option<Reason>),
    /// It is gone, and nobody can tell how: there was no daemon yet when it began, or its history is forgotten.
    Gone,
}

/// What has changed from one look to the next.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// What has become stuck, the worst first.
    pub stuck: Vec<Stuck>,
    /// What makes progress now, in the same state, and since when at the latest.
    pub recovered: Vec<(Stuck, Ktime)>,
    /// What has gone on to another state, or has ended: its history tells which and when, see [`outcome`].
    pub left: Vec<Stuck>,
}

/// What is known to be stuck.
#[derive(Debug, Default)]
pub struct Vigil {
    stuck: FxHashMap<Subject, Stuck>,
}

impl Vigil {
    /// Judges another look by the one before it.
    pub fn look(&mut self, looks: &Looks<'_>) -> Changes {
        let mut changes = Changes::default();
        let found = Self::found(looks);
        self.compare(looks, &found, &mut changes);
        for (subject, stuck) in found {
            let known = self.stuck.insert(subject, stuck.clone());
            if known.is_none_or(|known| stuck.is_news_after(&known)) {
                changes.stuck.push(stuck);
            }
        }
        changes.stuck.sort_by_key(|stuck| {
            let order = (stuck.symptom.severity, stuck.symptom.age);
            (std::cmp::Reverse(order), stuck.row.connection.cookie)
        });
        changes
    }

    /// What is stuck in the second look.
    fn found(looks: &Looks<'_>) -> FxHashMap<Subject, Stuck> {
        let context = Context::new(looks);
        let stuck = context.symptoms().filter_map(|(row, symptom)| {
            let service = symptom.service.unwrap_or_else(|| context.service(row));
            let subject = if symptom.kind.is_shared() {
                Subject::Shared(symptom.kind, row.connection.netns, service)
            } else {
                Subject::of(row)
            };
            let kind = symptom.kind;
            let stuck = Stuck {
                row: row.clone(),
                symptom,
                service,
                suspects: context.suspects(row, kind),
                seen: row.figures.as_deref()?.time,
                quiet: 0,
                progress: None,
            };
            Some((subject, stuck))
        });
        stuck.collect()
    }

    /// Takes out what is stuck no longer. What cannot be judged now stays as it was.
    fn compare(&mut self, looks: &Looks<'_>, found: &FxHashMap<Subject, Stuck>, changes: &mut Changes) {
        if self.stuck.keys().all(|subject| found.contains_key(subject)) {
            return;
        }
        let now = &looks.now.rows;
        let rows: FxHashMap<Subject, &RowView> = now.iter().map(|row| (Subject::of(row), row)).collect();
        let times = now.iter().filter_map(|row| Some(row.figures.as_deref()?.time));
        let latest = times.max();
        self.stuck.retain(|subject, stuck| {
            if found.contains_key(subject) {
                return true;
            }
            let row = match subject {
                Subject::Socket(..) => rows.get(subject).copied(),
                Subject::Shared(..) => None,
            };
            let progress = match (subject, row) {
                (Subject::Shared(..), _) => latest,
                (_, None) => None,
                (_, Some(row)) if row.state != stuck.row.state => {
                    changes.left.push(stuck.clone());
                    return false;
                }
                (_, Some(row)) => match row.figures.as_deref() {
                    Some(figures) => Some(figures.time),
                    None => return true,
                },
            };
            stuck.progress = stuck.progress.or(progress);
            stuck.quiet += 1;
            if stuck.quiet < PATIENCE {
                return true;
            }
            match (progress, stuck.progress) {
                (Some(_), Some(since)) => changes.recovered.push((stuck.clone(), since)),
                _ => changes.left.push(stuck.clone()),
            }
            false
        });
    }
}

/// What has become of something that has [`left`](Changes::left), by the histories of its cookie.
#[must_use]
pub fn outcome(stuck: &Stuck, histories: &[HistoryView]) -> Outcome {
    let subject = Subject::of(&stuck.row);
    let Some(history) = histories
        .iter()
        .find(|history| Subject::of(&history.row) == subject)
    else {
        return Outcome::Gone;
    };
    let mut steps = history.steps().iter();
    let next = steps.find(|step| step.time > stuck.seen && step.to != TcpState::Close);
    match (next, history.ending) {
        (Some(step), _) => Outcome::Moved(step.time, step.to),
        (None, Some(ending)) => Outcome::Ended(ending.time, ending.reason),
        (None, None) => Outcome::Gone,
    }
}
