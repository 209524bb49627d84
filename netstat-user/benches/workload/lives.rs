//! The lives that connections go through, as a kernel with all hooks announces them.

use netstate::{
    clock::Ktime,
    connection::{Cookie, Endpoint, OwnerSource, SkAddr},
    facts::{Form, Gone, SocketGone, SocketNews, Standing, StateEvent, Totals},
    tcp::TcpState::{
        self, Close, CloseWait, Established, FinWait1, FinWait2, LastAck, Listen, SynRecv, SynSent, TimeWait,
    },
};

use super::{connection, cookie, owner, process};

/// Something that the table is told.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fact {
    /// A socket changed its state.
    State(StateEvent),
    /// A hook tells of a socket.
    News(SocketNews),
    /// A hook tells of a sock that ends.
    Gone(SocketGone),
}

impl Fact {
    /// The socket that it is about.
    pub(crate) fn cookie(&self) -> Cookie {
        match self {
            Self::State(event) => event.connection.cookie,
            Self::News(news) => news.connection.cookie,
            Self::Gone(gone) => gone.cookie,
        }
    }
}

/// A step of a life.
#[derive(Clone, Copy)]
pub(super) enum Stage {
    /// By a process, in a system call.
    Call(TcpState, TcpState),
    /// By a segment.
    Segment(TcpState, TcpState),
    /// The port is chosen.
    Port,
    /// A request sock is hashed.
    Request,
    /// A minisock is made.
    Minisock,
    /// The minisock's time is over.
    Expired,
}

/// Connects, and closes first.
pub(super) const CLIENT: &[Stage] = &[
    Stage::Call(Close, SynSent),
    Stage::Port,
    Stage::Segment(SynSent, Established),
    Stage::Call(Established, FinWait1),
    Stage::Segment(FinWait1, FinWait2),
    Stage::Minisock,
    Stage::Segment(FinWait2, Close),
    Stage::Expired,
];
/// So many steps until it is established.
pub(super) const CLIENT_ESTABLISHED: usize = 3;
/// So many until it is in TIME_WAIT.
pub(super) const CLIENT_TIME_WAIT: usize = 7;

/// Is accepted, and closes second.
pub(super) const SERVER: &[Stage] = &[
    Stage::Request,
    Stage::Segment(Listen, SynRecv),
    Stage::Segment(SynRecv, Established),
    Stage::Segment(Established, CloseWait),
    Stage::Call(CloseWait, LastAck),
    Stage::Segment(LastAck, Close),
];
/// So many steps until it is established.
pub(super) const SERVER_ESTABLISHED: usize = 3;

impl Stage {
    /// What the table is told of it.
    pub(super) fn fact(self, number: u64, time: Ktime) -> Fact {
        match self {
            Self::Call(from, to) => state(number, time, (from, to), true),
            Self::Segment(from, to) => state(number, time, (from, to), false),
            Self::Port => news(number, time, Form::Full, SynSent),
            Self::Request => news(number, time, Form::Request, SynRecv),
            Self::Minisock => news(number, time, Form::Minisock, TimeWait),
            Self::Expired => Fact::Gone(SocketGone {
                time,
                cookie: cookie(number),
                form: Form::Minisock,
                ports: connection(number).ports(),
                why: Some(Gone::Expired),
            }),
        }
    }
}

fn state(number: u64, time: Ktime, (from, to): (TcpState, TcpState), call: bool) -> Fact {
    let mut connection = connection(number);
    if to == SynSent {
        connection.local = Endpoint::new(connection.local.addr(connection.family), 0);
    }
    let standing = Standing {
        totals: Totals {
            bytes_acked: 10_000,
            bytes_received: 1_000_000,
            retransmits: 0,
            srtt_us: Some(250),
        },
        ..Standing::default()
    };
    Fact::State(StateEvent {
        time,
        connection,
        skaddr: SkAddr(0xffff_8880_0000_0000 + number % 65_536 * 4096),
        from,
        to,
        error: None,
        peer_fin: matches!(from, FinWait2 | LastAck | CloseWait),
        orphan: matches!(to, FinWait2 | LastAck | Close),
        no_linger2: false,
        standing: (to == Close).then_some(standing),
        owner: call.then(|| owner(process(number), OwnerSource::Event, time.0)),
        uid: 1000,
        cgroup: Some(77),
        fwmark: 0,
    })
}

fn news(number: u64, time: Ktime, form: Form, state: TcpState) -> Fact {
    Fact::News(SocketNews {
        time,
        connection: connection(number),
        form,
        made: true,
        state,
    })
}
