//! From the bytes that the kernel side wrote to facts. Takes any bytes: what makes no sense is an error,
//! never a panic.

mod figures;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    num::NonZeroU32,
};

use netstat_ebpf::wire::{self, form, kind};
use zerocopy::{FromBytes, Immutable, KnownLayout};

use crate::{
    clock::{Ktime, Tick},
    connection::{Comm, Connection, Cookie, Endpoint, Family, Netns, Owner, OwnerSource, SkAddr},
    facts::{
        Descriptor, Fence, Figures, Form, Gone, Holder, Occurrence, Queues, Sighting, SocketGone, SocketMark,
        SocketNews, Standing, StateEvent, Totals,
    },
    tcp::{TcpState, UnknownState},
};

/// The bytes are no record that the kernel side writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The record is cut short.
    #[error("a record of kind {kind} has only {len} bytes")]
    Short {
        /// The record's kind; 0 when not even that is there.
        kind: u32,
        /// How many bytes there are.
        len: usize,
    },
    /// No record of this kind is expected here.
    #[error("unexpected record kind {0}")]
    Kind(u32),
    /// A state that TCP does not have.
    #[error(transparent)]
    State(#[from] UnknownState),
    /// A family that TCP does not run over.
    #[error("address family {0} is neither AF_INET nor AF_INET6")]
    Family(u16),
    /// A form of socket that the kernel does not have.
    #[error("unknown form of socket {0}")]
    Form(u8),
    /// Something happened that is not known here.
    #[error("unknown mark {0}")]
    Mark(u8),
    /// A sock ends of a cause that is not known here.
    #[error("unknown cause of an end {0}")]
    Cause(u8),
}

/// A record of the event ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RingRecord {
    /// A socket changed its state.
    State(StateEvent),
    /// A hook tells of a socket.
    News(SocketNews),
    /// A hook tells of a sock that ends.
    Gone(SocketGone),
    /// Something happened to a socket.
    Mark(SocketMark),
    /// A sweep ended.
    Fence(Fence),
}

impl RingRecord {
    /// The socket that it is about, if it is about one.
    #[must_use]
    pub const fn cookie(&self) -> Option<Cookie> {
        match self {
            Self::State(event) => Some(event.connection.cookie),
            Self::News(news) => Some(news.connection.cookie),
            Self::Gone(gone) => Some(gone.cookie),
            Self::Mark(mark) => Some(mark.cookie),
            Self::Fence(_) => None,
        }
    }
}

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

/// Decodes one record of the event ring.
///
/// # Errors
///
/// When the bytes are no such record.
pub fn ring_record(bytes: &[u8]) -> Result<RingRecord, DecodeError> {
    match record_kind(bytes)? {
        kind::STATE_CHANGE => state_event(&read(bytes)?.0, None).map(RingRecord::State),
        kind::STATE_END => {
            let wire::StateEnd { change, end } = read(bytes)?.0;
            state_event(&change, Some(standing(change.flags, &end))).map(RingRecord::State)
        }
        kind::SOCKET_NEWS => news(&read(bytes)?.0).map(RingRecord::News),
        kind::SOCKET_GONE => gone(&read(bytes)?.0).map(RingRecord::Gone),
        kind::SOCKET_MARK => mark(&read(bytes)?.0).map(RingRecord::Mark),
        kind::SWEEP_END => Ok(RingRecord::Fence(fence(&read(bytes)?.0))),
        other => Err(DecodeError::Kind(other)),
    }
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
            Ok((SweepRecord::Seen(sighting(&seen)?), rest))
        }
        kind::SOCKET_FIGURES => {
            let (record, rest): (wire::SocketFigures, _) = read(bytes)?;
            let seen = sighting(&record.seen)?;
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
    /// A descriptor that holds a socket.
    Holder(Holder),
    /// A descriptor of a namespace, of whatever kind.
    Namespace(Descriptor),
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
                fd: Some(held.fd),
                more_fds: 0,
                comm: Comm(held.comm),
                seen: Ktime(held.time),
                source: OwnerSource::Scan,
            };
            let cookie = Cookie(held.cookie);
            Ok((FileRecord::Holder(Holder { cookie, owner }), rest))
        }
        kind::NAMESPACE_HELD => {
            let (held, rest): (wire::NamespaceHeld, _) = read(bytes)?;
            let (pid, fd) = (held.pid, held.fd);
            Ok((FileRecord::Namespace(Descriptor { pid, fd }), rest))
        }
        other => Err(DecodeError::Kind(other)),
    }
}

