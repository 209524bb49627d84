//! What each test matches, and how they are combined.

use super::*;
use crate::{
    clock::Ktime,
    table::{Source, Transition},
    view::{StreamItem, WatchQuery},
};

fn matches(text: &str, socket: &Socket) -> bool {
    parsed(text).matches(&socket.subject())
}

#[track_caller]
fn check(socket: &Socket, passed: &[&str], failed: &[&str]) {
    for text in passed {
        assert!(matches(text, socket), "{text} does not match");
        assert!(!matches(&format!("not ({text})"), socket), "not {text}");
    }
    for text in failed {
        assert!(!matches(text, socket), "{text} matches");
        assert!(matches(&format!("! ({text})"), socket), "not {text}");
    }
}

#[test]
fn ends() {
    let v4 = socket("10.1.2.3:40000", "192.0.2.1:443");
    let all = [
        "src 10.1.2.3",
        "src = 10.0.0.0/8",
        "src 10.1.2.3/8",
        "dst 192.0.2.1:443",
        "dst != 192.0.2.2",
        "dst 192.0.2.0/24:https",
        "dst :443",
        "dst *:443",
        "dst *",
        "DST eq *:*",
        "host 10.1.2.3",
        "host 192.0.2.1",
        "net 192.0.2.0/24",
        "192.0.2.1:443",
        "10.1.2.3",
        "0.0.0.0/0",
        ":443",
        ":https",
        "[::ffff:192.0.2.1]:443",
        "src host 10.1.2.3 and dst port 443",
        "src net 10.0.0.0/8",
    ];
    let none = [
        "src 192.0.2.1",
        "dst 192.0.2.1:444",
        "host 192.0.2.1:40000",
        "10.1.2.3:443",
        "::/0",
        "::1",
        ":80",
        "src :443",
        "src port 443",
        "dst 192.0.2.2/31",
    ];
    check(&v4, &all, &none);
}

#[test]
fn a_dual_stack_socket_has_ipv4_addresses() {
    let mapped = socket("[::ffff:10.0.0.2]:80", "[::ffff:10.0.0.1]:5000");
    let all = [
        "dst 10.0.0.1",
        "10.0.0.0/8",
        "src 10.0.0.2:80",
        "inet6",
        "::ffff:10.0.0.1",
        "::/0",
    ];
    check(&mapped, &all, &["inet", "ip", "dst 10.0.0.2", "family = inet"]);
    let v6 = socket("[2001:db8::2]:80", "[fe80::1]:5000");
    let all = [
        "2001:db8::/32",
        "dst [fe80::1]:5000",
        "dst [fe80::/10]:5000",
        "dst fe80::1",
        "family INET6",
        "::/0",
    ];
    check(&v6, &all, &["0.0.0.0/0", "dst [fe80::1]:80", "dst fe81::/16"]);
}

