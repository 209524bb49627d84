//! The tests that a filter is made of, as words.

use std::ops::Range;

use super::{
    Names, Op, Ports, Side, Test,
    address::{self, Meaning},
    keyword::{Keyword, keyword},
    lex::Sign,
    nearest,
    parse::{Reader, is_operator},
    ports::Compare,
    problem::{Fault, Problem},
    state_words::States,
    value,
};
use crate::connection::Family;

/// What a test can begin with.
pub(super) const KNOWN: &str = "\
a test is the name of a state, an address or `:PORT`, or begins with one of state, exclude,
src, dst, host, sport, dport, port, pid, comm, uid, user, netns, dev, cgroup, inet, inet6, cookie,
mptcp, fwmark, bound, autobound";

/// Reads one test, and writes its steps down.
pub(super) fn read(reader: &mut Reader<'_>, names: &dyn Names, ops: &mut Vec<Op>) -> Result<(), Problem> {
    let more_ports = reader.more_ports.take();
    if let Some(states) = States::read(reader)? {
        states.write(ops);
        return Ok(());
    }
    let Some(Sign::Word(word)) = reader.peek() else {
        return Err(reader.problem_here(no_test("this")));
    };
    let Some(keyword) = keyword(word) else {
        return bare(reader, word, more_ports, names, ops);
    };
    reader.next();
    match keyword {
        Keyword::End(side) => end(reader, word, side, names, ops),
        Keyword::Port(side) => port(reader, word, side, names, ops),
        Keyword::Inet(family) => {
            ops.push(Op::Test(Test::Family(family)));
            Ok(())
        }
        Keyword::Device => {
            let unequal = is_unequal(reader, word)?;
            let mut devices = Vec::new();
            each_value(reader, word, |text| {
                devices.extend(value::devices(text, names)?);
                Ok(())
            })?;
            write_any(&devices, ops);
            ops.extend(unequal.then_some(Op::Not));
            Ok(())
        }
        Keyword::Mptcp => {
            ops.push(Op::Test(Test::Mptcp));
            Ok(())
        }
        Keyword::Bound => {
            ops.push(Op::Test(Test::Bound));
            Ok(())
        }
        Keyword::Autobound => {
            ops.push(Op::Test(Test::Autobound));
            Ok(())
        }
        _ => {
            let unequal = is_unequal(reader, word)?;
            let mut first = true;
            each_value(reader, word, |text| {
                ops.push(Op::Test(single(keyword, text, names)?));
                ops.extend((!std::mem::take(&mut first)).then_some(Op::Or));
                Ok(())
            })?;
            ops.extend(unequal.then_some(Op::Not));
            Ok(())
        }
    }
}

/// Reads `VALUE[,VALUE…]`.
fn each_value(
    reader: &mut Reader<'_>,
    word: &str,
    mut take: impl FnMut(&str) -> Result<(), Fault>,
) -> Result<(), Problem> {
    loop {
        let (text, place) = argument(reader, word)?;
        take(text).map_err(|fault| reader.problem(fault, &place))?;
        if reader.take(|sign| (sign == Sign::Comma).then_some(())).is_none() {
            return Ok(());
        }
    }
}

/// Writes the steps for one of these tests to hold.
fn write_any(tests: &[Test], ops: &mut Vec<Op>) {
    for (number, test) in tests.iter().enumerate() {
        ops.push(Op::Test(*test));
        ops.extend((number > 0).then_some(Op::Or));
    }
}

/// Writes the steps for an end that is, or is not, one of those that are meant.
fn write_end(meaning: &Meaning, side: Side, unequal: bool, ops: &mut Vec<Op>) {
    let ends: Vec<_> = meaning.forms.iter().map(|ends| Test::End(side, *ends)).collect();
    write_any(&ends, ops);
    if !meaning.devices.is_empty() {
        write_any(&meaning.devices, ops);
        ops.push(Op::And);
    }
    ops.extend(unequal.then_some(Op::Not));
    // As with `ss`, the family is not turned around.
    if let Some(family) = meaning.family {
        ops.extend([Op::Test(Test::Family(family)), Op::And]);
    }
}

