//! Why a connection ended, in the words of the kernel's error.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What the kernel said of an end: the socket's pending error (`sk_err`) when it went to CLOSE, or what
/// replaced a minisock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Reason {
    /// `ECONNREFUSED`: a RST answered the SYN.
    Refused,
    /// `ETIMEDOUT`: nobody answered.
    TimedOut,
    /// `ECONNRESET` or `EPIPE`: the peer sent a RST (`tcp_reset`).
    ResetByPeer,
    /// `ENETUNREACH`, `EHOSTUNREACH` and their like.
    Unreachable,
    /// `ECONNABORTED`: ended from outside, as `ss -K` does (`tcp_abort`).
    Aborted,
    /// A new connection took over the pair of ends from a minisock.
    Reused,
    /// Any other errno.
    Errno(u32),
}

impl Reason {
    /// What an errno of a socket means.
    #[must_use]
    pub const fn from_errno(errno: u32) -> Self {
        /// `include/uapi/asm-generic/errno*.h`; MIPS and SPARC number theirs differently.
        const EPIPE: u32 = 32;
        const ENETDOWN: u32 = 100;
        const ENETUNREACH: u32 = 101;
        const ECONNABORTED: u32 = 103;
        const ECONNRESET: u32 = 104;
        const ETIMEDOUT: u32 = 110;
        const ECONNREFUSED: u32 = 111;
        const EHOSTDOWN: u32 = 112;
        const EHOSTUNREACH: u32 = 113;
        match errno {
            ECONNREFUSED => Self::Refused,
            ETIMEDOUT => Self::TimedOut,
            ECONNRESET | EPIPE => Self::ResetByPeer,
            ENETDOWN | ENETUNREACH | EHOSTDOWN | EHOSTUNREACH => Self::Unreachable,
            ECONNABORTED => Self::Aborted,
            other => Self::Errno(other),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "refused",
            Self::TimedOut => "timed out",
            Self::ResetByPeer => "reset by peer",
            Self::Unreachable => "unreachable",
            Self::Aborted => "aborted",
            Self::Reused => "port pair reused",
            Self::Errno(errno) => return write!(f, "errno {errno}"),
        })
    }
}
