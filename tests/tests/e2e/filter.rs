//! What a filter lets through: what `ss` shows for the same words, and what its words say.

use std::{net::SocketAddr, path::Path};

use anyhow::{Context, Result, ensure};
use netstat_tests::{
    Daemon, Link, Namespace, Watch, binary,
    daemon::directory,
    link::Way,
    snapshot::{self, Listed},
    sockets::{
        LOOPBACK, LOOPBACK6, Pair, accept, connect, cookie, deliver, listen, start_connecting, wait_for_fin,
    },
    wait::{SOON, wait_for},
};

crate::tests![
    list_shows_what_ss_shows,
    few_sockets_are_told_as_all_are,
    a_half_open_connection_is_among_the_few,
    words_that_ss_has_not,
    listeners_by_default,
    text_knows_holders,
    watch_shows_only_what_matches,
    watch_follows_states,
    bad_filters,
];

/// Sockets that filters can tell apart.
struct Zoo {
    namespace: Namespace,
    v4: Pair,
    v6: Pair,
    mapped: Pair,
    /// Its client has closed: FIN_WAIT2 and CLOSE_WAIT.
    half: (Pair, u64),
    /// Of a connection in TIME_WAIT.
    past: u16,
}

impl Zoo {
    fn new() -> Result<Self> {
        let namespace = Namespace::new()?;
        let v4 = Pair::new(&namespace, LOOPBACK)?;
        let v6 = Pair::new(&namespace, LOOPBACK6)?;
        let mapped = mapped(&namespace)?;
        let half = Pair::new(&namespace, "127.0.0.2:0")?;
        let client = cookie(&half.client)?;
        half.client.shutdown(std::net::Shutdown::Write)?;
        wait_for_fin(&half.server)?;
        let Pair {
            listener: _,
            client: left,
            server,
        } = Pair::new(&namespace, LOOPBACK)?;
        let past = server.local_addr()?.port();
        drop(left);
        wait_for_fin(&server)?;
        drop(server);
        Ok(Self {
            namespace,
            v4,
            v6,
            mapped,
            half: (half, client),
            past,
        })
    }

    /// Flags and words that `ss` takes as well.
    fn common(&self) -> Result<Vec<String>> {
        let server = self.v4.listener.local_addr()?;
        let client = self.v4.client.local_addr()?;
        let mapped = self.mapped.client.peer_addr()?.port();
        let (port, own) = (server.port(), client.port());
        let (v6, past) = (self.v6.listener.local_addr()?.port(), self.past);
        let half = self.half.0.listener.local_addr()?.port();
        Ok(vec![
            "state established".to_owned(),
            "state listening".to_owned(),
            "state all".to_owned(),
            "state connected exclude time-wait".to_owned(),
            "state bucket".to_owned(),
            "state close-wait state fin-wait-2".to_owned(),
            "exclude established".to_owned(),
            format!("sport = :{port}"),
            format!("-a sport = :{port}"),
            format!("-l sport = :{port}"),
            format!("-a ( sport = :{port} or dport = :{port} )"),
            format!("state established dport = :{port}"),
            format!("state established not dport = :{port}"),
            format!("state established ! ( dport = :{port} or sport = :{port} )"),
            format!("state established sport >= :{own} sport <= :{own}"),
            format!("state established dport gt :{port}"),
            format!("state established dport lt :{v6}"),
            format!("-a sport != :{port}"),
            format!("state all dport = :{past} or sport = :{past}"),
            format!("state connected dst 127.0.0.1:{port}"),
            format!("state all src 127.0.0.2:{half} or dst 127.0.0.2"),
            "state all src 127.0.0.0/8".to_owned(),
            "state established dst 127.0.0.1".to_owned(),
            "state all dst [::1]".to_owned(),
            format!("state all src [::1]:{v6}"),
            format!("-a dst 127.0.0.1:{mapped}"),
            "state established src 10.0.0.0/8".to_owned(),
            "state connected src 127.0.0.2 and dst 127.0.0.2 or dst [::1]".to_owned(),
            "state connected src 127/8".to_owned(),
            "state connected dst 127.0/16".to_owned(),
            "state connected dst 127.0.0/31".to_owned(),
            "state all src inet:127.0.0.1".to_owned(),
            format!("state all src inet:127.0.0.1:{port}"),
            "state all src inet:127/8".to_owned(),
            "state all src inet6:[::1]".to_owned(),
            format!("state all dst inet6:[::1]:{v6}"),
            format!("state all sport = inet::{port}"),
            format!("state all sport != inet:{port}"),
            format!("state all sport = inet6:{mapped}"),
            "state all dport = :0".to_owned(),
            "state all dport != :0".to_owned(),
            "state all dport = :*".to_owned(),
            format!("state all sport {port}"),
            "state all dst *:*".to_owned(),
            "state all dst any".to_owned(),
        ])
    }
}

