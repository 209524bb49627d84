//! What netstate costs and how long it takes, measured beside its peers. Each measure prints its figures as they come;
//! `cargo xtask bench` makes tables of them.

mod asking;
pub mod churn;
pub mod command;
mod cost;
mod crowd;
pub mod figure;
mod growth;
mod idle;
mod latency;
mod lost;
pub mod tracer;
