//! Ports and sockets that are used again.

use std::{io, net::Shutdown, net::SocketAddr};

use rustix::net::connect_unspec;
use socket2::Socket;

use crate::lifecycle::{
    hand::{self, Hand, accept, await_arrival},
    route::Route,
};

/// A client's socket on a port of its choice.
fn client_on(hand: &mut Hand<'_>, route: &Route, port: u16) -> io::Result<Socket> {
    let client = hand.socket(route.client, route.client_domain())?;
    client.set_reuse_address(true)?;
    client.bind(&SocketAddr::new(route.client_any(), port).into())?;
    Ok(client)
}

fn port_of(socket: &Socket) -> io::Result<u16> {
    let address = socket.local_addr()?.as_socket();
    Ok(address.ok_or(io::ErrorKind::Unsupported)?.port())
}

/// The client's end is in TIME_WAIT, and another client takes its ports, if the kernel lets it.
pub(super) fn client(hand: &mut Hand<'_>) -> io::Result<()> {
    let route = hand.route();
    let (listener, target) = hand.listener(&route, 4)?;
    let mut port = 0;
    for _ in 0..hand.dice.between(2, 3) {
        let client = client_on(hand, &route, port)?;
        port = port_of(&client)?;
        match hand::start(&client, target) {
            // Its ends are in TIME_WAIT, and that is too young.
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => break,
            other => other?,
        }
        let server = accept(&listener)?;
        drop(client);
        if hand.dice.chance(80) {
            await_arrival(&server);
            drop(server);
        } else {
            hand.keep(server);
        }
    }
    hand.keep_or_close(listener);
    Ok(())
}

/// The server's end is in TIME_WAIT, and the client's next SYN takes over its ports.
pub(super) fn server(hand: &mut Hand<'_>) -> io::Result<()> {
    let route = hand.route();
    let (listener, target) = hand.listener(&route, 4)?;
    let mut port = 0;
    for _ in 0..hand.dice.between(2, 4) {
        let client = client_on(hand, &route, port)?;
        port = port_of(&client)?;
        hand::start(&client, target)?;
        let server = accept(&listener)?;
        drop(server);
        await_arrival(&client);
        if hand.dice.chance(20) {
            // Its FIN does not come: the server's end stays in FIN_WAIT2.
            hand::reset(client)?;
        } else {
            drop(client);
        }
    }
    hand.keep_or_close(listener);
    Ok(())
}

/// One socket, several connections: disconnected in this state or that, and used again.
pub(super) fn socket(hand: &mut Hand<'_>) -> io::Result<()> {
    let route = hand.route();
    let (listener, target) = hand.listener(&route, 8)?;
    let client = hand.connect(&route, target)?;
    for _ in 0..hand.dice.between(1, 3) {
        let server = accept(&listener)?;
        match hand.dice.below(6) {
            // FIN_WAIT1 or FIN_WAIT2.
            0 => client.shutdown(Shutdown::Write)?,
            // Over on both sides: the client's minisock has the cookie of a socket that is used again.
            1 => {
                client.shutdown(Shutdown::Write)?;
                await_arrival(&server);
                drop(server);
                await_arrival(&client);
                disconnect(&client)?;
                again(hand, &client, target)?;
                continue;
            }
            // CLOSE_WAIT, then LAST_ACK or the end.
            2 => {
                server.shutdown(Shutdown::Write)?;
                await_arrival(&client);
                if hand.dice.chance(50) {
                    client.shutdown(Shutdown::Write)?;
                }
            }
            3 => hand.say(&server),
            _ => {}
        }
        disconnect(&client)?;
        again(hand, &client, target)?;
        hand.keep_or_close(server);
    }
    hand.keep_or_close(client);
    hand.keep_or_close(listener);
    Ok(())
}

fn disconnect(socket: &Socket) -> io::Result<()> {
    Ok(connect_unspec(socket)?)
}

/// Has a socket that was disconnected connect, or listen for a while before it does.
fn again(hand: &mut Hand<'_>, socket: &Socket, target: SocketAddr) -> io::Result<()> {
    if hand.dice.chance(20) {
        socket.listen(1)?;
        disconnect(socket)?;
    }
    hand::start(socket, target)
}
