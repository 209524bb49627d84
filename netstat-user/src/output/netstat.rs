//! Rows in netstat's columns: what `netstat` of net-tools 2.10 prints, to the byte; but for the program's name,
//! which is the kernel's.

use std::{
    collections::HashMap,
    io::{self, Write},
    net::IpAddr,
    path::Path,
};

use super::names;
use crate::{
    connection::{Connection, Endpoint, Family},
    facts::{Figures, TimerKind},
    namespaces,
    tcp::TcpState,
    view::RowView,
};

/// What to show of the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "they are netstat's flags")]
pub struct Columns {
    /// User and inode.
    pub extend: bool,
    /// The process.
    pub programs: bool,
    /// The timer.
    pub timers: bool,
    /// Addresses in full.
    pub wide: bool,
    /// Numbers for names.
    pub numeric: bool,
}

/// Which sockets are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Listeners and all others.
    All,
    /// Listeners.
    Listeners,
    /// All but listeners.
    Others,
}

impl Which {
    /// Whether a row in `state` is among them.
    #[must_use]
    pub fn includes(self, state: TcpState) -> bool {
        match self {
            Self::All => true,
            Self::Listeners => state == TcpState::Listen,
            Self::Others => state != TcpState::Listen,
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::All => "servers and established",
            Self::Listeners => "only servers",
            Self::Others => "w/o servers",
        }
    }
}

/// Both address columns are this wide and grow with a longer address (`tcp_do_one`).
const ADDRESS_WIDTH: usize = 23;
/// An address and port together are cut to this (`addr_do_one`).
const ADDRESS_LENGTH: usize = 22;
/// Characters of a process's id and name (`PROGNAME_WIDTH`, its closing NUL aside).
const PROGRAM_LENGTH: usize = 19;

/// Writes a table of `rows`, with the namespace of each if there are `places` to call them by.
///
/// # Errors
///
/// What `out` returns.
pub fn table(
    out: &mut impl Write,
    rows: &[RowView],
    which: Which,
    columns: Columns,
    mut places: Option<&mut namespaces::Names>,
) -> io::Result<()> {
    let names = if columns.numeric {
        Names::default()
    } else {
        Names::of(rows)
    };
    writeln!(out, "Active Internet connections ({})", which.title())?;
    write!(
        out,
        "Proto Recv-Q Send-Q Local Address           Foreign Address         State      "
    )?;
    if columns.extend {
        write!(out, " User       Inode     ")?;
    }
    if columns.programs {
        write!(out, " {:<20}", "PID/Program name")?;
    }
    if columns.timers {
        write!(out, " Timer")?;
    }
    if places.is_some() {
        write!(out, " Namespace")?;
    }
    writeln!(out)?;
    for row in rows {
        line(out, row, columns, &names)?;
        if let Some(places) = &mut places {
            write!(out, " {}", places.label(row.connection.netns))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// Sorts rows as netstat does: IPv4 before IPv6, listeners first; then by address, which is more than it does.
pub fn sort(rows: &mut [RowView]) {
    rows.sort_by_key(|row| {
        let connection = &row.connection;
        (
            connection.family,
            row.state != TcpState::Listen,
            connection.local,
            connection.remote,
        )
    });
}

fn line(out: &mut impl Write, row: &RowView, columns: Columns, names: &Names) -> io::Result<()> {
    let connection = &row.connection;
    let proto = match connection.family {
        Family::Inet => "tcp",
        Family::Inet6 => "tcp6",
    };
    let local = names.end(connection, connection.local, columns.wide);
    let remote = names.end(connection, connection.remote, columns.wide);
    write!(
        out,
        "{proto:<4}  {:>6} {:>6} {local:<ADDRESS_WIDTH$} {remote:<ADDRESS_WIDTH$} {:<11}",
        number(row.queues.map(|queues| queues.recv)),
        number(row.queues.map(|queues| queues.send)),
        row.state,
    )?;
    if columns.extend {
        // A socket without a file has no user either: the kernel prints both as 0.
        let user = names.user(row.inode.and(row.uid).unwrap_or(0));
        write!(out, " {user:<10} {:<10}", row.inode.unwrap_or(0))?;
    }
    if columns.programs {
        write!(out, " {:<20}", program(row))?;
    }
    if columns.timers {
        write!(out, " {}", timer(row.figures.as_deref()))?;
    }
    Ok(())
}

fn number(number: Option<u32>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
}

/// The process that holds a socket, cut as netstat cuts it, and how many others do. Who held it last does not, nor
/// does who holds the listener of a connection that nobody has accepted yet.
fn program(row: &RowView) -> String {
    let Some(owner) = row.owners.first().filter(|owner| owner.is_current()) else {
        return "-".to_owned();
    };
    let others = match row.owners.others() {
        0 => String::new(),
        others => format!("+{others}"),
    };
    let program: String = format!("{}/{}", owner.pid, owner.comm)
        .chars()
        .take(PROGRAM_LENGTH.saturating_sub(others.len()))
        .collect();
    program + &others
}

/// What is armed, in how many seconds it runs out, timeouts and probes so far: as the kernel writes them to
/// `/proc/net/tcp` (`get_tcp4_sock`), and netstat reads them from there.
fn timer(figures: Option<&Figures>) -> String {
    let Some((figures, timer)) = figures.and_then(|figures| Some((figures, figures.timer?))) else {
        return "-".to_owned();
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
    format!("{name} ({seconds}.{hundredths:02}/{timeouts}/{probes})")
}

/// Names for the numbers of a table.
#[derive(Debug, Default)]
struct Names {
    services: HashMap<u16, String>,
    users: HashMap<u32, String>,
    hosts: HashMap<IpAddr, String>,
    in_words: bool,
}

impl Names {
    fn of(rows: &[RowView]) -> Self {
        let ends = rows.iter().flat_map(|row| {
            let connection = &row.connection;
            [connection.local, connection.remote].map(|end| end.addr(connection.family))
        });
        Self {
            services: names::services(Path::new("/etc/services")),
            users: names::users(Path::new("/etc/passwd")),
            hosts: names::hosts(ends.filter(|address| !address.is_unspecified())),
            in_words: true,
        }
    }

    fn address(&self, address: IpAddr) -> String {
        match (self.hosts.get(&address), address.to_canonical()) {
            (Some(name), _) => name.clone(),
            // Net-tools writes the unspecified address in brackets only where it also writes names.
            (None, IpAddr::V6(v6)) if v6.is_unspecified() && self.in_words => "[::]".to_owned(),
            (None, address) => address.to_string(),
        }
    }

    fn user(&self, uid: u32) -> String {
        self.users.get(&uid).cloned().unwrap_or_else(|| uid.to_string())
    }

    /// An end as `address:port`; an address too long for its column loses its end, the port at most all but
    /// four characters.
    fn end(&self, connection: &Connection, end: Endpoint, wide: bool) -> String {
        let address = self.address(end.addr(connection.family));
        let port = match end.port() {
            Some(port) => self
                .services
                .get(&port)
                .cloned()
                .unwrap_or_else(|| port.to_string()),
            None => "*".to_owned(),
        };
        if wide || address.len() + port.len() <= ADDRESS_LENGTH {
            return format!("{address}:{port}");
        }
        let port_length = port.len().min(ADDRESS_LENGTH - 4);
        let address: String = address.chars().take(ADDRESS_LENGTH - port_length).collect();
        let port: String = port.chars().take(port_length).collect();
        format!("{address}:{port}")
    }
}
