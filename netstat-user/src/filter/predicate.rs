//! The tests that a filter is made of, as words.

use std::ops::Range;

use super::{
    Ends, Names, Op, Ports, Side, StateSet, Test, address,
    lex::Sign,
    parse::{Reader, is_operator},
    ports::Compare,
    problem::{Fault, Problem},
    value,
};
use crate::connection::Family;

/// What a test can begin with.
pub(super) const KNOWN: &str = "\
a test is the name of a state, an address or `:PORT`, or begins with one of state, exclude,
src, dst, host, sport, dport, port, pid, comm, uid, user, netns, inet, inet6, cookie, mptcp";

const STATES: &str = "\
states are ESTABLISHED, SYN_SENT, SYN_RECV, FIN_WAIT1, FIN_WAIT2, TIME_WAIT, CLOSE, CLOSE_WAIT,
LAST_ACK, LISTEN and CLOSING, or what `ss` calls them and the groups that it has: all, connected,
synchronized, bucket, big";

/// What a test begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keyword {
    State,
    Exclude,
    End(Side),
    Port(Side),
    Pid,
    Comm,
    User,
    Netns,
    Family,
    Inet(Family),
    Cookie,
    Mptcp,
}

fn keyword(word: &str) -> Option<Keyword> {
    Some(match word.to_ascii_lowercase().as_str() {
        "state" => Keyword::State,
        "exclude" => Keyword::Exclude,
        "src" => Keyword::End(Side::Local),
        "dst" => Keyword::End(Side::Remote),
        "host" | "net" => Keyword::End(Side::Either),
        "sport" => Keyword::Port(Side::Local),
        "dport" => Keyword::Port(Side::Remote),
        "port" | "portrange" => Keyword::Port(Side::Either),
        "pid" => Keyword::Pid,
        "comm" => Keyword::Comm,
        "uid" | "user" => Keyword::User,
        "netns" => Keyword::Netns,
        "family" => Keyword::Family,
        "inet" | "ip" => Keyword::Inet(Family::Inet),
        "inet6" | "ip6" => Keyword::Inet(Family::Inet6),
        "cookie" => Keyword::Cookie,
        "mptcp" => Keyword::Mptcp,
        _ => return None,
    })
}

/// Reads one test, and writes its steps down.
pub(super) fn read(reader: &mut Reader<'_>, names: &dyn Names, ops: &mut Vec<Op>) -> Result<(), Problem> {
    if let Some(states) = States::read(reader)? {
        states.write(ops);
        return Ok(());
    }
    let Some(Sign::Word(word)) = reader.peek() else {
        return Err(reader.problem_here(no_test("this")));
    };
    let Some(keyword) = keyword(word) else {
        ops.push(Op::Test(bare(reader, word, names)?));
        return Ok(());
    };
    reader.next();
    let (unequal, test) = match keyword {
        Keyword::End(side) => end(reader, word, side, names)?,
        Keyword::Port(side) => port(reader, word, side, names)?,
        Keyword::Inet(family) => (false, Test::Family(family)),
        Keyword::Mptcp => (false, Test::Mptcp),
        _ => {
            let unequal = is_unequal(reader, word)?;
            let (text, place) = argument(reader, word)?;
            let found = single(keyword, text, names);
            (unequal, found.map_err(|fault| reader.problem(fault, &place))?)
        }
    };
    ops.push(Op::Test(test));
    ops.extend(unequal.then_some(Op::Not));
    Ok(())
}

/// A word without another before it: an address or a port.
fn bare(reader: &mut Reader<'_>, word: &str, names: &dyn Names) -> Result<Test, Problem> {
    if word.bytes().all(|byte| byte.is_ascii_digit()) {
        let help = format!("a port is written `:{word}` or `port {word}`, a process `pid {word}`");
        return Err(reader.problem_here(Fault::new(format!("`{word}` alone can mean many things"), help)));
    }
    if !address::is_meant(word) {
        return Err(reader.problem_here(no_test(&format!("`{word}`"))));
    }
    let (prefix, ports) = address::parse(word, names).map_err(|fault| reader.problem_here(fault))?;
    reader.next();
    Ok(Test::End(Side::Either, Ends { prefix, ports }))
}

/// What follows `src`, `dst` and `host`; as with tcpdump, that can be `port` and a port.
fn end(reader: &mut Reader<'_>, word: &str, side: Side, names: &dyn Names) -> Result<(bool, Test), Problem> {
    match reader.peek() {
        Some(Sign::Word(next)) if keyword(next) == Some(Keyword::Port(Side::Either)) => {
            reader.next();
            return port(reader, next, side, names);
        }
        Some(Sign::Word(next)) if keyword(next) == Some(Keyword::End(Side::Either)) => {
            reader.next();
        }
        _ => {}
    }
    let unequal = is_unequal(reader, word)?;
    let (text, place) = argument(reader, word)?;
    let (prefix, ports) = address::parse(text, names).map_err(|fault| reader.problem(fault, &place))?;
    Ok((unequal, Test::End(side, Ends { prefix, ports })))
}

fn port(reader: &mut Reader<'_>, word: &str, side: Side, names: &dyn Names) -> Result<(bool, Test), Problem> {
    let compare = comparison(reader).unwrap_or(Compare::Equal);
    let (text, place) = argument(reader, word)?;
    let ports = Ports::parse(text, names).map_err(|fault| reader.problem(fault, &place))?;
    let Some(ports) = ports.compared(compare) else {
        let fault = Fault::new(
            format!("`{text}` is neither less nor greater than a port"),
            "a range goes with `=` and `!=`; the others take one port".to_owned(),
        );
        return Err(reader.problem(fault, &place));
    };
    let (prefix, ports) = (None, Some(ports));
    Ok((
        compare == Compare::Unequal,
        Test::End(side, Ends { prefix, ports }),
    ))
}