/// A word without another before it: an address or a port, a process as `list -p` shows it, or another number after
/// `port NUMBER or`.
fn bare(
    reader: &mut Reader<'_>,
    word: &str,
    more_ports: Option<Side>,
    names: &dyn Names,
    ops: &mut Vec<Op>,
) -> Result<(), Problem> {
    if let Some(side) = more_ports
        && word.starts_with(|char: char| char.is_ascii_digit())
        && let Ok(ports) = Ports::parse(word, names)
    {
        reader.next();
        write_end(&Meaning::ports(Some(ports)), side, false, ops);
        reader.more_ports = Some(side);
        return Ok(());
    }
    if word.bytes().all(|byte| byte.is_ascii_digit()) {
        let help = format!("a port is written `:{word}` or `port {word}`, a process `pid {word}`");
        return Err(reader.problem_here(Fault::new(format!("`{word}` alone can mean many things"), help)));
    }
    if let Some(process) = value::process(word) {
        reader.next();
        ops.extend(process.map(Op::Test));
        ops.push(Op::And);
        return Ok(());
    }
    if !address::is_meant(word, names) {
        return Err(reader.problem_here(unknown(word, names)));
    }
    let local = address::parse(word, names).map_err(|fault| reader.problem_here(fault))?;
    reader.next();
    if reader.take(is_arrow).is_none() {
        write_end(&local, Side::Either, false, ops);
        return Ok(());
    }
    // `show` and `stuck` write a connection so.
    let (text, place) = argument(reader, "→")?;
    let remote = address::parse(text, names).map_err(|fault| reader.problem(fault, &place))?;
    write_end(&local, Side::Local, false, ops);
    write_end(&remote, Side::Remote, false, ops);
    ops.push(Op::And);
    Ok(())
}

fn is_arrow(sign: Sign<'_>) -> Option<()> {
    (sign == Sign::Word("→")).then_some(())
}

/// What follows `src`, `dst` and `host`; as with tcpdump, that can be `port` and a port.
fn end(
    reader: &mut Reader<'_>,
    word: &str,
    side: Side,
    names: &dyn Names,
    ops: &mut Vec<Op>,
) -> Result<(), Problem> {
    match reader.peek() {
        Some(Sign::Word(next)) if keyword(next) == Some(Keyword::Port(Side::Either)) => {
            reader.next();
            return port(reader, next, side, names, ops);
        }
        Some(Sign::Word(next)) if keyword(next) == Some(Keyword::End(Side::Either)) => {
            reader.next();
        }
        _ => {}
    }
    let unequal = is_unequal(reader, word)?;
    let mut meaning = None;
    each_value(reader, word, |text| {
        let found = address::parse(text, names)?;
        meaning = Some(found.or(meaning.take())?);
        Ok(())
    })?;
    if let Some(meaning) = meaning {
        write_end(&meaning, side, unequal, ops);
    }
    Ok(())
}

fn port(
    reader: &mut Reader<'_>,
    word: &str,
    side: Side,
    names: &dyn Names,
    ops: &mut Vec<Op>,
) -> Result<(), Problem> {
    let compare = comparison(reader).unwrap_or(Compare::Equal);
    let mut meaning = None;
    each_value(reader, word, |text| {
        let found = ports(text, compare, names)?;
        meaning = Some(found.or(meaning.take())?);
        Ok(())
    })?;
    if let Some(meaning) = meaning {
        write_end(&meaning, side, compare == Compare::Unequal, ops);
    }
    reader.more_ports = (compare == Compare::Equal).then_some(side);
    Ok(())
}

/// The ports that compare so with what `text` says, which may begin with a family.
fn ports(text: &str, compare: Compare, names: &dyn Names) -> Result<Meaning, Fault> {
    let (family, port) = address::family(text)?;
    let order = |what: &str, help: &str| {
        Fault::new(
            format!("`{text}` is neither less nor greater than {what}"),
            help.to_owned(),
        )
    };
    let ports = if matches!(port.trim_start_matches(['*', ':']), "" | "-") && !port.is_empty() {
        if !matches!(compare, Compare::Equal | Compare::Unequal) {
            return Err(order(
                "a port",
                "`*` goes with `=` and `!=`; the others take one port",
            ));
        }
        None
    } else {
        let compared = Ports::parse(port, names)?.compared(compare);
        Some(compared.ok_or_else(|| {
            order(
                "a port",
                "a range goes with `=` and `!=`; the others take one port",
            )
        })?)
    };
    Ok(Meaning {
        family,
        ..Meaning::ports(ports)
    })
}

/// The tests that take one value of their own kind.
fn single(keyword: Keyword, text: &str, names: &dyn Names) -> Result<Test, Fault> {
    Ok(match keyword {
        Keyword::Pid => Test::Pid(value::pid(text)?),
        Keyword::Cookie => Test::Cookie(value::cookie(text)?),
        Keyword::Comm => value::comm(text)?,
        Keyword::User => Test::Uid(value::user(text, names)?),
        Keyword::Netns => Test::Netns(value::netns(text, names)?),
        Keyword::Fwmark => value::fwmark(text)?,
        Keyword::Cgroup => Test::Cgroup(value::cgroup(text, names)?),
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

/// What is said of a word that begins no test: what it may have been meant as.
fn unknown(word: &str, names: &dyn Names) -> Fault {
    let near = nearest::tests(word, names);
    if near.is_empty() {
        return no_test(&format!("`{word}`"));
    }
    let what = format!("`{word}` is no test: is it {}?", nearest::choice(&near));
    Fault::new(what, KNOWN.to_owned())
}
