//! Any text and any steps: nothing breaks, and what they mean is what a simpler way of looking at them finds.

use proptest::prelude::*;

use super::*;
use crate::protocol;

/// A filter as a tree, with what its leaves mean in words of their own.
#[derive(Debug, Clone)]
enum Tree {
    Leaf(usize),
    Not(Box<Tree>),
    And(Box<Tree>, Box<Tree>),
    Or(Box<Tree>, Box<Tree>),
}

/// A test, and what it is to mean.
type Leaf = (&'static str, fn(&Socket) -> bool);

const LEAVES: [Leaf; 12] = [
    ("state established,close-wait", |socket| {
        let wanted = [TcpState::Established, TcpState::CloseWait];
        wanted.contains(&socket.state) || socket.from.is_some_and(|from| wanted.contains(&from))
    }),
    ("exclude listening", |socket| {
        socket.state != TcpState::Listen && socket.from != Some(TcpState::Listen)
    }),
    ("dst 10.0.0.0/8", |socket| {
        let octets = socket.connection.remote.octets();
        octets[..12] == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255] && octets[12] == 10
    }),
    ("host [::1]:443", |socket| {
        let end = Endpoint::new("::1".parse().unwrap(), 443);
        socket.connection.local == end || socket.connection.remote == end
    }),
    ("sport lt 1024", |socket| {
        socket.connection.local.port().is_some_and(|port| port < 1024)
    }),
    (":443", |socket| {
        socket.connection.local.port() == Some(443) || socket.connection.remote.port() == Some(443)
    }),
    ("pid 5", |socket| socket.owner.is_some_and(|owner| owner.pid == 5)),
    ("user != www", |socket| socket.uid != Some(33)),
    ("inet6", |socket| socket.connection.family == Family::Inet6),
    ("mptcp", |socket| socket.connection.mptcp),
    ("fwmark 2/0xf", |socket| {
        socket.fwmark.is_some_and(|mark| mark % 16 == 2)
    }),
    ("autobound", |socket| socket.autobound == Some(true)),
];

impl Tree {
    fn holds(&self, socket: &Socket) -> bool {
        match self {
            Self::Leaf(leaf) => LEAVES[*leaf].1(socket),
            Self::Not(tree) => !tree.holds(socket),
            Self::And(left, right) => left.holds(socket) && right.holds(socket),
            Self::Or(left, right) => left.holds(socket) || right.holds(socket),
        }
    }

    /// As text, in parentheses where something that binds like `outer` is around it.
    fn text(&self, outer: u8) -> String {
        let (own, text) = match self {
            Self::Leaf(leaf) => (4, LEAVES[*leaf].0.to_owned()),
            Self::Not(tree) => (3, format!("not {}", tree.text(3))),
            // Two names of states next to each other are a set of states.
            Self::And(left, right) => (2, format!("{} & {}", left.text(2), right.text(2))),
            Self::Or(left, right) => (1, format!("{} or {}", left.text(1), right.text(1))),
        };
        if own < outer { format!("({text})") } else { text }
    }
}

fn trees() -> impl Strategy<Value = Tree> {
    (0..LEAVES.len())
        .prop_map(Tree::Leaf)
        .prop_recursive(5, 40, 2, |inner| {
            let two = (inner.clone(), inner.clone());
            prop_oneof![
                inner.prop_map(|tree| Tree::Not(Box::new(tree))),
                two.clone()
                    .prop_map(|(left, right)| Tree::And(Box::new(left), Box::new(right))),
                two.prop_map(|(left, right)| Tree::Or(Box::new(left), Box::new(right))),
            ]
        })
}