/// What netstat, `ss`, `watch`, `show` and `stuck` print.
#[test]
fn what_is_shown_can_be_asked_for() {
    let v6 = socket("[::1]:631", "[2001:db8::1]:40000");
    let all = [
        "::1:631",
        "::1:*",
        "[::1]:631",
        "src ::1:631",
        "src ::1:631 dst 2001:db8::1:40000",
        "0:0:0:0:0:0:0:1:631",
        "::1/128:631",
        "[::1]:631 → [2001:db8::1]:40000",
        "::1:631 2001:db8::1:40000 ESTABLISHED",
        "localhost:631",
        "5/a",
        "netns=7 cookie=31",
    ];
    let none = [
        "::1:632",
        "dst ::1:631",
        "[::1:631]",
        "2001:db8::1:631",
        "[2001:db8::1]:40000 → [::1]:631",
        "5/b",
        "6/a",
        "::1:0631",
        ":::631",
    ];
    check(&v6, &all, &none);
    // It can be an address as well.
    check(
        &socket("[::1:631]:80", "[::1]:1"),
        &["::1:631", "src ::1:631"],
        &["dst ::1:631"],
    );
    let listener = socket("[::]:80", "[::]:0");
    check(
        &listener,
        &[
            ":::80",
            ":::*",
            "[::]:80",
            "*:80",
            ":::80 :::* ",
            "src :::80",
            "dst [::]:*",
            "*:80 *:*",
        ],
        &["0.0.0.0:*", "0.0.0.0:80", "::1:80", ":::81"],
    );
    let v4 = socket("0.0.0.0:80", "0.0.0.0:0");
    check(
        &v4,
        &[
            "0.0.0.0:80",
            "0.0.0.0:*",
            "0.0.0.0:80 → 0.0.0.0:*",
            "*:80",
            "src 0.0.0.0:80 dst 0.0.0.0:*",
        ],
        &[":::80", "127.0.0.1:80"],
    );
    let mapped = socket("[::ffff:127.0.0.1]:6002", "[::ffff:127.0.0.1]:42292");
    let forms = [
        "127.0.0.1:6002",
        "[::ffff:127.0.0.1]:6002",
        "::ffff:127.0.0.1:6002",
        "localhost:6002 → localhost:42292",
        "127.0.0.1:6002 127.0.0.1:42292",
    ];
    check(&mapped, &forms, &["[::1]:6002"]);
    let unbound = socket("127.0.0.1:0", "127.0.0.1:81");
    check(
        &unbound,
        &["127.0.0.1:- 127.0.0.1:81", "127.0.0.1:- → 127.0.0.1:81"],
        &[],
    );
}

/// What `ss(8)` describes, and what tcpdump's users write.
#[test]
fn words_of_other_tools() {
    let one = socket("127.0.0.5:8080", "193.233.7.90:443");
    let all = [
        "127/8",
        "src 127/8",
        "127.0/16:8080",
        "dst 193.233.7/24",
        "src inet:127.0.0.5",
        "src inet:127/8:8080",
        "dst inet:*:443",
        "sport = inet:8080",
        "sport = inet::8080",
        "sport != inet:80",
        "inet:127.0.0.5:8080",
        "dport != :0",
        "sport > :0",
        "dport = :*",
        "dport *",
        "port *:*",
        "dst any",
        "port 22,8080",
        "port = 22 , 8080",
        "sport 22,8000-9000",
        "port 22 or 8080",
        "port 22 or 23 or 8080",
        "port 22 or 8000-9000",
        "(port 22 or 8080) and inet",
        "dport https or 8080",
        "src 10.0.0.1,127.0.0.5",
        "host 10.0.0.1,127.0.0.5:8080",
        "pid 4,5",
        "pid 5/nginx",
        "user 0,www",
        "port:8080",
        "sport: 8080",
        "port:22,8080",
        "src:127.0.0.5",
        "state:established",
        "State:ESTAB,listen",
        "state = established",
        "state != listening",
        "user:www",
        "comm 'a*'",
        "comm *b",
        "comm 'a b*'",
        "comm x*,*b",
        "cgroup /web.slice",
        "cgroup = web.slice",
    ];
    let none = [
        "128/8",
        "127/16:80",
        "dst 193.233.8/24",
        "src inet6:127.0.0.5",
        "inet6:127.0.0.5",
        "sport = inet6:8080",
        "sport != inet6:80",
        "dport = :0",
        "sport 0",
        "sport != *",
        "port != 22,8080",
        "sport 22 or 443",
        "src != 10.0.0.1,127.0.0.5",
        "pid != 4,5",
        "port:22",
        "state:listen",
        "exclude:established",
        "state != established",
        "comm 'b*'",
        "comm != *",
        "cgroup != /web.slice",
    ];
    check(&one, &all, &none);
    let listener = socket("0.0.0.0:80", "0.0.0.0:0");
    check(
        &listener,
        &["dport = :0", "dport 0", "dport <= 0", "port 0", "dport = :*"],
        &["dport != :0", "dport > 0", "dport < 1", "sport 0", "dport < 1024"],
    );
    let none = socket("[::ffff:127.0.0.5]:1", "[::1]:2");
    check(&none, &["127/8", "inet6:127/8"], &["inet:127/8", "src inet:*"]);
}

