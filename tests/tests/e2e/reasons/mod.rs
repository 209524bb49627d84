//! Why connections end, as both ends tell it: by kind of end.

pub(crate) mod aborted;
pub(crate) mod after_close;
pub(crate) mod closed;
pub(crate) mod refused;
pub(crate) mod timeouts;

use std::net::{TcpListener, TcpStream};

use anyhow::{Result, ensure};
use netstat_tests::{
    Daemon, Link, Namespace, Watch,
    sockets::{LOOPBACK, Pair, accept, connect, cookie, listen},
    watch::Transition,
};

/// A connection within one namespace, and who watches it.
struct Scene {
    namespace: Namespace,
    _daemon: Daemon,
    watch: Watch,
}

impl Scene {
    fn new() -> Result<Self> {
        let namespace = Namespace::new()?;
        let daemon = Daemon::start()?;
        let watch = daemon.watch_in(&namespace)?;
        Ok(Self {
            namespace,
            _daemon: daemon,
            watch,
        })
    }

    fn pair(&self) -> Result<(TcpListener, End, End)> {
        let Pair {
            listener,
            client,
            server,
        } = Pair::new(&self.namespace, LOOPBACK)?;
        Ok((listener, End::new(client)?, End::new(server)?))
    }

    fn ended(&self, cookie: u64, reason: &str, detail: &str) -> Result<Transition> {
        ended(&self.watch, cookie, reason, detail)
    }
}

/// A connection between two namespaces, and who watches each.
struct Wire {
    link: Link,
    daemon: Daemon,
    left: Watch,
    right: Watch,
}

impl Wire {
    fn new() -> Result<Self> {
        let link = Link::new()?;
        let daemon = Daemon::start()?;
        let (left, right) = (daemon.watch_in(&link.left)?, daemon.watch_in(&link.right)?);
        Ok(Self {
            link,
            daemon,
            left,
            right,
        })
    }

    /// The client is on the left.
    fn pair(&self) -> Result<(TcpListener, End, End)> {
        let listener = listen(&self.link.right, &format!("{}:0", Link::RIGHT))?;
        let client = connect(&self.link.left, listener.local_addr()?)?;
        let server = accept(&listener)?;
        Ok((listener, End::new(client)?, End::new(server)?))
    }
}

/// One end of a connection.
struct End {
    stream: TcpStream,
    cookie: u64,
}

impl End {
    fn new(stream: TcpStream) -> Result<Self> {
        let cookie = cookie(&stream)?;
        Ok(Self { stream, cookie })
    }
}

/// Waits for the end of `cookie`, and holds its reason against what it must be.
fn ended(watch: &Watch, cookie: u64, reason: &str, detail: &str) -> Result<Transition> {
    let end = watch.wait("the end", |seen| seen.cookie == cookie && seen.to == "CLOSE")?;
    let told = (
        end.reason.as_deref(),
        end.reason_detail.as_deref().unwrap_or_default(),
    );
    ensure!(
        told.0 == Some(reason) && told.1.starts_with(detail),
        "expected {reason:?} ({detail}…): {end:#?}"
    );
    if reason != "closed" {
        ensure!(end.closed_by.is_none(), "not closed in order: {end:#?}");
    }
    Ok(end)
}

/// A row of a connection that was closed in order says who closed first.
fn closed(watch: &Watch, cookie: u64, by: &str) -> Result<()> {
    let end = ended(watch, cookie, "closed", "")?;
    ensure!(end.closed_by.as_deref() == Some(by), "expected {by}: {end:#?}");
    Ok(())
}
