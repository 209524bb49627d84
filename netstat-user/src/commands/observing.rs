//! Reads what a judgement of two looks depends on besides: what processes are doing, and where packets go.

use std::net::IpAddr;

use rustc_hash::FxHashMap;

use crate::{
    activity::{self, Activity, Question},
    connection::Netns,
    diagnosis::{Findings, Looks, Suspects, crossings},
    keepers,
    reach::{self, Reaches},
    view::Snapshot,
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

/// Where packets go on which the judgement of `looks` depends.
pub(super) async fn reaches(looks: &Looks<'_>) -> anyhow::Result<Reaches> {
    follow(crossings(looks)).await
}

/// Takes back what is said of peers in other namespaces that packets do not go to.
pub(super) async fn confirm_peers(findings: &mut Findings) -> anyhow::Result<()> {
    findings.confirm_peers(&follow(findings.crossings()).await?);
    Ok(())
}

async fn follow(crossings: Vec<(Netns, IpAddr)>) -> anyhow::Result<Reaches> {
    if crossings.is_empty() {
        return Ok(Reaches::default());
    }
    Ok(tokio::task::spawn_blocking(move || reach::follow(&crossings)).await?)
}

/// The same with what has sockets that no process has a descriptor of.
pub(super) async fn completed(mut snapshot: Snapshot) -> anyhow::Result<Snapshot> {
    if !keepers::are_wanted(&snapshot.rows) {
        return Ok(snapshot);
    }
    let complete = move || {
        keepers::complete(&mut snapshot.rows);
        snapshot
    };
    Ok(tokio::task::spawn_blocking(complete).await?)
}

/// What makes two questions one.
fn key(question: &Question) -> (u32, u64, Option<u64>) {
    (question.owner.pid, question.owner.start.0, question.listener)
}