#[test]
fn parentheses_are_shown_where_and_and_or_are_mixed() {
    let grouped = |text: &str| read(text, &Known).unwrap().grouped;
    for (text, shown) in [
        ("port 1 or port 2 and inet", "port 1 or (port 2 and inet)"),
        (" port 1 or port 2 inet ", "port 1 or (port 2 inet)"),
        ("inet port 1 or port 2", "(inet port 1) or port 2"),
        (
            "port 1 or not (inet or port 2 and port 3) mptcp or inet6",
            "port 1 or (not (inet or (port 2 and port 3)) mptcp) or inet6",
        ),
        ("(inet and mptcp or inet6)", "((inet and mptcp) or inet6)"),
        ("port 1 or 2 or 3 and inet", "port 1 or 2 or (3 and inet)"),
    ] {
        assert_eq!(grouped(text).as_deref(), Some(shown), "{text}");
        let (as_it_is, as_shown) = (parsed(text), parsed(shown));
        assert_eq!(as_it_is.ops(), as_shown.ops(), "{text}");
    }
    for text in [
        "inet",
        "inet and port 1 port 2",
        "inet or port 1 or port 2",
        "(port 1 or port 2) and inet",
        "port 1 or (port 2 and inet)",
        "state established state listening or inet",
        "port 1,2 or 3",
    ] {
        assert_eq!(grouped(text), None, "{text}");
    }
}

#[test]
fn what_cannot_be_is_known() {
    let possible = |text: &str, family, netns| {
        let known = Beforehand {
            state: None,
            family,
            netns,
        };
        parsed(text).can_match_any(&known)
    };
    let (v4, v6) = (Some(Family::Inet), Some(Family::Inet6));
    assert!(!possible("inet6", v4, None) && possible("inet6", v6, None));
    assert!(!possible("::1", v4, None) && possible("not ::1", v4, None));
    assert!(possible("127/8", v6, None) && possible("::ffff:127.0.0.1", v4, None));
    assert!(!possible("netns 8", None, Some(Netns(7))) && possible("netns 8", None, None));
    assert_eq!(parsed("netns 8 and port 1").only_namespace(), Some(Netns(8)));
    assert_eq!(
        parsed("netns 8 port 1 or netns 8 port 2").only_namespace(),
        Some(Netns(8))
    );
    for text in [
        "netns 7 or netns 8",
        "not netns 7",
        "netns 7 or port 1",
        "netns 7 netns 8",
        "inet",
    ] {
        assert_eq!(parsed(text).only_namespace(), None, "{text}");
    }
}

#[test]
fn ports() {
    let web = socket("10.0.0.1:8080", "10.0.0.2:443");
    let all = [
        "sport 8080",
        "sport = :8080",
        "sport=:8080",
        "dport == https",
        "dport http-alt",
        "dport eq *:443",
        "sport >= 8080 and sport <= 8080 and sport > 8079 and sport < 8081",
        "sport ge 8080 sport le 8080 sport gt 8079 sport lt 8081",
        "sport geq 8080 sport leq 8080",
        "port 8080 port 443",
        "port 8000-8100",
        "portrange :440-450",
        "sport != 443",
        "dport ne 8080",
        "port < 444",
        "port > 8000",
    ];
    let none = [
        "sport 443",
        "sport < 8080",
        "sport > 8080",
        "dport > 65535",
        "port < 1",
        "port != 443",
        "sport neq 8080",
    ];
    check(&web, &all, &none);
}

