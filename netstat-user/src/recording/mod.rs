//! Recordings: everything that a table is told, in its order, so that another table can be told the same later.
//!
//! A recording is a file. It begins with [`MAGIC`] and the [`VERSION`] of its format, which never change their form.
//! Behind them come pieces, each of them `kind, stored, plain, sum` and then so many stored bytes: the kind is one byte,
//! the others are 32-bit numbers, the lower bytes first. The bytes are compressed as a block of LZ4, from so many plain
//! ones; the sum is the CRC-32 of those that are stored. What they hold is in postcard's encoding.
//!
//! | kind | holds |
//! |---|---|
//! | `H` | the [`Header`]: the first piece |
//! | `C` | where the clock stands from here on, if it has been set: [`WallClock`] |
//! | `N` | what the network namespaces are called from here on, if that has changed |
//! | `F` | [`Fact`]s, one behind the other |
//! | `E` | nothing: the recording is complete |
//!
//! Whoever records writes a piece at a time, so of a recording that was cut off everything can be read up to the last
//! piece that is whole.

mod fact;
mod new_file;
mod player;
mod reader;
mod writer;

pub use fact::Fact;
pub use new_file::{NewFile, NoFile};
pub use player::Player;
pub use reader::{BadRecording, Part, Reader};
use serde::{Deserialize, Serialize};
pub use writer::Writer;

use crate::{clock::WallClock, connection::Netns, sources::Coverage};

/// What a recording begins with.
pub const MAGIC: [u8; 8] = *b"NETSTREC";
/// The version of the format that this program writes and reads. Any change of a fact is another version.
pub const VERSION: u16 = 6;

/// Facts take a piece of so many plain bytes, or one that is little longer.
pub const PIECE: usize = 256 * 1024;
/// A piece has at most so many plain bytes, and stored ones.
const LONGEST: usize = 4 * 1024 * 1024;
/// Bytes in front of what a piece holds.
const PIECE_HEAD: usize = 13;

mod kind {
    pub(super) const HEADER: u8 = b'H';
    pub(super) const CLOCK: u8 = b'C';
    pub(super) const NAMES: u8 = b'N';
    pub(super) const FACTS: u8 = b'F';
    pub(super) const END: u8 = b'E';
}

/// What network namespaces are called.
pub type NetnsNames = Vec<(Netns, String)>;

/// What there is to know of a recording before its first fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The version of the program that made it.
    pub program: String,
    /// The kernel's release.
    pub kernel: String,
    /// What that kernel announced.
    pub coverage: Coverage,
    /// The network namespace of the program.
    pub own: Netns,
    /// Where its times lie in the time of day.
    pub clock: WallClock,
    /// What the network namespaces were called.
    pub names: NetnsNames,
}

impl Header {
    /// Nothing is known.
    fn unknown() -> Self {
        Self {
            program: String::new(),
            kernel: String::new(),
            coverage: Coverage::default(),
            own: Netns(0),
            clock: WallClock::default(),
            names: NetnsNames::new(),
        }
    }
}

/// Adds a fact to others that have been encoded.
pub fn encode(fact: &Fact, encoded: &mut Vec<u8>) {
    // It fails for values of a length that is not known beforehand, of which facts have none.
    if let Ok(longer) = postcard::to_extend(fact, std::mem::take(encoded)) {
        *encoded = longer;
    }
}

#[cfg(test)]
mod tests;
