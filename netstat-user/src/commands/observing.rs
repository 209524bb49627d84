//! Reads what the processes are doing that something stuck depends on.

use rustc_hash::FxHashMap;

use crate::{
    activity::{self, Activity, Question},
    diagnosis::Suspects,
};

/// Processes that are read, at most: each takes some file operations.
const MOST: usize = 4096;

/// Fills in what the processes of `all` are doing. Each process is read once.
pub(super) async fn observe(all: Vec<&mut Suspects>) -> anyhow::Result<()> {
    let mut places = FxHashMap::default();
    let mut questions = Vec::new();
    for question in all.iter().flat_map(|suspects| suspects.questions()) {
        if questions.len() < MOST {
            places.entry(key(&question)).or_insert_with(|| {
                questions.push(question);
                questions.len() - 1
            });
        }
    }
    if questions.is_empty() {
        return Ok(());
    }
    // It reads files and may wait.
    let read = tokio::task::spawn_blocking(move || activity::read(&questions)).await?;
    let of = |question: Question| -> Option<Activity> {
        let place = places.get(&key(&question))?;
        read.get(*place)?.clone()
    };
    for suspects in all {
        let activities: Vec<_> = suspects.questions().map(of).collect();
        suspects.learn(activities);
    }
    Ok(())
}

/// What makes two questions one.
fn key(question: &Question) -> (u32, u64, Option<u64>) {
    (question.owner.pid, question.owner.start.0, question.listener)
}