#[test]
fn what_is_not_known_passes_no_test() {
    let mut listener = socket("0.0.0.0:80", "0.0.0.0:0");
    listener.state = TcpState::Listen;
    listener.owner = None;
    listener.uid = None;
    listener.fwmark = None;
    listener.autobound = None;
    let none = [
        "dport < 1024",
        "dport >= 1",
        "dport 1-65535",
        "pid 5",
        "comm 'a b'",
        "uid 33",
        "fwmark 0",
        "fwmark 0/0",
        "autobound",
    ];
    check(
        &listener,
        &[
            "dport != 80",
            "pid != 5",
            "comm ne x",
            "uid != 33",
            "fwmark != 0",
            "not autobound",
            "dst *:*",
            "state listening",
        ],
        &none,
    );
}

#[test]
fn owners_and_places() {
    let held = socket("10.0.0.1:1", "10.0.0.2:2");
    let all = [
        "pid 5",
        "PID = 5",
        "comm \"a b\"",
        "comm 'a b'",
        "comm == 'a b'",
        "uid 33",
        "user www",
        "user 33",
        "uid www",
        "netns blue",
        "netns 7",
        "netns = 7",
        "cookie 31",
        "cookie 0x1f",
        "cookie sk:1f",
        "inet",
    ];
    check(
        &held,
        &all,
        &[
            "pid 6", "pid != 5", "comm a", "uid 0", "netns 8", "cookie 0", "mptcp", "inet6",
        ],
    );
    let mut subflow = held;
    subflow.connection.mptcp = true;
    check(&subflow, &["mptcp", "MPTCP and INET"], &["not mptcp"]);
}

#[test]
fn marks_and_who_has_chosen_the_port() {
    let mut marked = socket("10.0.0.1:1", "10.0.0.2:2");
    check(
        &marked,
        &[
            "fwmark 26",
            "fwmark = 0x1a",
            "fwmark 0X1A",
            "fwmark eq 032",
            "fwmark 0x1a/0xffffffff",
            "fwmark = 0x02/0x0f or fwmark 0xa/0xf",
            "fwmark 0/0",
            "fwmark 1,26",
            "fwmark:0x1a",
            "fwmark != 0",
            "fwmark ne 0xa/0xff",
            "autobound",
            "AUTOBOUND and FWMARK 26",
        ],
        &[
            "fwmark 0",
            "fwmark 0xa",
            "fwmark 0x12/0x0f",
            "fwmark != 0x10/0x10",
            "not autobound",
        ],
    );
    marked.autobound = Some(false);
    check(&marked, &["! autobound"], &["autobound"]);
    for text in [
        "fwmark x",
        "fwmark 1/",
        "fwmark /1",
        "fwmark 0x100000000",
        "fwmark 09",
        "fwmark -1",
    ] {
        let problem = parse(text, &Known).unwrap_err().to_string();
        assert!(problem.contains("is no mark"), "{text}: {problem}");
    }
    assert!(parse("fwmark > 1", &Known).is_err(), "marks have no order");
    let some = parsed("fwmark 0x10/0x0f");
    assert!(
        !some.can_match(TcpState::Established),
        "the mask leaves the bit out"
    );
}

#[test]
fn states() {
    let mut one = socket("10.0.0.1:1", "10.0.0.2:2");
    let all = [
        "established",
        "state ESTAB",
        "state established,time-wait",
        "state time-wait , established",
        "time-wait established",
        "state time-wait state established",
        "state connected exclude time-wait",
        "exclude listen,close",
        "exclude time-wait exclude close",
        "state all",
        "big",
        "connected and synchronized",
    ];
    let none = [
        "TIME_WAIT",
        "exclude established",
        "state all exclude connected",
        "bucket",
        "established and time-wait",
    ];
    check(&one, &all, &none);
    // Both states of a transition count.
    one.from = Some(TcpState::SynSent);
    check(
        &one,
        &["established", "SYN_SENT", "syn-sent and established"],
        &["exclude syn-sent", "LISTEN"],
    );
}

