//! Rows as they travel: encoded one behind the other as they are read out of the table, and decoded one by one. A large
//! answer is never in memory in any other form.

use bytes::Bytes;
use zerocopy::{FromBytes, IntoBytes};

use super::{RowView, brief::BriefRow};

/// Some rows, encoded: what [`postcard`] makes of a sequence of them, or of the bytes of brief ones, as the answer of its
/// own kind.
#[derive(Debug)]
pub struct PackedRows {
    kind: Kind,
    /// Room for the head, then the rows.
    bytes: Vec<u8>,
    count: usize,
}

/// How rows are encoded, by the number of their [`Answer`](crate::protocol::Answer).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Whole = 0,
    Brief = 1,
}

/// The longest head: the number of the kind, and how many rows or bytes there are, of variable length.
const HEAD: usize = 1 + 10;

impl PackedRows {
    /// Bytes that are enough for one frame, and leave room in it for a row with all that a row can have.
    const ENOUGH: usize = 256 * 1024;

    /// No rows; in `brief` if nothing is to be told of them but ends, state and queues.
    #[must_use]
    pub fn new(brief: bool) -> Self {
        Self {
            kind: if brief { Kind::Brief } else { Kind::Whole },
            bytes: Vec::new(),
            count: 0,
        }
    }

    /// Takes these away, and begins anew with none.
    #[must_use]
    pub fn take(&mut self) -> Self {
        let next = Self::new(self.kind == Kind::Brief);
        std::mem::replace(self, next)
    }

    /// Adds a row.
    ///
    /// # Errors
    ///
    /// When the row cannot be encoded, which none is; then there are no rows left.
    pub fn push(&mut self, row: &RowView) -> Result<(), postcard::Error> {
        self.make_room();
        match self.kind {
            Kind::Brief => self.bytes.extend_from_slice(BriefRow::of(row).as_bytes()),
            Kind::Whole => self.bytes = postcard::to_extend(row, std::mem::take(&mut self.bytes))?,
        }
        self.count += 1;
        Ok(())
    }

    fn make_room(&mut self) {
        if self.bytes.is_empty() {
            self.bytes.reserve(HEAD + Self::ENOUGH + 4096);
            self.bytes.resize(HEAD, 0);
        }
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many bytes they are.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Whether they fill a frame.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.bytes.len() >= HEAD + Self::ENOUGH
    }

    /// The frame of them.
    #[must_use]
    pub fn into_frame(mut self) -> Bytes {
        self.make_room();
        let mut head = [self.kind as u8; HEAD];
        let mut length = 1;
        let mut count = match self.kind {
            Kind::Whole => self.count,
            Kind::Brief => self.bytes.len() - HEAD,
        };
        loop {
            let low = u8::try_from(count & 0x7f).unwrap_or(0);
            count >>= 7;
            head[length] = low | if count > 0 { 0x80 } else { 0 };
            length += 1;
            if count == 0 {
                break;
            }
        }
        let start = HEAD - length;
        self.bytes[start..HEAD].copy_from_slice(&head[..length]);
        Bytes::from(self.bytes).slice(start..)
    }
}

/// Gives the rows of a frame to `take` one by one. `false` when it is a frame of another kind.
///
/// # Errors
///
/// When it is none of rows, although it begins like one; some may have been taken then.
pub fn unpack(frame: &[u8], mut take: impl FnMut(RowView)) -> Result<bool, postcard::Error> {
    let (kind, rest): (u32, _) = postcard::take_from_bytes(frame)?;
    let (whole, brief) = (Kind::Whole as u32, Kind::Brief as u32);
    if kind != whole && kind != brief {
        return Ok(false);
    }
    let (count, mut rest): (usize, _) = postcard::take_from_bytes(rest)?;
    if kind == brief {
        if rest.len() != count {
            return Err(postcard::Error::DeserializeBadEncoding);
        }
        let rows = <[BriefRow]>::ref_from_bytes(rest);
        for row in rows.map_err(|_| postcard::Error::DeserializeBadEncoding)? {
            take(row.view().ok_or(postcard::Error::DeserializeBadEnum)?);
        }
        return Ok(true);
    }
    for _ in 0..count {
        let (row, behind) = postcard::take_from_bytes(rest)?;
        rest = behind;
        take(row);
    }
    if rest.is_empty() {
        Ok(true)
    } else {
        Err(postcard::Error::DeserializeBadEncoding)
    }
}
