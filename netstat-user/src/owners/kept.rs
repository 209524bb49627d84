//! What holds a socket of which no process has a descriptor.

use std::fmt;

use super::Owners;
use crate::connection::Owner;

/// What holds such a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// An `io_uring` of its owners.
    Ring,
    /// An `io_uring` of this process may, which does not say which sockets it has.
    MaybeRing(Owner),
    /// A message (`SCM_RIGHTS`) that nobody has received.
    InFlight {
        /// Who holds the unix socket that it waits at, if it can only be that one.
        receiver: Option<Owner>,
    },
    /// A message that nobody can receive, or the kernel.
    Unknown,
}

impl Kept {
    /// The word for it in JSON.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Ring => "io_uring",
            Self::MaybeRing(_) => "maybe_io_uring",
            Self::InFlight { .. } => "in_flight",
            Self::Unknown => "unknown",
        }
    }

    /// What to do so that the socket gets a process again; `None` where one has it.
    #[must_use]
    pub fn way_out(&self) -> Option<String> {
        match self {
            Self::Ring => None,
            Self::MaybeRing(owner) => Some(format!(
                "see what {} ({}) does with its io_uring: `strace -fp {}`",
                owner.comm, owner.pid, owner.pid
            )),
            Self::InFlight { receiver: Some(owner) } => Some(format!(
                "find out why {} ({}) does not receive the message: `strace -fp {}`; the socket is closed when the message is",
                owner.comm, owner.pid, owner.pid
            )),
            Self::InFlight { receiver: None } => Some(
                "find out who does not receive messages: `grep -H scm_fds /proc/*/fdinfo/*` shows where some wait; the socket is closed when its message is".to_owned(),
            ),
            Self::Unknown => Some(
                "find out what has taken it over: a driver of the kernel (NBD, iSCSI, NFS), or a request of an io_uring".to_owned(),
            ),
        }
    }
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ring => f.write_str("no process has a descriptor of it, but an io_uring has it"),
            Self::MaybeRing(owner) => write!(
                f,
                "no process has a descriptor of it; an io_uring of {} ({}) may have it",
                owner.comm, owner.pid
            ),
            Self::InFlight { receiver: None } => {
                f.write_str("no process holds it: it is in a message (SCM_RIGHTS) that nobody has received")
            }
            Self::InFlight {
                receiver: Some(owner),
            } => {
                write!(
                    f,
                    "no process holds it: it is in a message (SCM_RIGHTS) that {} ({}) has not received",
                    owner.comm, owner.pid
                )?;
                match owner.fd {
                    Some(fd) => write!(f, " from its fd {fd}"),
                    None => Ok(()),
                }
            }
            Self::Unknown => f.write_str(
                "no process holds it: the kernel itself uses it, or it is in a message that no process can receive",
            ),
        }
    }
}

impl Owners {
    /// What holds the socket, where no process has a descriptor of it and that was looked for.
    #[must_use]
    pub fn kept(&self) -> Option<&Kept> {
        self.kept.as_deref()
    }

    /// Rings of these processes have the socket.
    pub(crate) fn kept_by_rings(&mut self, rings: &[Owner]) {
        let last: Vec<_> = self.iter().copied().collect();
        self.list(rings.iter().copied().chain(last).collect());
        self.kept = Some(Box::new(Kept::Ring));
    }

    /// No process has the socket.
    pub(crate) fn kept_by_nobody(&mut self, kept: Kept) {
        self.kept = Some(Box::new(kept));
    }
}
