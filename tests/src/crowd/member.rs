//! One of the processes: connects to itself, and holds both ends.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result};
use rustix::process::{Resource, getrlimit, setrlimit};
use socket2::SockRef;

/// Where the first listens. Each has a port of its own, so that the ports of the clients suffice for all.
const FIRST_PORT: u16 = 2000;

/// Holds so many sockets as the member with this number until the input ends; says how many there are.
///
/// # Errors
/// When the kernel refuses.
pub(super) fn hold(sockets: usize, number: usize) -> Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).context("cannot open as many files as the limit permits")?;
    let port = FIRST_PORT + u16::try_from(number)?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
    let connect = |_| pair(&listener, address);
    let connections: Vec<_> = (0..(sockets - 1) / 2).map(connect).collect::<Result<_>>()?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", 1 + 2 * connections.len())?;
    out.flush()?;
    std::io::stdin().lock().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn pair(listener: &TcpListener, address: SocketAddr) -> Result<(TcpStream, TcpStream)> {
    let client = TcpStream::connect(address).context("cannot connect")?;
    // Without a FIN and TIME_WAIT, so that the end is a short one.
    SockRef::from(&client).set_linger(Some(Duration::ZERO))?;
    let (server, _) = listener.accept().context("cannot accept")?;
    Ok((client, server))
}
