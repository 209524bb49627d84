//! Sockets in the states that a test needs.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use socket2::{Domain, SockRef, Socket, Type};

use crate::{
    Namespace,
    wait::{SOON, patient, wait_for},
};

/// Any port of the IPv4 loopback.
pub const LOOPBACK: &str = "127.0.0.1:0";
/// Any port of the IPv6 loopback.
pub const LOOPBACK6: &str = "[::1]:0";

/// A connection with both its ends, and the listener that it came through.
#[derive(Debug)]
pub struct Pair {
    /// The listener.
    pub listener: TcpListener,
    /// The end that connected.
    pub client: TcpStream,
    /// The end that was accepted.
    pub server: TcpStream,
}

impl Pair {
    /// Listens on `address` inside `namespace` and connects to that.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn new(namespace: &Namespace, address: &str) -> Result<Self> {
        let listener = listen(namespace, address)?;
        let target = listener.local_addr()?;
        let client = connect(namespace, target)?;
        let server = accept(&listener)?;
        Ok(Self {
            listener,
            client,
            server,
        })
    }
}

/// A listener on `address` inside `namespace`.
///
/// # Errors
/// When the kernel refuses.
pub fn listen(namespace: &Namespace, address: &str) -> Result<TcpListener> {
    namespace
        .enter(|| TcpListener::bind(address))
        .with_context(|| format!("cannot listen on {address}"))
}

/// A connection to `target` from inside `namespace`.
///
/// # Errors
/// When the kernel refuses.
pub fn connect(namespace: &Namespace, target: SocketAddr) -> Result<TcpStream> {
    let stream = namespace
        .enter(|| TcpStream::connect_timeout(&target, patient(SOON)))
        .with_context(|| format!("cannot connect to {target}"))?;
    stream.set_read_timeout(Some(patient(SOON)))?;
    Ok(stream)
}

/// The next connection to `listener`.
///
/// # Errors
/// When the kernel refuses.
pub fn accept(listener: &TcpListener) -> Result<TcpStream> {
    let (stream, _) = listener.accept().context("cannot accept")?;
    stream.set_read_timeout(Some(patient(SOON)))?;
    Ok(stream)
}

/// A socket of the right family for `target` inside `namespace`, not bound and not connected.
///
/// # Errors
/// When the kernel refuses.
pub fn socket_for(namespace: &Namespace, target: SocketAddr) -> Result<Socket> {
    Ok(namespace.enter(|| Socket::new(Domain::for_address(target), Type::STREAM, None))?)
}

/// A socket that has sent its SYN to `target` and does not wait for the answer.
///
/// # Errors
/// When the kernel refuses.
pub fn start_connecting(namespace: &Namespace, target: SocketAddr) -> Result<Socket> {
    let socket = socket_for(namespace, target)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&target.into()) {
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(socket),
        other => other
            .map(|()| socket)
            .with_context(|| format!("cannot start connecting to {target}")),
    }
}

/// The kernel's name for the connection behind `socket`.
///
/// # Errors
/// When the kernel refuses.
pub fn cookie(socket: impl AsFd) -> Result<u64> {
    rustix::net::sockopt::socket_cookie(socket).context("cannot read SO_COOKIE")
}

/// Closes `stream` with a RST instead of a FIN.
///
/// # Errors
/// When the kernel refuses.
pub fn reset(stream: TcpStream) -> Result<()> {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    drop(stream);
    Ok(())
}

/// Writes `data`, and waits until all that waits at `to` is that much more.
///
/// What is written over loopback mostly is there at once; but on a busy host the kernel may leave receiving to
/// `ksoftirqd`, and who closes `to` before that closes in order, and resets what then arrives.
///
/// # Errors
/// When the kernel refuses, or the data do not arrive within [`SOON`].
pub fn deliver(mut from: &TcpStream, to: &TcpStream, data: &[u8]) -> Result<()> {
    let waiting = || rustix::io::ioctl_fionread(to).context("cannot ask what waits");
    let expected = waiting()? + data.len() as u64;
    from.write_all(data).context("cannot write")?;
    wait_for("data to arrive", SOON, || {
        Ok((waiting()? >= expected).then_some(()))
    })
}

/// Waits until the peer's FIN has arrived.
///
/// A close in one thread takes effect later when another thread is just starting a process, because that
/// holds a copy of every descriptor for a moment; so whoever needs an order waits for this.
///
/// # Errors
/// When data arrives instead, or nothing within [`SOON`].
pub fn wait_for_fin(stream: &TcpStream) -> Result<()> {
    let got = read(stream).context("waited for the peer's FIN")?;
    ensure!(got == 0, "waited for the peer's FIN and got data");
    Ok(())
}

/// Leaves behind a connection that both sides have closed.
///
/// # Errors
/// When the kernel refuses.
pub fn time_wait(namespace: &Namespace, address: &str) -> Result<()> {
    let Pair { client, server, .. } = Pair::new(namespace, address)?;
    drop(client);
    wait_for_fin(&server)?;
    drop(server);
    Ok(())
}

/// Waits until the peer's RST has arrived.
///
/// # Errors
/// When something else arrives, or nothing within [`SOON`].
pub fn wait_for_reset(stream: &TcpStream) -> Result<()> {
    match read(stream) {
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(()),
        Err(error) => Err(error).context("waited for the peer's RST"),
        Ok(_) => bail!("waited for the peer's RST and got something else"),
    }
}

fn read(mut stream: &TcpStream) -> io::Result<usize> {
    loop {
        match stream.read(&mut [0]) {
            // A read with a timeout ends so even when its process is only stopped and continued.
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Sets an option of `IPPROTO_TCP` that neither the standard library nor socket2 knows.
///
/// # Errors
/// When the kernel refuses.
pub fn set_tcp_option(socket: impl AsFd, option: i32, value: i32) -> io::Result<()> {
    set_option(socket, libc::IPPROTO_TCP, option, value)
}

/// The same at another level.
///
/// # Errors
/// When the kernel refuses.
pub fn set_option(socket: impl AsFd, level: i32, option: i32, value: i32) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let (fd, pointer) = (socket.as_fd().as_raw_fd(), (&raw const value).cast());
    let length = libc::socklen_t::try_from(size_of::<i32>()).map_err(io::Error::other)?;
    // SAFETY: the descriptor is borrowed for the call, and `pointer` is to `length` readable bytes.
    let result = unsafe { libc::setsockopt(fd, level, option, pointer, length) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Writes until the kernel takes no more: from then on `stream` does not wait. Returns how many bytes it took.
///
/// # Errors
/// When writing fails.
pub fn fill(stream: &mut TcpStream) -> Result<usize> {
    stream.set_nonblocking(true)?;
    let mut written = 0;
    loop {
        match stream.write(&[1; 16_384]) {
            Ok(more) => written += more,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(written),
            Err(error) => return Err(error.into()),
        }
    }
}
