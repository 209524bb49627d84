//! Two namespaces joined by a cable that can lose packets.

use anyhow::Result;

use crate::Namespace;

/// Two namespaces with a veth pair between them: [`LEFT`](Self::LEFT) in `left`, [`RIGHT`](Self::RIGHT) in
/// `right`.
#[derive(Debug)]
pub struct Link {
    /// One end.
    pub left: Namespace,
    /// The other end.
    pub right: Namespace,
}

/// Which way packets go over a [`Link`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From right to left.
    ToLeft,
    /// From left to right.
    ToRight,
}

impl Link {
    /// Address of the left end.
    pub const LEFT: &str = "10.77.0.1";
    /// Address of the right end.
    pub const RIGHT: &str = "10.77.0.2";

    /// Makes both namespaces and the cable.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn new() -> Result<Self> {
        let link = Self {
            left: Namespace::new()?,
            right: Namespace::new()?,
        };
        link.left.ip(&format!(
            "link add cable type veth peer name cable netns {}",
            link.right.name()
        ))?;
        for (namespace, address) in [(&link.left, Self::LEFT), (&link.right, Self::RIGHT)] {
            namespace.ip(&format!("address add {address}/24 dev cable"))?;
            namespace.ip("link set cable up")?;
        }
        Ok(link)
    }

    /// From now on packets that go this `way` are lost without a trace.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn lose(&self, way: Way) -> Result<()> {
        // A hardware address that nobody has: the other end takes the frame for somebody else's and drops
        // it. Unlike a blackhole route, the sender learns nothing; unlike a cable that is down, the other
        // way still works.
        let (from, to) = self.ends(way);
        from.ip(&format!(
            "neighbour replace {to} lladdr 02:00:00:00:00:99 dev cable nud permanent"
        ))
    }

    /// Undoes [`lose`](Self::lose).
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn restore(&self, way: Way) -> Result<()> {
        let (from, to) = self.ends(way);
        from.ip(&format!("neighbour delete {to} dev cable"))
    }

    /// Who sends, and the address of who receives.
    fn ends(&self, way: Way) -> (&Namespace, &'static str) {
        match way {
            Way::ToLeft => (&self.right, Self::LEFT),
            Way::ToRight => (&self.left, Self::RIGHT),
        }
    }
}
