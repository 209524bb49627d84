//! The kernel's sockets as `ss` asks for them, by `sock_diag(7)`: a way to them that the tracer does not use, to
//! verify it by.

use std::{io, num::NonZeroU32};

use bytes::BytesMut;
use netlink_packet_core::{
    DecodeError, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_sock_diag::{
    SockDiagMessage,
    constants::{AF_INET, AF_INET6, IPPROTO_TCP},
    inet::{ExtensionFlags, InetRequest, InetResponseHeader, SocketId, StateFlags},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_SOCK_DIAG};

use crate::{
    connection::{Connection, Cookie, Endpoint, Family, Netns},
    tcp::{TcpState, UnknownState},
};

/// A socket as the kernel tells of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelSocket {
    /// Which.
    pub connection: Connection,
    /// Its state; for a minisock its substate.
    pub state: TcpState,
}

/// The kernel did not tell.
#[derive(Debug, thiserror::Error)]
pub enum DiagError {
    /// A system call failed.
    #[error("cannot ask the kernel for its sockets by sock_diag: {0}; try again, or run with sudo")]
    Io(#[from] io::Error),
    /// The kernel refused; ENOENT when it lacks the module.
    #[error("the kernel does not list its sockets: {0}; `modprobe tcp_diag` may help")]
    Refused(io::Error),
    /// Its answer makes no sense.
    #[error(
        "cannot understand the kernel's list of sockets: {0}; please report this with the output of `uname -a`"
    )]
    Decode(#[from] DecodeError),
    /// A state that TCP does not have.
    #[error(
        "cannot understand the kernel's list of sockets: {0}; please report this with the output of `uname -a`"
    )]
    State(#[from] UnknownState),
}

/// All TCP sockets of the calling thread's network namespace, which is `netns`. As in `netstat`, those that are
/// merely bound are left out.
///
/// # Errors
///
/// [`DiagError`].
pub fn sockets(netns: Netns) -> Result<Vec<KernelSocket>, DiagError> {
    let socket = open()?;
    let mut found = Vec::new();
    for family in [AF_INET, AF_INET6] {
        socket.send(&request(family), 0)?;
        receive(&socket, netns, &mut found)?;
    }
    Ok(found)
}

/// A way to ask about the calling thread's network namespace.
fn open() -> Result<Socket, DiagError> {
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    Ok(socket)
}

fn serialized(flags: u16, request: InetRequest) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// More than the kernel puts into one datagram of a dump (`netlink_dump`: 32 KiB).
const DATAGRAM: usize = 64 * 1024;

fn request(family: u8) -> Vec<u8> {
    /// `TCP_NEW_SYN_RECV`, the state of request socks, which the crate does not name.
    const NEW_SYN_RECV: u32 = 1 << 12;
    let states = StateFlags::all().difference(StateFlags::CLOSE);
    let request = InetRequest {
        family,
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::empty(),
        states: states.union(StateFlags::from_bits_retain(NEW_SYN_RECV)),
        socket_id: if family == AF_INET {
            SocketId::new_v4()
        } else {
            SocketId::new_v6()
        },
    };
    serialized(NLM_F_REQUEST | NLM_F_DUMP, request)
}

fn receive(socket: &Socket, netns: Netns, found: &mut Vec<KernelSocket>) -> Result<(), DiagError> {
    let mut buffer = BytesMut::with_capacity(DATAGRAM);
    loop {
        buffer.clear();
        socket.recv(&mut buffer, 0)?;
        let mut rest = &buffer[..];
        while !rest.is_empty() {
            let message = NetlinkMessage::<SockDiagMessage>::deserialize(rest)?;
            match message.payload {
                NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => {
                    found.push(kernel_socket(&response.header, netns)?);
                }
                NetlinkPayload::Done(_) => return Ok(()),
                NetlinkPayload::Error(error) => return Err(DiagError::Refused(error.to_io())),
                _ => {}
            }
            // Messages are aligned to four bytes.
            let length = usize::try_from(message.header.length).unwrap_or(usize::MAX);
            let length = length.max(1).next_multiple_of(4);
            rest = rest.get(length..).unwrap_or_default();
        }
    }
}

fn kernel_socket(header: &InetResponseHeader, netns: Netns) -> Result<KernelSocket, DiagError> {
    let id = &header.socket_id;
    let device = id.interface_id;
    Ok(KernelSocket {
        connection: Connection {
            cookie: Cookie(u64::from_ne_bytes(id.cookie)),
            netns,
            family: if header.family == AF_INET {
                Family::Inet
            } else {
                Family::Inet6
            },
            local: Endpoint::new(id.source_address, id.source_port),
            remote: Endpoint::new(id.destination_address, id.destination_port),
            device: NonZeroU32::new(device),
            mptcp: false,
        },
        state: TcpState::try_from(header.state)?,
    })
}
