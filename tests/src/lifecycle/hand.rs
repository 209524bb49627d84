//! What a life is made with: sockets at either end of a route, and a bag that keeps them open.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send},
    time::Timespec,
};
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use super::{
    arena::{Arena, Side},
    destroy::Destroyer,
    dice::Dice,
    kernel::Kernel,
    route::Route,
    sys,
};

/// How long a packet may be on its way between two sockets of one machine; what comes later is left to itself.
const DELIVERY: Duration = Duration::from_millis(20);

/// A thread that makes lives.
#[derive(Debug)]
pub(super) struct Hand<'a> {
    /// The choices of the action under way.
    pub(super) dice: Dice,
    /// Sockets, and descriptors that hold some.
    pub(super) bag: Vec<OwnedFd>,
    /// What can be asked of the kernel.
    pub(super) kernel: Kernel,
    /// Namespaces with a cable; `None` in one that is alone.
    pub(super) arena: Option<&'a Arena>,
    /// The thread's own namespace.
    pub(super) home: Side,
    /// Cookies of sockets that the kernel closed without a sign of why: see `TCP_REPAIR`.
    pub(super) silent: Vec<u64>,
    at: Side,
    destroyer: Option<Destroyer>,
}

/// A connection with both its ends, and the listener that it came through.
#[derive(Debug)]
pub(super) struct Pair {
    /// The listener, which closes with this.
    #[expect(dead_code, reason = "it is only held")]
    pub(super) listener: Socket,
    /// The end that connected.
    pub(super) client: Socket,
    /// The end that was accepted.
    pub(super) server: Socket,
}

impl Pair {
    /// Both ends, in an order that `dice` choose; the listener is closed.
    #[must_use]
    pub(super) fn ends(self, dice: &mut Dice) -> (Socket, Socket) {
        if dice.chance(50) {
            (self.client, self.server)
        } else {
            (self.server, self.client)
        }
    }
}

impl<'a> Hand<'a> {
    /// A hand in the calling thread's namespace: `home` of `arena`, or one that is alone.
    #[must_use]
    pub(super) fn new(dice: Dice, kernel: Kernel, arena: Option<&'a Arena>, home: Side) -> Self {
        let destroyer = kernel.destroy.then(Destroyer::new).and_then(Result::ok);
        Self {
            dice,
            bag: Vec::new(),
            kernel,
            arena,
            home,
            silent: Vec::new(),
            at: home,
            destroyer,
        }
    }

    /// Chooses where a connection goes.
    pub(super) fn route(&mut self) -> Route {
        Route::draw(&mut self.dice, self.home, self.arena.is_some())
    }

    /// Keeps a socket open.
    pub(super) fn keep(&mut self, socket: impl Into<OwnedFd>) {
        self.bag.push(socket.into());
    }

    /// Keeps a socket open, or closes it.
    pub(super) fn keep_or_close(&mut self, socket: impl Into<OwnedFd>) {
        if self.dice.chance(60) {
            self.keep(socket);
        }
    }

