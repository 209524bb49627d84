//! Text put together in bytes: a table of a large host has millions of numbers, and so has the stream of a busy one, and
//! formatting each by itself takes most of the time that its output takes.

use std::{
    fmt::{self, Write as _},
    net::IpAddr,
};

/// Text under way.
#[derive(Debug, Default)]
pub(super) struct Text(Vec<u8>);

impl Text {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Where the next character comes.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn push(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    /// A value that knows how to print itself.
    pub(super) fn display(&mut self, value: impl fmt::Display) {
        // Text takes whatever there is.
        let _ = write!(self, "{value}");
    }

    pub(super) fn number(&mut self, number: u64) {
        let mut digits = [0; 20];
        self.0.extend_from_slice(decimal(number, &mut digits));
    }

    /// A number that ends `width` characters on.
    pub(super) fn right(&mut self, number: Option<u32>, width: usize) {
        let mut digits = [0; 20];
        let digits = match number {
            Some(number) => decimal(u64::from(number), &mut digits),
            None => b"-",
        };
        self.blanks(width.saturating_sub(digits.len()));
        self.0.extend_from_slice(digits);
    }

    /// Blanks until there are `width` characters from `start` on.
    pub(super) fn fill(&mut self, start: usize, width: usize) {
        let written = &self.0[start..];
        let count = if written.is_ascii() {
            written.len()
        } else {
            String::from_utf8_lossy(written).chars().count()
        };
        self.blanks(width.saturating_sub(count));
    }

    pub(super) fn address(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(v4) => {
                let mut text = [0; 16];
                let mut length = 0;
                for octet in v4.octets() {
                    let (digits, count) = OCTETS[usize::from(octet)];
                    text[length..length + 4].copy_from_slice(&digits);
                    length += count;
                }
                // The last one has a dot behind it, too.
                self.0.extend_from_slice(&text[..length - 1]);
            }
            IpAddr::V6(v6) => self.display(v6),
        }
    }

    /// Blanks before what was written from `start` on, so that it has `width` characters.
    pub(super) fn fill_before(&mut self, start: usize, width: usize) {
        let end = self.0.len();
        self.fill(start, width);
        let blanks = self.0.len() - end;
        self.0[start..].rotate_right(blanks);
    }

    /// Begins anew, and keeps the room.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// A number of at least so many digits.
    pub(super) fn padded(&mut self, number: u64, digits: usize) {
        let mut room = [0; 20];
        let written = decimal(number, &mut room);
        let zeros = digits.saturating_sub(written.len());
        self.0.resize(self.0.len() + zeros, b'0');
        self.0.extend_from_slice(written);
    }

    /// As [`fill`](Self::fill) where only letters, digits and the like can have been written.
    pub(super) fn fill_plain(&mut self, start: usize, width: usize) {
        self.blanks(width.saturating_sub(self.0.len() - start));
    }

    /// Takes back what was written from `start` on.
    pub(super) fn take_back(&mut self, start: usize) -> String {
        let text = String::from_utf8_lossy(&self.0[start..]).into_owned();
        self.0.truncate(start);
        text
    }

    fn blanks(&mut self, count: usize) {
        const BLANKS: [u8; 32] = [b' '; 32];
        match BLANKS.get(..count) {
            Some(blanks) => self.0.extend_from_slice(blanks),
            None => self.0.resize(self.0.len() + count, b' '),
        }
    }
}

impl fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text);
        Ok(())
    }
}

/// What each octet of an address is as text, with a dot behind it, and how long that is.
const OCTETS: [([u8; 4], usize); 256] = {
    let mut octets = [([b'.'; 4], 0); 256];
    let mut digits = [b'0'; 3];
    let mut octet = 0;
    while octet < octets.len() {
        let skipped = if octet < 10 {
            2
        } else if octet < 100 {
            1
        } else {
            0
        };
        let mut at = skipped;
        while at < digits.len() {
            octets[octet].0[at - skipped] = digits[at];
            at += 1;
        }
        octets[octet].1 = digits.len() + 1 - skipped;
        at = digits.len() - 1;
        while digits[at] == b'9' {
            digits[at] = b'0';
            at -= 1;
        }
        digits[at] += 1;
        octet += 1;
    }
    octets
};

/// The digits of a number, at the end of `digits`.
fn decimal(mut number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        // A remainder of 10 is a digit.
        digits[at] = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
        if number == 0 {
            return &digits[at..];
        }
    }
}
