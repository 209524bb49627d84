//! The values that tests take, but for addresses and ports.

use netstat_ebpf::wire::COMM_LEN;

use super::{Names, problem::Fault};
use crate::connection::{Comm, Cookie, Netns};

/// A number, of what `what` says.
pub(super) fn number(text: &str, what: &str) -> Result<u32, Fault> {
    text.parse()
        .map_err(|_| Fault::new(format!("`{text}` is not {what}"), format!("{what} is a number")))
}

/// A cookie: decimal as in JSON, or hexadecimal, in which `ss -e` shows it.
pub(super) fn cookie(text: &str) -> Result<Cookie, Fault> {
    let hexadecimal = text.strip_prefix("0x").or_else(|| text.strip_prefix("sk:"));
    let parsed = hexadecimal.map_or_else(|| text.parse(), |digits| u64::from_str_radix(digits, 16));
    parsed.map(Cookie).map_err(|_| {
        let help = "a cookie is a number as in `list --json`, or as `ss -e` shows it, `sk:1f`";
        Fault::new(format!("`{text}` is no cookie"), help.to_owned())
    })
}

/// A process's name as the kernel has it: at most 15 bytes, and a NUL.
pub(super) fn comm(text: &str) -> Result<Comm, Fault> {
    let mut comm = [0; COMM_LEN];
    let most = COMM_LEN - 1;
    if text.len() > most {
        let kept = &text[..text.floor_char_boundary(most)];
        let help = format!("the kernel keeps {most} bytes of a name, of this one `{kept}`");
        return Err(Fault::new(format!("no process can be called `{text}`"), help));
    }
    comm[..text.len()].copy_from_slice(text.as_bytes());
    Ok(Comm(comm))
}

/// A user, by name or number.
pub(super) fn user(text: &str, names: &dyn Names) -> Result<u32, Fault> {
    if let Ok(uid) = text.parse() {
        return Ok(uid);
    }
    let help = "a user is a number, or a name that `getent passwd NAME` finds";
    match names.uid(text) {
        Ok(Some(uid)) => Ok(uid),
        Ok(None) => Err(Fault::new(format!("there is no user `{text}`"), help.to_owned())),
        Err(why) => Err(unanswered("user", text, &why)),
    }
}

/// Nobody says what a name stands for.
pub(super) fn unanswered(what: &str, name: &str, why: &str) -> Fault {
    Fault::new(
        format!("the number of {what} `{name}` is not known: {why}"),
        format!("the {what}'s number needs no name service"),
    )
}

/// A network namespace, by a name of `ip netns` or its number.
pub(super) fn netns(text: &str, names: &dyn Names) -> Result<Netns, Fault> {
    names.netns(text).map_err(|why| {
        let help = "`netns` takes a name of `ip netns`, or the inode number that `lsns -t net` shows";
        Fault::new(why, help.to_owned())
    })
}
