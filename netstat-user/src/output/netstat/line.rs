//! One row as a line.

use std::net::IpAddr;

use super::{Columns, Names, Text, protocol, user};
use crate::{
    connection::{Connection, Endpoint, OwnerSource},
    facts::{Figures, TimerKind},
    namespaces,
    view::RowView,
};

/// Both address columns are this wide and grow with a longer address (`tcp_do_one`).
const ADDRESS_WIDTH: usize = 23;
/// An address and port together are cut to this (`addr_do_one`).
const ADDRESS_LENGTH: usize = 22;
/// Characters of a process's id and name (`PROGNAME_WIDTH`, its closing NUL aside).
const PROGRAM_LENGTH: usize = 19;

/// Writes `row`, without the end of the line.
pub(super) fn write(
    out: &mut Text,
    row: &RowView,
    columns: Columns,
    names: &Names,
    mut devices: Option<&mut namespaces::Names>,
) {
    let connection = &row.connection;
    out.push(protocol(connection.family));
    out.push("  ");
    out.right(row.queues.map(|queues| queues.recv), 6);
    out.push(" ");
    out.right(row.queues.map(|queues| queues.send), 6);
    for end in [connection.local, connection.remote] {
        out.push(" ");
        let start = out.len();
        let zone = devices.as_mut().and_then(|devices| devices.zone(connection, end));
        names.end(out, connection, end, zone.as_deref(), columns.wide);
        if names.in_words {
            out.fill(start, ADDRESS_WIDTH);
        } else {
            out.fill_plain(start, ADDRESS_WIDTH);
        }
    }
    out.push(" ");
    let start = out.len();
    out.push(row.state.name());
    out.fill_plain(start, 11);
    if columns.extend {
        out.push(" ");
        let start = out.len();
        names.user(out, user(row));
        out.fill(start, 10);
        out.push(" ");
        let start = out.len();
        out.number(row.inode.unwrap_or(0));
        out.fill(start, 10);
    }
    if columns.programs {
        out.push(" ");
        let start = out.len();
        program(out, row);
        out.fill(start, 20);
    }
    if columns.timers {
        out.push(" ");
        timer(out, row.figures.as_deref());
    }
}

/// The process that holds a socket, cut as netstat cuts it, and how many others do. With a question mark the one that held it
/// last, or that holds the listener of a connection that nobody has accepted yet.
fn program(out: &mut Text, row: &RowView) {
    let Some(owner) = row.owners.first() else {
        out.push("-");
        return;
    };
    if owner.source == OwnerSource::IoUring {
        out.display(format_args!("{}/{}(io_uring)", owner.pid, owner.comm));
        return;
    }
    let others = match row.owners.others() {
        _ if !owner.is_current() => "?".to_owned(),
        0 => String::new(),
        others => format!("+{others}"),
    };
    let start = out.len();
    out.number(u64::from(owner.pid));
    out.push("/");
    out.display(owner.comm);
    let most = PROGRAM_LENGTH.saturating_sub(others.len());
    if out.len() - start > most {
        let program = out.take_back(start);
        program.chars().take(most).for_each(|char| out.display(char));
    }
    out.push(&others);
}

/// What is armed, in how many seconds it runs out, timeouts and probes so far: as the kernel writes them to
/// `/proc/net/tcp` (`get_tcp4_sock`), and netstat reads them from there.
fn timer(out: &mut Text, figures: Option<&Figures>) {
    let Some((figures, timer)) = figures.and_then(|figures| Some((figures, figures.timer?))) else {
        out.push("-");
        return;
    };
    let name = match timer.kind {
        TimerKind::Off | TimerKind::Other(_) => "off",
        TimerKind::Retransmit | TimerKind::Reordering | TimerKind::LossProbe | TimerKind::SynAck => "on",
        TimerKind::WindowProbe => "probe",
        TimerKind::Keepalive | TimerKind::FinWait2 => "keepalive",
        TimerKind::TimeWait => "timewait",
    };
    let (seconds, hundredths) = (timer.due.as_secs(), timer.due.subsec_millis() / 10);
    let attempts = figures.attempts;
    // A minisock counts neither, and a request sock no probes: the kernel prints 0.
    let (timeouts, probes) = (attempts.retransmits.unwrap_or(0), attempts.probes.unwrap_or(0));
    out.display(format_args!(
        "{name} ({seconds}.{hundredths:02}/{timeouts}/{probes})"
    ));
}

impl Names {
    fn address(&self, out: &mut Text, address: IpAddr) {
        match (self.hosts.names.get(&address), address.to_canonical()) {
            (Some(name), _) => out.push(name),
            // Net-tools writes the unspecified address in brackets only where it also writes names.
            (None, IpAddr::V6(v6)) if v6.is_unspecified() && self.in_words => out.push("[::]"),
            (None, address) => out.address(address),
        }
    }

    fn port(&self, out: &mut Text, port: Option<u16>) {
        match port {
            Some(port) => match self.services.names.get(&port) {
                Some(service) => out.push(service),
                None => out.number(u64::from(port)),
            },
            None => out.push("*"),
        }
    }

    fn user(&self, out: &mut Text, uid: u32) {
        match self.users.names.get(&uid) {
            Some(name) => out.push(name),
            None => out.number(u64::from(uid)),
        }
    }

    /// An end as `address:port`; an address too long for its column loses its end, the port at most all but
    /// four characters.
    fn end(&self, out: &mut Text, connection: &Connection, end: Endpoint, zone: Option<&str>, wide: bool) {
        let start = out.len();
        self.address(out, end.addr(connection.family));
        if let Some(zone) = zone {
            out.push("%");
            out.push(zone);
        }
        out.push(":");
        self.port(out, end.port());
        // The colon is not counted.
        if wide || out.len() - start <= ADDRESS_LENGTH + 1 {
            return;
        }
        out.take_back(start);
        self.address(out, end.addr(connection.family));
        let address = out.take_back(start);
        self.port(out, end.port());
        let port = out.take_back(start);
        let port_length = port.len().min(ADDRESS_LENGTH - 4);
        let cut = address.chars().take(ADDRESS_LENGTH - port_length);
        cut.for_each(|char| out.display(char));
        out.push(":");
        port.chars().take(port_length).for_each(|char| out.display(char));
    }
}
