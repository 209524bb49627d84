//! Reading a recording. Takes any bytes: what is no recording, or is damaged, is an error, and never a panic.

use std::io::{self, Read};

use serde::de::DeserializeOwned;

use super::{Fact, Header, LONGEST, MAGIC, NetnsNames, PIECE_HEAD, VERSION, kind};
use crate::clock::WallClock;

/// Facts that are decoded at once.
const MOST_FACTS: usize = 4096;

/// The file is no recording, or not one that this program reads.
#[derive(Debug, thiserror::Error)]
pub enum BadRecording {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It is something else.
    #[error("it is no recording of netstate's; `netstate watch --record FILE` makes one")]
    Foreign,
    /// Nothing is in it.
    #[error("it was cut off before anything was recorded: record again, and see that there is room for it")]
    Empty,
    /// Another version of the format.
    #[error(
        "it is a recording of version {0}, and this netstate reads version {VERSION}: replay it with the release that \
         recorded it"
    )]
    Version(u16),
    /// Its bytes are not those that were written.
    #[error(
        "it is damaged: {what} at byte {at}; what comes before that has been replayed. Compare its size and checksum \
         with the original's, and copy it again"
    )]
    Damaged {
        /// What is wrong.
        what: &'static str,
        /// Where the piece begins that is damaged.
        at: u64,
    },
}

/// A part of a recording.
#[derive(Debug, PartialEq, Eq)]
pub enum Part {
    /// Facts, which have been handed over.
    Facts,
    /// The clock has been set.
    Clock(WallClock),
    /// Namespaces have been named.
    Names(NetnsNames),
}

/// A recording that is being read.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    header: Header,
    /// How many bytes have been read.
    read: u64,
    /// Where the piece began that was read last.
    at: u64,
    /// Facts that are yet to be decoded, and how many of these bytes have been.
    facts: Vec<u8>,
    decoded: usize,
    cut: bool,
    over: bool,
}

/// A piece, or none because the input ends: at the end of a piece, or within one.
enum Piece {
    Whole(u8, Vec<u8>),
    Cut,
}

impl<R: Read> Reader<R> {
    /// Reads up to the first fact.
    ///
    /// # Errors
    ///
    /// When it is no recording that this program reads.
    pub fn new(input: R) -> Result<Self, BadRecording> {
        let mut reader = Self {
            input,
            header: Header::unknown(),
            read: 0,
            at: 0,
            facts: Vec::new(),
            decoded: 0,
            cut: false,
            over: false,
        };
        let mut magic = [0; MAGIC.len()];
        let got = reader.fill(&mut magic)?;
        if magic[..got] != MAGIC[..got] {
            return Err(BadRecording::Foreign);
        }
        let mut version = [0; 2];
        if got < MAGIC.len() || reader.fill(&mut version)? < version.len() {
            return Err(BadRecording::Empty);
        }
        match u16::from_le_bytes(version) {
            VERSION => {}
            other => return Err(BadRecording::Version(other)),
        }
        match reader.piece()? {
            Piece::Cut => return Err(BadRecording::Empty),
            Piece::Whole(kind::HEADER, bytes) => reader.header = reader.value(&bytes)?,
            Piece::Whole(..) => return Err(reader.damaged("there is no header")),
        }
        Ok(reader)
    }

    /// What there is to know of it.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Whether it ended before it was complete, once everything has been read.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    /// The next part, `None` at the end. If these are facts, they take the place of what is in `facts`.
    ///
    /// # Errors
    ///
    /// When it is damaged, or cannot be read.
    pub fn next(&mut self, facts: &mut Vec<Fact>) -> Result<Option<Part>, BadRecording> {
        facts.clear();
        while self.decoded == self.facts.len() {
            if self.over {
                return Ok(None);
            }
            match self.piece()? {
                Piece::Cut => {
                    self.cut = true;
                    self.over = true;
                }
                Piece::Whole(kind::FACTS, bytes) => {
                    self.facts = bytes;
                    self.decoded = 0;
                }
                Piece::Whole(kind::CLOCK, bytes) => return Ok(Some(Part::Clock(self.value(&bytes)?))),
                Piece::Whole(kind::NAMES, bytes) => return Ok(Some(Part::Names(self.value(&bytes)?))),
                Piece::Whole(kind::END, _) => self.finish()?,
                Piece::Whole(..) => return Err(self.damaged("an unknown piece")),
            }
        }
        self.decode(facts)?;
        Ok(Some(Part::Facts))
    }

    fn decode(&mut self, facts: &mut Vec<Fact>) -> Result<(), BadRecording> {
        let mut rest = self.facts.get(self.decoded..).unwrap_or_default();
        while !rest.is_empty() && facts.len() < MOST_FACTS {
            let Ok((fact, behind)) = postcard::take_from_bytes(rest) else {
                return Err(self.damaged("a fact that cannot be decoded"));
            };
            facts.push(fact);
            rest = behind;
        }
        self.decoded = self.facts.len() - rest.len();
        Ok(())
    }

    /// Nothing may follow what says that the recording is complete.
    fn finish(&mut self) -> Result<(), BadRecording> {
        self.over = true;
        self.at = self.read;
        match self.fill(&mut [0])? {
            0 => Ok(()),
            _ => Err(self.damaged("something behind the end")),
        }
    }

    fn piece(&mut self) -> Result<Piece, BadRecording> {
        self.at = self.read;
        let mut head = [0; PIECE_HEAD];
        if self.fill(&mut head)? < head.len() {
            return Ok(Piece::Cut);
        }
        let [kind, numbers @ ..] = head;
        let number = |place: usize| {
            numbers
                .as_chunks::<4>()
                .0
                .get(place)
                .copied()
                .map_or(0, u32::from_le_bytes)
        };
        let (stored_length, plain_length, sum) = (number(0) as usize, number(1) as usize, number(2));
        if stored_length > LONGEST || plain_length > LONGEST {
            return Err(self.damaged("a piece that is too long"));
        }
        let mut stored = vec![0; stored_length];
        if self.fill(&mut stored)? < stored_length {
            return Ok(Piece::Cut);
        }
        if crc32fast::hash(&stored) != sum {
            return Err(self.damaged("a wrong checksum"));
        }
        match lz4_flex::block::decompress(&stored, plain_length) {
            Ok(plain) if plain.len() == plain_length => Ok(Piece::Whole(kind, plain)),
            _ => Err(self.damaged("a piece that cannot be unpacked")),
        }
    }

    fn value<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, BadRecording> {
        match postcard::take_from_bytes(bytes) {
            Ok((value, [])) => Ok(value),
            _ => Err(self.damaged("a piece that cannot be decoded")),
        }
    }

    fn damaged(&self, what: &'static str) -> BadRecording {
        BadRecording::Damaged { what, at: self.at }
    }

    /// Reads as much as there is, or as there is room for.
    fn fill(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < room.len() {
            match self.input.read(&mut room[filled..]) {
                Ok(0) => break,
                Ok(more) => filled += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.read += filled as u64;
        Ok(filled)
    }
}