/// A connection to a dual-stack listener over IPv4: its ends there are v4-mapped.
fn mapped(namespace: &Namespace) -> Result<Pair> {
    let listener = listen(namespace, "[::]:0")?;
    let target = SocketAddr::from(([127, 0, 0, 1], listener.local_addr()?.port()));
    let client = connect(namespace, target)?;
    let server = accept(&listener)?;
    Ok(Pair {
        listener,
        client,
        server,
    })
}

fn cookies(listed: &[Listed]) -> Vec<u64> {
    let mut cookies: Vec<u64> = listed.iter().map(|row| row.cookie).collect();
    cookies.sort_unstable();
    cookies
}

fn list_shows_what_ss_shows() -> Result<()> {
    let zoo = Zoo::new()?;
    let daemon = Daemon::start()?;
    daemon.agrees(&zoo.namespace)?;
    for filter in zoo.common()? {
        for how in ["", "--alone "] {
            let arguments = format!("{how}{filter}");
            let mut difference = String::new();
            // TIME_WAIT may end between the two looks, but not twice.
            let same = wait_for("the two to be the same", SOON, || {
                let truth = snapshot::ss_matching(&zoo.namespace, &filter)?;
                let listed = snapshot::list_matching(&zoo.namespace, daemon.socket(), &arguments)?;
                difference = format!("{listed:#?}, but ss shows {truth:?}");
                Ok((cookies(&listed) == truth).then_some(()))
            });
            same.with_context(|| format!("list {arguments}: {difference}"))?;
        }
    }
    Ok(())
}

/// The lines of `list -atn` with these words, without the heads, sorted.
fn lines(namespace: &Namespace, socket: &Path, words: &str) -> Result<Vec<String>> {
    let printed = binary::run_in(namespace, socket, &format!("list -atn {words}"))?;
    let mut lines: Vec<_> = printed.lines().skip(2).map(str::to_owned).collect();
    lines.sort();
    Ok(lines)
}

/// What matches a filter may be asked for alone, and is told as among all others, queues included.
fn few_sockets_are_told_as_all_are() -> Result<()> {
    let zoo = Zoo::new()?;
    let daemon = Daemon::start()?;
    deliver(&zoo.v4.client, &zoo.v4.server, b"nobody reads this")?;
    deliver(&zoo.v6.server, &zoo.v6.client, b"nor this")?;
    let waiting = connect(&zoo.namespace, zoo.v4.listener.local_addr()?)?;
    let (listener, port) = (zoo.v4.listener.local_addr()?.port(), waiting.local_addr()?.port());
    daemon.agrees(&zoo.namespace)?;
    for words in [
        format!("state listening sport {listener}"),
        format!("state established sport {listener}"),
        format!("state established dport {port}"),
        "state established dst [::1]".to_owned(),
        "state close-wait".to_owned(),
        "exclude syn-recv exclude time-wait".to_owned(),
        format!("state time-wait sport {}", zoo.past),
        "state last-ack".to_owned(),
    ] {
        let all = lines(&zoo.namespace, daemon.socket(), "")?;
        let few = lines(&zoo.namespace, daemon.socket(), &words)?;
        let count = snapshot::ss_matching(&zoo.namespace, &words)?.len();
        ensure!(
            few.len() == count && few.iter().all(|line| all.contains(line)),
            "{words}: {few:#?}, and ss shows {count}, of {all:#?}"
        );
    }
    let unread = lines(
        &zoo.namespace,
        daemon.socket(),
        &format!("state established sport {listener}"),
    )?;
    ensure!(
        unread.iter().any(|line| line.starts_with("tcp       17      0 ")),
        "{unread:#?}"
    );
    Ok(())
}

/// Where nobody announces half-open connections, the kernel is asked for all that the filter can match.
fn a_half_open_connection_is_among_the_few() -> Result<()> {
    let link = Link::new()?;
    let daemon = Daemon::start()?;
    let listener = listen(&link.right, &format!("{}:0", Link::RIGHT))?;
    let port = listener.local_addr()?.port();
    daemon.agrees(&link.right)?;
    link.lose(Way::ToLeft)?;
    let _client = start_connecting(&link.left, listener.local_addr()?)?;
    wait_for("ss to show it", SOON, || {
        let shown = snapshot::ss_matching(&link.right, &format!("state syn-recv sport {port}"))?;
        Ok((!shown.is_empty()).then_some(()))
    })?;
    for words in [format!("sport {port}"), format!("state syn-recv sport {port}")] {
        let told = lines(&link.right, daemon.socket(), &words)?;
        ensure!(
            told.iter().any(|line| line.contains("SYN_RECV")),
            "{words}: {told:#?}"
        );
    }
    Ok(())
}

