//! The judgement of a run, step by step, while what it left open is closed.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    os::{fd::OwnedFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Result;

use super::{
    arena::Arena,
    history::{Histories, Violation},
    judge::{self, Difference, Place, Unasked, Verdict},
    kernel::Kernel,
    report,
    stream::Stream,
    sys,
    vanishing::Vanished,
    verifier::Rounds,
};
use crate::{
    snapshot::Listed,
    stats::{self, Counts},
    wait::{patient, wait_for},
};

/// Findings of one sort that are printed with their histories.
const MOST: usize = 8;
/// How long the rows of a namespace may outlast what was open in it, on top of what netstate claims to need: orphans keep it
/// for some seconds, and a row that is not where it was takes a second look to go.
const GONE: Duration = Duration::from_secs(40);

/// The comparison of namespaces that netstate cannot enter.
const SHUT: &str = "behind doors";

/// A row of a namespace that is gone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ghost {
    netns: u32,
    cookie: u64,
}

/// A run under judgement.
#[derive(Debug)]
pub(super) struct Trial<'a> {
    socket: &'a Path,
    places: Vec<Place>,
    /// Whatever has a cookie below this may be older than the run.
    first: u64,
    /// Cookies of sockets whose end nobody can explain.
    silent: BTreeSet<u64>,
    /// The ends of half-open connections are announced, which can have causes that nobody can tell from one another.
    half_open: bool,
    /// Every namespace that the run made, by inode number.
    namespaces: Vec<u32>,
    /// Whether nothing can keep a namespace of the run when its sockets are closed.
    clean: bool,
    pub(super) verdicts: Vec<(&'static str, Verdict)>,
    /// Rows of namespaces that are gone.
    pub(super) ghosts: Vec<Ghost>,
}

impl<'a> Trial<'a> {
    pub(super) fn new(
        socket: &'a Path,
        places: Vec<Place>,
        vanished: &Vanished,
        first: u64,
        silent: Vec<u64>,
    ) -> Result<Self> {
        let alive = places.iter().map(|place| place.inode);
        Ok(Self {
            socket,
            first,
            silent: silent.into_iter().collect(),
            half_open: stats::announces(socket, "requests")?,
            namespaces: alive.chain(vanished.namespaces.iter().copied()).collect(),
            places,
            clean: true,
            verdicts: Vec::new(),
            ghosts: Vec::new(),
        })
    }

    /// What the table knew without being asked. Comes before any list, which would make it look.
    ///
    /// When the reader of the stream has missed some, it does not know what the table knows.
    pub(super) fn unasked(&self, stream: &Stream) -> Result<Unasked> {
        /// What comes on top of what netstate claims to need: reading the stream, and asking `ss` twice.
        const READING: Duration = Duration::from_secs(2);
        if stream.look(|histories| histories.missed)? > 0 {
            return Ok(Unasked::default());
        }
        let limit = patient(READING) + stats::read(self.socket)?.1.settling;
        judge::compare_stream(stream, &self.places, limit)
    }

    /// What is answered, with everything open, then with nothing open.
    pub(super) fn lists(
        &mut self,
        open: Vec<OwnedFd>,
        kept: Vec<OwnedFd>,
        arenas: &[Arena],
        kernel: Kernel,
    ) -> Result<()> {
        self.compare("listed", 3)?;
        let shut = shut_places(&kept, &self.places)?;
        let verdict = judge::compare_lists(self.socket, &shut, 2)?;
        drop(shut);
        drop(kept);
        self.verdicts.push((SHUT, verdict));
        arenas.iter().for_each(Arena::close_shared);
        drop(open);
        self.compare("all closed", 2)?;
        self.clean = kernel.destroy;
        if kernel.destroy {
            for namespace in arenas.iter().flat_map(Arena::namespaces) {
                // `ss` complains of those that end by themselves meanwhile.
                let _ = namespace.run("ss", "-KtaH exclude time-wait");
            }
            self.compare("all destroyed", 2)?;
        }
        self.places.clear();
        Ok(())
    }

    fn compare(&mut self, name: &'static str, rounds: usize) -> Result<()> {
        let verdict = judge::compare_lists(self.socket, &self.places, rounds)?;
        self.verdicts.push((name, verdict));
        Ok(())
    }

    /// Waits for the rows of namespaces that are gone to go.
    ///
    /// # Errors
    /// When netstate does not say how long it needs.
    pub(super) fn gone(&mut self) -> Result<()> {
        if !self.clean {
            return Ok(());
        }
        let limit = GONE + stats::read(self.socket)?.1.settling;
        let mut left = Vec::new();
        let waited = wait_for("the rows of namespaces that are gone to go", limit, || {
            let alive = namespaces_in_use();
            let listed = judge::list(self.socket, None)?;
            let ghosts = listed
                .iter()
                .filter(|row| self.namespaces.contains(&row.netns) && !alive.contains(&row.netns));
            let ghost = |row: &Listed| Ghost {
                netns: row.netns,
                cookie: row.cookie,
            };
            left = ghosts.map(ghost).collect();
            Ok(left.is_empty().then_some(()))
        });
        if waited.is_err() {
            self.ghosts = left;
        }
        Ok(())
    }

