//! What the table reports: one step in the life of a connection.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    clock::Ktime,
    connection::{Connection, Owner},
    reason::Reason,
    tcp::TcpState,
};

/// How a step is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The kernel announced it; its time is exact.
    Event,
    /// A scan found it done; it happened between [`Transition::earliest`] and that time.
    #[serde(rename = "scan")]
    Sweep,
    /// It follows from what the kernel announced, and the kernel has no announcement for it.
    Inferred,
}

/// A connection went from one state to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transition {
    /// Which connection.
    pub connection: Connection,
    /// When; for [`Source::Sweep`] the time at which it was found.
    pub time: Ktime,
    /// The state before; `None` when nobody saw it.
    pub from: Option<TcpState>,
    /// The state after. `Close` ends the row.
    pub to: TcpState,
    /// How long the state before had lasted.
    pub in_state: Option<Duration>,
    /// `in_state` is a lower bound: the state was there before it was first seen.
    pub at_least: bool,
    /// How it is known.
    pub source: Source,
    /// With [`Source::Sweep`], the last time at which it is known not to have happened yet.
    pub earliest: Option<Ktime>,
    /// Why, where the kernel said.
    pub reason: Option<Reason>,
    /// The process that holds the socket, or held it last.
    pub owner: Option<Owner>,
    /// The socket's user.
    pub uid: Option<u32>,
    /// The socket's control group.
    pub cgroup: Option<u64>,
    /// The socket's `SO_MARK`, as the last event or scan has shown it.
    pub fwmark: Option<u32>,
}