/// What a row has to be like.
type Wanted<'a> = Box<dyn Fn(&Listed) -> bool + 'a>;

fn words_that_ss_has_not() -> Result<()> {
    let zoo = Zoo::new()?;
    let (name, inode) = (zoo.namespace.name(), zoo.namespace.inode());
    let daemon = Daemon::start()?;
    let own = std::process::id();
    let comm = std::fs::read_to_string("/proc/self/comm")?.trim().to_owned();
    let near = cookie(&zoo.v4.client)?;
    let port = zoo.v4.listener.local_addr()?.port();
    let cases: Vec<(String, Wanted)> = vec![
        ("CLOSE_WAIT".to_owned(), Box::new(|row| row.state == "CLOSE_WAIT")),
        (
            "close-wait,FIN_WAIT2".to_owned(),
            Box::new(|row| row.state == "CLOSE_WAIT" || row.state == "FIN_WAIT2"),
        ),
        (format!("cookie {near}"), Box::new(|row| row.cookie == near)),
        (format!("cookie 0x{near:x}"), Box::new(|row| row.cookie == near)),
        (format!("pid {own}"), Box::new(|row| row.pid == Some(own))),
        (format!("not pid {own}"), Box::new(|row| row.pid != Some(own))),
        (
            format!("comm {comm}"),
            Box::new(|row| row.comm.as_ref() == Some(&comm)),
        ),
        ("uid 0".to_owned(), Box::new(|row| row.uid == Some(0))),
        (
            "user root and inet".to_owned(),
            Box::new(|row| row.uid == Some(0) && row.family == "inet"),
        ),
        ("inet6".to_owned(), Box::new(|row| row.family == "inet6")),
        (
            format!("comm {}*", &comm[..2]),
            Box::new(|row| row.comm.as_ref().is_some_and(|own| own.starts_with(&comm[..2]))),
        ),
        (format!("pid {own},1"), Box::new(|row| row.pid == Some(own))),
        (
            format!("port {port},1 or 2"),
            Box::new(|row| row.local_port == Some(port) || row.remote_port == Some(port)),
        ),
        (
            format!("port:{port} state:listen"),
            Box::new(|row| row.local_port == Some(port) && row.state == "LISTEN"),
        ),
        (
            format!(":{port}"),
            Box::new(|row| row.local_port == Some(port) || row.remote_port == Some(port)),
        ),
        (
            format!("port {port}-{port} state listening"),
            Box::new(|row| row.local_port == Some(port) && row.state == "LISTEN"),
        ),
        (format!("netns {name}"), Box::new(|row| row.netns == inode)),
        (format!("netns = {inode}"), Box::new(|row| row.netns == inode)),
        ("mptcp".to_owned(), Box::new(|_| false)),
    ];
    // Who holds a socket is found while it is looked for; what holds them here does not change.
    daemon.agrees(&zoo.namespace)?;
    for (filter, wanted) in cases {
        for how in ["", "--alone "] {
            let arguments = format!("-a {how}{filter}");
            wait_for(&format!("list {arguments} to be right"), SOON, || {
                let all = snapshot::list_matching(&zoo.namespace, daemon.socket(), &format!("-a {how}"))?;
                let expected: Vec<Listed> = all.into_iter().filter(|row| wanted(row)).collect();
                let listed = snapshot::list_matching(&zoo.namespace, daemon.socket(), &arguments)?;
                Ok((cookies(&listed) == cookies(&expected)).then_some(()))
            })?;
        }
    }
    // The filter says which namespace, so the caller's own is not what is meant.
    let elsewhere = Namespace::new()?;
    let listed = snapshot::list_matching(
        &elsewhere,
        daemon.socket(),
        &format!("cookie {near} netns {name}"),
    )?;
    ensure!(cookies(&listed) == [near], "of another namespace: {listed:?}");
    Ok(())
}

