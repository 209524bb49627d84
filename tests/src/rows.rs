//! A socket as `ss` and `netstate list --json` both see it.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

/// One end of a socket; no port where it may be any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct End {
    /// Address, the unspecified one for any.
    pub addr: IpAddr,
    /// Port.
    pub port: Option<u16>,
}

impl From<SocketAddr> for End {
    fn from(address: SocketAddr) -> Self {
        Self {
            addr: address.ip(),
            port: Some(address.port()),
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(out, "{}", SocketAddr::new(self.addr, port)),
            None => write!(out, "{}:*", self.addr),
        }
    }
}

/// What the two must agree on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    /// State, as netstat spells it.
    pub state: String,
    /// Local end.
    pub local: End,
    /// Remote end.
    pub remote: End,
    /// Bytes not yet read; 0 for a listener, where `ss` and `netstat` mean different things.
    pub recv_q: u32,
    /// Bytes not yet acknowledged; 0 for a listener.
    pub send_q: u32,
    /// The kernel's name for the connection.
    pub cookie: u64,
}

impl Row {
    /// The row with the queues that are only shown for connections.
    #[must_use]
    pub fn without_backlog(mut self) -> Self {
        if self.state == "LISTEN" {
            self.recv_q = 0;
            self.send_q = 0;
        }
        self
    }
}

impl fmt::Display for Row {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            state,
            local,
            remote,
            recv_q,
            send_q,
            cookie,
        } = self;
        write!(
            out,
            "{state} {local} → {remote} recv {recv_q} send {send_q} cookie {cookie}"
        )
    }
}