    /// A socket that never waits, in the namespace of `side`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn socket(&mut self, side: Side, domain: Domain) -> io::Result<Socket> {
        self.socket_of(side, domain, None)
    }

    /// The same for a protocol: `None` is TCP.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn socket_of(
        &mut self,
        side: Side,
        domain: Domain,
        protocol: Option<i32>,
    ) -> io::Result<Socket> {
        if let Some(arena) = self.arena
            && self.at != side
        {
            arena.namespace(side).enter_for_good()?;
            self.at = side;
        }
        Socket::new(domain, Type::STREAM.nonblocking(), protocol.map(Protocol::from))
    }

    /// A socket that is bound and does not listen yet, at the server's end of `route`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn bound(&mut self, route: &Route, protocol: Option<i32>) -> io::Result<Socket> {
        let socket = self.socket_of(route.server, Domain::for_address(route.listen), protocol)?;
        if route.listen.is_ipv6() {
            socket.set_only_v6(!route.dual)?;
        }
        socket.bind(&route.listen.into())?;
        Ok(socket)
    }

    /// A listener at the end of `route`, and where it is reached.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn listener(&mut self, route: &Route, backlog: i32) -> io::Result<(Socket, SocketAddr)> {
        let socket = self.bound(route, None)?;
        socket.listen(backlog)?;
        let target = target(route, &socket)?;
        Ok((socket, target))
    }

    /// A socket that has begun to connect to `target`, and perhaps done so.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn connect(&mut self, route: &Route, target: SocketAddr) -> io::Result<Socket> {
        let socket = self.socket(route.client, route.client_domain())?;
        start(&socket, target)?;
        Ok(socket)
    }

    /// A connection.
    ///
    /// # Errors
    /// When the kernel refuses, or it does not come about at once.
    pub(super) fn pair(&mut self) -> io::Result<Pair> {
        let route = self.route();
        self.pair_on(&route)
    }

    /// A connection along `route`.
    ///
    /// # Errors
    /// As [`pair`](Self::pair).
    pub(super) fn pair_on(&mut self, route: &Route) -> io::Result<Pair> {
        let (listener, target) = self.listener(route, 4)?;
        let client = self.connect(route, target)?;
        let server = accept(&listener)?;
        Ok(Pair {
            listener,
            client,
            server,
        })
    }

    /// Has the kernel destroy `socket`, wherever it is.
    ///
    /// # Errors
    /// When the kernel cannot, or it is in the other namespace.
    pub(super) fn destroy(&self, socket: impl AsFd) -> io::Result<()> {
        let destroyer = self.destroyer.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        destroyer.destroy(socket)
    }

    /// Sends some bytes, more than the peer takes at times.
    pub(super) fn say(&mut self, socket: impl AsFd) {
        static BYTES: [u8; 20_000] = [7; 20_000];
        let length = self.dice.one_of(&[1, 10, 500, BYTES.len()]);
        // Whether it still can is the kernel's business.
        let _ = send(socket, &BYTES[..length], SendFlags::NOSIGNAL);
    }
}

/// Where what is bound at the end of `route` is reached.
///
/// # Errors
/// When it is not bound.
pub(super) fn target(route: &Route, socket: &Socket) -> io::Result<SocketAddr> {
    let local = socket
        .local_addr()?
        .as_socket()
        .ok_or(io::ErrorKind::Unsupported)?;
    Ok(SocketAddr::new(route.reach, local.port()))
}

/// Begins to connect.
///
/// # Errors
/// When the kernel refuses at once.
pub(super) fn start(socket: &Socket, target: SocketAddr) -> io::Result<()> {
    match socket.connect(&SockAddr::from(target)) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(()),
    }
}

/// The next connection to `listener`, which is given a moment to arrive.
///
/// # Errors
/// When none comes, or the kernel refuses.
pub(super) fn accept(listener: impl AsFd) -> io::Result<Socket> {
    match accept_now(&listener) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            wait(&listener, PollFlags::IN);
            accept_now(&listener)
        }
        other => other,
    }
}

/// The next connection in `listener`'s queue.
///
/// # Errors
/// When there is none, or the kernel refuses.
pub(super) fn accept_now(listener: impl AsFd) -> io::Result<Socket> {
    let accepted = accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
    Ok(accepted.into())
}

/// Waits a moment for something to arrive at `socket`: data, a FIN or a RST.
pub(super) fn await_arrival(socket: impl AsFd) {
    wait(&socket, PollFlags::IN | PollFlags::RDHUP);
}

/// Reads and throws away what has arrived.
pub(super) fn drain(socket: impl AsFd) {
    let mut buffer = [0_u8; 16_384];
    while let Ok((_, read)) = recv(&socket, &mut buffer, RecvFlags::DONTWAIT) {
        if read == 0 {
            break;
        }
    }
}

fn wait(socket: &impl AsFd, flags: PollFlags) {
    let limit = Timespec::try_from(DELIVERY).ok();
    let _ = poll(&mut [PollFd::new(socket, flags)], limit.as_ref());
}

/// Closes `socket` with a RST.
///
/// # Errors
/// When the kernel refuses.
pub(super) fn reset(socket: impl Into<OwnedFd>) -> io::Result<()> {
    let socket = socket.into();
    SockRef::from(&socket).set_linger(Some(Duration::ZERO))
}

/// Sets what makes a connection to a peer that does not answer end soon.
///
/// # Errors
/// When the kernel refuses.
pub(super) fn hurry(socket: impl AsFd, milliseconds: u32) -> io::Result<()> {
    let limit = i32::try_from(milliseconds).unwrap_or(i32::MAX);
    sys::set_tcp(socket, libc::TCP_USER_TIMEOUT, limit)
}