fn record_kind(bytes: &[u8]) -> Result<u32, DecodeError> {
    match bytes.first_chunk() {
        Some(kind) => Ok(u32::from_ne_bytes(*kind)),
        None => Err(DecodeError::Short {
            kind: 0,
            len: bytes.len(),
        }),
    }
}

fn read<T: FromBytes + KnownLayout + Immutable>(bytes: &[u8]) -> Result<(T, &[u8]), DecodeError> {
    T::read_from_prefix(bytes).map_err(|_| DecodeError::Short {
        kind: record_kind(bytes).unwrap_or(0),
        len: bytes.len(),
    })
}

fn state_event(change: &wire::StateChange, standing: Option<Standing>) -> Result<StateEvent, DecodeError> {
    let has = |flag| change.flags & flag != 0;
    let owner = has(wire::flag::TASK_IS_OWNER).then_some(Owner {
        pid: change.pid,
        start: Ktime(change.start),
        fd: None,
        more_fds: 0,
        comm: Comm(change.comm),
        seen: Ktime(change.time),
        source: OwnerSource::Event,
    });
    Ok(StateEvent {
        time: Ktime(change.time),
        connection: connection(&change.socket)?,
        skaddr: SkAddr(change.socket.skaddr),
        from: TcpState::try_from(change.old_state)?,
        to: TcpState::try_from(change.new_state)?,
        error: (change.sk_err != 0).then_some(change.sk_err),
        peer_fin: has(wire::flag::PEER_FIN),
        orphan: has(wire::flag::ORPHAN),
        no_linger2: has(wire::flag::NO_LINGER2),
        standing,
        owner,
        uid: change.socket.uid,
        cgroup: known_cgroup(&change.socket),
    })
}

fn standing(flags: u32, end: &wire::End) -> Standing {
    let has = |flag| flags & flag != 0;
    Standing {
        receive_shutdown: has(wire::flag::RCV_SHUTDOWN),
        send_shutdown: has(wire::flag::SEND_SHUTDOWN),
        held: has(wire::flag::HELD),
        linger0: has(wire::flag::LINGER_0),
        in_system_call: has(wire::flag::IN_SYSTEM_CALL),
        connecting: has(wire::flag::CONNECTING),
        unsent: has(wire::flag::UNSENT),
        unacked: end.unacked,
        unread: end.unread,
        send_window: end.snd_wnd,
        retransmits: end.retransmits,
        probes: end.probes,
        soft_error: (end.sk_err_soft != 0).then_some(end.sk_err_soft),
        totals: Totals {
            bytes_acked: end.bytes_acked,
            bytes_received: end.bytes_received,
            retransmits: end.total_retrans,
            srtt_us: (end.srtt_us != 0).then_some(end.srtt_us / 8),
        },
    }
}

fn mark(mark: &wire::SocketMark) -> Result<SocketMark, DecodeError> {
    /// `TCP_NEW_SYN_RECV`, which no row is ever in.
    const NEW_SYN_RECV: u8 = 12;
    let form = match mark.state {
        NEW_SYN_RECV => Form::Request,
        state if TcpState::try_from(state)? == TcpState::TimeWait => Form::Minisock,
        _ => Form::Full,
    };
    Ok(SocketMark {
        time: Ktime(mark.time),
        cookie: Cookie(mark.cookie),
        form,
        closed: mark.state == TcpState::Close as u8,
        what: match mark.mark {
            wire::mark::RETRANSMIT => Occurrence::Retransmit,
            wire::mark::RESET_SENT => Occurrence::ResetSent,
            wire::mark::RESET_ANSWERED => Occurrence::ResetAnswered,
            wire::mark::RESET_RECEIVED => Occurrence::ResetReceived,
            other => return Err(DecodeError::Mark(other)),
        },
    })
}