#[test]
fn not_binds_before_and_and_and_before_or() {
    let one = socket("10.0.0.1:1", "10.0.0.2:2");
    let all = [
        "not inet6 and inet",
        "!inet6 inet",
        "inet or inet6 and inet6",
        "inet || inet6 && inet6",
        "inet | inet6 & inet6",
        "inet6 and inet6 or inet",
        "inet6 inet6 or inet",
        "not inet6 or inet6",
        "not not inet",
        "!!inet",
        "!(inet6 or mptcp)",
        "((inet))",
        "inet NOT inet6 AND NOT mptcp OR mptcp",
        "port 1(port 2)",
    ];
    check(
        &one,
        &all,
        &[
            "(inet or inet6) and inet6",
            "not (inet or inet6)",
            "not inet or inet6",
        ],
    );
}

#[test]
fn examples_of_the_help_are_right() {
    let (_, examples) = HELP.split_once("Examples:\n").unwrap();
    for example in examples.lines() {
        let words = example.trim().strip_prefix("netstate ").unwrap();
        let words = words
            .strip_prefix("watch ")
            .or(words.strip_prefix("list "))
            .unwrap();
        let words = words.strip_prefix("-a ").unwrap_or(words);
        let known = words.replace("user root", "user www");
        parsed(known.trim_matches('\''));
    }
}

#[test]
fn what_a_reader_has_to_know_always_passes() {
    let query = WatchQuery {
        netns: Some(Netns(7)),
        filter: Some(parsed("TIME_WAIT and sport 1")),
    };
    assert!(query.wants(&StreamItem::Missed {
        items: 1,
        at_most: false
    }));
    let connection = socket("10.0.0.1:1", "10.0.0.2:2").connection;
    let mut transition = Transition {
        connection,
        time: Ktime(1),
        from: Some(TcpState::FinWait2),
        to: TcpState::TimeWait,
        in_state: None,
        at_least: false,
        source: Source::Event,
        earliest: None,
        reason: None,
        owner: None,
        uid: None,
        cgroup: None,
        fwmark: None,
    };
    assert!(query.wants(&StreamItem::Transition(transition)));
    transition.connection.netns = Netns(8);
    assert!(!query.wants(&StreamItem::Transition(transition)));
    transition.connection.netns = Netns(7);
    transition.to = TcpState::Close;
    assert!(!query.wants(&StreamItem::Transition(transition)));
    transition.from = Some(TcpState::TimeWait);
    assert!(query.wants(&StreamItem::Transition(transition)));
}

#[test]
fn a_filter_knows_which_states_it_can_match() {
    for (text, possible) in [
        ("state listening sport 443", false),
        ("sport 443", true),
        ("exclude syn-recv", false),
        ("not (state syn-recv or inet)", false),
        ("not (state syn-recv and inet)", true),
        ("state syn-recv or port 1", true),
        ("state established or port 1", true),
        ("state established port 1 or state time-wait", false),
    ] {
        assert_eq!(parsed(text).can_match(TcpState::SynRecv), possible, "{text}");
    }
}

#[test]
fn interfaces() {
    let mut bound = socket("[fe80::1]:40000", "[fe80::2]:443");
    bound.connection.device = std::num::NonZeroU32::new(2);
    let all = [
        "dev eth0",
        "dev = 2",
        "dev 3,2",
        "dev != 3",
        "src fe80::1%eth0",
        "src [fe80::1%eth0]",
        "dst [fe80::2%2]:443",
        "dst [fe80::2]%eth0:443",
        "fe80::2%eth0:443",
        "fe80::%eth0/10",
        "dst *%eth0:https",
        "dst != fe80::2%3",
        "dst fe80::2",
    ];
    // The other interface of that name is in another namespace, and has another number there.
    let none = [
        "dev 3",
        "fe80::2%3",
        "dst fe80::2%eth0:444",
        "src fe80::2%eth0",
        "dst != fe80::2%eth0",
    ];
    check(&bound, &all, &none);
    bound.connection.device = std::num::NonZeroU32::new(3);
    check(&bound, &["dev 3", "not dev eth0"], &["dev eth0", "fe80::2%eth0"]);
    bound.connection.device = None;
    check(&bound, &["dst fe80::2"], &["dev eth0", "dev 2", "fe80::2%eth0"]);
}
