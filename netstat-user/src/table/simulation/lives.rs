//! What the model's sockets can do, each with what the kernel tells of it.

use super::world::{SERVER, Socket, World};
use crate::{
    clock::Ktime,
    connection::{Cookie, Endpoint},
    facts::{Form, Occurrence, Standing, StateEvent},
    reason::{Abort, Reason},
    tcp::TcpState::{
        self, Close, CloseWait, Closing, Established, FinWait1, FinWait2, LastAck, Listen, SynRecv, SynSent,
        TimeWait,
    },
};

impl World {
    /// Changes a full sock, with its event.
    pub(super) fn go(&mut self, mut socket: Socket, to: TcpState) {
        self.announce(socket, to, |_| {});
        socket.state = to;
        self.put(socket);
    }

    /// Ends a full sock, with its event, and may leave a minisock.
    pub(super) fn end(
        &mut self,
        mut socket: Socket,
        minisock: Option<TcpState>,
        more: impl FnOnce(&mut StateEvent),
    ) {
        let full = socket;
        match minisock {
            Some(state) => {
                socket.state = state;
                socket.form = Form::Minisock;
                self.tell(socket, true);
                self.put(socket);
                // `tcp_time_wait` makes the minisock first: a sweep may see it before its event.
                self.walk(1);
            }
            None => {
                self.sockets.remove(&socket.connection.cookie);
            }
        }
        self.announce(full, Close, more);
    }

    /// A RST comes, or if the process has closed, just as well data, which is answered with one: only the RST that goes
    /// out afterwards tells them apart.
    pub(super) fn reset(&mut self, socket: Socket) {
        let closed = matches!(socket.state, FinWait1 | FinWait2);
        let ours = closed && self.now.is_multiple_of(2);
        self.mark(socket, Occurrence::ResetReceived);
        let reason = if ours {
            Reason::ResetByUs(Abort::DataAfterClose)
        } else {
            Reason::ResetByPeer
        };
        self.resets.insert(Ktime(self.now + 1), reason);
        self.end(socket, None, |event| {
            event.error = Some(104);
            event.orphan = closed;
            event.standing = Some(Standing {
                receive_shutdown: closed,
                send_shutdown: closed,
                // Else its FIN would have been acknowledged, and the socket gone.
                unacked: u32::from(matches!(socket.state, FinWait1 | Closing | LastAck)),
                ..Standing::default()
            });
        });
        if ours {
            // Another processor may read the ring, or a sweep come by.
            self.walk(1);
            let state = Close;
            self.mark(Socket { state, ..socket }, Occurrence::ResetAnswered);
        }
    }

    pub(super) fn connect(&mut self) {
        let mut socket = self.new_socket(Close, Form::Full, 0, SERVER);
        self.announce(socket, SynSent, |_| {});
        socket.state = SynSent;
        socket.connection.local = Endpoint::new("127.0.0.1".parse().unwrap(), self.port());
        self.put(socket);
        // A sweep may come between, but nobody else: `connect` has the socket locked.
        self.walk(1);
        self.tell(socket, false);
    }

    pub(super) fn listen(&mut self) {
        let port = self.port();
        let socket = self.new_socket(Close, Form::Full, port, 0);
        self.go(socket, Listen);
    }

    pub(super) fn request(&mut self) {
        let port = self.port();
        let socket = self.new_socket(SynRecv, Form::Request, SERVER, port);
        self.tell(socket, true);
        self.put(socket);
    }

    /// The handshake of a request sock is complete: a full sock with its cookie takes its place.
    pub(super) fn accept(&mut self, mut child: Socket) {
        child.form = Form::Full;
        child.state = Listen;
        let full = child;
        if self.old_kernel {
            child.connection.cookie = Cookie(0);
            child.connection.remote = Endpoint::new("0.0.0.0".parse().unwrap(), 0);
        }
        self.announce(child, SynRecv, |_| {});
        self.go(
            Socket {
                state: SynRecv,
                ..full
            },
            Established,
        );
    }

    /// The next thing that can happen to a socket; `choice` picks one.
    pub(super) fn advance(&mut self, socket: Socket, choice: u8) {
        let choice = choice % 4;
        match (socket.form, socket.state, choice) {
            (Form::Request | Form::Minisock, _, 0) | (Form::Minisock, TimeWait, _) => {
                self.tell_gone(socket);
                // The hook is passed a little earlier.
                self.walk(1);
                self.sockets.remove(&socket.connection.cookie);
            }
            (Form::Request, ..) => self.accept(socket),
            (Form::Minisock, ..) => {
                let socket = Socket {
                    state: TimeWait,
                    ..socket
                };
                self.put(socket);
                self.tell(socket, false);
            }
            (_, state, 3) if state != Listen => self.reset(socket),
            (_, SynSent, _) => self.go(socket, Established),
            (_, Established, 0) => self.go(socket, CloseWait),
            (_, Established, _) => self.go(socket, FinWait1),
            (_, CloseWait, _) => self.go(socket, LastAck),
            (_, FinWait1, 0) => self.go(socket, Closing),
            (_, FinWait1, _) => self.go(socket, FinWait2),
            (_, FinWait2, 0) => self.end(socket, Some(FinWait2), |event| event.orphan = true),
            // Out of memory for minisocks, or `tcp_max_tw_buckets` reached.
            (_, FinWait2, 1) => self.end(socket, None, |event| event.peer_fin = true),
            (_, FinWait2, _) => self.end(socket, Some(TimeWait), |event| event.peer_fin = true),
            (_, Closing, _) => self.end(socket, Some(TimeWait), |_| {}),
            _ => self.end(socket, None, |_| {}),
        }
    }
}
