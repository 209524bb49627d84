//! Ports: a number, a range or the name of a service, and how they compare.

use serde::{Deserialize, Serialize};

use super::{Kind, Names, nearest, problem::Fault, value::unanswered};

/// The ports from one to another, both of them included; none when they are the wrong way round. From 0 to 0 is the
/// lack of a port, which a listener's remote end has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    first: u16,
    last: u16,
}

/// How a port is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compare {
    Equal,
    Unequal,
    Less,
    Greater,
    AtMost,
    AtLeast,
}

impl Ports {
    /// Those from `first` to `last`.
    #[must_use]
    pub const fn new(first: u16, last: u16) -> Self {
        Self { first, last }
    }

    /// Whether `port` is one of them, or whether they stand for the lack of a port.
    #[must_use]
    pub const fn contain(self, port: Option<u16>) -> bool {
        match port {
            Some(port) => self.first <= port && port <= self.last,
            None => self.first == 0 && self.last == 0,
        }
    }

    /// What `text` says: `443`, `8000-8100` or `https`, with or without a colon before it.
    pub(super) fn parse(text: &str, names: &dyn Names) -> Result<Self, Fault> {
        let bare = text.strip_prefix('*').unwrap_or(text);
        let bare = bare.strip_prefix(':').unwrap_or(text);
        if let Some((first, last)) = bare.split_once('-')
            && is_number(first)
            && is_number(last)
        {
            return match (number(first), number(last)) {
                (Some(first), Some(last)) if first <= last => Ok(Self { first, last }),
                (Some(_), Some(_)) => Err(Fault::new(
                    format!("`{bare}` is an empty range"),
                    format!("the smaller port comes first: `{last}-{first}`"),
                )),
                _ => Err(no_port(&format!("`{bare}` is no port"))),
            };
        }
        let port = if is_number(bare) {
            bare.parse().ok()
        } else {
            names
                .port(bare)
                .map_err(|why| unanswered("service", bare, &why))?
        };
        let port = port.ok_or_else(|| match nearest::one(bare, names.all(Kind::Service)) {
            Some(service) => no_port(&format!("`{bare}` is no port: is it `{service}`?")),
            None => no_port(&format!("`{bare}` is no port")),
        })?;
        Ok(Self {
            first: port,
            last: port,
        })
    }

    /// The ports that compare so with these; `None` when a range does not compare. [`Compare::Unequal`] is not about
    /// ports alone, since what has no port is unequal as well: that is the caller's to turn around.
    pub(super) fn compared(self, compare: Compare) -> Option<Self> {
        const NONE: Ports = Ports::new(1, 0);
        let Self { first, last } = self;
        let above = |port: u16| port.checked_add(1).map_or(NONE, |next| Self::new(next, u16::MAX));
        let below = |port: u16| match port {
            0 | 1 => NONE,
            port => Self::new(1, port - 1),
        };
        match compare {
            Compare::Equal | Compare::Unequal => Some(self),
            _ if first != last => None,
            Compare::Less => Some(below(first)),
            Compare::Greater => Some(above(first)),
            Compare::AtMost => Some(Self::new(first.min(1), first)),
            Compare::AtLeast => Some(Self::new(first.max(1), u16::MAX)),
        }
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// An end of a range: 0 stands for no port in the kernel, and is none here.
fn number(digits: &str) -> Option<u16> {
    digits.parse().ok().filter(|&port| port != 0)
}

fn no_port(what: &str) -> Fault {
    Fault::new(
        what.to_owned(),
        "a port is a number from 1 to 65535, a range such as `8000-8100`, or a TCP service that `getent services`\n\
         shows; 0 stands for no port, `*` for any"
            .to_owned(),
    )
}
