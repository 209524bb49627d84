//! From the bytes that the kernel side wrote to facts. Takes any bytes: what makes no sense is an error,
//! never a panic.

mod figures;
mod look;
mod ring;
mod walks;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    num::NonZeroU32,
};

pub use look::{look_record, looked};
use netstat_ebpf::wire::{self, form};
pub use ring::{RingRecord, ring_record};
pub use walks::{FileRecord, SweepRecord, file_record, sweep_record, sweep_step};
use zerocopy::{FromBytes, Immutable, KnownLayout};

use crate::{
    clock::Ktime,
    connection::{Connection, Cookie, Endpoint, Family, Netns},
    facts::{Fence, Form},
    tcp::UnknownState,
};

/// The bytes are no record that the kernel side writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The record is cut short.
    #[error("a record of kind {kind} has only {len} bytes")]
    Short {
        /// The record's kind; 0 when not even that is there.
        kind: u32,
        /// How many bytes there are.
        len: usize,
    },
    /// No record of this kind is expected here.
    #[error("unexpected record kind {0}")]
    Kind(u32),
    /// A state that TCP does not have.
    #[error(transparent)]
    State(#[from] UnknownState),
    /// A family that TCP does not run over.
    #[error("address family {0} is neither AF_INET nor AF_INET6")]
    Family(u16),
    /// A form of socket that the kernel does not have.
    #[error("unknown form of socket {0}")]
    Form(u8),
    /// Something happened that is not known here.
    #[error("unknown mark {0}")]
    Mark(u8),
    /// A sock ends of a cause that is not known here.
    #[error("unknown cause of an end {0}")]
    Cause(u8),
}

fn record_kind(bytes: &[u8]) -> Result<u32, DecodeError> {
    match bytes.first_chunk() {
        Some(kind) => Ok(u32::from_ne_bytes(*kind)),
        None => Err(DecodeError::Short {
            kind: 0,
            len: bytes.len(),
        }),
    }
}

fn read<T: FromBytes + KnownLayout + Immutable>(bytes: &[u8]) -> Result<(T, &[u8]), DecodeError> {
    T::read_from_prefix(bytes).map_err(|_| DecodeError::Short {
        kind: record_kind(bytes).unwrap_or(0),
        len: bytes.len(),
    })
}

fn known_form(form: u8) -> Result<Form, DecodeError> {
    match form {
        form::FULL => Ok(Form::Full),
        form::MINISOCK => Ok(Form::Minisock),
        form::REQUEST => Ok(Form::Request),
        other => Err(DecodeError::Form(other)),
    }
}

fn fence(end: &wire::SweepEnd) -> Fence {
    Fence {
        time: Ktime(end.time),
        position: end.position,
        more: end.flags & wire::sweep::MORE != 0,
    }
}

fn known_cgroup(socket: &wire::Socket) -> Option<u64> {
    (socket.cgroup != 0).then_some(socket.cgroup)
}

fn connection(socket: &wire::Socket) -> Result<Connection, DecodeError> {
    /// `include/linux/socket.h`
    const AF_INET: u16 = 2;
    const AF_INET6: u16 = 10;
    let (family, local, remote) = match socket.family {
        AF_INET => (Family::Inet, ipv4(&socket.local_addr), ipv4(&socket.remote_addr)),
        AF_INET6 => (Family::Inet6, ipv6(&socket.local_addr), ipv6(&socket.remote_addr)),
        other => return Err(DecodeError::Family(other)),
    };
    Ok(Connection {
        cookie: Cookie(socket.cookie),
        netns: Netns(socket.netns),
        family,
        local: Endpoint::new(local, socket.local_port),
        remote: Endpoint::new(remote, socket.remote_port),
        device: NonZeroU32::new(socket.device),
        mptcp: socket.flags & wire::socket::MPTCP != 0,
    })
}

fn ipv4(&[a, b, c, d, ..]: &[u8; 16]) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

fn ipv6(addr: &[u8; 16]) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from(*addr))
}

#[cfg(test)]
mod tests {
    use netstat_ebpf::wire::kind;
    use proptest::prelude::*;
    use zerocopy::IntoBytes;

    use super::*;
    use crate::{clock::Tick, tcp::TcpState};

