//! The figures of many sockets.

use std::collections::HashMap;

use super::{Figures, Form, Sighting};
use crate::connection::{Connection, Cookie, Endpoint};

/// A cookie alone is not enough: a socket that was disconnected and used again shares it with its minisocks.
type Key = (Cookie, Form, Endpoint, Endpoint);

fn key(connection: &Connection, form: Form) -> Key {
    (connection.cookie, form, connection.local, connection.remote)
}

/// Figures by socket.
#[derive(Debug, Default)]
pub struct FigureSet(HashMap<Key, Box<Figures>>);

impl FigureSet {
    /// Adds those of the socket that was `seen`.
    pub fn insert(&mut self, seen: &Sighting, figures: Box<Figures>) {
        self.0.insert(key(&seen.connection, seen.form), figures);
    }

    /// Adds all of `other`.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Those of this connection, as long as the kernel keeps it in this form.
    #[must_use]
    pub fn of(&self, connection: &Connection, form: Form) -> Option<Box<Figures>> {
        self.0.get(&key(connection, form)).cloned()
    }
}
