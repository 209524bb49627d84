//! The figures of many sockets: encoded, in a few large pieces of memory, which go back to the system at once when they are
//! not needed any more. An answer with figures takes many times the memory of its rows, and only for a moment.

use std::{collections::HashMap, hash::BuildHasher};

use foldhash::quality::RandomState;
use hashbrown::HashTable;

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

/// Bytes of a piece. Larger than glibc's largest `M_MMAP_THRESHOLD` (32 MiB, `mallopt(3)`), so that each has a mapping of its
/// own, which ends with it. Pages that have not been written take no memory.
const PIECE: usize = 40 << 20;
/// Longer than any key with its figures.
const LONGEST: usize = 4096;

/// Figures by socket, and the settings of the namespaces that they are of.
#[derive(Debug, Default)]
pub struct FigureSet {
    /// Keys, each with its figures behind it.
    pieces: Vec<Vec<u8>>,
    /// Where they begin: the piece, and the byte in it.
    index: HashTable<(u32, u32)>,
    secret: RandomState,
    settings: HashMap<Netns, Settings>,
}

impl FigureSet {
    /// Adds those of the socket that was `seen`. If it has some already, these take their place.
    pub fn insert(&mut self, seen: &Sighting, figures: &Figures) {
        let key = key(&seen.connection, seen.form);
        let Some(place) = self.write(&key, figures) else {
            return;
        };
        let (hash, pieces, secret) = (self.secret.hash_one(key), &self.pieces, &self.secret);
        if let Some(at) = self.index.find_mut(hash, |at| key_at(pieces, *at) == Some(key)) {
            *at = place;
        } else {
            // All of them can be read, since they were written here.
            let hash_of = |at: &(u32, u32)| key_at(pieces, *at).map_or(0, |key| secret.hash_one(key));
            self.index.insert_unique(hash, place, hash_of);
        }
    }

    /// `None` when they cannot be encoded, which none are.
    fn write(&mut self, key: &Key, figures: &Figures) -> Option<(u32, u32)> {
        let full = |piece: &Vec<u8>| piece.capacity() - piece.len() < LONGEST;
        if self.pieces.last().is_none_or(full) {
            self.pieces.push(Vec::with_capacity(PIECE));
        }
        let number = self.pieces.len() - 1;
        let piece = &mut self.pieces[number];
        let start = piece.len();
        let mut room = [0; LONGEST];
        let encoded = postcard::to_slice(&(key, figures), &mut room).ok()?;
        piece.extend_from_slice(encoded);
        Some((u32::try_from(number).ok()?, u32::try_from(start).ok()?))
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

    /// Those of this connection, as long as the kernel keeps it in this form.
    #[must_use]
    pub fn of(&self, connection: &Connection, form: Form) -> Option<Box<Figures>> {
        let key = key(connection, form);
        let same = |at: &(u32, u32)| key_at(&self.pieces, *at) == Some(key);
        let at = self.index.find(self.secret.hash_one(key), same)?;
        let (_, rest) = postcard::take_from_bytes::<Key>(bytes_at(&self.pieces, *at)?).ok()?;
        let (figures, _) = postcard::take_from_bytes(rest).ok()?;
        Some(Box::new(figures))
    }
}

fn bytes_at(pieces: &[Vec<u8>], (piece, byte): (u32, u32)) -> Option<&[u8]> {
    pieces.get(piece as usize)?.get(byte as usize..)
}

fn key_at(pieces: &[Vec<u8>], at: (u32, u32)) -> Option<Key> {
    let (key, _) = postcard::take_from_bytes(bytes_at(pieces, at)?).ok()?;
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::Ktime,
        connection::{Family, SkAddr},
        facts::{Attempts, Limits, Path, Queues, Received, Sent},
        tcp::TcpState,
    };

    fn seen(number: u32, form: Form) -> Sighting {
        let [_, _, high, low] = number.to_be_bytes();
        let end = Endpoint::new([10, 0, high, low].into(), 80);
        Sighting {
            time: Ktime(1),
            connection: Connection {
                cookie: Cookie(number.into()),
                netns: Netns(1),
                family: Family::Inet,
                local: end,
                remote: end,
                device: None,
                mptcp: false,
            },
            skaddr: SkAddr(1),
            state: TcpState::Established,
            form,
            uid: None,
            cgroup: None,
            fwmark: None,
            autobound: None,
            inode: None,
            mptcp: None,
            due: None,
            queues: Queues::default(),
        }
    }

    fn figures(inode: u64) -> Figures {
        Figures {
            time: Ktime(inode),
            state: TcpState::Established,
            form: Form::Full,
            inode: Some(inode),
            orphan: None,
            v6only: None,
            age: None,
            queues: Queues::default(),
            timer: None,
            attempts: Attempts::default(),
            limits: Limits::default(),
            path: Path::default(),
            sent: Sent::default(),
            received: Received::default(),
            send_shutdown: None,
            receive_shutdown: None,
            soft_error: None,
            listening: None,
            listener: None,
        }
    }

    #[test]
    fn each_socket_has_its_latest_figures_and_no_others() {
        const MANY: u32 = 10_000;
        let mut set = FigureSet::default();
        for round in [0, 1] {
            for number in 0..MANY {
                set.insert(
                    &seen(number, Form::Full),
                    &figures(u64::from(round * MANY + number)),
                );
            }
        }
        // It shares its cookie with a socket that has been used again.
        set.insert(&seen(7, Form::Minisock), &figures(1));
        let of = |number, form| set.of(&seen(number, form).connection, form).map(|found| *found);
        for number in 0..MANY {
            assert_eq!(
                of(number, Form::Full),
                Some(figures(u64::from(MANY + number))),
                "{number}"
            );
        }
        assert_eq!(of(7, Form::Minisock), Some(figures(1)));
        assert_eq!(of(8, Form::Minisock), None);
        assert_eq!(of(MANY, Form::Full), None);
        assert_eq!(set.index.len(), MANY as usize + 1);
    }

    /// However many there are, none is written into a piece that has to grow and would be moved for that.
    #[test]
    fn a_full_piece_is_followed_by_another() {
        let mut set = FigureSet::default();
        set.insert(&seen(1, Form::Full), &figures(1));
        let piece = &mut set.pieces[0];
        let full = piece.capacity() - LONGEST + 1;
        piece.resize(full, 0);
        set.insert(&seen(2, Form::Full), &figures(2));
        assert_eq!((set.pieces.len(), set.pieces[0].len()), (2, full));
        for number in [1, 2] {
            let found = set.of(&seen(number, Form::Full).connection, Form::Full);
            assert_eq!(found.as_deref(), Some(&figures(number.into())));
        }
    }
}