    pub(super) fn socket() -> wire::Socket {
        wire::Socket {
            cookie: 7,
            skaddr: 8,
            cgroup: 0,
            local_addr: [127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            remote_addr: [10, 1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            netns: 4_026_531_840,
            uid: 1000,
            local_port: 40_000,
            remote_port: 80,
            family: 2,
            protocol: 6,
            device: 0,
            flags: 0,
        }
    }

    fn change() -> wire::StateChange {
        wire::StateChange {
            kind: kind::STATE_CHANGE,
            flags: wire::flag::PEER_FIN,
            time: 5,
            socket: socket(),
            pid: 1,
            fwmark: 0,
            comm: *b"curl\0\0\0\0\0\0\0\0\0\0\0\0",
            start: 3,
            sk_err: 0,
            old_state: 5,
            new_state: 7,
            reserved: [0; 2],
        }
    }

    #[test]
    fn an_event_comes_out_as_it_was_written() {
        let Ok(RingRecord::State(event)) = ring_record(change().as_bytes()) else {
            panic!("not decoded");
        };
        assert_eq!((event.from, event.to), (TcpState::FinWait2, TcpState::Close));
        assert_eq!(event.connection.remote.addr(Family::Inet).to_string(), "10.1.2.3");
        assert_eq!(event.connection.local.port(), Some(40_000));
        assert!(event.peer_fin && !event.orphan);
        assert_eq!(
            event.owner, None,
            "a task that is not marked as the owner must not be taken for it"
        );
        assert_eq!(event.cgroup, None);
    }

    #[test]
    fn a_failed_connect_has_its_error_and_its_process() {
        for pid in [1, 0] {
            let failure = wire::ConnectFailure {
                kind: kind::CONNECT_FAILURE,
                error: 101,
                time: 5,
                socket: socket(),
                pid,
                fwmark: 0,
                comm: *b"curl\0\0\0\0\0\0\0\0\0\0\0\0",
                start: 3,
            };
            let Ok(RingRecord::ConnectFailure(decoded)) = ring_record(failure.as_bytes()) else {
                panic!("not decoded");
            };
            assert_eq!((decoded.error, decoded.time), (101, Ktime(5)));
            assert_eq!(decoded.owner.map_or(0, |owner| owner.pid), pid);
        }
    }

    #[test]
    fn what_makes_no_sense_is_an_error() {
        let bad_state = wire::StateChange {
            new_state: 0,
            ..change()
        };
        assert_eq!(
            ring_record(bad_state.as_bytes()),
            Err(DecodeError::State(UnknownState(0)))
        );
        let mut bad_family = change();
        bad_family.socket.family = 1;
        assert_eq!(ring_record(bad_family.as_bytes()), Err(DecodeError::Family(1)));
        assert_eq!(ring_record(&[]), Err(DecodeError::Short { kind: 0, len: 0 }));
        let whole = change();
        let cut = &whole.as_bytes()[..40];
        assert_eq!(ring_record(cut), Err(DecodeError::Short { kind: 1, len: 40 }));
    }

    proptest! {
        #[test]
        fn no_damaged_record_panics(damage in prop::collection::vec((0..size_of::<wire::StateChange>(), any::<u8>()), 0..8)) {
            let mut bytes = change().as_bytes().to_vec();
            for (place, value) in damage {
                if let Some(byte) = bytes.get_mut(place) {
                    *byte = value;
                }
            }
            if let Ok(RingRecord::State(event)) = ring_record(&bytes) {
                prop_assert!(TcpState::ALL.contains(&event.to));
            }
            let _ = sweep_record(&bytes, Tick::of(250));
            let _ = file_record(&bytes);
        }

        #[test]
        fn no_bytes_panic(kind in 0..12_u32, tail in prop::collection::vec(any::<u8>(), 0..500)) {
            let mut bytes = kind.to_ne_bytes().to_vec();
            bytes.extend(tail);
            for cut in [&bytes[..], &bytes[1..]] {
                let _ = ring_record(cut);
                let length = sweep_record(cut, Tick::of(250)).map(|(_, rest)| cut.len() - rest.len());
                let step = sweep_step(cut);
                prop_assert!(step.is_ok() || length.is_err());
                if let (Ok(length), Ok(step)) = (length, step) {
                    prop_assert_eq!(step.map(|(length, _)| length), Some(length));
                }
                let _ = file_record(cut);
            }
        }
    }
}
