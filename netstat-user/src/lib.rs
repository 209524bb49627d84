//! netstate: TCP state transitions as they happen, and a netstat table with a memory.
//!
//! Data flows one way: [`loader`] → [`decode`] → [`table`] → [`view`] → [`output`]. [`engine`] drives that,
//! [`daemon`] and [`client`] carry views between processes, and [`commands`] are what the user calls.

pub mod cli;
pub mod client;
pub mod clock;
pub mod commands;
pub mod connection;
pub mod daemon;
pub mod decode;
pub mod diag;
pub mod engine;
pub mod facts;
pub mod filter;
pub mod loader;
pub mod namespaces;
pub mod output;
pub mod protocol;
pub mod reason;
pub mod schedule;
pub mod sources;
pub mod sweeper;
pub mod table;
pub mod tcp;
pub mod timeline;
pub mod verify;
pub mod view;
