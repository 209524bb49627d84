//! The kernel's sockets as `ss` asks for them, by `sock_diag(7)`: a way to them that the tracer does not use, to
//! verify it by.

use std::{io, num::NonZeroU32};

use bytes::BytesMut;
use netlink_packet_core::{
    DecodeError, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload, Nla as _,
};
use netlink_packet_sock_diag::{
    SockDiagMessage,
    constants::{AF_INET, AF_INET6, IPPROTO_TCP},
    inet::{ExtensionFlags, InetRequest, InetResponse, InetResponseHeader, SocketId, StateFlags, nlas::Nla},
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
    /// `TCP_NEW_SYN_RECV`, the state of request socks, which the crate does not name.
    const NEW_SYN_RECV: u32 = 1 << 12;
    let states = StateFlags::all().difference(StateFlags::CLOSE).bits() | NEW_SYN_RECV;
    dump(states, &[], |response| kernel_socket(&response.header, netns))
}

/// A socket that is bound, and neither listens nor connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BoundSocket {
    /// Which; without a remote end.
    pub connection: Connection,
    /// Its user.
    pub uid: u32,
    /// The inode of the file behind it.
    pub inode: Option<u64>,
    /// Its `SO_MARK`, which the kernel reports to who has `CAP_NET_ADMIN`.
    pub fwmark: Option<u32>,
    /// Its control group; unknown before 5.9.
    pub cgroup: Option<u64>,
    /// Whether the kernel has chosen the port.
    pub autobound: bool,
}

/// Instructions for the kernel's own filter (`inet_diag_bc_run`, `struct inet_diag_bc_op`), four bytes each: a code, and how many
/// bytes to go on by if it holds, and if it does not. Who ends exactly behind the last one passes.
mod program {
    const AUTO: u8 = 6;
    const JMP: u8 = 1;

    const fn op(code: u8, yes: u8, no: u8) -> [u8; 4] {
        let [low, high] = (no as u16).to_ne_bytes();
        [code, yes, low, high]
    }

    /// Whose port the kernel has chosen.
    pub(super) const AUTOBOUND: &[[u8; 4]] = &[op(AUTO, 4, 8)];
    /// All others: `JMP` never holds, and goes too far.
    pub(super) const NOT_AUTOBOUND: &[[u8; 4]] = &[op(AUTO, 4, 8), op(JMP, 4, 8)];
}

/// The TCP sockets of the calling thread's network namespace, which is `netns`, that are bound, and neither listen nor
/// connect. Kernels before 6.8 tell of none.
///
/// # Errors
///
/// [`DiagError`].
pub fn bound(netns: Netns) -> Result<Vec<BoundSocket>, DiagError> {
    /// `TCP_BOUND_INACTIVE` (`include/net/tcp_states.h`, 6.8), which no socket has for its state: they are in CLOSE.
    const BOUND_INACTIVE: u32 = 1 << 13;
    let mut found = Vec::new();
    // No attribute of the answer says who has chosen the port, but the kernel can be asked for either kind.
    for (program, autobound) in [(program::AUTOBOUND, true), (program::NOT_AUTOBOUND, false)] {
        found.extend(dump(BOUND_INACTIVE, program.as_flattened(), |response| {
            let header = &response.header;
            let mark = response.nlas.iter().find_map(|attribute| match attribute {
                Nla::Mark(mark) => Some(*mark),
                _ => None,
            });
            Ok(BoundSocket {
                connection: connection(header, netns),
                uid: header.uid,
                inode: Some(header.inode.into()).filter(|inode| *inode != 0),
                fwmark: mark,
                cgroup: cgroup(response),
                autobound,
            })
        })?);
    }
    Ok(found)
}

/// The number of the control group (`inet_diag_msg_attrs_fill`, 5.9).
fn cgroup(response: &InetResponse) -> Option<u64> {
    /// `INET_DIAG_CGROUP_ID` (`include/uapi/linux/inet_diag.h`).
    const CGROUP_ID: u16 = 21;
    response.nlas.iter().find_map(|attribute| match attribute {
        Nla::Other(other) if other.kind() == CGROUP_ID => {
            let mut bytes = [0; 8];
            (other.value_len() == bytes.len()).then(|| other.emit_value(&mut bytes))?;
            Some(u64::from_ne_bytes(bytes))
        }
        _ => None,
    })
}

/// What is made of the sockets in one of `states` that pass `program`, if it is not empty.
fn dump<T>(
    states: u32,
    program: &[u8],
    make: impl Fn(&InetResponse) -> Result<T, DiagError>,
) -> Result<Vec<T>, DiagError> {
    let socket = open()?;
    let mut found = Vec::new();
    for family in [AF_INET, AF_INET6] {
        socket.send(&with_program(request(family, states), program), 0)?;
        receive(&socket, |response| {
            found.push(make(response)?);
            Ok(())
        })?;
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

fn request(family: u8, states: u32) -> Vec<u8> {
    let request = InetRequest {
        family,
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::empty(),
        states: StateFlags::from_bits_retain(states),
        socket_id: if family == AF_INET {
            SocketId::new_v4()
        } else {
            SocketId::new_v6()
        },
    };
    serialized(NLM_F_REQUEST | NLM_F_DUMP, request)
}

/// The request with an attribute behind it, which the crate does not write: a length, a type and the program.
fn with_program(mut request: Vec<u8>, program: &[u8]) -> Vec<u8> {
    /// `INET_DIAG_REQ_BYTECODE` (`include/uapi/linux/inet_diag.h`).
    const BYTECODE: u16 = 1;
    let length = u16::try_from(4 + program.len()).unwrap_or(u16::MAX);
    if program.is_empty() {
        return request;
    }
    request.extend(length.to_ne_bytes());
    request.extend(BYTECODE.to_ne_bytes());
    request.extend(program);
    // The message begins with its length.
    let total = u32::try_from(request.len()).unwrap_or(u32::MAX);
    request[..4].copy_from_slice(&total.to_ne_bytes());
    request
}

fn receive(
    socket: &Socket,
    mut take: impl FnMut(&InetResponse) -> Result<(), DiagError>,
) -> Result<(), DiagError> {
    let mut buffer = BytesMut::with_capacity(DATAGRAM);
    loop {
        buffer.clear();
        socket.recv(&mut buffer, 0)?;
        let mut rest = &buffer[..];
        while !rest.is_empty() {
            let message = NetlinkMessage::<SockDiagMessage>::deserialize(rest)?;
            match message.payload {
                NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => {
                    take(&response)?;
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
    Ok(KernelSocket {
        connection: connection(header, netns),
        state: TcpState::try_from(header.state)?,
    })
}

fn connection(header: &InetResponseHeader, netns: Netns) -> Connection {
    let id = &header.socket_id;
    Connection {
        cookie: Cookie(u64::from_ne_bytes(id.cookie)),
        netns,
        family: if header.family == AF_INET {
            Family::Inet
        } else {
            Family::Inet6
        },
        local: Endpoint::new(id.source_address, id.source_port),
        remote: Endpoint::new(id.destination_address, id.destination_port),
        device: NonZeroU32::new(id.interface_id),
        mptcp: false,
    }
}