/// The tests that take one value of their own kind.
fn single(keyword: Keyword, text: &str, names: &dyn Names) -> Result<Test, Fault> {
    Ok(match keyword {
        Keyword::Pid => Test::Pid(value::number(text, "a process id")?),
        Keyword::Cookie => Test::Cookie(value::cookie(text)?),
        Keyword::Comm => Test::Comm(value::comm(text)?),
        Keyword::User => Test::Uid(value::user(text, names)?),
        Keyword::Netns => Test::Netns(value::netns(text, names)?),
        _ => Test::Family(family(text)?),
    })
}

fn family(text: &str) -> Result<Family, Fault> {
    match keyword(text) {
        Some(Keyword::Inet(family)) => Ok(family),
        _ => Err(Fault::new(
            format!("`{text}` is no address family"),
            "a family is `inet` or `inet6`".to_owned(),
        )),
    }
}

/// How the next value is compared, if something says so.
fn comparison(reader: &mut Reader<'_>) -> Option<Compare> {
    reader.take(|sign| match sign {
        Sign::Compare(compare) => Some(compare),
        Sign::Word(word) => match word.to_ascii_lowercase().as_str() {
            "eq" => Some(Compare::Equal),
            "ne" | "neq" => Some(Compare::Unequal),
            "lt" => Some(Compare::Less),
            "gt" => Some(Compare::Greater),
            "le" | "leq" => Some(Compare::AtMost),
            "ge" | "geq" => Some(Compare::AtLeast),
            _ => None,
        },
        _ => None,
    })
}

/// Whether a value that has no order is to be another.
fn is_unequal(reader: &mut Reader<'_>, word: &str) -> Result<bool, Problem> {
    let fault = Fault::new(
        format!("`{word}` has no order"),
        format!("`{word}` takes `=`, `!=` or nothing before its value"),
    );
    let disorder = reader.problem_here(fault);
    match comparison(reader) {
        None | Some(Compare::Equal) => Ok(false),
        Some(Compare::Unequal) => Ok(true),
        Some(_) => Err(disorder),
    }
}

/// The value that `word` takes, and where it is.
fn argument<'a>(reader: &mut Reader<'a>, word: &str) -> Result<(&'a str, Range<usize>), Problem> {
    let missing = reader.problem_here(Fault::new(
        format!("`{word}` lacks its value"),
        "it comes next; in quotes if it has blanks or is a word of the language".to_owned(),
    ));
    let (Sign::Word(text) | Sign::Quoted(text)) = reader.peek().ok_or_else(|| missing.clone())? else {
        return Err(missing);
    };
    match reader.next() {
        Some(token) if !is_operator(token.sign) => Ok((text, token.place.clone())),
        _ => Err(missing),
    }
}

fn no_test(what: &str) -> Fault {
    Fault::new(format!("{what} is no test"), KNOWN.to_owned())
}

/// States that are wanted and those that are not, one after the other as `ss` takes them: `state` adds to the ones
/// before, `exclude` takes away.
#[derive(Debug, Default)]
struct States {
    wanted: Option<StateSet>,
    excluded: Option<StateSet>,
}

impl States {
    /// What the next words say about states, if they do.
    fn read(reader: &mut Reader<'_>) -> Result<Option<Self>, Problem> {
        let mut states = Self::default();
        while let Some(Sign::Word(word)) = reader.peek() {
            let keyword = keyword(word);
            let set = match keyword {
                Some(Keyword::State | Keyword::Exclude) => {
                    reader.next();
                    state_names(reader)?
                }
                None if StateSet::named(word).is_some() => state_names(reader)?,
                _ => break,
            };
            let into = match keyword {
                Some(Keyword::Exclude) => &mut states.excluded,
                _ => &mut states.wanted,
            };
            *into = Some(into.unwrap_or_default().union(set));
        }
        let any = states.wanted.is_some() || states.excluded.is_some();
        Ok(any.then_some(states))
    }

    fn write(self, ops: &mut Vec<Op>) {
        let Self { wanted, excluded } = self;
        ops.extend(wanted.map(|set| Op::Test(Test::State(set))));
        if let Some(set) = excluded {
            ops.extend([Op::Test(Test::State(set)), Op::Not]);
            ops.extend(wanted.map(|_| Op::And));
        }
    }
}

/// `NAME[,NAME…]`
fn state_names(reader: &mut Reader<'_>) -> Result<StateSet, Problem> {
    let mut all = StateSet::default();
    loop {
        let unknown = match reader.peek() {
            Some(Sign::Word(word)) => Fault::new(format!("`{word}` is no state"), STATES.to_owned()),
            _ => Fault::new(
                "the name of a state is missing here".to_owned(),
                STATES.to_owned(),
            ),
        };
        let unknown = reader.problem_here(unknown);
        let named = reader.take(|sign| match sign {
            Sign::Word(word) => StateSet::named(word),
            _ => None,
        });
        all = all.union(named.ok_or(unknown)?);
        if reader.take(|sign| (sign == Sign::Comma).then_some(())).is_none() {
            return Ok(all);
        }
    }
}
