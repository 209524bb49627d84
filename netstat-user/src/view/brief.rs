//! Rows of an answer in brief as they travel: of one length, so that none has to be taken apart field by field. A large
//! host's answer has hundreds of thousands of them, and little else to do.

use std::{num::NonZeroU32, time::Duration};

use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    little_endian::{U16, U32, U64},
};

use super::RowView;
use crate::{
    clock::Ktime,
    connection::{Connection, Cookie, Endpoint, Family, Netns},
    facts::{Form, Queues},
    owners::Owners,
    tcp::TcpState,
};

/// What is true of a row: bits of [`BriefRow::flags`].
mod flag {
    pub(super) const INET6: u8 = 1 << 0;
    pub(super) const MPTCP: u8 = 1 << 1;
    pub(super) const QUEUES: u8 = 1 << 2;
}

/// A row of which only the ends, the state and the queues are told.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct BriefRow {
    cookie: U64,
    netns: U32,
    local_addr: [u8; 16],
    remote_addr: [u8; 16],
    local_port: U16,
    remote_port: U16,
    /// 0 for none.
    device: U32,
    recv: U32,
    send: U32,
    backlog: U32,
    state: u8,
    form: u8,
    flags: u8,
}

impl BriefRow {
    /// As much of `view` as it has room for.
    pub(super) fn of(view: &RowView) -> Self {
        let Connection {
            cookie,
            netns,
            family,
            local,
            remote,
            device,
            mptcp,
        } = view.connection;
        let queues = view.queues.unwrap_or_default();
        let (local_port, remote_port) = view.connection.ports();
        let flags = [
            (family == Family::Inet6, flag::INET6),
            (mptcp, flag::MPTCP),
            (view.queues.is_some(), flag::QUEUES),
        ];
        Self {
            cookie: cookie.0.into(),
            netns: netns.0.into(),
            local_addr: local.octets(),
            remote_addr: remote.octets(),
            local_port: local_port.into(),
            remote_port: remote_port.into(),
            device: device.map_or(0, NonZeroU32::get).into(),
            recv: queues.recv.into(),
            send: queues.send.into(),
            backlog: queues.backlog.into(),
            state: view.state as u8,
            form: view.form as u8,
            flags: flags.iter().map(|(set, flag)| u8::from(*set) * flag).sum(),
        }
    }

    /// The row; `None` when its state or its form is none that there is.
    pub(super) fn view(&self) -> Option<RowView> {
        let form = match self.form {
            form if form == Form::Full as u8 => Form::Full,
            form if form == Form::Minisock as u8 => Form::Minisock,
            form if form == Form::Request as u8 => Form::Request,
            _ => return None,
        };
        let has = |flag| self.flags & flag != 0;
        let queues = Queues {
            recv: self.recv.get(),
            send: self.send.get(),
            backlog: self.backlog.get(),
        };
        Some(RowView {
            connection: Connection {
                cookie: Cookie(self.cookie.get()),
                netns: Netns(self.netns.get()),
                family: if has(flag::INET6) {
                    Family::Inet6
                } else {
                    Family::Inet
                },
                local: Endpoint::of_octets(self.local_addr, self.local_port.get()),
                remote: Endpoint::of_octets(self.remote_addr, self.remote_port.get()),
                device: NonZeroU32::new(self.device.get()),
                mptcp: has(flag::MPTCP),
            },
            state: TcpState::try_from(self.state).ok()?,
            form,
            since: Ktime(0),
            in_state: Duration::ZERO,
            at_least: false,
            queues: has(flag::QUEUES).then_some(queues),
            uid: None,
            owners: Owners::default(),
            cgroup: None,
            fwmark: None,
            autobound: None,
            bound: false,
            inode: None,
            figures: None,
        })
    }
}
