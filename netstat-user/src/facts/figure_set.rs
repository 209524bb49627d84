//! The figures of many sockets.

use std::collections::HashMap;

use super::{Figures, Form, Sighting};
use crate::{
    connection::{Connection, Cookie, Endpoint, Netns},
    settings::Settings,
};

/// A cookie alone is not enough: a socket that was disconnected and used again shares it with its minisocks.
type Key = (Cookie, Form, Endpoint, Endpoint);

fn key(connection: &Connection, form: Form) -> Key {
    (connection.cookie, form, connection.local, connection.remote)
}

/// Figures by socket, and the settings of the namespaces that they are of.
#[derive(Debug, Default)]
pub struct FigureSet {
    figures: HashMap<Key, Box<Figures>>,
    settings: HashMap<Netns, Settings>,
}

impl FigureSet {
    /// Adds those of the socket that was `seen`.
    pub fn insert(&mut self, seen: &Sighting, figures: Box<Figures>) {
        self.figures.insert(key(&seen.connection, seen.form), figures);
    }

    /// Adds what a namespace is set to.
    pub fn set(&mut self, netns: Netns, settings: Settings) {
        self.settings.insert(netns, settings);
    }

    /// What the namespaces are set to.
    pub fn settings(&self) -> impl Iterator<Item = (Netns, Settings)> {
        self.settings
            .iter()
            .map(|(netns, settings)| (*netns, settings.clone()))
    }

    /// Adds all of `other`.
    pub fn extend(&mut self, other: Self) {
        self.figures.extend(other.figures);
        self.settings.extend(other.settings);
    }

    /// Those of this connection, as long as the kernel keeps it in this form.
    #[must_use]
    pub fn of(&self, connection: &Connection, form: Form) -> Option<Box<Figures>> {
        self.figures.get(&key(connection, form)).cloned()
    }
}
