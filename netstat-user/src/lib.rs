//! netstate: TCP state transitions as they happen, and a netstat table with a memory.
//!
//! Data flows one way: [`loader`] → [`decode`] → [`table`] → [`view`] → [`output`]. [`engine`] drives that,
//! [`daemon`] and [`client`] carry views between processes, and [`commands`] are what the user calls.

pub mod activity;
pub mod census;
pub mod cli;
pub mod client;
pub mod clock;
pub mod commands;
pub mod connection;
pub mod daemon;
pub mod decode;
pub mod diag;
pub mod diagnosis;
pub mod engine;
pub mod facts;
pub mod filter;
pub mod hiding;
pub mod keepers;
pub mod labels;
pub mod loader;
pub mod memory;
pub mod namespaces;
pub mod output;
pub mod owners;
mod plural;
pub mod processes;
pub mod protocol;
pub mod reach;
pub mod reason;
pub mod recording;
pub mod scan_schedule;
pub mod schedule;
pub mod settings;
pub mod sources;
pub mod sweeper;
pub mod table;
pub mod tcp;
pub mod timeline;
pub mod verify;
pub mod view;

// Benchmarks need these.
#[cfg(test)]
use {divan as _, stats_alloc as _};
