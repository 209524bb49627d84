//! A process that something stuck depends on, in JSON.

use serde::Serialize;

use crate::diagnosis::Suspect;

/// One process.
#[derive(Serialize)]
pub(super) struct Suspected {
    pid: u32,
    comm: String,
    fd: Option<u32>,
    /// How many connections it holds, or has held last, that came from the listener.
    accepted: usize,
    /// What it waits for on the listener: `accept` or `epoll`.
    waits_in: Option<&'static str>,
    /// The kernel function that it sleeps in.
    sleeps_in: Option<String>,
    hindrances: Vec<Hindered>,
}

/// What keeps a process from running.
#[derive(Serialize)]
struct Hindered {
    kind: &'static str,
    text: String,
    way_out: String,
}

impl Suspected {
    pub(super) fn of(suspect: &Suspect) -> Self {
        let activity = suspect.activity.as_ref();
        let waits_in = activity.and_then(|activity| {
            let epoll = activity.epoll.map(|_| "epoll");
            if activity.accepts { Some("accept") } else { epoll }
        });
        let hindrances = suspect.hindrances().map(|hindrance| Hindered {
            kind: hindrance.word(),
            text: hindrance.to_string(),
            way_out: hindrance.way_out(&suspect.name(), suspect.owner.pid),
        });
        Self {
            pid: suspect.owner.pid,
            comm: suspect.owner.comm.to_string(),
            fd: suspect.owner.fd,
            accepted: suspect.accepted,
            waits_in,
            sleeps_in: activity.and_then(|activity| activity.function.clone()),
            hindrances: hindrances.collect(),
        }
    }
}
