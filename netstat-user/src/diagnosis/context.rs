//! What judging one socket takes of all others, and judging them all by it.

use std::{net::IpAddr, time::Duration};

use rustc_hash::FxHashMap;

use super::{
    Kind, Looks, addresses,
    elsewhere::{self, Evidence, Resent},
    finding::Service,
    ports,
    rules::{Case, Symptom, is_full},
    suspects::{self, Suspect, Suspects},
};
use crate::{
    clock::Ktime,
    connection::{Cookie, Endpoint, Netns, OwnerSource},
    facts::{Figures, Form},
    reach::Reach,
    tcp::TcpState::{CloseWait, Established, Listen, SynRecv, SynSent},
    view::RowView,
};

/// What judging one socket takes of all others.
pub(super) struct Context<'a> {
    looks: &'a Looks<'a>,
    before: FxHashMap<Cookie, &'a Figures>,
    /// Listeners, by cookie.
    listeners: FxHashMap<Cookie, &'a RowView>,
    /// Ports that are listened on, and the listeners of those with a full accept queue.
    ports: FxHashMap<(Netns, u16), Vec<&'a RowView>>,
    /// How many SYNs were sent again between the looks, by where to and where from.
    resent: FxHashMap<(IpAddr, u16), FxHashMap<Netns, u32>>,
    /// How many connections to a port each process holds, or has held last, by the address that they came to.
    accepted: FxHashMap<(Netns, u16), FxHashMap<Accepted, usize>>,
    /// How long the oldest connection has waited to be accepted, by port.
    waiting: FxHashMap<(Netns, u16), Duration>,
    /// The namespaces that have an address, of addresses that may mean the same in several.
    homes: FxHashMap<IpAddr, Vec<Netns>>,
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
            resent: FxHashMap::default(),
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
            match row.state {
                SynRecv => context.learn_half_open(row),
                SynSent => context.learn_resent(row),
                Listen => {}
                _ => context.learn_accepted(row),
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
            let homes = self.homes.entry(address).or_default();
            if !homes.contains(&place.0) {
                homes.push(place.0);
            }
        }
        if row.state == Listen {
            self.listeners.insert(row.connection.cookie, row);
            let full = self.ports.entry(place).or_default();
            full.extend(has_no_room(row).then_some(row));
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
            possible: self.possible_listener(row),
            kept_out: self.kept_out_by(row).and_then(|row| row.figures.as_deref()),
            unread_since: self.looks.reading.unread_since(row.connection.cookie),
            waiting: waiting.copied(),
            settings: self.looks.now.settings.get(&netns),
            older: self.looks.older,
        })
    }

    /// The listener of this host that `row` begins to connect to, if its accept queue is full.
    fn full_listener(&self, row: &RowView) -> Option<&'a RowView> {
        let mut full = self.full_listeners(row);
        let certain = full.find(|(_, evidence)| *evidence == Evidence::Certain);
        certain.map(|(listener, _)| listener)
    }

    /// One of another namespace, with a full accept queue, of which it is not known whether `row` is to it.
    fn possible_listener(&self, row: &RowView) -> Option<&'a RowView> {
        let mut full = self.full_listeners(row);
        let possible = full.find(|(_, evidence)| *evidence == Evidence::Open);
        possible.map(|(listener, _)| listener)
    }

    /// The listeners with a full accept queue that `row` may begin to connect to.
    fn full_listeners(&self, row: &RowView) -> impl Iterator<Item = (&'a RowView, Evidence)> {
        let connection = &row.connection;
        let (own, port) = (connection.netns, connection.remote.port());
        let port = port.filter(|_| row.state == SynSent);
        let remote = connection.remote.addr(connection.family).to_canonical();
        let homes = self.homes.get(&remote).map_or(&[][..], Vec::as_slice);
        // An address that the namespace has is never sent elsewhere.
        let here = is_private(remote) || homes.contains(&own);
        let places = if here { std::slice::from_ref(&own) } else { homes };
        let places: Vec<_> = places
            .iter()
            .filter_map(|netns| self.ports.get(&(*netns, port?)))
            .flatten()
            .copied()
            .filter(|listener| takes(listener, remote))
            .map(|listener| {
                let evidence = if here {
                    Evidence::Certain
                } else {
                    let reach = self.looks.reaches.get(&(own, remote)).copied();
                    self.evidence(row, listener, (remote, reach))
                };
                (listener, evidence)
            })
            .collect();
        places.into_iter()
    }

    fn evidence(
        &self,
        row: &RowView,
        listener: &RowView,
        (remote, reach): (IpAddr, Option<Reach>),
    ) -> Evidence {
        let port = row.connection.remote.port().unwrap_or(0);
        let resent = self.resent.get(&(remote, port));
        let there = resent.and_then(|resent| resent.get(&listener.connection.netns));
        let resent = Resent {
            own: self.resent_by(row),
            there: there.copied().unwrap_or(0),
            all: resent.map_or(0, |resent| resent.values().sum()),
        };
        let drops = |figures: &Figures| figures.listening?.drops;
        let dropped = elsewhere::risen(listener, self.before_of(listener), drops);
        elsewhere::evidence(listener.connection.netns, reach, resent, dropped)
    }

    /// How often a SYN was sent again between the looks.
    fn resent_by(&self, row: &RowView) -> u32 {
        let retransmits = |figures: &Figures| figures.attempts.retransmits;
        elsewhere::risen(row, self.before_of(row), retransmits).unwrap_or(0)
    }

    fn learn_resent(&mut self, row: &RowView) {
        let connection = &row.connection;
        let resent = self.resent_by(row);
        if let Some(port) = connection.remote.port().filter(|_| resent > 0) {
            let remote = connection.remote.addr(connection.family).to_canonical();
            let of_port = self.resent.entry((remote, port)).or_default();
            let sum = of_port.entry(connection.netns).or_default();
            *sum = sum.saturating_add(resent);
        }
    }

    fn before_of(&self, row: &RowView) -> Option<&'a Figures> {
        self.before.get(&row.connection.cookie).copied()
    }

    /// The addresses that packets are sent to from other namespaces, where it matters whether they get there.
    pub(super) fn crossings(&self) -> impl Iterator<Item = (Netns, IpAddr)> {
        let rows = self.looks.now.rows.iter();
        let open = rows.filter(|row| {
            let other = |netns: Netns| netns != row.connection.netns;
            let mut full = self.full_listeners(row);
            elsewhere::is_unanswered(row) && full.any(|(listener, _)| other(listener.connection.netns))
                || self.half_open_of(row).is_some_and(|(netns, _)| other(netns))
        });
        open.map(|row| {
            let remote = row.connection.remote.addr(row.connection.family);
            (row.connection.netns, remote.to_canonical())
        })
    }

    /// The listener of this host whose full accept queue has no room for `row`, which its own end takes for established.
    fn kept_out_by(&self, row: &RowView) -> Option<&'a RowView> {
        let connection = &row.connection;
        let (netns, listener) = self.half_open_of(row)?;
        let remote = connection.remote.addr(connection.family).to_canonical();
        // A half-open connection with the same ends is evidence by itself, unless packets are seen to go elsewhere.
        let reach = self.looks.reaches.get(&(connection.netns, remote));
        let led_there = reach.is_none_or(|reach| *reach == Reach::Namespace(netns));
        (netns == connection.netns || led_there).then_some(listener)
    }

    /// The listener, and its namespace, of a half-open connection that it has no room for and that may be the other end of `row`:
    /// it has the same ends, in the same namespace or in another one.
    fn half_open_of(&self, row: &RowView) -> Option<(Netns, &'a RowView)> {
        let connection = &row.connection;
        let (netns, listener) = self.kept_out.get(&(connection.local, connection.remote))?;
        let remote = connection.remote.addr(connection.family).to_canonical();
        (*netns == connection.netns || !is_private(remote)).then_some((*netns, *listener))
    }

    /// The processes that a symptom of `row` depends on, other than those at the other end of its connection.
    pub(super) fn suspects(&self, row: &RowView, kind: Kind) -> Suspects {
        if suspects::is_about_holder(kind) {
            let holders = suspects::holding(row.owners.iter());
            let listed = holders.map(|owner| Suspect::new(*owner, 0)).collect();
            return Suspects::new(listed, row.owners.unlisted(), None).with_kept(row.owners.kept());
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
        let suspects = Suspects::new(listed.collect(), listener.owners.unlisted(), listener.inode);
        suspects.with_kept(listener.owners.kept())
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

/// Whether a listener takes connections to this address.
fn takes(listener: &RowView, address: IpAddr) -> bool {
    let connection = &listener.connection;
    let own = connection.local.addr(connection.family).to_canonical();
    own.is_unspecified() || own == address
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
