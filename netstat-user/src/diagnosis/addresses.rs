//! Local ports that are taken on an address, whatever they are connections to: what `bind` to port 0 is left with.
//!
//! `bind` to port 0 takes no port of which any socket has the same address, or one of them has the wildcard: listeners,
//! connections and TIME_WAIT alike, and `SO_REUSEADDR` does not help (`inet_csk_find_open_port`, `inet_bind_conflict`
//! without `relax`); so does `listen` without `bind`. `connect` minds only its own destination, which `ports` judges.
//! There may be more of them than are seen: sockets that are bound, and neither listen nor connect, are not.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use rustc_hash::{FxHashMap, FxHashSet};

use super::{Kind, Look, Severity, finding::Service, rules::Symptom};
use crate::{connection::Netns, settings::Settings, tcp::TcpState::TimeWait, view::RowView};

/// From this share of the ports on it is worth a word, in percent. Many connections to many destinations take as many, which
/// is no fault; so it is a warning only once `bind` has none left.
const MANY: usize = 95;

/// The ports of one address.
#[derive(Default)]
struct Taken<'a> {
    ports: FxHashSet<u16>,
    time_wait: FxHashSet<u16>,
    example: Option<&'a RowView>,
}

impl<'a> Taken<'a> {
    fn add(&mut self, row: &'a RowView, port: u16) {
        self.ports.insert(port);
        if row.state == TimeWait {
            self.time_wait.insert(port);
        }
        // One that a process holds says who it is that takes them.
        if self.example.is_none_or(|example| !example.owners.is_held()) {
            self.example = Some(row);
        }
    }
}

type Addresses<'a> = FxHashMap<(Netns, IpAddr), Taken<'a>>;

/// The addresses on which `bind` finds no port, or soon will not, each with one of their sockets. The wildcard has the
/// ports of all addresses; it is told of where none of them is.
pub(super) fn judge(look: &Look) -> Vec<(&RowView, Symptom)> {
    // Sockets of an address, the wildcard among them, and those of all.
    let (mut each, mut all) = (Addresses::default(), Addresses::default());
    for row in &look.rows {
        let connection = &row.connection;
        let settings = look.settings.get(&connection.netns);
        // One that is bound to a device may be in the way of nobody (`inet_bind_conflict`, `inet_sk_bound_l3mdev`).
        let port = connection.local.port().filter(|_| connection.device.is_none());
        if let Some(port) = port.filter(|port| settings.is_some_and(|settings| settings.picks(*port))) {
            let address = connection.local.addr(connection.family).to_canonical();
            let key = (connection.netns, address);
            each.entry(key).or_default().add(row, port);
            let key = (connection.netns, wildcard(address));
            all.entry(key).or_default().add(row, port);
        }
    }
    let mut found = Vec::new();
    let mut told = FxHashSet::default();
    for (&(netns, address), taken) in each.iter().filter(|((_, address), _)| !address.is_unspecified()) {
        let everybodys = each.get(&(netns, wildcard(address)));
        let more = everybodys.map_or(0, |everybodys| everybodys.ports.difference(&taken.ports).count());
        if let Some(symptom) = symptom(look, (netns, address), taken, more) {
            told.insert((netns, wildcard(address)));
            found.push(symptom);
        }
    }
    let rest = all.iter().filter(|(key, _)| !told.contains(*key));
    found.extend(rest.filter_map(|(key, taken)| symptom(look, *key, taken, 0)));
    found
}

/// The wildcard that has the ports of `address` too. Whether `::` has those of IPv4 as well depends on the socket.
fn wildcard(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// What is wrong with an address of which so many ports are `taken`, and so many `more` by the wildcard.
fn symptom<'a>(
    look: &Look,
    (netns, address): (Netns, IpAddr),
    taken: &Taken<'a>,
    more: usize,
) -> Option<(&'a RowView, Symptom)> {
    let settings = look.settings.get(&netns)?;
    let (all, used) = (settings.port_count()?, taken.ports.len() + more);
    if used.saturating_mul(100).checked_div(all)? < MANY {
        return None;
    }
    let (first, last) = settings.ports?;
    let mut evidence = vec![
        format!("{used} of {all} ports taken on {address} (ip_local_port_range {first} to {last})"),
        format!("{} of them in TIME_WAIT", taken.time_wait.len()),
    ];
    let severity = if used < all {
        Severity::Note
    } else {
        evidence.push(fails(settings).to_owned());
        Severity::Warning
    };
    let symptom = Symptom {
        sockets: used,
        service: Some(Service::At(address)),
        ..Symptom::new(Kind::BindPortsRunningOut, severity, Duration::ZERO, evidence)
    };
    Some((taken.example?, symptom))
}

/// What `bind` to port 0 comes to where all ports are taken.
fn fails(settings: &Settings) -> &'static str {
    match settings.autobind_reuse {
        Some(0) | None => "bind to port 0 fails there with EADDRINUSE, SO_REUSEADDR or not",
        Some(_) => {
            "bind to port 0 fails there with EADDRINUSE, unless SO_REUSEADDR is set here and on a socket that does not listen (ip_autobind_reuse)"
        }
    }
}
