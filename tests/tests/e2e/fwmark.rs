//! Filters by `SO_MARK`, and by who has chosen the local port: what `ss` shows for the same words.

use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result, ensure};
use netstat_tests::{
    Daemon, Link, Namespace, Watch, binary,
    daemon::directory,
    link::Way,
    snapshot::{self, Listed},
    sockets::{
        LOOPBACK, LOOPBACK6, Pair, accept, connect, cookie, listen, socket_for, start_connecting,
        wait_for_fin,
    },
    wait::{SOON, wait_for},
};
use socket2::{SockRef, Socket};

crate::tests![
    list_shows_what_ss_shows,
    a_mark_is_read_when_it_is_asked_for,
    a_half_open_connection_has_the_mark_of_its_child,
    watch_follows_marks,
    stuck_knows_marks,
    commands_that_do_not_know,
];

/// Sockets with marks, and with ports that were chosen by their processes and by the kernel.
struct Zoo {
    namespace: Namespace,
    /// Marked 0x12, with the port 40001.
    client: Socket,
    /// The other end of that; marked 3 as its listener, with the port 4000.
    server: TcpStream,
    _others: (Pair, Pair),
}

/// Connects from `port` of the loopback, with a mark.
fn connect_marked(namespace: &Namespace, target: SocketAddr, port: u16, mark: u32) -> Result<Socket> {
    let socket = socket_for(namespace, target)?;
    socket.set_mark(mark)?;
    if port != 0 {
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], port)).into())?;
    }
    socket.connect(&target.into())?;
    Ok(socket)
}

impl Zoo {
    fn new() -> Result<Self> {
        let namespace = Namespace::new()?;
        let listener = listen(&namespace, "127.0.0.1:4000")?;
        SockRef::from(&listener).set_mark(3)?;
        let target = listener.local_addr()?;
        let client = connect_marked(&namespace, target, 40001, 0x12)?;
        let server = accept(&listener)?;
        let plain = Pair {
            client: connect(&namespace, target)?,
            server: accept(&listener)?,
            listener,
        };
        let v6 = Pair::new(&namespace, LOOPBACK6)?;
        SockRef::from(&v6.client).set_mark(u32::MAX)?;
        // One connection in TIME_WAIT.
        let past = connect_marked(&namespace, target, 40002, 0x22)?;
        let accepted = accept(&plain.listener)?;
        drop(past);
        wait_for_fin(&accepted)?;
        drop(accepted);
        Ok(Self {
            namespace,
            client,
            server,
            _others: (plain, v6),
        })
    }
}

fn cookies(listed: &[Listed]) -> Vec<u64> {
    let mut cookies: Vec<u64> = listed.iter().map(|row| row.cookie).collect();
    cookies.sort_unstable();
    cookies
}

/// The row of the socket with this cookie.
fn row_of(listed: &[Listed], cookie: u64) -> Result<&Listed> {
    let row = listed.iter().find(|row| row.cookie == cookie);
    row.with_context(|| format!("no row of {cookie}: {listed:#?}"))
}

