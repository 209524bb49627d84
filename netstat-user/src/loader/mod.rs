//! The kernel side, loaded: the only module that names aya.

mod btf;
mod error;
mod hooks;
mod look;
mod losses;
mod object;
mod threads;
mod verification;

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, RawFd},
    sync::{Mutex, PoisonError},
};

use aya::{
    Ebpf,
    maps::{MapData, RingBuf},
    programs::{BtfTracePoint, Iter, ProgramFd},
};
use aya_log::EbpfLogger;
pub use btf::VMLINUX;
pub use error::LoadError;
pub use hooks::{ALL as ALL_HOOKS, functions as hooked_functions};
use look::Looks;
pub use losses::{LossCounters, Losses};
use tokio::io::unix::AsyncFd;
use verification::{Loaded, Target};

use crate::{
    decode::{self, DecodeError, RingRecord},
    facts::{Look, Looked},
    sources::HookState,
};

/// The tracepoint, and the program of the same name.
const STATE_CHANGE: &str = "inet_sock_set_state";
/// Its stand-in, for what happens on a CPU while it runs there.
const INTERRUPTING: &str = "inet_sock_set_state_interrupting";
/// The program that walks the sockets of a namespace.
const SOCKETS: &str = "iter_tcp";
/// The program that walks them and reads their figures.
const FIGURES: &str = "iter_tcp_figures";
/// The program that walks open files.
const FILES: &str = "iter_task_file";

/// What they are for.
const OF_STATES: Target = Target::Tracepoint(STATE_CHANGE);
const OF_SOCKETS: Target = Target::Iterator("tcp");
const OF_FILES: Target = Target::Iterator("task_file");

/// The tracer, attached: events flow into the ring from now on.
pub struct Tracer {
    /// The events.
    pub events: EventRing,
    /// The iterators.
    pub iterators: Iterators,
    /// What found no room in the ring.
    pub losses: LossCounters,
    /// What the programs have to say.
    pub log: KernelLog,
    /// The hooks, and why the kernel has not taken some.
    pub hooks: Vec<HookState>,
}

/// Loads all programs, and attaches those of the tracepoint and the hooks that the kernel takes.
///
/// `ring_bytes` is the size of the event ring: a power of two, at least a page. `without` names functions of
/// the kernel, out of [`hooked_functions`], that are left alone, or [`ALL_HOOKS`].
///
/// # Errors
///
/// [`LoadError`]; nothing stays attached then.
pub fn attach(ring_bytes: u32, without: &[String]) -> Result<Tracer, LoadError> {
    let names = [OF_STATES, OF_SOCKETS, OF_FILES].map(Target::name).into_iter();
    let names: Vec<_> = names.chain(hooks::targets()).collect();
    let (mut ebpf, btf) = object::load(ring_bytes, &names)?;
    // Those that take longest come first.
    let mut loaded = verification::load(
        &mut ebpf,
        &btf,
        &[
            (STATE_CHANGE, OF_STATES),
            (INTERRUPTING, OF_STATES),
            (FIGURES, OF_SOCKETS),
            (SOCKETS, OF_SOCKETS),
            (FILES, OF_FILES),
        ],
    )?;
    let optional = Optional::among(&mut loaded)?;
    for name in [STATE_CHANGE, INTERRUPTING] {
        loaded.take(name)?;
    }
    let ring = ebpf.take_map("EVENTS").ok_or_else(|| missing("map", "EVENTS"))?;
    let ring = RingBuf::try_from(ring).map_err(|e| LoadError::other("cannot map the event ring", &e))?;
    let log = EbpfLogger::init(&mut ebpf).map_err(|e| LoadError::other("cannot open the kernel log", &e))?;
    let tracepoint = attach_state_change(&mut ebpf, STATE_CHANGE)?;
    attach_state_change(&mut ebpf, INTERRUPTING)?;
    let hooks = hooks::attach(&mut ebpf, &btf, without);
    let losses = LossCounters::of(&mut ebpf, tracepoint, hooks.programs, hooks.marks)?;
    Ok(Tracer {
        events: EventRing::new(ring),
        losses,
        log: KernelLog(log),
        iterators: Iterators::new(ebpf, optional),
        hooks: hooks.states,
    })
}

/// Which of the iterators that can be done without are loaded: the kernel takes milliseconds to verify one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// The one that reads figures.
    pub figures: bool,
    /// The one for files.
    pub files: bool,
}

