//! Rows, from the daemon or from the kernel itself.

use std::{
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
};

use anyhow::Context;

use crate::{
    client::{Client, ClientError},
    clock::{Ktime, WallClock},
    connection::{Cookie, Netns},
    engine::Handle,
    facts::{FigureSet, HolderIndex},
    filter::Filter,
    loader,
    namespaces::{self, Effort, Names},
    plural::counted,
    processes,
    sources::Coverage,
    sweeper::{Decoder, Figuring, Job, Outcome, Scanning, Scope, SweepDone, SweepError, Walker},
    table::Table,
    view::{About, Histories, HistoryQuery, RowQuery, RowSink, RowView, Snapshot, Trouble, Unseen, Unswept},
};

/// Where rows come from.
#[derive(Debug)]
pub(super) enum Source {
    /// The daemon, which knows since when.
    Daemon(Asked),
    /// The engine of this process.
    Engine(Handle),
    /// The kernel: nothing is attached, and nothing is known but the present.
    Kernel,
}

/// A daemon that is asked now and then. It hangs up on a client that says nothing for long, so each question has a
/// connection of its own.
#[derive(Debug)]
pub(super) struct Asked {
    socket: PathBuf,
    daemon: Option<i32>,
    /// For the first question, since somebody had to find out whether there is a daemon.
    client: Option<Box<Client>>,
}

impl Asked {
    /// The daemon that `client` has just connected to at `socket`.
    pub(super) fn new(socket: &Path, client: Client) -> Self {
        Self {
            socket: socket.to_owned(),
            daemon: client.daemon(),
            client: Some(Box::new(client)),
        }
    }

    async fn connection(&mut self) -> Result<Box<Client>, ClientError> {
        match self.client.take() {
            Some(client) => Ok(client),
            None => Client::connect_again(&self.socket, self.daemon)
                .await
                .map(Box::new),
        }
    }
}

impl Source {
    /// The daemon, if it answers and is not to be left alone.
    pub(super) async fn find(socket: &Path, alone: bool) -> Result<Self, ClientError> {
        if alone {
            return Ok(Self::Kernel);
        }
        match Client::connect(socket).await {
            Ok(client) => Ok(Self::Daemon(Asked::new(socket, client))),
            Err(error) if error.is_absent() => Ok(Self::Kernel),
            Err(error) => Err(error),
        }
    }

    /// Finds the namespaces that `filter` names, but for `asked`, about which the question itself is.
    ///
    /// # Errors
    ///
    /// When one is not there: as for `--netns`, so that a wrong number is not taken for a namespace without sockets.
    pub(super) async fn find_namespaces(
        &mut self,
        filter: Option<&Filter>,
        asked: Option<Netns>,
    ) -> anyhow::Result<()> {
        let mut named: Vec<_> = filter.into_iter().flat_map(Filter::namespaces).collect();
        named.sort_unstable();
        named.dedup();
        for netns in named.into_iter().filter(|netns| Some(*netns) != asked) {
            let nothing = RowQuery {
                netns: Some(netns),
                filter: Filter::any_cookie(&[Cookie(0)]),
                holders: false,
                figures: false,
                as_is: false,
                brief: true,
            };
            self.rows(&nothing).await?;
        }
        Ok(())
    }

    /// The rows that `query` asks for, as they are now.
    pub(super) async fn rows(&mut self, query: &RowQuery) -> anyhow::Result<(WallClock, Snapshot)> {
        match self {
            Self::Daemon(daemon) => Ok(daemon.connection().await?.rows(query.clone()).await?),
            Self::Engine(handle) => {
                let snapshot = handle.rows(query.clone()).await?.map_err(anyhow::Error::msg)?;
                Ok((handle.clock(), snapshot))
            }
            Self::Kernel => Ok((WallClock::read(), ask_kernel(query.clone()).await?)),
        }
    }

    /// The same, but for the rows, each of which `sink` takes as it comes.
    pub(super) async fn each_row(
        &mut self,
        query: &RowQuery,
        sink: &mut impl RowSink,
    ) -> anyhow::Result<(WallClock, About)> {
        if let Self::Daemon(daemon) = self {
            let mut client = daemon.connection().await?;
            return Ok(client.each_row(query.clone(), sink).await?);
        }
        let (clock, snapshot) = self.rows(query).await?;
        snapshot.rows.into_iter().for_each(|row| sink.take(row));
        Ok((clock, snapshot.about))
    }

    /// What is remembered of connections; without anybody who has watched, nothing is.
    pub(super) async fn histories(&mut self, query: &HistoryQuery) -> anyhow::Result<Histories> {
        match self {
            Self::Daemon(daemon) => {
                let mut client = daemon.connection().await?;
                Ok(client.histories(query.clone()).await?.2)
            }
            Self::Engine(handle) => handle.histories(query.clone()).await?.map_err(anyhow::Error::msg),
            Self::Kernel => Ok(Histories::default()),
        }
    }
}

/// Asks the kernel itself, once: nothing is attached, and nothing is known but the present.
async fn ask_kernel(query: RowQuery) -> anyhow::Result<Snapshot> {
    let walk = tokio::task::spawn_blocking(move || walk(&query));
    walk.await.context("the scan of the kernel's sockets failed")?
}