fn list_shows_what_ss_shows() -> Result<()> {
    let zoo = Zoo::new()?;
    let daemon = Daemon::start()?;
    daemon.agrees(&zoo.namespace)?;
    let mut found = 0;
    for filter in [
        "state all fwmark = 0x12",
        "state all fwmark 18",
        "state all fwmark 022",
        "state all fwmark = 0x02/0x0f",
        "state all fwmark != 0x02/0x0f",
        "state all fwmark = 0",
        "state all fwmark != 0",
        "state all fwmark 3",
        "state all fwmark 0xffffffff",
        "state all fwmark 0x10/0x0f",
        "state all not fwmark 0x10/0x0f",
        "state time-wait fwmark 0x22",
        "state all ( fwmark 3 or fwmark 0x12 ) and sport = :4000",
        "state all autobound",
        "state listening autobound",
        "state established autobound",
        "state time-wait autobound",
        "state connected ( autobound or fwmark 3 )",
        "-l autobound",
    ] {
        for how in ["", "--alone "] {
            let arguments = format!("{how}{filter}");
            let truth = snapshot::ss_matching(&zoo.namespace, filter)?;
            let listed = snapshot::list_matching(&zoo.namespace, daemon.socket(), &arguments)?;
            ensure!(
                cookies(&listed) == truth,
                "list {arguments}: {listed:#?}, but ss shows {truth:?}"
            );
            found += truth.len();
            // Text takes other ways than JSON.
            let text = binary::run_in(&zoo.namespace, daemon.socket(), &format!("list -n {arguments}"))?;
            ensure!(
                text.lines().count() == 2 + truth.len(),
                "list -n {arguments}: {text}"
            );
        }
    }
    ensure!(found > 40, "hardly anything was compared: {found}");
    for how in ["-a", "-a --alone"] {
        // `ss` shows no socket for either word whose process has chosen a port that the kernel could have chosen.
        let list = |filter: &str| snapshot::list_matching(&zoo.namespace, daemon.socket(), filter);
        let (all, some) = (list(how)?, list(&format!("{how} autobound"))?);
        let mut others = cookies(&list(&format!("{how} not autobound"))?);
        ensure!(
            others.contains(&cookie(&zoo.client)?) && !others.iter().any(|one| cookies(&some).contains(one)),
            "{how}: {others:?} and {some:#?}"
        );
        others.extend(cookies(&some));
        others.sort_unstable();
        ensure!(others == cookies(&all), "{how}: {others:?} of {all:#?}");
        let listed = snapshot::list_matching(&zoo.namespace, daemon.socket(), how)?;
        let client = row_of(&listed, cookie(&zoo.client)?)?;
        ensure!(
            client.fwmark == Some(0x12) && client.autobound == Some(false),
            "{client:#?}"
        );
        let server = row_of(&listed, cookie(&zoo.server)?)?;
        ensure!(
            server.fwmark == Some(3) && server.autobound == Some(false),
            "{server:#?}"
        );
        let past = listed.iter().find(|row| row.state == "TIME_WAIT");
        let past = past.with_context(|| format!("no TIME_WAIT: {listed:#?}"))?;
        ensure!(past.fwmark == Some(0x22) && past.autobound.is_none(), "{past:#?}");
    }
    Ok(())
}

/// No event reports that a mark has changed, so each question about marks reads them.
fn a_mark_is_read_when_it_is_asked_for() -> Result<()> {
    let namespace = Namespace::new()?;
    let pair = Pair::new(&namespace, LOOPBACK)?;
    let near = cookie(&pair.client)?;
    let daemon = Daemon::start()?;
    daemon.agrees(&namespace)?;
    for mark in [5, 0, 0x8000_0000, 6] {
        SockRef::from(&pair.client).set_mark(mark)?;
        // In brief, in full, and as JSON.
        for flags in ["-n", "-ne", "--json"] {
            let arguments = format!("list {flags} cookie {near} fwmark {mark}");
            let printed = binary::run_in(&namespace, daemon.socket(), &arguments)?;
            let heads = if flags == "--json" { 0 } else { 2 };
            ensure!(printed.lines().count() == heads + 1, "{arguments}: {printed}");
        }
        let arguments = format!("cookie {near} fwmark != {mark}");
        let others = snapshot::list_matching(&namespace, daemon.socket(), &arguments)?;
        ensure!(others.is_empty(), "list {arguments}: {others:#?}");
    }
    Ok(())
}

fn a_half_open_connection_has_the_mark_of_its_child() -> Result<()> {
    let link = Link::new()?;
    let daemon = Daemon::start()?;
    let listener = listen(&link.right, &format!("{}:4000", Link::RIGHT))?;
    SockRef::from(&listener).set_mark(7)?;
    daemon.agrees(&link.right)?;
    link.lose(Way::ToLeft)?;
    let _client = start_connecting(&link.left, listener.local_addr()?)?;
    wait_for("ss to show it", SOON, || {
        let shown = snapshot::ss_matching(&link.right, "state syn-recv")?;
        Ok((!shown.is_empty()).then_some(()))
    })?;
    for filter in ["fwmark 7", "fwmark != 7", "autobound"] {
        for how in ["", "--alone "] {
            let filter = format!("state syn-recv {filter}");
            let truth = snapshot::ss_matching(&link.right, &filter)?;
            let listed = snapshot::list_matching(&link.right, daemon.socket(), &format!("{how}{filter}"))?;
            ensure!(
                cookies(&listed) == truth,
                "list {how}{filter}: {listed:#?}, but ss shows {truth:?}"
            );
            ensure!(
                listed
                    .iter()
                    .all(|row| row.fwmark == Some(7) && row.autobound.is_none()),
                "{listed:#?}"
            );
        }
    }
    Ok(())
}

