//! A look at one sock where it is: the question, and with it the answer, which user space makes sense of.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

// What a sock is to be: [`SocketLook::kind`].

/// A full sock that does not listen.
pub const FULL: u8 = 0;
/// A listener.
pub const LISTENER: u8 = 1;
/// A minisock.
pub const MINISOCK: u8 = 2;

/// A sock that is to be looked at, and what was found there.
///
/// Nothing keeps it there meanwhile. The cookie and the state are read last: it was this sock before, by what user space knows, and
/// no other has its cookie, so whatever was read before them was its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SocketLook {
    /// Where it was when it was last heard of. This and `kind` are the question.
    pub skaddr: u64,
    /// The cookie that is there.
    pub cookie: u64,
    /// Of a minisock, `skc_nulls_node.pprev`: 0 when it is in no hash.
    pub hashed: u64,
    /// Of a connection `rcv_nxt`, `copied_seq`, `write_seq` and `snd_una`; of a listener `sk_ack_backlog`, `sk_max_ack_backlog`
    /// and `icsk_accept_queue.qlen`, how many connections are half open; of a minisock `skc_refcnt`.
    pub numbers: [u32; 4],
    /// Not 0 when something could not be read.
    pub error: u32,
    /// What it is to be: [`FULL`] and so on.
    pub kind: u8,
    /// `skc_state`.
    pub state: u8,
    /// Of a minisock its substate.
    pub substate: u8,
    /// Zero.
    pub reserved: u8,
}

impl SocketLook {
    /// How many are looked at in one run. The verifier goes through them one by one.
    pub const BATCH: usize = 128;
}
