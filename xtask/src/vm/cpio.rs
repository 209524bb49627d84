//! The archive that Linux unpacks into its first file system: cpio in the format "newc", as
//! `Documentation/driver-api/early-userspace/buffer-format.rst` of the kernel defines it.

use std::{
    collections::BTreeSet,
    io::{self, Write},
};

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;

/// Writes an archive; all that is in it belongs to root.
pub(crate) struct Archive<W> {
    out: W,
    /// Bytes written: names and contents begin at multiples of four.
    written: usize,
    entries: u32,
    folders: BTreeSet<String>,
}

impl<W: Write> Archive<W> {
    pub(crate) fn new(out: W) -> Self {
        Self {
            out,
            written: 0,
            entries: 0,
            folders: BTreeSet::new(),
        }
    }

    /// Adds a file at `path`, which begins with a slash, and the folders that lead to it.
    pub(crate) fn file(&mut self, path: &str, permissions: u32, contents: &[u8]) -> io::Result<()> {
        let name = path.trim_start_matches('/');
        for (end, _) in name.match_indices('/') {
            let folder = &name[..end];
            if self.folders.insert(folder.to_owned()) {
                self.entry(folder, DIRECTORY | 0o755, &[])?;
            }
        }
        self.entry(name, REGULAR | permissions, contents)
    }

    /// Ends the archive.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.entry("TRAILER!!!", 0, &[])?;
        self.out.flush()
    }

    fn entry(&mut self, name: &str, mode: u32, contents: &[u8]) -> io::Result<()> {
        self.entries += 1;
        let size = |length: usize| u32::try_from(length).map_err(io::Error::other);
        let length = size(contents.len())?;
        // The inode, the mode, owner, group, links, time, size, the two devices by two numbers each, the size
        // of the name, and a checksum that this format does not have.
        let name_size = size(name.len() + 1)?;
        let fields = [self.entries, mode, 0, 0, 1, 0, length, 0, 0, 0, 0, name_size, 0];
        let mut header = b"070701".to_vec();
        for field in fields {
            write!(header, "{field:08x}")?;
        }
        header.extend_from_slice(name.as_bytes());
        header.push(0);
        self.padded(&header)?;
        self.padded(contents)
    }

    fn padded(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.written += bytes.len();
        let padding = self.written.next_multiple_of(4) - self.written;
        self.written += padding;
        self.out.write_all(&[0; 3][..padding])
    }
}

#[cfg(test)]
mod tests {
    use super::Archive;

    /// By hand from the format's definition: the header of a file of two bytes called `f`.
    #[test]
    fn an_entry_is_what_the_format_says() {
        let mut bytes = Vec::new();
        let mut archive = Archive::new(&mut bytes);
        archive.file("/f", 0o644, b"hi").unwrap();
        archive.finish().unwrap();
        let fields = [
            "070701", "00000001", "000081a4", "00000000", "00000000", "00000001", "00000000", "00000002",
            "00000000", "00000000", "00000000", "00000000", "00000002", "00000000",
        ];
        // The header and the name are 112 bytes, a multiple of four; the contents are filled up to one.
        let expected = [fields.concat().as_bytes(), b"f\0", b"hi", &[0; 2], b"070701"].concat();
        assert!(
            bytes.starts_with(&expected),
            "{}",
            String::from_utf8_lossy(&bytes)
        );
        assert_eq!(bytes.len() % 4, 0);
    }
}