/// Loads the iterators alone: enough for one snapshot.
///
/// # Errors
///
/// [`LoadError`].
pub fn iterators(needs: Needs) -> Result<Iterators, LoadError> {
    let names = [OF_SOCKETS, OF_FILES].map(Target::name);
    let (mut ebpf, btf) = object::load(SMALLEST_RING, &names)?;
    let mut programs = vec![(SOCKETS, OF_SOCKETS)];
    programs.extend(needs.figures.then_some((FIGURES, OF_SOCKETS)));
    programs.extend(needs.files.then_some((FILES, OF_FILES)));
    let mut loaded = verification::load(&mut ebpf, &btf, &programs)?;
    let optional = Optional::among(&mut loaded)?;
    Ok(Iterators::new(ebpf, optional))
}

/// Looks for the kernel fields that the programs read; returns those that are missing and can be done without.
///
/// # Errors
///
/// [`LoadError`] when one that is needed is missing.
pub fn check_fields() -> Result<Vec<String>, LoadError> {
    btf::absent_fields()
}

/// A page: the least that the kernel takes.
const SMALLEST_RING: u32 = 4096;

/// Iterators that can be done without: why the kernel has not taken them.
#[derive(Debug)]
struct Optional {
    /// The one that reads figures.
    figures: Result<(), LoadError>,
    /// The one for files: without it, owners are those that events tell.
    files: Result<(), LoadError>,
}

impl Optional {
    /// Out of what was loaded; an error if the kernel has not taken the iterator that cannot be done without.
    fn among(loaded: &mut Loaded) -> Result<Self, LoadError> {
        loaded.take(SOCKETS)?;
        Ok(Self {
            figures: loaded.take(FIGURES),
            files: loaded.take(FILES),
        })
    }
}

/// Attaches one of the tracepoint's programs, which is loaded.
fn attach_state_change(ebpf: &mut Ebpf, name: &'static str) -> Result<ProgramFd, LoadError> {
    let program: &mut BtfTracePoint = program(ebpf, name)?;
    let error = |error| LoadError::program(name, error);
    program.attach().map_err(error)?;
    program
        .fd()
        .map_err(error)?
        .try_clone()
        .map_err(|e| LoadError::other("cannot keep the program", &e))
}

fn program<'a, P>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut P, LoadError>
where
    &'a mut P: TryFrom<&'a mut aya::programs::Program, Error = aya::programs::ProgramError>,
{
    let program = ebpf.program_mut(name).ok_or_else(|| missing("program", name))?;
    program
        .try_into()
        .map_err(|error| LoadError::program(name, error))
}

fn missing(what: &str, name: &str) -> LoadError {
    LoadError::other(
        "cannot load the BPF object",
        &format!("it has no {what} `{name}`"),
    )
}

/// The ring of events. Its descriptor is readable while it holds any.
pub struct EventRing {
    ring: RingBuf<MapData>,
    consumed: u64,
}

impl EventRing {
    fn new(ring: RingBuf<MapData>) -> Self {
        Self { ring, consumed: 0 }
    }

    /// Takes the next record; `None` when the ring is empty.
    pub fn take(&mut self) -> Option<Result<RingRecord, DecodeError>> {
        let record = self.ring.next()?;
        self.consumed += room(record.len());
        Some(decode::ring_record(&record))
    }

    /// How many bytes of the ring have been read since it was made: what [`Fence::position`](crate::facts::Fence::position) is held against.
    #[must_use]
    pub fn consumed(&self) -> u64 {
        self.consumed
    }

    /// Registers the ring with the runtime, to wait until it holds something.
    ///
    /// # Errors
    ///
    /// When the descriptor cannot be registered.
    pub fn readable(self) -> io::Result<AsyncFd<Self>> {
        // SAFETY: the descriptor belongs to the map that the ring owns and never gives away or replaces.
        unsafe { AsyncFd::register(self) }.map_err(io::Error::other)
    }
}

impl AsRawFd for EventRing {
    fn as_raw_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }
}

/// The bytes of the ring that a record of this length takes: with a header, and in whole words
/// (`__bpf_ringbuf_reserve`). The programs never discard a record, so those that are read are all.
fn room(length: usize) -> u64 {
    const HEADER: usize = 8;
    (HEADER + length).next_multiple_of(8) as u64
}

