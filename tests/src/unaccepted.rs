//! Many connections that stand still: nobody accepts them, so only half of their sockets are held.

use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result};
use rustix::process::{Resource, getrlimit, setrlimit};
use socket2::Socket;

use crate::{
    Namespace,
    sockets::{LOOPBACK, socket_for},
    wait::{SOON, patient},
};

/// The connections, until this is dropped: a listener, and two sockets for each.
#[derive(Debug)]
pub struct Unaccepted {
    _listener: Socket,
    _clients: Vec<TcpStream>,
}

impl Unaccepted {
    /// Makes so many connections in `namespace`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn new(namespace: &Namespace, connections: usize) -> Result<Self> {
        allow_open_files(connections)?;
        let backlog = i32::try_from(connections)?;
        namespace.set_parameter("core/somaxconn", &backlog.to_string())?;
        let listener = socket_for(namespace, LOOPBACK.parse()?)?;
        listener.bind(&LOOPBACK.parse::<SocketAddr>()?.into())?;
        listener.listen(backlog)?;
        let target = listener.local_addr()?.as_socket().context("not an IP socket")?;
        let clients = namespace.enter(|| {
            let connect = |_| TcpStream::connect_timeout(&target, patient(SOON));
            (0..connections).map(connect).collect::<Result<_, _>>()
        })?;
        Ok(Self {
            _listener: listener,
            _clients: clients,
        })
    }
}

/// Lets this process have so many files open, and those of the other tests besides.
///
/// # Errors
/// When the kernel refuses.
pub fn allow_open_files(count: usize) -> Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    let wanted = u64::try_from(count)? + 4_096;
    if limit.current.is_some_and(|current| current < wanted) {
        limit.current = Some(limit.maximum.map_or(wanted, |maximum| maximum.min(wanted)));
        setrlimit(Resource::Nofile, limit).context("cannot have as many files open as the test takes")?;
    }
    Ok(())
}
