//! What is said of a text that is no filter.

use super::*;

#[test]
fn what_is_wrong_is_shown_where_it_is() {
    let wrong = [
        ("state established dport = htttp", "htttp", "no port"),
        ("dst example.com", "example.com", "give the address"),
        ("example.com", "example.com", "give the address"),
        ("port 80 or", "", "a test is missing"),
        ("or port 80", "or", "a test is missing"),
        ("port 80 and or port 90", "or", "a test is missing"),
        ("()", ")", "a test is missing"),
        ("not", "", "a test is missing"),
        ("", "", "a test is missing"),
        ("inet (inet6", "(", "not closed"),
        ("inet) or inet", ")", "nothing is open"),
        ("comm \"a b", "\"a b", "quote is not closed"),
        ("'", "'", "quote is not closed"),
        ("state bogus", "bogus", "states are ESTABLISHED"),
        ("state", "", "states are ESTABLISHED"),
        ("state established, and inet", "and", "no state"),
        ("443", "443", "`:443`"),
        ("foo", "foo", "no test"),
        ("\"inet\"", "\"inet\"", "no test"),
        ("dst [::1", "[::1", "no `]`"),
        ("dst [fe80::]/10", "[fe80::]/10", "goes inside"),
        ("src 10.0.0.0/33", "10.0.0.0/33", "0 to 32"),
        ("10.0.0", "10.0.0", "`10.0.0/24`"),
        ("::1::", "::1::", "IPv4 or IPv6"),
        (
            "dst fe80::1%eth9",
            "fe80::1%eth9",
            "no interface is called `eth9`",
        ),
        ("dev eth9", "eth9", "`ip link`"),
        ("src fe80::1%eth0,fe80::1%7", "fe80::1%7", "different interfaces"),
        ("dst 10.0.0.1:99999", "10.0.0.1:99999", "1 to 65535"),
        ("port 0-80", "0-80", "1 to 65535"),
        ("port http", "http", "is it `https`?"),
        ("port 8000-7000", "8000-7000", "7000-8000"),
        ("port 1-70000", "1-70000", "no port"),
        ("port < 80-90", "80-90", "take one port"),
        ("port 80,", "", "lacks its value"),
        ("inet, inet6", ",", "comma"),
        ("port > *", "*", "goes with `=`"),
        ("port 80 or not 90", "90", "`port 90`"),
        ("pid 5 or 80", "80", "`pid 80`"),
        ("port != 80 or 90", "90", "`port 90`"),
        ("src unix:/run/x.sock", "unix:/run/x.sock", "TCP sockets alone"),
        ("vsock:*:80", "vsock:*:80", "TCP sockets alone"),
        ("src inet:10.0.0.1,inet6:::1", "inet6:::1", "different families"),
        ("127.0.0.0.0/8", "127.0.0.0.0/8", "IPv4 or IPv6"),
        ("256/8", "256/8", "IPv4 or IPv6"),
        ("127/33", "127/33", "0 to 32"),
        ("10.0.0.1:http", "10.0.0.1:http", "is it `https`?"),
        ("10.0.0.1:80 →", "", "lacks its value"),
        (
            "comm 'a very long * of a name'",
            "'a very long * of a name'",
            "too long",
        ),
        ("cgroup /db.slice", "/db.slice", "no control group"),
        ("establishd", "establishd", "is it `ESTABLISHED`?"),
        ("state time-wiat", "time-wiat", "is it `TIME_WAIT`?"),
        ("sprot 80", "sprot", "is it `sport`?"),
        ("nginx", "nginx", "is it `comm nginx`?"),
        ("https", "https", "is it `port https`?"),
        ("ngimx", "ngimx", "is it `comm nginx`?"),
        ("port 80 or htps", "htps", "is it `port https`?"),
        ("www", "www", "is it `user www`?"),
        ("user wwww", "wwww", "is it `www`?"),
        ("port", "", "lacks its value"),
        ("src and dst", "and", "lacks its value"),
        ("pid < 5", "<", "no order"),
        ("pid five", "five", "a process id"),
        ("pid -1", "-1", "a process id"),
        ("comm chromium-browser", "chromium-browser", "`chromium-browse`"),
        ("user nobody-here", "nobody-here", "no user"),
        ("user slow", "slow", "nobody answers"),
        ("netns red", "red", "no network namespace `red`"),
        ("cookie sk:zz", "sk:zz", "no cookie"),
        ("family unix", "unix", "`inet6`"),
    ];
    for (text, word, part) in wrong {
        let problem = parse(text, &Known).expect_err(text);
        assert_eq!(problem.word(), word, "{text}");
        assert!(problem.to_string().contains(part), "{text}: {problem}");
    }
}

#[test]
fn a_mark_is_under_the_word() {
    let problem = parse("inet and über\tß", &Known).unwrap_err();
    let shown = problem.to_string();
    let lines: Vec<_> = shown.lines().collect();
    assert_eq!(lines[0], "`über` is no test");
    assert_eq!(lines[2], "  inet and über ß");
    assert_eq!(lines[3], "           ^^^^");
    let hostile = parse("\u{1b}[2J", &Known).unwrap_err().to_string();
    assert!(!hostile.contains('\u{1b}'), "{hostile:?}");
}
