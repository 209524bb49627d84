//! Network namespaces that are mounted somewhere: `proc_pid_mountinfo(5)`.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use super::parse_link;
use crate::connection::Netns;

/// The network namespaces among the mounts that `mountinfo` lists, each with the place that it is mounted on.
pub(super) fn read(mountinfo: &Path) -> io::Result<Vec<(Netns, PathBuf)>> {
    Ok(parse(&fs::read(mountinfo)?))
}

fn parse(mountinfo: &[u8]) -> Vec<(Netns, PathBuf)> {
    mountinfo.split(|&byte| byte == b'\n').filter_map(mount).collect()
}

/// `ID PARENT MAJOR:MINOR ROOT MOUNTPOINT …`: the root of a mounted namespace is `net:[INODE]`, since that is how
/// nsfs calls it (`nsfs_show_path`).
fn mount(line: &[u8]) -> Option<(Netns, PathBuf)> {
    let mut fields = line.split(|&byte| byte == b' ').skip(3);
    let netns = parse_link(fields.next()?)?;
    Some((netns, unescaped(fields.next()?)))
}

/// A path as the kernel lists it: blanks, line ends and backslashes as three octal digits (`mangle_path`).
pub(crate) fn unescaped(text: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = |digit: &u8| digit.is_ascii_digit().then(|| u32::from(digit - b'0'));
        let code = match tail {
            [a, b, c, ..] if first == b'\\' => octal(a)
                .zip(octal(b))
                .zip(octal(c))
                .map(|((a, b), c)| a * 64 + b * 8 + c),
            _ => None,
        };
        if let Some(byte) = code.and_then(|code| u8::try_from(code).ok()) {
            bytes.push(byte);
            rest = &tail[3..];
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_are_found_among_the_mounts() {
        let mountinfo = b"42 29 0:26 /netns /run/netns rw,nosuid shared:2 - tmpfs tmpfs rw\n\
            43 42 0:4 net:[4026532177] /run/netns/blue\\040sky rw shared:3 - nsfs nsfs rw\n\
            44 42 0:4 mnt:[4026532178] /run/mnt rw - nsfs nsfs rw\n\
            45 42 0:4 net:[4026532179] /a\\b rw - nsfs nsfs rw\n\n";
        assert_eq!(
            parse(mountinfo),
            [
                (Netns(4_026_532_177), PathBuf::from("/run/netns/blue sky")),
                (Netns(4_026_532_179), PathBuf::from("/a\\b")),
            ]
        );
    }
}
