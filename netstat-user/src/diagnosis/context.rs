//! What judging one socket takes of all others, and judging them all by it.

use std::{net::IpAddr, time::Duration};

use rustc_hash::FxHashMap;

use super::{
    Kind, Looks, addresses,
    finding::Service,
    ports,
    rules::{Case, Symptom, is_full},
    suspects::{self, Suspect, Suspects},
};
use crate::{
    clock::Ktime,
    connection::{Cookie, Endpoint, Netns, OwnerSource},
    facts::{Figures, Form},
    tcp::TcpState::{CloseWait, Established, Listen, SynRecv, SynSent},
    view::RowView,
};

/// What judging one socket takes of all others.
pub(super) struct Context<'a> {
    looks: &'a Looks<'a>,
    before: FxHashMap<Cookie, &'a Figures>,
    /// Listeners, by cookie.
    listeners: FxHashMap<Cookie, &'a RowView>,
    /// Ports that are listened on, and by which of those with a full accept queue.
    ports: FxHashMap<(Netns, u16), Option<&'a RowView>>,
    /// How many connections to a port each process holds, or has held last, by the address that they came to.
    accepted: FxHashMap<(Netns, u16), FxHashMap<Accepted, usize>>,
    /// How long the oldest connection has waited to be accepted, by port.
    waiting: FxHashMap<(Netns, u16), Duration>,
    /// The one namespace that has an address, of addresses that name a place; `None` where several have it.
    homes: FxHashMap<IpAddr, Option<Netns>>,
    /// Half-open connections, by their other end and this one, whose listener's accept queue is full.
    kept_out: FxHashMap<(Endpoint, Endpoint), (Netns, &'a RowView)>,
}

/// An address that connections came to, and a process that holds some of them: its id, and when it was started.
type Accepted = (IpAddr, u32, Ktime);

impl<'a> Context<'a> {
    /// Learns what there is to know from both looks.
    pub(super) fn new(looks: &'a Looks<'a>) -> Self {
        let mut context = Self {
            looks,
            before: FxHashMap::default(),
            listeners: FxHashMap::default(),
            ports: FxHashMap::default(),
            accepted: FxHashMap::default(),
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
        for row in &looks.now.rows {
            if row.state == SynRecv {
                context.learn_half_open(row);
            } else if !matches!(row.state, Listen | SynSent) {
                context.learn_accepted(row);
            }
        }
        context
    }

    /// Counts who holds connections to ports at which others wait.
    fn learn_accepted(&mut self, row: &RowView) {
        let Some(port) = row.connection.local.port() else {
            return;
        };
        let place = (row.connection.netns, port);
        if !self.waiting.contains_key(&place) {
            return;
        }
        let address = row.connection.local.addr(row.connection.family).to_canonical();
        let holders = row.owners.iter();
        for owner in holders.filter(|owner| owner.source != OwnerSource::Inherited) {
            let by = (address, owner.pid, owner.start);
            *self.accepted.entry(place).or_default().entry(by).or_default() += 1;
        }
    }

    fn learn_half_open(&mut self, row: &'a RowView) {
        let connection = &row.connection;
        let listener = row.figures.as_deref().and_then(|figures| figures.listener);
        let listener = listener.and_then(|cookie| self.listeners.get(&cookie).copied());
        if let Some(listener) = listener.filter(|listener| has_no_room(listener)) {
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
            self.listeners.insert(row.connection.cookie, row);
            let full = self.ports.entry(place).or_default();
            *full = full.or_else(|| has_no_room(row).then_some(row));
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
        let addresses = addresses::judge(self.looks.now);
        let together = together.chain(addresses);
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
                .and_then(|cookie| self.listeners.get(&cookie)?.figures.as_deref()),
            listener_before: figures
                .listener
                .and_then(|cookie| self.before.get(&cookie))
                .copied(),
            full: self.full_listener(row).and_then(|row| row.figures.as_deref()),
            kept_out: self.kept_out_by(row).and_then(|row| row.figures.as_deref()),
            unread_since: self.looks.reading.unread_since(row.connection.cookie),
            waiting: waiting.copied(),
            settings: self.looks.now.settings.get(&netns),
            older: self.looks.older,
        })
    }

    /// The listener of this host that `row` begins to connect to, if its accept queue is full.
    fn full_listener(&self, row: &RowView) -> Option<&'a RowView> {
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
    fn kept_out_by(&self, row: &RowView) -> Option<&'a RowView> {
        let connection = &row.connection;
        let (netns, listener) = self.kept_out.get(&(connection.local, connection.remote))?;
        let remote = connection.remote.addr(connection.family).to_canonical();
        (*netns == connection.netns || !is_private(remote)).then_some(*listener)
    }

    /// The processes that a symptom of `row` depends on, other than those at the other end of its connection.
    pub(super) fn suspects(&self, row: &RowView, kind: Kind) -> Suspects {
        if suspects::is_about_holder(kind) {
            let holders = suspects::holding(row.owners.iter());
            let listed = holders.map(|owner| Suspect::new(*owner, 0)).collect();
            return Suspects::new(listed, row.owners.unlisted(), None);
        }
        let listener = suspects::is_about_listener(kind).then(|| self.listener_of(row));
        let Some(listener) = listener.flatten() else {
            return Suspects::default();
        };
        let holders = suspects::holding(listener.owners.iter());
        let listed = holders.map(|owner| {
            let accepted = self.accepted_by(listener, (owner.pid, owner.start));
            Suspect::new(*owner, accepted)
        });
        Suspects::new(listed.collect(), listener.owners.unlisted(), listener.inode)
    }

    /// The listener that a connection waits for, or that `row` is.
    fn listener_of<'r>(&self, row: &'r RowView) -> Option<&'r RowView>
    where
        'a: 'r,
    {
        if row.state == Listen {
            return Some(row);
        }
        let cookie = row.figures.as_deref().and_then(|figures| figures.listener);
        cookie
            .and_then(|cookie| self.listeners.get(&cookie).copied())
            .or_else(|| self.full_listener(row))
            .or_else(|| self.kept_out_by(row))
    }

    /// How many connections a process holds, or has held last, that `listener` can have let in.
    fn accepted_by(&self, listener: &RowView, (pid, start): (u32, Ktime)) -> usize {
        let connection = &listener.connection;
        let address = connection.local.addr(connection.family).to_canonical();
        let port = connection.local.port();
        let accepted = port.and_then(|port| self.accepted.get(&(connection.netns, port)));
        let of_process = accepted.into_iter().flatten().filter(|((to, by, since), _)| {
            (*by, *since) == (pid, start) && (address.is_unspecified() || address == *to)
        });
        of_process.map(|(_, count)| count).sum()
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

/// Whether a listener's accept queue is full.
fn has_no_room(listener: &RowView) -> bool {
    let figures = listener.figures.as_deref();
    figures.is_some_and(|figures| is_full(&figures.queues))
}

/// Whether an address means something else in each namespace.
pub(super) fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local(),
    }
}