    /// What is wrong, but explained by events that were lost, and told to be, or that the kernel kept from netstate: no
    /// sweep gets into a namespace that nothing leads to, and makes that good.
    pub(super) fn explained(&self, histories: &Histories) -> Vec<String> {
        let told = |cookie: u64| format!("\n    {}", histories.story(cookie));
        let ghosts = self
            .ghosts
            .iter()
            .filter(|ghost| self.is_explained(ghost, histories));
        let outlasting =
            ghosts.map(|ghost| format!("a row outlasts its namespace: {ghost:?}{}", told(ghost.cookie)));
        let shut = self.verdicts.iter().filter(|(name, _)| *name == SHUT);
        let differences = shut.flat_map(|(_, verdict)| &verdict.differences);
        let differences = differences.filter(|one| histories.may_lack_events(one.cookie));
        let different = differences.map(|one| format!("{SHUT}: {one}{}", told(one.cookie)));
        outlasting.take(MOST).chain(different.take(MOST)).collect()
    }

    /// Whether a loss explains that a row outlasts its namespace: its own, or that of a full sock which is taken to keep
    /// the namespace, and with it its minisocks.
    fn is_explained(&self, ghost: &Ghost, histories: &Histories) -> bool {
        let mut here = self.ghosts.iter().filter(|other| other.netns == ghost.netns);
        here.any(|other| histories.may_lack_events(other.cookie))
    }

    /// Everything that must not be, each with the history of its connection.
    pub(super) fn findings(
        &self,
        histories: &Histories,
        unasked: &Unasked,
        verified: &Rounds,
        counts: &Counts,
    ) -> Vec<String> {
        let told = |cookie: u64| format!("\n    {}", histories.story(cookie));
        let different = |one: &Difference| format!("{one}{}", told(one.cookie));
        let mut found = Vec::new();
        let mut add = |name: &str, all: Vec<String>| {
            let more = all.len().saturating_sub(MOST);
            found.extend(all.into_iter().take(MOST).map(|one| format!("{name}: {one}")));
            if more > 0 {
                found.push(format!("{name}: and {more} more"));
            }
        };
        // A reader that has missed something does not know what the table knows, whenever it learns of that.
        let complete = histories.missed == 0;
        if complete {
            add("unasked", unasked.lasting.iter().map(different).collect());
        }
        add(
            "verify",
            verified.lasting.iter().map(ToString::to_string).collect(),
        );
        for (name, verdict) in &self.verdicts {
            let explained = |one: &&Difference| *name == SHUT && histories.may_lack_events(one.cookie);
            let unexplained = verdict.differences.iter().filter(|one| !explained(one));
            add(name, unexplained.map(different).collect());
        }
        if complete {
            let violations = histories.violations(&self.namespaces, self.first);
            let explicable = |one: &&&Violation| {
                let silent =
                    self.silent.contains(&one.cookie) || self.half_open && one.is_silence_of_half_open();
                !one.is_silence() || !silent
            };
            let violated = violations
                .iter()
                .filter(explicable)
                .map(|one| format!("cookie {}: {}{}", one.cookie, one.what, told(one.cookie)));
            add("stream", violated.collect());
        }
        let ghosts = self
            .ghosts
            .iter()
            .filter(|ghost| !self.is_explained(ghost, histories));
        let told_of = ghosts.map(|ghost| format!("{ghost:?}{}", told(ghost.cookie)));
        add("in a namespace that is gone", told_of.collect());
        add("losses", report::objections(counts, histories));
        found
    }
}

/// The namespaces that sockets are open in, and that nothing else leads to.
fn shut_places(kept: &[OwnedFd], open: &[Place]) -> Result<Vec<Place>> {
    let mut places: Vec<Place> = Vec::new();
    for socket in kept {
        // Not everything that is kept is a socket of a network.
        let Ok(way) = sys::namespace_of(socket) else {
            continue;
        };
        let inode = u32::try_from(File::from(way.try_clone()?).metadata()?.ino())?;
        let known = |place: &Place| place.inode == inode;
        if !places.iter().any(known) && !open.iter().any(known) {
            places.push(Place {
                inode,
                way,
                open: false,
            });
        }
    }
    Ok(places)
}

/// The namespaces of all threads, and all with a name.
fn namespaces_in_use() -> BTreeSet<u32> {
    let entries = |folder: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    };
    let tasks = entries(Path::new("/proc"))
        .into_iter()
        .flat_map(|process| entries(&process.join("task")));
    let paths = tasks
        .map(|task| task.join("ns/net"))
        .chain(entries(Path::new("/run/netns")));
    let inodes = paths.filter_map(|path| u32::try_from(fs::metadata(path).ok()?.ino()).ok());
    inodes.collect()
}
