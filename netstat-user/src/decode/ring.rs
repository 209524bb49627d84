//! The records of the event ring.

use netstat_ebpf::wire::{self, kind};

use super::{DecodeError, connection, known_cgroup, known_form, read, record_kind};
use crate::{
    clock::Ktime,
    connection::{Comm, Cookie, Owner, OwnerSource, SkAddr},
    facts::{
        ConnectFailure, Form, Gone, Occurrence, SocketGone, SocketMark, SocketNews, Standing, StateEvent,
        Totals,
    },
    tcp::TcpState,
};

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
    /// A `connect` failed.
    ConnectFailure(ConnectFailure),
}

impl RingRecord {
    /// The socket that it is about.
    #[must_use]
    pub const fn cookie(&self) -> Cookie {
        match self {
            Self::State(event) => event.connection.cookie,
            Self::News(news) => news.connection.cookie,
            Self::Gone(gone) => gone.cookie,
            Self::Mark(mark) => mark.cookie,
            Self::ConnectFailure(failure) => failure.connection.cookie,
        }
    }

    /// When it happened.
    #[must_use]
    pub const fn time(&self) -> Ktime {
        match self {
            Self::State(event) => event.time,
            Self::News(news) => news.time,
            Self::Gone(gone) => gone.time,
            Self::Mark(mark) => mark.time,
            Self::ConnectFailure(failure) => failure.time,
        }
    }
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
        kind::CONNECT_FAILURE => connect_failure(&read(bytes)?.0).map(RingRecord::ConnectFailure),
        other => Err(DecodeError::Kind(other)),
    }
}

fn state_event(change: &wire::StateChange, standing: Option<Standing>) -> Result<StateEvent, DecodeError> {
    let has = |flag| change.flags & flag != 0;
    let owner =
        has(wire::flag::TASK_IS_OWNER).then(|| acting(change.time, change.pid, change.start, change.comm));
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
        fwmark: change.fwmark,
        cgroup: known_cgroup(&change.socket),
    })
}

/// The process that acts at `time`.
fn acting(time: u64, pid: u32, start: u64, comm: [u8; wire::COMM_LEN]) -> Owner {
    Owner {
        pid,
        start: Ktime(start),
        tid: None,
        fd: None,
        more_fds: 0,
        comm: Comm(comm),
        seen: Ktime(time),
        source: OwnerSource::Event,
    }
}

fn connect_failure(failure: &wire::ConnectFailure) -> Result<ConnectFailure, DecodeError> {
    let owner = acting(failure.time, failure.pid, failure.start, failure.comm);
    Ok(ConnectFailure {
        time: Ktime(failure.time),
        connection: connection(&failure.socket)?,
        error: failure.error,
        owner: (failure.pid != 0).then_some(owner),
        uid: failure.socket.uid,
        cgroup: known_cgroup(&failure.socket),
        fwmark: failure.fwmark,
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
