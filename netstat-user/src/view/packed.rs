//! Rows as they travel: encoded one behind the other as they are read out of the table, and decoded one by one. A large
//! answer is never in memory in any other form.

use bytes::Bytes;

use super::RowView;

/// Some rows, encoded: what [`postcard`] makes of a sequence of them, as the answer of its own kind.
#[derive(Debug)]
pub struct PackedRows {
    /// Room for the head, then the rows.
    bytes: Vec<u8>,
    count: usize,
}

/// The longest head: the number of the kind, which is 0, and how many rows there are, both of variable length.
const HEAD: usize = 1 + 10;

impl PackedRows {
    /// Bytes that are enough for one frame, and leave room in it for a row with all that a row can have.
    const ENOUGH: usize = 256 * 1024;

    /// No rows.
    #[must_use]
    pub fn new() -> Self {
        let mut bytes = Vec::with_capacity(HEAD + Self::ENOUGH + 4096);
        bytes.resize(HEAD, 0);
        Self { bytes, count: 0 }
    }

    /// Adds a row.
    ///
    /// # Errors
    ///
    /// When the row cannot be encoded, which none is; then there are no rows left.
    pub fn push(&mut self, row: &RowView) -> Result<(), postcard::Error> {
        self.bytes = postcard::to_extend(row, std::mem::take(&mut self.bytes))?;
        self.count += 1;
        Ok(())
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether they fill a frame.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.bytes.len() >= HEAD + Self::ENOUGH
    }

    /// The frame of them.
    #[must_use]
    pub fn into_frame(mut self) -> Bytes {
        let mut head = [0; HEAD];
        let mut length = 1;
        let mut count = self.count;
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

impl Default for PackedRows {
    fn default() -> Self {
        Self::new()
    }
}

/// Gives the rows of a frame to `take` one by one. `false` when it is a frame of another kind.
///
/// # Errors
///
/// When it is none of rows, although it begins like one; some may have been taken then.
pub fn unpack(frame: &[u8], mut take: impl FnMut(RowView)) -> Result<bool, postcard::Error> {
    let (kind, rest): (u32, _) = postcard::take_from_bytes(frame)?;
    if kind != 0 {
        return Ok(false);
    }
    let (count, mut rest): (usize, _) = postcard::take_from_bytes(rest)?;
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
