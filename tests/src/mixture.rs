//! Sockets in every state that a socket can stay in.

use std::{
    io::Write,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
};

use anyhow::Result;
use socket2::{Domain, Socket, Type};

use crate::{
    Link, Namespace,
    link::Way,
    sockets::{
        LOOPBACK, LOOPBACK6, Pair, accept, connect, deliver, listen, reset, start_connecting, time_wait,
        wait_for_fin,
    },
};

/// A link and what is held open on it. After [`new`](Self::new) nothing moves until the kernel's timers do,
/// many seconds later.
#[derive(Debug, Default)]
pub struct Mixture {
    listeners: Vec<TcpListener>,
    /// Connections with nothing under way.
    open: Vec<(TcpStream, TcpStream)>,
    streams: Vec<TcpStream>,
    /// Connections that hang before they are one.
    hanging: Vec<Socket>,
}

impl Mixture {
    /// Makes some 35 sockets in `link.left` and 6 in `link.right` for each of `rounds`.
    ///
    /// Packets to the right are lost from then on: that is what keeps SYN_SENT, SYN_RECV, FIN_WAIT1, CLOSING
    /// and LAST_ACK as they are.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn new(link: &Link, rounds: usize) -> Result<Self> {
        let mut mixture = Self::default();
        for _ in 0..rounds {
            mixture.loopback(&link.left)?;
        }
        mixture.stuck(link, rounds)?;
        Ok(mixture)
    }

    /// Closes the connections that were merely open, from one side and the other in turn; returns when
    /// nothing moves any more.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn close_open_ones(&mut self) -> Result<()> {
        for (number, (client, server)) in self.open.drain(..).enumerate() {
            let (first, second) = if number % 2 == 0 {
                (client, server)
            } else {
                (server, client)
            };
            drop(first);
            wait_for_fin(&second)?;
        }
        Ok(())
    }

    fn loopback(&mut self, namespace: &Namespace) -> Result<()> {
        for address in [LOOPBACK, LOOPBACK6] {
            let Pair {
                listener,
                client,
                server,
            } = Pair::new(namespace, address)?;
            self.listeners.push(listener);
            self.open.push((client, server));
            let unread = Pair::new(namespace, address)?;
            deliver(&unread.client, &unread.server, b"nobody reads this")?;
            self.keep(unread);
            let half_closed = Pair::new(namespace, address)?;
            half_closed.client.shutdown(Shutdown::Write)?;
            wait_for_fin(&half_closed.server)?;
            self.keep(half_closed);
            self.orphan(namespace, address)?;
            time_wait(namespace, address)?;
            let Pair { client, .. } = Pair::new(namespace, address)?;
            reset(client)?;
        }
        self.dual_stack(namespace)
    }

    fn keep(
        &mut self,
        Pair {
            listener,
            client,
            server,
        }: Pair,
    ) {
        self.listeners.push(listener);
        self.streams.extend([client, server]);
    }

    /// FIN_WAIT2 that nobody holds, and CLOSE_WAIT. The listener goes: connections do not need it.
    fn orphan(&mut self, namespace: &Namespace, address: &str) -> Result<()> {
        let Pair { client, server, .. } = Pair::new(namespace, address)?;
        drop(client);
        wait_for_fin(&server)?;
        self.streams.push(server);
        Ok(())
    }

    fn dual_stack(&mut self, namespace: &Namespace) -> Result<()> {
        let any: SocketAddr = "[::]:0".parse()?;
        let listener = namespace.enter(|| -> Result<TcpListener> {
            let socket = Socket::new(Domain::IPV6, Type::STREAM, None)?;
            socket.set_only_v6(false)?;
            socket.bind(&any.into())?;
            socket.listen(8)?;
            Ok(socket.into())
        })?;
        let port = listener.local_addr()?.port();
        let client = connect(namespace, SocketAddr::from(([127, 0, 0, 1], port)))?;
        let server = accept(&listener)?;
        self.keep(Pair {
            listener,
            client,
            server,
        });
        Ok(())
    }

    /// Connections over the link that packets to the right would bring forward.
    fn stuck(&mut self, link: &Link, rounds: usize) -> Result<()> {
        let right = listen(&link.right, &format!("{}:0", Link::RIGHT))?;
        let left = listen(&link.left, &format!("{}:0", Link::LEFT))?;
        let crossing = || -> Result<(TcpStream, TcpStream)> {
            Ok((connect(&link.left, right.local_addr()?)?, accept(&right)?))
        };
        let mut crossings = Vec::new();
        for _ in 0..rounds {
            crossings.push([crossing()?, crossing()?, crossing()?, crossing()?]);
        }
        for [_, _, (near, far), _] in &crossings {
            far.shutdown(Shutdown::Write)?;
            wait_for_fin(near)?;
        }
        link.lose(Way::ToRight)?;
        for [fin_wait1, closing, last_ack, mut unacknowledged] in crossings {
            unacknowledged.0.write_all(b"nobody gets this")?;
            for (near, _) in [&fin_wait1, &closing, &last_ack] {
                near.shutdown(Shutdown::Write)?;
            }
            closing.1.shutdown(Shutdown::Write)?;
            wait_for_fin(&closing.0)?;
            self.streams.extend(
                [fin_wait1, closing, last_ack]
                    .into_iter()
                    .flat_map(<[TcpStream; 2]>::from),
            );
            self.hanging
                .push(start_connecting(&link.left, right.local_addr()?)?);
            // Its SYN arrives; the answer does not.
            self.hanging
                .push(start_connecting(&link.right, left.local_addr()?)?);
        }
        self.listeners.extend([right, left]);
        Ok(())
    }
}
