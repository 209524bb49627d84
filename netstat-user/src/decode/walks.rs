//! The records of the walks over sockets and over open files.

use std::num::NonZeroU32;

use netstat_ebpf::wire::{self, kind};

use super::{DecodeError, connection, fence, figures, known_cgroup, known_form, read, record_kind};
use crate::{
    clock::{Ktime, Tick},
    connection::{Comm, Cookie, Netns, Owner, OwnerSource, SkAddr},
    facts::{Descriptor, Fence, Figures, Form, Holder, Queues, Sighting},
    tcp::TcpState,
};

/// A record of a sweep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SweepRecord {
    /// A socket.
    Seen(Sighting),
    /// A socket, with its figures.
    Figures(Sighting, Box<Figures>),
    /// The end, or that of a part.
    End(Fence),
}

/// Decodes the first record of a sweep's output and returns the bytes behind it. `tick` is the kernel's.
///
/// # Errors
///
/// When the bytes do not begin with such a record; [`DecodeError::Short`] when more bytes may make one.
pub fn sweep_record(bytes: &[u8], tick: Tick) -> Result<(SweepRecord, &[u8]), DecodeError> {
    match record_kind(bytes)? {
        kind::SOCKET_SEEN => {
            let (seen, rest) = read(bytes)?;
            Ok((SweepRecord::Seen(sighting(&seen, tick)?), rest))
        }
        kind::SOCKET_FIGURES => {
            let (record, rest): (wire::SocketFigures, _) = read(bytes)?;
            let seen = sighting(&record.seen, tick)?;
            let figures = figures::figures(&record, &seen, tick);
            Ok((SweepRecord::Figures(seen, Box::new(figures)), rest))
        }
        kind::SWEEP_END => {
            let (end, rest) = read(bytes)?;
            Ok((SweepRecord::End(fence(&end)), rest))
        }
        other => Err(DecodeError::Kind(other)),
    }
}

/// How long the first record of a sweep is, and the end that it marks if it is one, without a look at what it says of a
/// socket. `None` when more bytes may make a record.
///
/// # Errors
///
/// When the bytes begin with no such record.
pub fn sweep_step(bytes: &[u8]) -> Result<Option<(usize, Option<Fence>)>, DecodeError> {
    let Ok(kind) = record_kind(bytes) else {
        return Ok(None);
    };
    let length = match kind {
        kind::SOCKET_SEEN => size_of::<wire::SocketSeen>(),
        kind::SOCKET_FIGURES => size_of::<wire::SocketFigures>(),
        kind::SWEEP_END => size_of::<wire::SweepEnd>(),
        other => return Err(DecodeError::Kind(other)),
    };
    if bytes.len() < length {
        return Ok(None);
    }
    let end = (kind == kind::SWEEP_END).then(|| read(bytes)).transpose()?;
    Ok(Some((length, end.map(|(end, _)| fence(&end)))))
}

/// A record of a scan of open files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileRecord {
    /// A descriptor that holds a socket; and whether that is one of MPTCP's whose cookie nobody had asked for before.
    Holder(Holder, bool),
    /// A descriptor of a namespace, of whatever kind.
    Namespace(Descriptor),
    /// A process has a socket, of whatever family, in this network namespace, and is in another one.
    Elsewhere(Netns),
}

/// Decodes the first record of a scan of open files and returns the bytes behind it.
///
/// # Errors
///
/// As [`sweep_record`].
pub fn file_record(bytes: &[u8]) -> Result<(FileRecord, &[u8]), DecodeError> {
    match record_kind(bytes)? {
        kind::SOCKET_HELD => {
            let (held, rest): (wire::SocketHeld, _) = read(bytes)?;
            let owner = Owner {
                pid: held.pid,
                start: Ktime(held.start),
                tid: NonZeroU32::new(held.tid),
                fd: Some(held.fd),
                more_fds: 0,
                comm: Comm(held.comm),
                seen: Ktime(held.time),
                source: OwnerSource::Scan,
            };
            let cookie = Cookie(held.cookie);
            let first_asked = held.flags & wire::held::FIRST_ASKED != 0;
            Ok((FileRecord::Holder(Holder { cookie, owner }, first_asked), rest))
        }
        kind::NAMESPACE_HELD => {
            let (held, rest): (wire::NamespaceHeld, _) = read(bytes)?;
            let record = match held.netns {
                0 => FileRecord::Namespace(Descriptor {
                    pid: held.pid,
                    tid: NonZeroU32::new(held.tid),
                    fd: held.fd,
                }),
                netns => FileRecord::Elsewhere(Netns(netns)),
            };
            Ok((record, rest))
        }
        other => Err(DecodeError::Kind(other)),
    }
}

fn sighting(seen: &wire::SocketSeen, tick: Tick) -> Result<Sighting, DecodeError> {
    let form = known_form(seen.form)?;
    let due = seen.due_in.checked_sub(1);
    let has = |flag| seen.flags & flag != 0;
    Ok(Sighting {
        time: Ktime(seen.time),
        connection: connection(&seen.socket)?,
        skaddr: SkAddr(seen.socket.skaddr),
        state: TcpState::try_from(seen.state)?,
        form,
        uid: (form == Form::Full).then_some(seen.socket.uid),
        cgroup: known_cgroup(&seen.socket),
        fwmark: has(wire::seen::FWMARK).then_some(seen.fwmark),
        autobound: has(wire::seen::PORT_CHOICE).then_some(has(wire::seen::AUTOBOUND)),
        inode: (seen.inode != 0).then_some(seen.inode),
        mptcp: (seen.mptcp != 0).then_some(Cookie(seen.mptcp)),
        due: due.map(|left| Ktime(seen.time).plus(tick.times(left.into()))),
        queues: Queues {
            recv: seen.recv_q,
            send: seen.send_q,
            backlog: seen.backlog,
        },
    })
}
