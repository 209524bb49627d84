//! Asking the kernel how many sockets it counts.

use std::collections::HashSet;

use super::Walker;
use crate::{census::Census, connection::Netns};

impl Walker {
    /// What the kernel counts in these namespaces, and in others that are known if they are there still. `None` if it cannot be asked in
    /// one of these.
    pub(super) fn count(&mut self, wanted: Vec<Netns>, everywhere: bool) -> Option<Vec<(Netns, Census)>> {
        let mut counted = Vec::with_capacity(wanted.len());
        for netns in &wanted {
            counted.push((*netns, self.count_in(*netns)?));
        }
        if everywhere {
            let wanted: HashSet<_> = wanted.into_iter().collect();
            let others: Vec<_> = self
                .known
                .keys()
                .filter(|netns| !wanted.contains(netns))
                .copied()
                .collect();
            counted.extend(
                others
                    .into_iter()
                    .filter_map(|netns| Some((netns, self.count_in(netns)?))),
            );
        }
        Some(counted)
    }

    fn count_in(&mut self, netns: Netns) -> Option<Census> {
        let (_, way) = self.known_way(netns)?;
        self.enter(netns, &way).ok()?;
        Census::read()
    }
}
