//! Randomised lives of TCP connections, and the judgement of what netstate says of them.
//!
//! Threads in several network namespaces make every kind of life that a connection can have
//! ([`lives`]), as fast as the machine lets them. A seed decides what each thread does; what the kernel makes of
//! it is up to the moment. Meanwhile the stream is held against what must be true of every connection
//! ([`history`]), and the table as it is against the kernel ([`verifier`]); afterwards, with sockets in all states left open, every row is held against `ss` ([`judge`]).

mod arena;
pub mod command;
mod destroy;
mod dice;
mod hand;
mod history;
mod judge;
mod kernel;
mod lives;
mod options;
mod report;
mod route;
mod run;
mod shared;
mod states;
mod stream;
mod sys;
mod touch;
mod trial;
mod vanishing;
mod verifier;
mod withheld;
mod worker;

pub use options::{Options, Rate};
pub use report::Report;
pub use run::run;