/// Watches through `socket` with a filter for the second of two connections.
fn watch_the_marked_one(namespace: &Namespace, socket: &std::path::Path) -> Result<()> {
    let listener = listen(namespace, LOOPBACK)?;
    let watch = Watch::start_matching(namespace, socket, "fwmark 0x10/0xf0")?;
    let mut clients = Vec::new();
    for mark in [0, 0x12] {
        let client = connect_marked(namespace, listener.local_addr()?, 0, mark)?;
        let server = accept(&listener)?;
        clients.push(cookie(&client)?);
        drop(client);
        wait_for_fin(&server)?;
    }
    // What came before it has come by then, if it does.
    let path = ["CLOSE", "SYN_SENT", "ESTABLISHED", "FIN_WAIT1", "FIN_WAIT2"];
    wait_for("the path of the marked client", SOON, || {
        let seen = watch.of(clients[1]);
        ensure!(seen.iter().all(|step| step.fwmark == Some(0x12)), "{seen:#?}");
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

fn watch_follows_marks() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    watch_the_marked_one(&namespace, daemon.socket())?;
    // What the events have reported is remembered.
    let shown = binary::run_in(
        &namespace,
        daemon.socket(),
        "show --json --netns self fwmark 0x12",
    )?;
    ensure!(
        shown.lines().count() == 1 && shown.contains("\"fwmark\":18"),
        "{shown}"
    );
    watch_the_marked_one(&namespace, &directory()?.path().join("absent.sock"))
}

fn stuck_knows_marks() -> Result<()> {
    let link = Link::new()?;
    link.lose(Way::ToRight)?;
    let target: SocketAddr = format!("{}:80", Link::RIGHT).parse()?;
    let client = socket_for(&link.left, target)?;
    client.set_mark(9)?;
    client.bind(&SocketAddr::from(([10, 77, 0, 1], 40001)).into())?;
    client.set_nonblocking(true)?;
    let _ = client.connect(&target.into());
    let absent = directory()?.path().join("absent.sock");
    let stuck = |filter: &str| {
        let arguments = format!("stuck --alone --json --older 1s --netns self {filter}");
        binary::run_in(&link.left, &absent, &arguments)
    };
    for filter in ["fwmark 9", "fwmark 9 and not autobound"] {
        wait_for("stuck to report it", SOON, || {
            Ok(stuck(filter)?.contains("\"local_port\":40001").then_some(()))
        })?;
    }
    for filter in ["fwmark 8", "autobound"] {
        let printed = stuck(filter)?;
        ensure!(printed.contains("\"matched\":0"), "{filter}: {printed}");
    }
    Ok(())
}

/// What cannot be tested is refused, and does not merely match nothing.
fn commands_that_do_not_know() -> Result<()> {
    let absent = directory()?.path().join("absent.sock");
    for (arguments, why) in [
        ("watch autobound", "`netstate list`"),
        ("watch --alone not autobound", "`netstate list`"),
        ("show autobound", "`netstate stuck`"),
        ("watch bound", "`netstate list`"),
        ("stuck bound", "`netstate list`"),
        ("show bound or port 80", "`netstate list`"),
        ("list fwmark", "lacks its value"),
        ("list fwmark 0x", "is no mark"),
        ("list fwmark > 1", "has no order"),
    ] {
        let output = binary::run(&absent, arguments)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.code() == Some(2) && said.contains(why),
            "{arguments}: {}: {said}",
            output.status
        );
    }
    Ok(())
}