/// The programs that run when they are asked to. One thread can walk sockets while another one walks files.
pub struct Iterators {
    /// Locked while a walk is opened, and not while it is read.
    ebpf: Mutex<Ebpf>,
    optional: Optional,
    /// `None` until they are prepared.
    looks: Mutex<Option<Looks>>,
}

impl Iterators {
    fn new(ebpf: Ebpf, optional: Optional) -> Self {
        Self {
            ebpf: Mutex::new(ebpf),
            optional,
            looks: Mutex::default(),
        }
    }

    /// Loads the program that looks at single sockets, once. The kernel takes some 40 ms to verify it, so this is no part of loading
    /// the others.
    ///
    /// # Errors
    ///
    /// [`LoadError`] when the kernel refuses.
    pub fn prepare_looks(&self) -> Result<(), LoadError> {
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        if looks.is_none() {
            let mut ebpf = self.ebpf.lock().unwrap_or_else(PoisonError::into_inner);
            *looks = Some(Looks::load(&mut ebpf)?);
        }
        Ok(())
    }

    /// Looks at each of these sockets where it is, in whatever namespace that is.
    ///
    /// # Errors
    ///
    /// [`LoadError`] when the kernel refuses, or this has not been [prepared](Self::prepare_looks).
    pub fn look(&self, at: &[Look]) -> Result<Vec<Looked>, LoadError> {
        let mut records: Vec<_> = at.iter().map(decode::look_record).collect();
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        let unprepared = || LoadError::other("cannot look at sockets", &"the program is not loaded");
        let looks = looks.as_mut().ok_or_else(unprepared)?;
        let ebpf = self.ebpf.lock().unwrap_or_else(PoisonError::into_inner);
        looks.at(&ebpf, &mut records)?;
        let pairs = at.iter().zip(&records);
        Ok(pairs.map(|(asked, found)| decode::looked(asked, found)).collect())
    }

    /// Opens a walk over the TCP sockets of the calling thread's network namespace. Read from the file
    /// come [`decode::sweep_record`]s.
    ///
    /// # Errors
    ///
    /// [`LoadError`] when the kernel refuses.
    pub fn sockets(&self) -> Result<File, LoadError> {
        self.open(SOCKETS)
    }

    /// As [`sockets`](Self::sockets), with the figures of each socket.
    ///
    /// # Errors
    ///
    /// [`LoadError`] when the kernel refuses; not when it [has not taken the program](Self::without_figures).
    pub fn figures(&self) -> Result<File, LoadError> {
        self.open(FIGURES)
    }

    /// Why the kernel has not taken the program that reads figures; `None` when it has.
    #[must_use]
    pub fn without_figures(&self) -> Option<&LoadError> {
        self.optional.figures.as_ref().err()
    }

    /// Opens a walk over all open files of the PID namespace. Read from the file come
    /// [`decode::file_record`]s.
    ///
    /// # Errors
    ///
    /// [`LoadError`] when the kernel refuses.
    pub fn files(&self) -> Result<File, LoadError> {
        match &self.optional.files {
            Ok(()) => self.open(FILES),
            Err(why) => Err(LoadError::other("cannot scan the open files", &why.in_short())),
        }
    }

    fn open(&self, name: &'static str) -> Result<File, LoadError> {
        let error = |error| LoadError::program(name, error);
        // Opening one is all or nothing.
        let mut ebpf = self.ebpf.lock().unwrap_or_else(PoisonError::into_inner);
        let program: &mut Iter = program(&mut ebpf, name)?;
        let link = program.attach().map_err(error)?;
        let link = program.take_link(link).map_err(error)?;
        link.into_file()
            .map_err(|e| LoadError::other("cannot open the iterator", &e))
    }
}

/// The kernel side's own log, for anomalies. Its descriptor is readable while there is something to print.
pub struct KernelLog(EbpfLogger<&'static dyn log::Log>);

impl KernelLog {
    /// Hands everything that waits to the program's logger.
    pub fn flush(&mut self) {
        self.0.flush();
    }

    /// Registers the log with the runtime, to wait until it holds something.
    ///
    /// # Errors
    ///
    /// When the descriptor cannot be registered.
    pub fn readable(self) -> io::Result<AsyncFd<Self>> {
        // SAFETY: the descriptor belongs to the ring that the logger owns and never gives away or replaces.
        unsafe { AsyncFd::register(self) }.map_err(io::Error::other)
    }
}

impl AsRawFd for KernelLog {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