fn sighting(seen: &wire::SocketSeen) -> Result<Sighting, DecodeError> {
    let form = known_form(seen.form)?;
    Ok(Sighting {
        time: Ktime(seen.time),
        connection: connection(&seen.socket)?,
        skaddr: SkAddr(seen.socket.skaddr),
        state: TcpState::try_from(seen.state)?,
        form,
        uid: (form == Form::Full).then_some(seen.socket.uid),
        cgroup: known_cgroup(&seen.socket),
        inode: (seen.inode != 0).then_some(seen.inode),
        mptcp: (seen.mptcp != 0).then_some(Cookie(seen.mptcp)),
        queues: Queues {
            recv: seen.recv_q,
            send: seen.send_q,
            backlog: seen.backlog,
        },
    })
}

fn news(news: &wire::SocketNews) -> Result<SocketNews, DecodeError> {
    Ok(SocketNews {
        time: Ktime(news.time),
        connection: connection(&news.socket)?,
        form: known_form(news.form)?,
        made: news.change == wire::change::MADE,
        state: TcpState::try_from(news.state)?,
    })
}

fn gone(gone: &wire::SocketGone) -> Result<SocketGone, DecodeError> {
    let form = known_form(gone.form)?;
    Ok(SocketGone {
        time: Ktime(gone.time),
        cookie: Cookie(gone.cookie),
        form,
        ports: (gone.local_port, gone.remote_port),
        why: match (gone.cause, form) {
            (wire::cause::UNKNOWN, _) => None,
            (wire::cause::EXPIRED, Form::Request) => Some(Gone::Unanswered(gone.tries)),
            (wire::cause::EXPIRED, _) => Some(Gone::Expired),
            (wire::cause::LISTENER_GONE, _) => Some(Gone::ListenerGone),
            (other, _) => return Err(DecodeError::Cause(other)),
        },
    })
}

fn known_form(form: u8) -> Result<Form, DecodeError> {
    match form {
        form::FULL => Ok(Form::Full),
        form::MINISOCK => Ok(Form::Minisock),
        form::REQUEST => Ok(Form::Request),
        other => Err(DecodeError::Form(other)),
    }
}

fn fence(end: &wire::SweepEnd) -> Fence {
    Fence {
        session: end.session,
        time: Ktime(end.time),
        more: end.flags & wire::sweep::MORE != 0,
        in_ring: end.flags & wire::sweep::FENCED != 0,
    }
}

fn known_cgroup(socket: &wire::Socket) -> Option<u64> {
    (socket.cgroup != 0).then_some(socket.cgroup)
}

fn connection(socket: &wire::Socket) -> Result<Connection, DecodeError> {
    /// `include/linux/socket.h`
    const AF_INET: u16 = 2;
    const AF_INET6: u16 = 10;
    let (family, local, remote) = match socket.family {
        AF_INET => (Family::Inet, ipv4(&socket.local_addr), ipv4(&socket.remote_addr)),
        AF_INET6 => (Family::Inet6, ipv6(&socket.local_addr), ipv6(&socket.remote_addr)),
        other => return Err(DecodeError::Family(other)),
    };
    Ok(Connection {
        cookie: Cookie(socket.cookie),
        netns: Netns(socket.netns),
        family,
        local: Endpoint::new(local, socket.local_port),
        remote: Endpoint::new(remote, socket.remote_port),
        device: NonZeroU32::new(socket.device),
        mptcp: socket.flags & wire::socket::MPTCP != 0,
    })
}

