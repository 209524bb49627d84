//! The fold against a model of the kernel: whatever the order of events and sweeps, whatever is lost, the table
//! ends as the kernel is.

mod holders;
mod lives;
mod properties;
mod reasons;
mod stories;
mod world;
