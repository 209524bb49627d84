//! What judging one socket takes of all others, and judging them all by it.

use std::{net::IpAddr, time::Duration};

use rustc_hash::FxHashMap;

use super::{
    Looks,
    finding::Service,
    ports,
    rules::{Case, Symptom, is_full},
};
use crate::{
    connection::{Cookie, Endpoint, Netns},
    facts::{Figures, Form},
    tcp::TcpState::{CloseWait, Established, Listen, SynRecv},
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
    /// The one namespace that has an address, of addresses that name a place; `None` where several have it.
    homes: FxHashMap<IpAddr, Option<Netns>>,
    /// Half-open connections, by their other end and this one, whose listener's accept queue is full.
    kept_out: FxHashMap<(Endpoint, Endpoint), (Netns, &'a Figures)>,
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
            homes: FxHashMap::default(),
            kept_out: FxHashMap::default(),
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
        for row in looks.now.rows.iter().filter(|row| row.state == SynRecv) {
            context.learn_half_open(row);
        }
        context
    }

    fn learn_half_open(&mut self, row: &'a RowView) {
        let connection = &row.connection;
        let listener = row.figures.as_deref().and_then(|figures| figures.listener);
        let listener = listener.and_then(|cookie| self.listeners.get(&cookie).copied());
        if let Some(listener) = listener.filter(|listener| is_full(&listener.queues)) {
            let ends = (connection.remote, connection.local);
            self.kept_out.insert(ends, (connection.netns, listener));
        }
    }

    fn learn(&mut self, row: &'a RowView) {
        let (Some(figures), Some(port)) = (&row.figures, row.connection.local.port()) else {
            return;
        };
        let place = (row.connection.netns, port);
        let address = row.connection.local.addr(row.connection.family).to_canonical();
        if !address.is_unspecified() && !address.is_loopback() {
            let home = self.homes.entry(address).or_insert(Some(place.0));
            *home = home.filter(|home| *home == place.0);
        }
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

    /// Whether it takes longer to say of some socket that is asked about.
    pub(super) fn is_undecided(&self) -> bool {
        let mut wanted = self.looks.now.rows.iter().filter(|row| self.looks.wants(row));
        wanted.any(|row| self.case(row).is_some_and(|case| case.is_undecided()))
    }

    fn judge(&self, row: &RowView) -> Option<Symptom> {
        self.case(row)?.judge()
    }

    fn case<'c>(&'c self, row: &'c RowView) -> Option<Case<'c>> {
        let figures = row.figures.as_deref()?;
        let netns = row.connection.netns;
        let port = row.connection.local.port();
        let waiting = port.and_then(|port| self.waiting.get(&(netns, port)));
        Some(Case {
            row,
            now: figures,
            before: self.before.get(&row.connection.cookie).copied(),
            between: self.looks.between,
            listener: figures
                .listener
                .and_then(|cookie| self.listeners.get(&cookie))
                .copied(),
            full: self.full_listener(row),
            kept_out: self.kept_out_by(row),
            unread_since: self.looks.reading.unread_since(row.connection.cookie),
            waiting: waiting.copied(),
            settings: self.looks.now.settings.get(&netns).copied().unwrap_or_default(),
            older: self.looks.older,
        })
    }

    /// The listener of this host that `row` begins to connect to, if its accept queue is full.
    fn full_listener(&self, row: &RowView) -> Option<&'a Figures> {
        let connection = &row.connection;
        let remote = connection.remote.addr(connection.family).to_canonical();
        let netns = if is_private(remote) {
            connection.netns
        } else {
            (*self.homes.get(&remote)?)?
        };
        *self.ports.get(&(netns, connection.remote.port()?))?
    }

    /// The listener of this host whose full accept queue has no room for `row`, which its own end takes for established.
    fn kept_out_by(&self, row: &RowView) -> Option<&'a Figures> {
        let connection = &row.connection;
        let (netns, listener) = self.kept_out.get(&(connection.local, connection.remote))?;
        let remote = connection.remote.addr(connection.family).to_canonical();
        (*netns == connection.netns || !is_private(remote)).then_some(*listener)
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

/// Whether an address means something else in each namespace.
pub(super) fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local(),
    }
}
