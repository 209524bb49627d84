//! What netstate, netstat and `ss` show can be asked for as it is shown; and what cannot match is said.

use std::{path::Path, process::Output};

use anyhow::{Context, Result, ensure};
use netstat_tests::{
    Daemon, Namespace, binary,
    daemon::directory,
    snapshot,
    sockets::{LOOPBACK, LOOPBACK6, Pair, cookie},
    wait::{SOON, wait_for},
};

crate::tests![
    lines_of_list_are_filters,
    columns_of_ss_are_filters,
    a_connection_as_show_has_it_is_a_filter,
    a_namespace_that_is_not_there_is_an_error,
    contradictions_are_said,
    and_and_or_without_parentheses_are_said,
    unknown_words_get_suggestions,
];

/// Listeners and connections of both families, one of them v4-mapped.
struct Shown {
    namespace: Namespace,
    v6: Pair,
    _others: [Pair; 2],
}

impl Shown {
    fn new() -> Result<Self> {
        let namespace = Namespace::new()?;
        let v4 = Pair::new(&namespace, LOOPBACK)?;
        let v6 = Pair::new(&namespace, LOOPBACK6)?;
        let mapped = Pair::new(&namespace, "[::ffff:127.0.0.1]:0")?;
        Ok(Self {
            namespace,
            v6,
            _others: [v4, mapped],
        })
    }
}

/// The lines of a table below its heads.
fn lines(printed: &str) -> Vec<String> {
    printed.lines().skip(2).map(str::to_owned).collect()
}

/// `netstate` with these arguments, each as it is.
fn run(namespace: &Namespace, socket: &Path, arguments: &[&str]) -> Result<Output> {
    namespace.output(binary::netstate(socket)?.args(arguments))
}

fn list(namespace: &Namespace, socket: &Path, arguments: &[&str]) -> Result<String> {
    let output = run(namespace, socket, &[&["list"], arguments].concat())?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "list {arguments:?}: {said}");
    Ok(String::from_utf8(output.stdout)?)
}

/// Addresses, ports, state and process, as numbers and as names.
fn lines_of_list_are_filters() -> Result<()> {
    let shown = Shown::new()?;
    let daemon = Daemon::start()?;
    daemon.agrees(&shown.namespace)?;
    for flags in ["-anp", "-apW"] {
        let all = lines(&list(&shown.namespace, daemon.socket(), &[flags])?);
        ensure!(all.len() == 9, "{all:#?}");
        for line in &all {
            let columns: Vec<_> = line.split_whitespace().skip(3).collect();
            let [local, remote, state, rest @ ..] = &columns[..] else {
                anyhow::bail!("too short: {line}");
            };
            let process = rest.first().filter(|process| **process != "-").copied();
            let with_state = [&[*local, remote, state], process.as_slice()].concat();
            let with_sides = [&["src", local, "dst", remote], process.as_slice()].concat();
            for words in [with_state, with_sides, vec![local]] {
                let arguments = [&[flags], &words[..]].concat();
                // A resolver that is late has numbers shown.
                wait_for(&format!("list {words:?} to have {line}"), SOON, || {
                    let found = lines(&list(&shown.namespace, daemon.socket(), &arguments)?);
                    let there = found
                        .iter()
                        .any(|other| ends_and_state(other).eq(ends_and_state(line)));
                    Ok((there && found.len() < all.len()).then_some(()))
                })?;
            }
        }
    }
    Ok(())
}

/// Without the program: a child of another test holds all descriptors between fork and exec, which is a `+1` there.
fn ends_and_state(line: &str) -> impl Iterator<Item = &str> {
    line.split_whitespace().take(6)
}

fn columns_of_ss_are_filters() -> Result<()> {
    let shown = Shown::new()?;
    let absent = directory()?.path().join("absent.sock");
    let printed = shown.namespace.run("ss", "-tanHe")?;
    for line in printed.lines() {
        let columns: Vec<_> = line.split_whitespace().collect();
        let (state, ends) = (columns[0], &columns[3..5]);
        let cookie = line.split_whitespace().find(|word| word.starts_with("sk:"));
        let cookie = u64::from_str_radix(&cookie.context("no cookie")?[3..], 16)?;
        for words in [
            format!("{state} src {} dst {}", ends[0], ends[1]),
            format!("state:{} {} {}", state.to_lowercase(), ends[0], ends[1]),
            format!("-a cookie sk:{cookie:x}"),
        ] {
            let found = snapshot::list_matching(&shown.namespace, &absent, &words)?;
            ensure!(
                found.iter().any(|row| row.cookie == cookie),
                "list {words}: {found:#?}, without {line}"
            );
        }
    }
    Ok(())
}

fn a_connection_as_show_has_it_is_a_filter() -> Result<()> {
    let shown = Shown::new()?;
    let daemon = Daemon::start()?;
    let client = cookie(&shown.v6.client)?;
    let ends = wait_for("show to know the connection", SOON, || {
        let output = run(&shown.namespace, daemon.socket(), &["show", &client.to_string()])?;
        let printed = String::from_utf8(output.stdout)?;
        let head = printed.lines().next().unwrap_or_default();
        Ok(head.split_once("  ").map(|(ends, _)| ends.to_owned()))
    })?;
    ensure!(ends.contains(" → "), "{ends}");
    let found = snapshot::list_matching(&shown.namespace, daemon.socket(), &ends)?;
    ensure!(
        found.len() == 1 && found[0].cookie == client,
        "list {ends}: {found:#?}"
    );
    Ok(())
}

