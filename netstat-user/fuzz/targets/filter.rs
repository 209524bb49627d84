//! Any text in place of a filter, and any bytes in place of an encoded one: a filter that is accepted is the same,
//! and means the same, after it has travelled.

#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use netstate::{
    clock::Ktime,
    connection::{Comm, Connection, Cookie, Endpoint, Family, Netns, Owner, OwnerSource},
    filter::{Filter, Kind, Names, Op, StateSet, Subject, parse},
    protocol::{LONGEST_QUESTION, Question, decode, encode},
    tcp::TcpState,
    view::WatchQuery,
};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(filter) = decode::<Filter>(bytes) {
        check(&filter);
    }
    match parse(&String::from_utf8_lossy(bytes), &Known) {
        Ok(filter) => check(&filter),
        Err(problem) => assert!(!problem.to_string().contains('\x1b'), "{problem:?}"),
    }
});

/// A machine on which every name is known, so that what follows it is read.
struct Known;

impl Names for Known {
    fn port(&self, service: &str) -> Result<Option<u16>, String> {
        Ok(u16::try_from(service.len()).ok())
    }

    fn uid(&self, user: &str) -> Result<Option<u32>, String> {
        Ok(u32::try_from(user.len()).ok())
    }

    fn netns(&self, name: &str) -> Result<Netns, String> {
        u32::try_from(name.len())
            .map(Netns)
            .map_err(|error| error.to_string())
    }

    fn devices(&self, name: &str) -> Result<Vec<(Netns, u32)>, String> {
        Err(format!("no interface is called `{name}`"))
    }

    fn cgroup(&self, path: &str) -> Result<u64, String> {
        u64::try_from(path.len()).map_err(|error| error.to_string())
    }

    fn hosts(&self, name: &str) -> Vec<IpAddr> {
        match name.len() {
            4 => vec![IpAddr::from([127, 0, 0, 1]), IpAddr::from([0; 16])],
            _ => Vec::new(),
        }
    }

    fn all(&self, _: Kind) -> Vec<String> {
        vec!["nginx".to_owned(), "a \"b".to_owned()]
    }
}

fn check(filter: &Filter) {
    let question = Question::Watch(WatchQuery {
        netns: Some(Netns(u32::MAX)),
        filter: Some(filter.clone()),
    });
    let frame = encode(&question).expect("a filter can be encoded");
    assert!(frame.len() <= LONGEST_QUESTION);
    assert_eq!(decode::<Question>(&frame).ok(), Some(question));
    for connection in connections() {
        for state in TcpState::ALL {
            let comm = Comm(*b"nginx\0\0\0\0\0\0\0\0\0\0\0");
            let owner = Owner {
                pid: 1,
                start: Ktime(1),
                tid: None,
                fd: None,
                more_fds: 0,
                comm,
                seen: Ktime(1),
                source: OwnerSource::Event,
            };
            let subject = Subject {
                connection: &connection,
                states: StateSet::from(state),
                owner: (state != TcpState::Listen).then_some(owner),
                owners: None,
                uid: Some(0),
                cgroup: Some(1),
                fwmark: Some(2),
                autobound: Some(true),
                bound: false,
            };
            assert_eq!(
                Some(filter.matches(&subject)),
                plain(filter.ops(), &subject),
                "{filter:?}"
            );
        }
    }
}

/// What the steps mean, with a list for a stack.
fn plain(ops: &[Op], subject: &Subject<'_>) -> Option<bool> {
    let mut values: Vec<bool> = Vec::new();
    for op in ops {
        let value = match op {
            Op::Test(test) => test.holds(subject),
            Op::Not => !values.pop()?,
            Op::And => values.pop()? & values.pop()?,
            Op::Or => values.pop()? | values.pop()?,
        };
        values.push(value);
    }
    <[bool; 1]>::try_from(values).ok().map(|[value]| value)
}

fn connections() -> [Connection; 2] {
    let connection = |family, local: [u8; 16], remote: u16| Connection {
        cookie: Cookie(1),
        netns: Netns(1),
        family,
        local: Endpoint::new(local.into(), 80),
        remote: Endpoint::new([127, 0, 0, 1].into(), remote),
        device: None,
        mptcp: false,
    };
    [
        connection(
            Family::Inet,
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 0, 0, 1],
            443,
        ),
        connection(Family::Inet6, [0xfe; 16], 0),
    ]
}
