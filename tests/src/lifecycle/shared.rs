//! A listener that threads on several processors connect to, accept from and close at the same time.

use std::net::SocketAddr;

use socket2::Socket;

use super::{arena::Side, route::Route};

/// A listener that an arena keeps.
#[derive(Debug)]
pub(super) struct Shared {
    /// The listener.
    pub(super) socket: Socket,
    /// Where it is.
    pub(super) side: Side,
    /// Where it is reached.
    pub(super) target: SocketAddr,
}

impl Shared {
    /// Shares what listens at the end of `route`.
    #[must_use]
    pub(super) fn new(socket: Socket, route: &Route, target: SocketAddr) -> Self {
        Self {
            socket,
            side: route.server,
            target,
        }
    }
}