fn ipv4(&[a, b, c, d, ..]: &[u8; 16]) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

fn ipv6(addr: &[u8; 16]) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from(*addr))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zerocopy::IntoBytes;

    use super::*;

    pub(super) fn socket() -> wire::Socket {
        wire::Socket {
            cookie: 7,
            skaddr: 8,
            cgroup: 0,
            local_addr: [127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            remote_addr: [10, 1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            netns: 4_026_531_840,
            uid: 1000,
            local_port: 40_000,
            remote_port: 80,
            family: 2,
            protocol: 6,
            device: 0,
            flags: 0,
        }
    }

    fn change() -> wire::StateChange {
        wire::StateChange {
            kind: kind::STATE_CHANGE,
            flags: wire::flag::PEER_FIN,
            time: 5,
            socket: socket(),
            pid: 1,
            reserved2: 0,
            comm: *b"curl\0\0\0\0\0\0\0\0\0\0\0\0",
            start: 3,
            sk_err: 0,
            old_state: 5,
            new_state: 7,
            reserved: [0; 2],
        }
    }

    #[test]
    fn an_event_comes_out_as_it_was_written() {
        let Ok(RingRecord::State(event)) = ring_record(change().as_bytes()) else {
            panic!("not decoded");
        };
        assert_eq!((event.from, event.to), (TcpState::FinWait2, TcpState::Close));
        assert_eq!(event.connection.remote.addr(Family::Inet).to_string(), "10.1.2.3");
        assert_eq!(event.connection.local.port(), Some(40_000));
        assert!(event.peer_fin && !event.orphan);
        assert_eq!(
            event.owner, None,
            "a task that is not marked as the owner must not be taken for it"
        );
        assert_eq!(event.cgroup, None);
    }

    #[test]
    fn what_makes_no_sense_is_an_error() {
        let bad_state = wire::StateChange {
            new_state: 0,
            ..change()
        };
        assert_eq!(
            ring_record(bad_state.as_bytes()),
            Err(DecodeError::State(UnknownState(0)))
        );
        let mut bad_family = change();
        bad_family.socket.family = 1;
        assert_eq!(ring_record(bad_family.as_bytes()), Err(DecodeError::Family(1)));
        assert_eq!(ring_record(&[]), Err(DecodeError::Short { kind: 0, len: 0 }));
        let whole = change();
        let cut = &whole.as_bytes()[..40];
        assert_eq!(ring_record(cut), Err(DecodeError::Short { kind: 1, len: 40 }));
    }

    proptest! {
        #[test]
        fn no_damaged_record_panics(damage in prop::collection::vec((0..size_of::<wire::StateChange>(), any::<u8>()), 0..8)) {
            let mut bytes = change().as_bytes().to_vec();
            for (place, value) in damage {
                if let Some(byte) = bytes.get_mut(place) {
                    *byte = value;
                }
            }
            if let Ok(RingRecord::State(event)) = ring_record(&bytes) {
                prop_assert!(TcpState::ALL.contains(&event.to));
            }
            let _ = sweep_record(&bytes, Tick::of(250));
            let _ = file_record(&bytes);
        }

        #[test]
        fn no_bytes_panic(kind in 0..12_u32, tail in prop::collection::vec(any::<u8>(), 0..500)) {
            let mut bytes = kind.to_ne_bytes().to_vec();
            bytes.extend(tail);
            for cut in [&bytes[..], &bytes[1..]] {
                let _ = ring_record(cut);
                let length = sweep_record(cut, Tick::of(250)).map(|(_, rest)| cut.len() - rest.len());
                let step = sweep_step(cut);
                prop_assert!(step.is_ok() || length.is_err());
                if let (Ok(length), Ok(step)) = (length, step) {
                    prop_assert_eq!(step.map(|(length, _)| length), Some(length));
                }
                let _ = file_record(cut);
            }
        }
    }
}
