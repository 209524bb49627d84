//! Writing a recording, piece by piece.

use std::io::{self, Write};

use serde::Serialize;

use super::{Header, MAGIC, NetnsNames, VERSION, kind};
use crate::clock::WallClock;

/// A recording that is being written.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    clock: WallClock,
    names: NetnsNames,
    piece: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Begins one.
    ///
    /// # Errors
    ///
    /// What `out` returns.
    pub fn new(mut out: W, header: &Header) -> io::Result<Self> {
        out.write_all(&MAGIC)?;
        out.write_all(&VERSION.to_le_bytes())?;
        let mut writer = Self {
            out,
            clock: header.clock,
            names: header.names.clone(),
            piece: Vec::new(),
        };
        writer.value(kind::HEADER, header)?;
        Ok(writer)
    }

    /// Says where the clock stands, and what namespaces are called, if either has changed.
    ///
    /// # Errors
    ///
    /// What the output returns.
    pub fn circumstances(&mut self, clock: WallClock, names: NetnsNames) -> io::Result<()> {
        if clock != self.clock {
            self.clock = clock;
            self.value(kind::CLOCK, &clock)?;
        }
        if names != self.names {
            self.value(kind::NAMES, &names)?;
            self.names = names;
        }
        Ok(())
    }

    /// Adds facts that have been encoded one behind the other, and hands everything on.
    ///
    /// # Errors
    ///
    /// What the output returns.
    pub fn facts(&mut self, encoded: &[u8]) -> io::Result<()> {
        self.piece(kind::FACTS, encoded)
    }

    /// Says that the recording is complete.
    ///
    /// # Errors
    ///
    /// What the output returns.
    pub fn end(mut self) -> io::Result<()> {
        self.piece(kind::END, &[])
    }

    fn value(&mut self, kind: u8, value: &impl Serialize) -> io::Result<()> {
        let encoded = postcard::to_stdvec(value).map_err(io::Error::other)?;
        self.piece(kind, &encoded)
    }

    fn piece(&mut self, kind: u8, plain: &[u8]) -> io::Result<()> {
        let stored = lz4_flex::block::compress(plain);
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).map_err(io::Error::other);
        self.piece.clear();
        self.piece.push(kind);
        self.piece.extend(length(&stored)?.to_le_bytes());
        self.piece.extend(length(plain)?.to_le_bytes());
        self.piece.extend(crc32fast::hash(&stored).to_le_bytes());
        self.piece.extend(stored);
        self.out.write_all(&self.piece)?;
        self.out.flush()
    }
}
