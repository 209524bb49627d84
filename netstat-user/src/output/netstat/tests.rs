use std::{cmp::Ordering, fmt::Write as _, net::IpAddr, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::{
    clock::Ktime,
    connection::{Comm, Connection, Cookie, Endpoint, Netns, Owner, OwnerSource},
    facts::{Form, Queues},
    owners::Owners,
};

fn row(ends: [(&str, u16); 2], state: TcpState) -> RowView {
    let addresses = ends.map(|(address, _)| address.parse::<IpAddr>().unwrap());
    let [local, remote] = [0, 1].map(|at| Endpoint::new(addresses[at], ends[at].1));
    RowView {
        connection: Connection {
            cookie: Cookie(1),
            netns: Netns(1),
            family: if addresses[0].is_ipv4() {
                Family::Inet
            } else {
                Family::Inet6
            },
            local,
            remote,
            device: None,
            mptcp: false,
        },
        state,
        form: Form::Full,
        since: Ktime(0),
        in_state: Duration::ZERO,
        at_least: false,
        queues: None,
        uid: None,
        owners: Owners::default(),
        cgroup: None,
        fwmark: None,
        autobound: None,
        bound: false,
        inode: None,
        figures: None,
    }
}

fn columns() -> Columns {
    Columns {
        extend: false,
        programs: false,
        timers: false,
        wide: false,
        numeric: true,
    }
}

fn lines(rows: &[RowView], columns: Columns, names: Names) -> Vec<String> {
    let mut table = Table::new(columns, names);
    for row in rows {
        table.add(row, None);
    }
    let mut out = Vec::new();
    table.write(&mut out, Which::All, false).unwrap();
    let text = String::from_utf8(out).unwrap();
    text.lines().skip(2).map(str::to_owned).collect()
}

#[test]
fn a_line_has_netstats_columns() {
    let mut queued = row([("127.0.0.1", 8080), ("127.0.0.1", 43350)], TcpState::Established);
    queued.queues = Some(Queues {
        recv: 17,
        send: 1_234_567,
        backlog: 0,
    });
    let listener = row([("0.0.0.0", 22), ("0.0.0.0", 0)], TcpState::Listen);
    assert_eq!(
        lines(&[queued, listener], columns(), Names::default()),
        [
            "tcp        -      - 0.0.0.0:22              0.0.0.0:*               LISTEN     ",
            "tcp       17 1234567 127.0.0.1:8080          127.0.0.1:43350         ESTABLISHED",
        ]
    );
}

#[test]
fn a_long_address_loses_its_end_unless_it_may_be_wide() {
    let long = row([("2001:db8::1:2:3:456", 40000), ("::", 0)], TcpState::Listen);
    let cut = "tcp6       -      - 2001:db8::1:2:3:4:40000 :::*                    LISTEN     ";
    assert_eq!(
        lines(std::slice::from_ref(&long), columns(), Names::default()),
        [cut]
    );
    let whole = "tcp6       -      - 2001:db8::1:2:3:456:40000 :::*                    LISTEN     ";
    let wide = Columns {
        wide: true,
        ..columns()
    };
    assert_eq!(lines(&[long], wide, Names::default()), [whole]);
}

fn found<K: std::hash::Hash + Eq>(key: K, name: &str) -> Found<K> {
    Found {
        names: [(key, name.to_owned())].into(),
        unanswered: 0,
    }
}

#[test]
fn names_stand_for_numbers() {
    let mut listener = row([("10.0.0.1", 80), ("::", 0)], TcpState::Listen);
    (listener.uid, listener.inode) = (Some(33), Some(7));
    let names = Names {
        services: found(80, "http"),
        users: found(33, "www-data"),
        hosts: found("10.0.0.1".parse().unwrap(), "a-host-with-a-long-name"),
        in_words: true,
    };
    let extend = Columns {
        extend: true,
        numeric: false,
        ..columns()
    };
    let line = "tcp        -      - a-host-with-a-long:http 0.0.0.0:*               LISTEN      www-data   7         ";
    listener.connection.remote = Endpoint::new("0.0.0.0".parse().unwrap(), 0);
    assert_eq!(lines(&[listener], extend, names), [line]);
}

#[test]
fn a_program_is_cut_and_others_are_counted() {
    let owner = |pid, comm: &str| {
        let mut bytes = [0; 16];
        bytes[..comm.len()].copy_from_slice(comm.as_bytes());
        Owner {
            pid,
            start: Ktime(1),
            tid: None,
            fd: None,
            more_fds: 0,
            comm: Comm(bytes),
            seen: Ktime(1),
            source: OwnerSource::Event,
        }
    };
    let mut held = row([("10.0.0.1", 1), ("10.0.0.2", 2)], TcpState::Established);
    let programs = Columns {
        programs: true,
        ..columns()
    };
    let program = |row: &RowView| {
        let line = lines(std::slice::from_ref(row), programs, Names::default()).remove(0);
        line.split_once("ESTABLISHED ").unwrap().1.to_owned()
    };
    assert_eq!(program(&held), "-                   ");
    held.owners.acted(owner(1234, "nginx"));
    assert_eq!(program(&held), "1234/nginx          ");
    held.owners.acted(owner(123_456, "fifteen-letters"));
    assert_eq!(program(&held), "123456/fifteen-le+1 ");
}

/// The order as it is meant, by whole keys.
fn compare(a: &RowView, b: &RowView) -> Ordering {
    let key = |row: &RowView| {
        let connection = &row.connection;
        let later = row.state != TcpState::Listen;
        (connection.family, later, connection.local, connection.remote)
    };
    key(a).cmp(&key(b))
}

fn rows() -> impl Strategy<Value = Vec<RowView>> {
    let v4 = prop::sample::select(vec!["0.0.0.0", "127.0.0.1", "10.0.0.1", "255.255.255.255"]);
    let v6 = prop::sample::select(vec!["::", "::1", "2001:db8::1", "::ffff:10.0.0.1"]);
    let port = prop::sample::select(vec![0, 1, 255, 256, u16::MAX]);
    let state = prop::sample::select(vec![TcpState::Listen, TcpState::Established]);
    let of = |address: BoxedStrategy<&'static str>| {
        let end = (address, port.clone());
        ((end.clone(), end), state.clone()).prop_map(|((local, remote), state)| row([local, remote], state))
    };
    prop::collection::vec(prop_oneof![of(v4.boxed()), of(v6.boxed())], 0..60)
}

proptest! {
    #[test]
    fn rows_come_in_their_order(mut rows in rows(), times in 0..150_usize) {
        // So many that some are sorted before the others come.
        let count = rows.len();
        rows = rows.into_iter().cycle().take(count * times).collect();
        let sorted: Vec<_> = sorted(&rows).cloned().collect();
        rows.sort_by(compare);
        prop_assert_eq!(sorted, rows);
    }

    #[test]
    fn text_is_what_formatting_makes(number in any::<u32>(), width in 0..40_usize, word in "\\PC{0,12}", address in any::<[u8; 4]>()) {
        let mut text = Text::default();
        text.right(Some(number), width);
        let start = text.len();
        text.push(&word);
        text.fill(start, width);
        text.address(IpAddr::from(address));
        let mut expected = String::new();
        write!(expected, "{number:>width$}{word:<width$}{}", IpAddr::from(address)).unwrap();
        prop_assert_eq!(text.bytes(), expected.as_bytes());
    }
}