fn sockets() -> impl Strategy<Value = Socket> {
    let address = prop::sample::select(vec!["10.0.0.1", "11.0.0.1", "::1", "::ffff:10.1.1.1", "fe80::1"]);
    let end = (
        address,
        prop::sample::select(vec![0_u16, 1, 443, 1023, 1024, 65535]),
    );
    let end = end.prop_map(|(address, port)| Endpoint::new(address.parse().unwrap(), port));
    let state = prop::sample::select(TcpState::ALL.to_vec());
    let owner = prop::option::of((4..7_u32).prop_map(|pid| owner(pid, "x")));
    let flags = (any::<bool>(), any::<bool>());
    let ids = (prop::option::of(32..35_u32), owner);
    let states = (prop::option::of(state.clone()), state);
    let marks = (prop::option::of(0..40_u32), prop::option::of(any::<bool>()));
    (end.clone(), end, states, ids, flags, marks).prop_map(
        |(local, remote, (from, state), (uid, owner), (v6, mptcp), (fwmark, autobound))| Socket {
            connection: Connection {
                cookie: Cookie(1),
                netns: Netns(7),
                family: if v6 { Family::Inet6 } else { Family::Inet },
                local,
                remote,
                device: None,
                mptcp,
            },
            from,
            state,
            owner,
            uid,
            fwmark,
            autobound,
        },
    )
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let prefix = (any::<[u8; 16]>(), any::<u8>()).prop_map(|(bits, length)| Prefix::new(bits.into(), length));
    let ports = (any::<u16>(), any::<u16>()).prop_map(|(first, last)| Ports::new(first, last));
    let side = prop::sample::select(vec![Side::Local, Side::Remote, Side::Either]);
    let ends = (prop::option::of(prefix), prop::option::of(ports));
    let end = (side, ends).prop_map(|(side, (prefix, ports))| Test::End(side, Ends { prefix, ports }));
    let states = prop::sample::select(TcpState::ALL.to_vec()).prop_map(|state| Test::State(state.into()));
    let fwmark = (0..40_u32, any::<u8>()).prop_map(|(value, mask)| Test::Fwmark {
        value,
        mask: mask.into(),
    });
    let plain = prop_oneof![Just(Test::Mptcp), Just(Test::Autobound)];
    let test = prop_oneof![end, states, any::<u32>().prop_map(Test::Pid), fwmark, plain].prop_map(Op::Test);
    let op = prop_oneof![3 => test, 1 => Just(Op::Not), 2 => prop_oneof![Just(Op::And), Just(Op::Or)]];
    prop::collection::vec(op, 0..12)
}

/// The steps, taken with a list for a stack.
fn naive(ops: &[Op], subject: &Subject<'_>) -> Option<bool> {
    let mut values: Vec<bool> = Vec::new();
    for op in ops {
        let value = match op {
            Op::Test(test) => test.holds(subject),
            Op::Not => !values.pop()?,
            Op::And | Op::Or => {
                let (right, left) = (values.pop()?, values.pop()?);
                if *op == Op::And {
                    left && right
                } else {
                    left || right
                }
            }
        };
        values.push(value);
    }
    match values[..] {
        [value] => Some(value),
        _ => None,
    }
}

proptest! {
    #[test]
    fn a_text_means_its_tree(tree in trees(), sockets in prop::collection::vec(sockets(), 8)) {
        let text = tree.text(0);
        let filter = parsed(&text);
        for socket in sockets {
            prop_assert_eq!(filter.matches(&socket.subject()), tree.holds(&socket), "{} {:?}", text, socket);
        }
    }

    #[test]
    fn steps_mean_what_a_stack_makes_of_them(ops in ops(), socket in sockets()) {
        let expected = naive(&ops, &socket.subject());
        let frame = protocol::encode(&ops).unwrap();
        let filter = protocol::decode::<Filter>(&frame).ok();
        prop_assert_eq!(filter.map(|filter| filter.matches(&socket.subject())), expected);
    }

    #[test]
    fn what_matches_can_match(ops in ops(), mut socket in sockets()) {
        if let Ok(filter) = Filter::try_from(ops) {
            socket.from = None;
            let matches = filter.matches(&socket.subject());
            prop_assert!(!matches || filter.can_match(socket.state));
        }
    }

    #[test]
    fn no_bytes_break_it(bytes in prop::collection::vec(any::<u8>(), 0..200), socket in sockets()) {
        if let Ok(filter) = protocol::decode::<Filter>(&bytes) {
            let _ = filter.matches(&socket.subject());
        }
    }

    #[test]
    fn no_text_breaks_it(text in "\\PC{0,60}") {
        let _ = parse(&text, &Known).map_err(|problem| problem.to_string());
    }

    #[test]
    fn no_words_break_it(words in prop::collection::vec(prop::sample::select(WORDS.to_vec()), 0..12), gap in "[ \t\n]?") {
        let _ = parse(&words.join(&gap), &Known).map_err(|problem| problem.to_string());
    }
}

/// What texts that are nearly right are made of.
const WORDS: [&str; 36] = [
    "fwmark",
    "0x1/0xf",
    "state",
    "exclude",
    "established",
    ",",
    "src",
    "dst",
    "host",
    "port",
    "sport",
    "pid",
    "comm",
    "netns",
    "family",
    "and",
    "or",
    "not",
    "(",
    ")",
    "!",
    "&",
    "|",
    "=",
    "<",
    ">=",
    "ne",
    "443",
    ":443",
    "1-2",
    "10.0.0.1",
    "[::1]:1",
    "::1",
    "\"",
    "'x y'",
    "é",
];
