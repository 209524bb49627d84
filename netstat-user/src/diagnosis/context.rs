//! What judging one socket takes of all others, and judging them all by it.

use std::time::Duration;

use rustc_hash::FxHashMap;

use super::{
    Looks,
    finding::Service,
    ports,
    rules::{Case, Symptom, is_full},
};
use crate::{
    connection::{Cookie, Netns},
    facts::{Figures, Form},
    tcp::TcpState::{CloseWait, Established, Listen},
    view::RowView,
};

/// What judging one socket takes of all others.
pub(super) struct Context<'a> {
    looks: &'a Looks<'a>,
    before: FxHashMap<Cookie, &'a Figures>,
    /// Listeners, by cookie.
    listeners: FxHashMap<Cookie, &'a Figures>,
    /// Ports that are listened on, and by which of those with a full accept queue.
    ports: FxHashMap<(Netns, u16), Option<&'a Figures>>,
    /// How long the oldest connection has waited to be accepted, by port.
    waiting: FxHashMap<(Netns, u16), Duration>,
}

impl<'a> Context<'a> {
    /// Learns what there is to know from both looks.
    pub(super) fn new(looks: &'a Looks<'a>) -> Self {
        let mut context = Self {
            looks,
            before: FxHashMap::default(),
            listeners: FxHashMap::default(),
            ports: FxHashMap::default(),
            waiting: FxHashMap::default(),
        };
        for row in &looks.before.rows {
            // A socket that is used again shares its cookie with its minisocks.
            if let Some(figures) = row
                .figures
                .as_deref()
                .filter(|figures| figures.form == Form::Full)
            {
                context.before.insert(row.connection.cookie, figures);
            }
        }
        for row in &looks.now.rows {
            context.learn(row);
        }
        context
    }

    fn learn(&mut self, row: &'a RowView) {
        let (Some(figures), Some(port)) = (&row.figures, row.connection.local.port()) else {
            return;
        };
        let place = (row.connection.netns, port);
        if row.state == Listen {
            self.listeners.insert(row.connection.cookie, figures);
            let full = self.ports.entry(place).or_default();
            *full = full.or_else(|| is_full(&figures.queues).then_some(figures));
        } else if matches!(row.state, Established | CloseWait)
            && figures.inode.is_none()
            && !row.connection.mptcp
        {
            let waiting = self.waiting.entry(place).or_default();
            // The handshake's last packet is an acknowledgement.
            let since = figures.sent.last_ack.unwrap_or_default().max(row.in_state);
            *waiting = since.max(*waiting);
        }
    }

    /// What is wrong with which of the sockets that are asked about: with each of them, and with what they take
    /// together, of which one stands for all.
    pub(super) fn symptoms(&self) -> impl Iterator<Item = (&'a RowView, Symptom)> {
        let wanted = self.looks.now.rows.iter().filter(|row| self.looks.wants(row));
        let single = wanted.filter_map(|row| Some((row, self.judge(row)?)));
        let together = ports::judge(self.looks.now, |row| self.service(row));
        single.chain(together.filter(|(row, _)| self.looks.wants(row)))
    }

    fn judge(&self, row: &RowView) -> Option<Symptom> {
        let figures = row.figures.as_deref()?;
        let netns = row.connection.netns;
        let port = row.connection.local.port();
        let waiting = port.and_then(|port| self.waiting.get(&(netns, port)));
        let case = Case {
            row,
            now: figures,
            before: self.before.get(&row.connection.cookie).copied(),
            between: self.looks.between,
            listener: figures
                .listener
                .and_then(|cookie| self.listeners.get(&cookie))
                .copied(),
            full: self.full_listener(row),
            waiting: waiting.copied(),
            settings: self.looks.now.settings.get(&netns).copied().unwrap_or_default(),
            older: self.looks.older,
        };
        case.judge()
    }

    /// The listener of this host that `row` begins to connect to, if its accept queue is full.
    fn full_listener(&self, row: &RowView) -> Option<&'a Figures> {
        let connection = &row.connection;
        let remote = connection.remote.addr(connection.family).to_canonical();
        let local = connection.local.addr(connection.family).to_canonical();
        if remote != local && !remote.is_loopback() {
            return None;
        }
        *self.ports.get(&(connection.netns, connection.remote.port()?))?
    }

    /// What `row` is a connection to: its own port, if somebody listens there.
    pub(super) fn service(&self, row: &RowView) -> Service {
        let connection = &row.connection;
        let local = connection.local.port().unwrap_or(0);
        match connection.remote.port() {
            Some(remote) if !self.ports.contains_key(&(connection.netns, local)) => {
                Service::There(connection.remote.addr(connection.family).to_canonical(), remote)
            }
            _ => Service::Here(local),
        }
    }
}
