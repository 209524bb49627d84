//! Who holds MPTCP's subflows: whoever holds the MPTCP socket above them.

use anyhow::{Context, Result, ensure};
use netstat_tests::{
    Daemon, Holder, Namespace,
    daemon::directory,
    requirements::CannotRun,
    snapshot::{self, Listed},
};

/// Where a scan by somebody else would make the difference.
pub(crate) mod unasked {
    use super::subflows_of_mptcp_that_nobody_has_looked_at;

    crate::tests![subflows_of_mptcp_that_nobody_has_looked_at];
}

crate::tests![subflows_of_mptcp];

fn subflows_of_mptcp() -> Result<()> {
    let namespace = Namespace::new()?;
    let daemon = Daemon::start()?;
    let pair = MptcpPair::connect(&namespace)?;
    for socket in [daemon.socket(), &directory()?.path().join("absent.sock")] {
        pair.is_told(&snapshot::list(&namespace, socket)?)?;
    }
    Ok(())
}

/// The cookies of MPTCP's sockets, by which their subflows are joined to their holders, are drawn by the scan that goes
/// on beside the walk. Which of the two is there first is a matter of luck, so they are tried some times.
fn subflows_of_mptcp_that_nobody_has_looked_at() -> Result<()> {
    const TIMES: usize = 8;
    let absent = directory()?;
    for _ in 0..TIMES {
        let namespace = Namespace::new()?;
        let pair = MptcpPair::connect(&namespace)?;
        pair.is_told(&snapshot::list(&namespace, &absent.path().join("absent.sock"))?)?;
    }
    let daemon = Daemon::start()?;
    for _ in 0..TIMES {
        let namespace = Namespace::new()?;
        let pair = MptcpPair::connect(&namespace)?;
        pair.is_told(&snapshot::list(&namespace, daemon.socket())?)?;
    }
    Ok(())
}

/// Both ends of an MPTCP connection and its listener, held by two processes.
struct MptcpPair {
    server: Holder,
    client: Holder,
    port: u16,
}

impl MptcpPair {
    fn connect(namespace: &Namespace) -> Result<Self> {
        let mut server = Holder::start(namespace, "e2e-server")?;
        let mut client = Holder::start(namespace, "e2e-client")?;
        let listening = server.told("listen-mptcp");
        let target = listening.map_err(|_| CannotRun("needs a kernel with MPTCP (CONFIG_MPTCP)"))?;
        client.told(&format!("connect-mptcp {target}"))?;
        server.accept()?;
        let port = target.rsplit_once(':').context("no port")?.1.parse()?;
        Ok(Self { server, client, port })
    }

    /// Whether `rows` are of these three sockets, and tell their holders.
    fn is_told(&self, rows: &[Listed]) -> Result<()> {
        ensure!(rows.len() == 3, "a listener and two ends: {rows:?}");
        for row in rows {
            let holder = if row.local_port == Some(self.port) {
                &self.server
            } else {
                &self.client
            };
            ensure!(row.held_by() == [holder.pid()], "{} holds {row:?}", holder.pid());
        }
        Ok(())
    }
}
