//! Names with `*` in them.

use serde::{Deserialize, Serialize};

use crate::connection::Comm;

/// Bytes that a pattern has at most: one more than a name, so that any name can have a `*`.
pub(super) const LONGEST_PATTERN: usize = 16;

/// A name in which `*` stands for any bytes, or none. Zeros fill it up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pattern([u8; LONGEST_PATTERN]);

impl Pattern {
    /// The pattern that `text` is; `None` if it is too long.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let mut bytes = [0; LONGEST_PATTERN];
        bytes.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        Some(Self(bytes))
    }

    /// Whether a process is called so.
    #[must_use]
    pub fn fits(&self, comm: &Comm) -> bool {
        fits(until_nul(&self.0), until_nul(&comm.0))
    }
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|&byte| byte == 0);
    &bytes[..end.unwrap_or(bytes.len())]
}

/// Whether `name` is `pattern`. Only the last `*` is tried again, which is enough: one before it has found its first place.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut in_name) = (0, 0);
    let mut star = None;
    while in_name < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at + 1, in_name));
                at += 1;
            }
            Some(byte) if *byte == name[in_name] => {
                at += 1;
                in_name += 1;
            }
            _ => match star {
                Some((after, taken)) => {
                    star = Some((after, taken + 1));
                    (at, in_name) = (after, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn a_star_is_any_bytes() {
        for (pattern, name) in [
            ("", ""),
            ("nginx", "nginx"),
            ("*", ""),
            ("*", "nginx"),
            ("ng*", "nginx"),
            ("*x", "nginx"),
            ("n*n*", "nginx"),
            ("*ab", "aab"),
            ("a*b*c", "abbcbc"),
            ("**", "a"),
        ] {
            assert!(fits(pattern.as_bytes(), name.as_bytes()), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("", "a"),
            ("ng", "nginx"),
            ("*n", "nginx"),
            ("n*z*", "nginx"),
            ("a*b*c", "abb"),
        ] {
            assert!(!fits(pattern.as_bytes(), name.as_bytes()), "{pattern} {name}");
        }
    }
}
