//! The values that tests take, but for addresses and ports.

use netstat_ebpf::wire::COMM_LEN;

use super::{Kind, Names, Pattern, Test, nearest, pattern::LONGEST_PATTERN, problem::Fault};
use crate::connection::{Comm, Cookie, Netns};

/// A process id, or `PID/COMM`, of which the number says enough.
pub(super) fn pid(text: &str) -> Result<u32, Fault> {
    let number = text.split_once('/').map_or(text, |(number, _)| number);
    number.parse().map_err(|_| {
        let help = "a process id is a number; `comm NAME` tests a process's name";
        Fault::new(format!("`{text}` is not a process id"), help.to_owned())
    })
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

/// A mark, or `MARK/MASK`; in the bases that `ss` takes.
pub(super) fn fwmark(text: &str) -> Result<Test, Fault> {
    let (value, mask) = text
        .split_once('/')
        .map_or((text, None), |(value, mask)| (value, Some(mask)));
    let (Some(value), Some(mask)) = (c_number(value), mask.map_or(Some(u32::MAX), c_number)) else {
        let help = "a mark is a number of 32 bits, decimal or as `0x1f`, or MARK/MASK: of the mark, the bits of the mask";
        return Err(Fault::new(format!("`{text}` is no mark"), help.to_owned()));
    };
    Ok(Test::Fwmark { value, mask })
}

/// A number as in C: hexadecimal behind `0x`, octal behind `0`, else decimal.
fn c_number(text: &str) -> Option<u32> {
    if text.contains('+') {
        return None;
    }
    let hexadecimal = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    if let Some(digits) = hexadecimal {
        return u32::from_str_radix(digits, 16).ok();
    }
    match text.strip_prefix('0').filter(|digits| !digits.is_empty()) {
        Some(digits) => u32::from_str_radix(digits, 8).ok(),
        None => text.parse().ok(),
    }
}

/// A process's name as the kernel has it: at most 15 bytes, and a NUL; or with `*` for any of them.
pub(super) fn comm(text: &str) -> Result<Test, Fault> {
    if text.contains('*') {
        return Pattern::new(text).map(Test::CommLike).ok_or_else(|| {
            let help = format!(
                "a name has {} bytes, and a pattern at most {LONGEST_PATTERN}",
                COMM_LEN - 1
            );
            Fault::new(format!("the pattern `{text}` is too long"), help)
        });
    }
    let mut comm = [0; COMM_LEN];
    let most = COMM_LEN - 1;
    if text.len() > most {
        let kept = &text[..text.floor_char_boundary(most)];
        let help = format!("the kernel keeps {most} bytes of a name, of this one `{kept}`");
        return Err(Fault::new(format!("no process can be called `{text}`"), help));
    }
    comm[..text.len()].copy_from_slice(text.as_bytes());
    Ok(Test::Comm(Comm(comm)))
}

/// `PID/COMM` as `list -p` and `watch` show a process: `?` and `+N` may follow, and the name may have been cut.
pub(super) fn process(text: &str) -> Option<[Test; 2]> {
    let (pid, comm) = text.split_once('/')?;
    let pid = pid.parse().ok()?;
    let comm = match comm.rsplit_once('+') {
        Some((comm, others)) if others.parse::<u32>().is_ok() => comm,
        _ => comm,
    };
    let comm = comm.strip_suffix('?').unwrap_or(comm);
    if comm.is_empty() || comm.parse::<u8>().is_ok() {
        return None;
    }
    Some([Test::Pid(pid), Test::CommLike(Pattern::new(&format!("{comm}*"))?)])
}

/// A user, by name or number.
pub(super) fn user(text: &str, names: &dyn Names) -> Result<u32, Fault> {
    if let Ok(uid) = text.parse() {
        return Ok(uid);
    }
    let help = "a user is a number, or a name that `getent passwd NAME` finds";
    match names.uid(text) {
        Ok(Some(uid)) => Ok(uid),
        Ok(None) => {
            let what = match nearest::one(text, names.all(Kind::User)) {
                Some(user) => format!("there is no user `{text}`: is it `{user}`?"),
                None => format!("there is no user `{text}`"),
            };
            Err(Fault::new(what, help.to_owned()))
        }
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

/// A control group, by its path or its number.
pub(super) fn cgroup(text: &str, names: &dyn Names) -> Result<u64, Fault> {
    names.cgroup(text).map_err(|why| {
        let help = "`cgroup` takes a path below the mount of cgroup2, as `list --json` and `systemd-cgls` show it,\n\
                    such as `/system.slice/ssh.service`, or the path of its directory; groups inside it are others";
        Fault::new(why, help.to_owned())
    })
}

/// Interfaces: by number in any network namespace, or those of a name.
pub(super) fn devices(text: &str, names: &dyn Names) -> Result<Vec<Test>, Fault> {
    /// More do not fit into a filter with other tests.
    const MOST: usize = 100;
    if let Ok(index) = text.parse() {
        return Ok(vec![Test::Device(None, index)]);
    }
    let found = names.devices(text).map_err(|why| {
        let help =
            "an interface is a name that `ip link` shows in some network namespace, or its number there";
        Fault::new(why, help.to_owned())
    })?;
    if found.len() > MOST {
        return Err(Fault::new(
            format!(
                "{} interfaces are called `{text}`, more than a filter can hold",
                found.len()
            ),
            "give the number: `netns NAME and dev NUMBER`".to_owned(),
        ));
    }
    let found = found.into_iter();
    Ok(found
        .map(|(netns, index)| Test::Device(Some(netns), index))
        .collect())
}
