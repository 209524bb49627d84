//! To which network namespace of this host packets go: over routes, and over neighbours that have hardware addresses of
//! other namespaces.
//!
//! Translated addresses, policy routes and what firewalls drop are not followed.

mod netlink;

use std::{collections::HashMap, net::IpAddr};

use rustc_hash::FxHashMap;

use crate::{
    connection::Netns,
    namespaces::{self, Aim, Effort, Found},
};
use netlink::{Neighbour, Route, Socket};

/// Where packets from a namespace to an address end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// In this namespace of the host, which has the address.
    Namespace(Netns),
    /// In none of them: there is no route, the neighbour does not answer, or it is another host's.
    Elsewhere,
}

/// What is known of that; what is missing is unknown.
pub type Reaches = FxHashMap<(Netns, IpAddr), Reach>;

/// Routers between two namespaces, at most.
const MOST_HOPS: usize = 8;

/// Namespaces whose hardware addresses are read, at most.
const MOST_NAMESPACES: usize = 1024;

/// Follows packets from each of these namespaces to its address. It takes `CAP_SYS_ADMIN`, without which nothing is
/// known.
#[must_use]
pub fn follow(questions: &[(Netns, IpAddr)]) -> Reaches {
    // It enters namespaces, and a thread that has done so is of no other use.
    let followed = std::thread::scope(|scope| scope.spawn(|| follow_here(questions)).join());
    followed.unwrap_or_default()
}

fn follow_here(questions: &[(Netns, IpAddr)]) -> Reaches {
    let wanted: Vec<_> = questions.iter().map(|(from, _)| *from).collect();
    let mut map = Map::new(&wanted);
    let known = questions
        .iter()
        .filter_map(|(from, to)| Some(((*from, *to), map.follow(*from, *to)?)));
    known.collect()
}

/// The namespaces of the host, as far as they have been read.
struct Map {
    found: Found,
    /// All namespaces are among them.
    complete: bool,
    sockets: HashMap<Netns, Option<Socket>>,
    /// Who has which hardware address; read when the first one is asked for.
    hardware: Option<FxHashMap<Vec<u8>, Vec<Netns>>>,
}

impl Map {
    fn new(wanted: &[Netns]) -> Self {
        let aim = Aim {
            everything: true,
            wanted,
            hints: &[],
            effort: Effort::Quick,
            held: &mut || None,
        };
        let findings = namespaces::search(aim, &Found::new());
        Self {
            complete: findings.complete && findings.hidden.is_empty(),
            found: findings.found,
            sockets: HashMap::new(),
            hardware: None,
        }
    }

    /// Where packets from `from` to `to` end, if that can be told.
    fn follow(&mut self, from: Netns, to: IpAddr) -> Option<Reach> {
        let mut here = from;
        for _ in 0..MOST_HOPS {
            let (device, next) = match self.socket(here)?.route(to).ok()? {
                Route::Local => return Some(Reach::Namespace(here)),
                Route::Nowhere => return Some(Reach::Elsewhere),
                Route::Via { device, next } => (device, next),
            };
            let address = match self.socket(here)?.neighbour(device, next).ok()? {
                Neighbour::At(address) => address,
                Neighbour::Silent => return Some(Reach::Elsewhere),
                Neighbour::Unknown => return None,
            };
            let complete = self.complete;
            let owners = self.owners(&address)?.iter().filter(|netns| **netns != here);
            match owners.copied().collect::<Vec<_>>()[..] {
                [one] => here = one,
                [] if complete => return Some(Reach::Elsewhere),
                _ => return None,
            }
        }
        None
    }

    /// The namespaces that have a device with this hardware address.
    fn owners(&mut self, address: &[u8]) -> Option<&[Netns]> {
        if self.hardware.is_none() {
            let all: Vec<_> = self.found.keys().copied().collect();
            if all.len() > MOST_NAMESPACES {
                return None;
            }
            let mut hardware: FxHashMap<Vec<u8>, Vec<Netns>> = FxHashMap::default();
            for netns in all {
                let Some(addresses) = self.socket(netns).and_then(|socket| socket.hardware().ok()) else {
                    self.complete = false;
                    continue;
                };
                for address in addresses {
                    let owners = hardware.entry(address).or_default();
                    if !owners.contains(&netns) {
                        owners.push(netns);
                    }
                }
            }
            self.hardware = Some(hardware);
        }
        let owners = self.hardware.as_ref()?.get(address);
        Some(owners.map_or(&[], Vec::as_slice))
    }

    /// A socket inside a namespace, which stays there.
    fn socket(&mut self, netns: Netns) -> Option<&mut Socket> {
        let Self { found, sockets, .. } = self;
        let open = || {
            namespaces::enter(netns, found.get(&netns)?).ok()?;
            Socket::open().ok()
        };
        sockets.entry(netns).or_insert_with(open).as_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_address_is_here() {
        let own = namespaces::own().unwrap();
        let question = (own, IpAddr::from([127, 0, 0, 1]));
        let reach = follow(&[question]).get(&question).copied();
        // Whoever runs the tests may not enter namespaces.
        assert!(matches!(reach, None | Some(Reach::Namespace(_))), "{reach:?}");
        if let Some(Reach::Namespace(netns)) = reach {
            assert_eq!(netns, own);
        }
    }
}
