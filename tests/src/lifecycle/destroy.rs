//! `SOCK_DESTROY`, what `ss -K` asks of the kernel.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, OwnedFd},
};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};
use socket2::SockRef;

const SOCK_DESTROY: u16 = 21;
const NLM_F_REQUEST_ACK: u16 = 1 | 4;
const HEADER: usize = 16;
/// `struct inet_diag_req_v2`, `include/uapi/linux/inet_diag.h`.
const REQUEST: usize = 56;
const NLMSG_ERROR: u16 = 2;

/// The kernel's ear for it in one network namespace.
#[derive(Debug)]
pub(super) struct Destroyer(OwnedFd);

impl Destroyer {
    /// Opens it in the calling thread's namespace.
    ///
    /// # Errors
    /// When the kernel has no socket diagnosis.
    pub(super) fn new() -> io::Result<Self> {
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            Some(netlink::SOCK_DIAG),
        )?;
        Ok(Self(socket))
    }

    /// Whether the kernel can do it (`CONFIG_INET_DIAG_DESTROY`).
    #[must_use]
    pub(super) fn works(&self) -> bool {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
        let refusal = self
            .ask(nowhere, Some(nowhere), 1)
            .map_err(|error| error.raw_os_error());
        refusal == Err(Some(libc::ENOENT))
    }

    /// Destroys a socket that this process holds.
    ///
    /// # Errors
    /// When the kernel refuses; `ENOENT` when it is not in this namespace, or has ended.
    pub(super) fn destroy(&self, socket: impl AsFd) -> io::Result<()> {
        let cookie = rustix::net::sockopt::socket_cookie(&socket)?;
        let socket = SockRef::from(&socket);
        let local = socket
            .local_addr()?
            .as_socket()
            .ok_or(io::ErrorKind::Unsupported)?;
        let remote = socket.peer_addr().ok().and_then(|address| address.as_socket());
        self.ask(local, remote, cookie)
    }

    fn ask(&self, local: SocketAddr, remote: Option<SocketAddr>, cookie: u64) -> io::Result<()> {
        let mut message = Vec::with_capacity(HEADER + REQUEST);
        message.extend(u32::try_from(HEADER + REQUEST).unwrap_or(0).to_ne_bytes());
        message.extend(SOCK_DESTROY.to_ne_bytes());
        message.extend(NLM_F_REQUEST_ACK.to_ne_bytes());
        message.extend([0; 8]);
        let family = if local.is_ipv4() {
            libc::AF_INET
        } else {
            libc::AF_INET6
        };
        message.extend([u8::try_from(family).unwrap_or(0), 6, 0, 0]);
        message.extend(u32::MAX.to_ne_bytes());
        message.extend(local.port().to_be_bytes());
        message.extend(remote.map_or(0, |end| end.port()).to_be_bytes());
        message.extend(sixteen(Some(local)));
        message.extend(sixteen(remote));
        message.extend([0; 4]);
        message.extend(cookie.to_ne_bytes());
        send(&self.0, &message, SendFlags::empty())?;
        let mut answer = [0_u8; 256];
        let (length, _) = recv(&self.0, &mut answer, RecvFlags::empty())?;
        verdict(&answer[..length])
    }
}

/// What an acknowledgement says: 0, or an errno.
fn verdict(answer: &[u8]) -> io::Result<()> {
    let kind = answer
        .get(4..6)
        .and_then(|bytes| bytes.try_into().ok())
        .map(u16::from_ne_bytes);
    let error = answer
        .get(16..20)
        .and_then(|bytes| bytes.try_into().ok())
        .map(i32::from_ne_bytes);
    match (kind, error) {
        (Some(NLMSG_ERROR), Some(0)) => Ok(()),
        (Some(NLMSG_ERROR), Some(error)) => Err(io::Error::from_raw_os_error(-error)),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn sixteen(address: Option<SocketAddr>) -> [u8; 16] {
    let mut bytes = [0; 16];
    match address.map(|address| address.ip()) {
        Some(IpAddr::V4(address)) => bytes[..4].copy_from_slice(&address.octets()),
        Some(IpAddr::V6(address)) => bytes = address.octets(),
        None => {}
    }
    bytes
}