/// As with `ss`, a filter that is about states says whether listeners are meant; another does not.
fn listeners_by_default() -> Result<()> {
    let namespace = Namespace::new()?;
    let pair = Pair::new(&namespace, LOOPBACK)?;
    let absent = directory()?.path().join("absent.sock");
    let port = pair.listener.local_addr()?.port();
    let (listener, server) = (cookie(&pair.listener)?, cookie(&pair.server)?);
    let cases = [
        ("state listening".to_owned(), vec![listener]),
        ("listen".to_owned(), vec![listener]),
        (format!("sport {port}"), vec![server]),
        (format!("-l sport {port}"), vec![listener]),
        ("-l established".to_owned(), vec![]),
    ];
    for (arguments, expected) in cases {
        let listed = snapshot::list_matching(&namespace, &absent, &arguments)?;
        ensure!(cookies(&listed) == expected, "list {arguments}: {listed:#?}");
    }
    Ok(())
}

/// Without `-p` nobody looks who holds the sockets, unless the filter asks.
fn text_knows_holders() -> Result<()> {
    let namespace = Namespace::new()?;
    let pair = Pair::new(&namespace, LOOPBACK)?;
    let daemon = Daemon::start()?;
    let absent = directory()?.path().join("absent.sock");
    let port = pair.listener.local_addr()?.port();
    let arguments = format!("list -an pid {}", std::process::id());
    for socket in [daemon.socket(), &absent] {
        wait_for("list by process to show both ends", SOON, || {
            let printed = binary::run_in(&namespace, socket, &arguments)?;
            let rows = printed.lines().filter(|line| line.contains(&format!(":{port} ")));
            Ok((rows.count() == 3).then_some(()))
        })?;
    }
    Ok(())
}

/// Watches through `socket` with a filter for the second of two connections.
fn watch_one_of_two(namespace: &Namespace, socket: &Path) -> Result<()> {
    let (first, second) = (listen(namespace, LOOPBACK)?, listen(namespace, LOOPBACK)?);
    let wanted = second.local_addr()?.port();
    let watch = Watch::start_matching(
        namespace,
        socket,
        &format!("dport = :{wanted} or sport = :{wanted}"),
    )?;
    let mut clients = Vec::new();
    for listener in [&first, &second] {
        let client = connect(namespace, listener.local_addr()?)?;
        let server = accept(listener)?;
        let near = cookie(&client)?;
        drop(client);
        wait_for_fin(&server)?;
        clients.push(near);
    }
    // What came before it has come by then, if it does.
    let path = ["CLOSE", "SYN_SENT", "ESTABLISHED", "FIN_WAIT1", "FIN_WAIT2"];
    wait_for("the path of the wanted client", SOON, || {
        let seen = watch.of(clients[1]);
        Ok(netstat_tests::watch::states(&seen)?
            .starts_with(&path.map(str::to_owned))
            .then_some(()))
    })?;
    ensure!(
        watch.of(clients[0]).is_empty(),
        "of the other: {:#?}",
        watch.of(clients[0])
    );
    Ok(())
}

fn watch_shows_only_what_matches() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    watch_one_of_two(&namespace, daemon.socket())?;
    watch_one_of_two(&namespace, &directory()?.path().join("absent.sock"))
}

/// A state is named by what leaves it, too.
fn watch_follows_states() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let watch = Watch::start_matching(&namespace, daemon.socket(), "fin-wait-1 and not CLOSE")?;
    let pair = Pair::new(&namespace, LOOPBACK)?;
    let near = cookie(&pair.client)?;
    drop(pair.client);
    wait_for_fin(&pair.server)?;
    watch.wait_for_path(near, &["ESTABLISHED", "FIN_WAIT1", "FIN_WAIT2"])?;
    ensure!(
        watch.count_in(namespace.inode()) == 2,
        "more than that: {:?}",
        watch.of(near)
    );
    Ok(())
}

fn bad_filters() -> Result<()> {
    let absent = directory()?.path().join("absent.sock");
    let cases = [
        ("state establishd", "`establishd`", "ESTABLISHED"),
        ("dport = :no-such-service", "`no-such-service`", "8000-8100"),
        ("dst example.com", "`example.com`", "give the address"),
        ("( sport 80", "parenthesis", "`)`"),
        ("sport 80 or", "missing", "begins with"),
        ("netns no-such-namespace", "`no-such-namespace`", "lsns"),
        ("user no-such-user", "`no-such-user`", "getent passwd"),
    ];
    for (filter, wrong, right) in cases {
        for command in ["list", "list --alone", "watch", "watch --alone"] {
            let arguments = format!("{command} {filter}");
            let output = binary::run(&absent, &arguments)?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(
                output.status.code() == Some(2),
                "{arguments}: {}: {said}",
                output.status
            );
            for part in [wrong, right, filter, "^", "Usage: netstate", "--help"] {
                ensure!(said.contains(part), "{arguments}: does not say {part:?}: {said}");
            }
            ensure!(output.stdout.is_empty(), "{arguments}: half an answer");
        }
    }
    Ok(())
}