/// As `--netns` has it: a number that is wrong is not a namespace without sockets.
fn a_namespace_that_is_not_there_is_an_error() -> Result<()> {
    let namespace = Namespace::new()?;
    let _pair = Pair::new(&namespace, LOOPBACK)?;
    let daemon = Daemon::start()?;
    let alone = directory()?;
    let own = namespace.inode();
    for socket in [daemon.socket(), &alone.path().join("absent.sock")] {
        for words in [
            "list netns 4711".to_owned(),
            format!("list netns {own} or netns 4711"),
            "list -n --json not netns=4711".to_owned(),
            format!("list --netns {own} netns {own} or netns 4711"),
            "stuck netns 4711".to_owned(),
            "watch netns 4711".to_owned(),
            format!("watch netns {own} or netns 4711"),
            "watch --stuck netns 4711".to_owned(),
        ] {
            let output = binary::run(socket, &words)?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(
                output.status.code() == Some(1) && said.contains("no network namespace 4711"),
                "{words}: {}: {said}",
                output.status
            );
            ensure!(
                lines(&String::from_utf8_lossy(&output.stdout)).is_empty(),
                "{words}: half an answer"
            );
        }
        let printed = binary::run(socket, &format!("list -an netns {own}"))?;
        let printed = String::from_utf8(printed.stdout)?;
        ensure!(
            lines(&printed).len() == 3 && printed.contains(" Namespace\n"),
            "of the one that is there: {printed}"
        );
    }
    Ok(())
}

/// What was said on stderr, by a command that has succeeded.
fn said(namespace: &Namespace, socket: &Path, arguments: &str) -> Result<String> {
    let arguments: Vec<_> = arguments.split(' ').collect();
    let output = run(namespace, socket, &arguments)?;
    let said = String::from_utf8(output.stderr)?;
    ensure!(output.status.success(), "{arguments:?}: {said}");
    Ok(said)
}

fn contradictions_are_said() -> Result<()> {
    let (namespace, other) = (Namespace::new()?, Namespace::new()?);
    let _pair = Pair::new(&namespace, LOOPBACK)?;
    let daemon = Daemon::start()?;
    let absent = directory()?.path().join("absent.sock");
    let (own, other) = (namespace.name(), other.name());
    for socket in [daemon.socket(), &absent] {
        for (words, why) in [
            ("list -l state time-wait".to_owned(), "all that -l shows"),
            ("list -ln --json established".to_owned(), "all that -l shows"),
            ("list -4 inet6".to_owned(), "all that -4 shows"),
            ("list -4 [::1]:80".to_owned(), "all that -4 shows"),
            ("list -6n src inet:127/8".to_owned(), "all that -6 shows"),
            ("list -l -6 listen and inet".to_owned(), "all that -l -6 shows"),
            (
                format!("list --netns {own} netns {other}"),
                "all that --netns shows",
            ),
            ("list established and listen".to_owned(), "contradicts itself"),
            ("list inet inet6".to_owned(), "contradicts itself"),
            ("stuck exclude all".to_owned(), "contradicts itself"),
        ] {
            let said = said(&namespace, socket, &words)?;
            ensure!(
                said.matches("nothing can match").count() == 1 && said.contains(why),
                "{words}: {said:?}"
            );
        }
        for words in [
            "list -al state time-wait",
            "list -l inet6",
            "list -l listen or time-wait",
            "list -4 127.0.0.1",
            "list -6 127.0.0.1",
            "list not inet6",
            "list -4 -6 inet6",
        ] {
            let said = said(&namespace, socket, words)?;
            ensure!(!said.contains("nothing can match"), "{words}: {said:?}");
        }
    }
    Ok(())
}

fn and_and_or_without_parentheses_are_said() -> Result<()> {
    let namespace = Namespace::new()?;
    let absent = directory()?.path().join("absent.sock");
    let mixed = said(&namespace, &absent, "list -a port 1 or port 2 and inet")?;
    ensure!(
        mixed.lines().count() == 1 && mixed.contains("port 1 or (port 2 and inet)") && mixed.contains("`ss`"),
        "{mixed:?}"
    );
    for words in [
        "list -a port 1 or port 2",
        "list -a port 1 or ( port 2 and inet )",
        "list -a ( port 1 or port 2 ) inet",
    ] {
        let said = said(&namespace, &absent, words)?;
        ensure!(said.is_empty(), "{words}: {said:?}");
    }
    let help = String::from_utf8(binary::run(&absent, "list --help")?.stdout)?;
    ensure!(
        help.contains("`and` binds tighter than `or`") && help.contains("from the left"),
        "{help}"
    );
    Ok(())
}

fn unknown_words_get_suggestions() -> Result<()> {
    let absent = directory()?.path().join("absent.sock");
    let own = std::fs::read_to_string("/proc/self/comm")?;
    let own = own.trim();
    for (words, suggestion) in [
        ("list establishd".to_owned(), "`ESTABLISHED`"),
        ("list state time-wiat".to_owned(), "`TIME_WAIT`"),
        ("watch https".to_owned(), "`port https`"),
        ("list port 22 or https".to_owned(), "`port https`"),
        ("list sport = :domian".to_owned(), "`domain`"),
        ("list sprot 22".to_owned(), "`sport`"),
        (format!("list {own}"), &*format!("`comm {own}`")),
    ] {
        let output = binary::run(&absent, &words)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.code() == Some(2) && said.contains(&format!("is it {suggestion}?")),
            "{words}: {}: {said}",
            output.status
        );
    }
    Ok(())
}