fn walk(query: &RowQuery) -> anyhow::Result<Snapshot> {
    let needs = loader::Needs {
        figures: query.figures,
        // A search for other namespaces looks at open files, too.
        files: query.holders || query.netns.is_none() || query.netns != namespaces::own().ok(),
    };
    let mut walker = Walker::new(loader::iterators(needs)?);
    let figuring = if query.figures {
        Figuring::Everywhere
    } else {
        Figuring::Nowhere
    };
    let mut scope = Scope::once(query.netns, figuring);
    if query.holders {
        scope.scanning = Scanning::Beside;
    }
    let mut seen = Seen::by(&mut walker, scope.clone());
    if seen.nameless && seen.first_asked {
        // The ways are known by now.
        (scope.scanning, scope.effort) = (Scanning::Not, Effort::Quick);
        let scan = seen.scan;
        seen = Seen {
            scan,
            ..Seen::by(&mut walker, scope)
        };
    }
    let Seen {
        mut table,
        figures,
        done,
        scan,
        ..
    } = seen;
    let mut unseen = (query.holders && !processes::all_visible()).then_some(Unseen::Processes);
    match scan {
        Some(Ok(scan)) => table.apply_scan(scan),
        Some(Err(error)) => unseen = Some(Unseen::Files(error.to_string())),
        None => {}
    }
    let now = Ktime::now();
    let wanted = table.rows().filter(|row| query.wants(row));
    Ok(Snapshot {
        rows: wanted
            .map(|row| RowView::answering(query, row, &figures, now))
            .collect(),
        about: About {
            refused: done
                .as_ref()
                .and_then(|done| done.refused)
                .filter(|_| query.netns.is_none()),
            unswept: done.map_or(Ok(Vec::new()), |done| unswept(query.netns, done))?,
            unseen,
            settings: figures.settings().collect(),
        },
    })
}

/// What a walk has come by.
struct Seen {
    table: Table,
    figures: FigureSet,
    done: Option<SweepDone>,
    /// Who holds the sockets, if that was scanned for.
    scan: Option<Result<HolderIndex, SweepError>>,
    /// As [`Decoder::saw_nameless`].
    nameless: bool,
    /// As [`ScanDone::first_asked`](crate::sweeper::ScanDone).
    first_asked: bool,
}

impl Seen {
    /// While one thread walks, this one folds what has been seen.
    fn by(walker: &mut Walker, scope: Scope) -> Self {
        let mut seen = Self {
            table: Table::new(Coverage::default()),
            figures: FigureSet::default(),
            done: None,
            scan: None,
            nameless: false,
            first_asked: false,
        };
        let mut decoder = Decoder::default();
        let (reports, outcomes) = mpsc::channel();
        thread::scope(|threads| {
            threads.spawn(move || {
                walker.run(Job::Sockets(scope), |outcome| {
                    // Whoever reads it does so until there is no more.
                    let _ = reports.send(outcome);
                });
            });
            for outcome in outcomes {
                match outcome {
                    Outcome::Part(part, _) => {
                        if let Some(part) = decoder.decode(&part, &mut seen.figures) {
                            seen.table.apply_part(&part, &mut Vec::new());
                            decoder.take_back(part);
                        }
                    }
                    Outcome::SocketsDone(done) => seen.done = Some(done),
                    Outcome::HoldersDone(done) => {
                        seen.first_asked = done.first_asked;
                        seen.scan = Some(done.found);
                    }
                    Outcome::Counted(..) | Outcome::LooksPrepared(_) | Outcome::Looked(..) => {}
                }
            }
        });
        seen.nameless = decoder.saw_nameless();
        if let Some(done) = &mut seen.done {
            decoder.judge(done);
        }
        seen
    }
}

/// The namespaces that could not be walked; an error when the one that was asked for is among them.
fn unswept(wanted: Option<Netns>, done: SweepDone) -> anyhow::Result<Vec<Unswept>> {
    if let Some(absent) = wanted.and_then(|netns| done.failure(netns)) {
        return Err(absent.into());
    }
    let unreachable = done.unreachable.into_iter().flatten();
    let unreachable = unreachable.filter(|netns| wanted.is_none_or(|wanted| wanted == *netns));
    let unreachable = unreachable.map(|netns| {
        Ok(Unswept {
            netns,
            trouble: Trouble::Unreachable,
        })
    });
    if let Some(broken) = done.broken {
        return Err(broken.into());
    }
    let failed = done.failed.into_iter().map(|(netns, error)| {
        if wanted == Some(netns) {
            return Err(error.into());
        }
        Ok(Unswept {
            netns,
            trouble: Trouble::Closed(error.to_string()),
        })
    });
    failed.chain(unreachable).collect()
}

/// Tells the reader what may be missing: of namespaces that could not be looked into, and of holders.
pub(super) fn tell_missing(about: &About, names: &mut Names) {
    if let Some(note) = note(&about.unswept, names) {
        eprintln!("netstate: {note}");
    }
    if let Some(refused) = &about.refused {
        eprintln!("netstate: {refused}");
    }
    if let Some(unseen) = &about.unseen {
        eprintln!("netstate: {unseen}");
    }
}

/// Tells a reader to whom processes have other ids that those that are shown are the host's.
pub(super) fn tell_whose_ids() {
    if !processes::all_visible() {
        eprintln!(
            "netstate: process ids are the host's, and not those of this PID namespace; in JSON, `ns_pid` is the id that a \
             process has in its own"
        );
    }
}

/// Tells the reader what has no name because no name service told it in time.
pub(super) fn tell_unnamed(unanswered: Option<String>) {
    if let Some(note) = unanswered {
        eprintln!("netstate: {note}");
    }
}

fn note(unswept: &[Unswept], names: &mut Names) -> Option<String> {
    /// More would push the rows out of sight.
    const MOST: usize = 5;
    let first = unswept.first()?;
    let shown: Vec<_> = unswept
        .iter()
        .take(MOST)
        .map(|unswept| names.label(unswept.netns))
        .collect();
    let more = match unswept.len().saturating_sub(MOST) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Some(format!(
        "the rows of {} may be wrong or missing, of {}{more}: {}",
        counted(unswept.len(), "network namespace"),
        shown.join(", "),
        first.trouble
    ))
}
