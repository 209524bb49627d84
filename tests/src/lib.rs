//! The harness of the end-to-end tests: network namespaces, the sockets in them, the `netstate` binary in
//! its several roles, and `ss` as the ground truth.
//!
//! Nothing here knows how `netstate` works inside: it is started as a user would start it, and read as a
//! user would read it.

pub mod bench;
pub mod binary;
pub mod bpf;
pub mod brief;
pub mod crowd;
pub mod daemon;
pub mod figures;
pub mod group;
pub mod holder;
pub mod liar;
pub mod lifecycle;
pub mod link;
pub mod mixture;
pub mod namespace;
pub mod nss;
pub mod objects;
pub mod passing;
pub mod peer;
pub mod process;
pub mod requirements;
pub mod rows;
pub mod saturation;
pub mod snapshot;
pub mod sockets;
pub mod stats;
mod talker;
pub mod traffic;
pub mod unaccepted;
pub mod wait;
pub mod watch;

#[cfg(test)]
use {jsonschema as _, libtest_mimic as _};

pub use daemon::Daemon;
pub use holder::Holder;
pub use link::Link;
pub use namespace::Namespace;
pub use objects::Objects;
pub use peer::Peer;
pub use watch::Watch;
