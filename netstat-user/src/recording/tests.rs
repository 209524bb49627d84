//! What is recorded comes out again, and what is damaged is told.

use proptest::prelude::*;

use super::{BadRecording, Fact, Header, MAGIC, NetnsNames, Part, Reader, VERSION, Writer, encode};
use crate::{
    clock::{Ktime, WallClock},
    connection::Netns,
    sources::Coverage,
    table::Lost,
    view::Loss,
};

fn header() -> Header {
    Header {
        program: "0.1.0".to_owned(),
        kernel: "6.18.0".to_owned(),
        coverage: Coverage {
            ports: true,
            ..Coverage::default()
        },
        own: Netns(7),
        clock: WallClock::default(),
        names: vec![(Netns(8), "blue".to_owned())],
    }
}

fn fact(number: u64) -> Fact {
    match number % 5 {
        0 => Fact::SweepBegun,
        1 => Fact::Released(Ktime(number)),
        2 => Fact::Absent(Lost {
            netns: Netns(9),
            nowhere: number > 9,
        }),
        3 => Fact::SweepEnded {
            start: Ktime(number),
            end: Ktime(number + 1),
        },
        _ => Fact::Unseen(Loss {
            ring_full: number,
            interrupted: 1,
            since: Ktime(1),
            until: Ktime(u64::MAX),
        }),
    }
}

/// A recording of two pieces of so many facts, with a name that was given in between, as bytes.
fn recorded(each: u64, complete: bool) -> (Vec<u8>, Vec<Fact>, NetnsNames) {
    let facts: Vec<Fact> = (0..2 * each).map(fact).collect();
    let names = vec![(Netns(8), "green".to_owned())];
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes, &header()).unwrap();
    for half in facts.chunks(facts.len() / 2) {
        let mut encoded = Vec::new();
        for fact in half {
            encode(fact, &mut encoded);
        }
        writer.facts(&encoded).unwrap();
        writer.circumstances(header().clock, names.clone()).unwrap();
    }
    if complete {
        writer.end().unwrap();
    }
    (bytes, facts, names)
}

struct Read {
    facts: Vec<Fact>,
    names: Vec<NetnsNames>,
    cut: bool,
}

fn read(bytes: &[u8]) -> Result<Read, BadRecording> {
    let mut reader = Reader::new(bytes)?;
    assert_eq!(reader.header(), &header());
    let (mut all, mut facts, mut names) = (Vec::new(), Vec::new(), Vec::new());
    while let Some(part) = reader.next(&mut facts)? {
        match part {
            Part::Facts => all.append(&mut facts),
            Part::Names(told) => names.push(told),
            Part::Clock(_) => {}
        }
    }
    Ok(Read {
        facts: all,
        names,
        cut: reader.is_cut(),
    })
}

#[test]
fn what_is_recorded_comes_out() {
    let (bytes, facts, names) = recorded(5000, true);
    let read = read(&bytes).unwrap();
    assert!(read.facts == facts && !read.cut);
    assert_eq!(read.names, [names], "told once");
}

#[test]
fn what_is_cut_off_is_read_up_to_there() {
    let (bytes, facts, _) = recorded(50, true);
    let mut empty = 0;
    for end in 0..bytes.len() {
        match read(&bytes[..end]) {
            Ok(read) => {
                assert!(read.cut, "{end}");
                assert!(facts.starts_with(&read.facts), "{end}");
                assert!(read.facts.len().is_multiple_of(50), "{end}");
            }
            Err(BadRecording::Empty) => empty += 1,
            Err(error) => panic!("{end}: {error}"),
        }
    }
    assert!(empty < 200, "the header is short, and enough");
    let (incomplete, ..) = recorded(50, false);
    let read = read(&incomplete).unwrap();
    assert!(read.cut && read.facts == facts);
}

#[test]
fn what_is_something_else_is_refused_by_name() {
    let told = |bytes: &[u8]| {
        read(bytes)
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default()
    };
    for foreign in [&b"\x7fELF"[..], b"{\"cookie\":1}", b"NETSTRACE", &[0; 100]] {
        assert!(
            told(foreign).contains("no recording of netstate's"),
            "{foreign:?}"
        );
    }
    let mut newer = recorded(50, true).0;
    newer[MAGIC.len()..][..2].copy_from_slice(&(VERSION + 1).to_le_bytes());
    assert!(told(&newer).contains(&format!("version {}", VERSION + 1)));
    assert!(told(b"").contains("cut off before anything was recorded"));
    let longer = [&recorded(50, true).0[..], b"x"].concat();
    assert!(told(&longer).contains("something behind the end"));
}

proptest! {
    #[test]
    fn no_damage_goes_unnoticed(at in 10..200_usize, far: bool, change in 1..=255_u8) {
        let (mut bytes, facts, _) = recorded(50, true);
        let at = if far { bytes.len() - at.min(bytes.len() - 10) } else { at };
        bytes[at] ^= change;
        match read(&bytes) {
            // A length that has become larger than what is left looks like an end.
            Ok(read) => prop_assert!(read.cut && facts.starts_with(&read.facts)),
            Err(error) => prop_assert!(matches!(error, BadRecording::Damaged { .. } | BadRecording::Empty), "{error}"),
        }
    }

    #[test]
    fn no_bytes_panic(tail in prop::collection::vec(any::<u8>(), 0..200), version: bool) {
        let mut bytes = MAGIC.to_vec();
        if version {
            bytes.extend(VERSION.to_le_bytes());
        }
        bytes.extend(tail);
        let _ = Reader::new(&bytes[..]);
    }
}
