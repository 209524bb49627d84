//! Loading programs side by side. To verify one, the kernel takes milliseconds of one processor: for each read through a
//! pointer that it trusts, it goes through all of its BTF (`btf_nested_type_is_trusted`).

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    thread,
};

use aya::{
    Btf, Ebpf,
    programs::{BtfTracePoint, Iter, Program, ProgramError},
};

use super::{LoadError, missing, threads};

/// What a program is for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Target {
    /// The kernel's iterator of this name.
    Iterator(&'static str),
    /// The kernel's tracepoint of this name.
    Tracepoint(&'static str),
}

impl Target {
    /// What it is called in the kernel's BTF.
    pub(super) fn name(self) -> String {
        match self {
            Self::Iterator(iterator) => format!("bpf_iter_{iterator}"),
            Self::Tracepoint(tracepoint) => format!("btf_trace_{tracepoint}"),
        }
    }

    fn load(self, program: &mut Program, btf: &Btf) -> Result<(), ProgramError> {
        match self {
            Self::Iterator(iterator) => <&mut Iter>::try_from(program)?.load(iterator, btf),
            Self::Tracepoint(tracepoint) => <&mut BtfTracePoint>::try_from(program)?.load(tracepoint, btf),
        }
    }
}

/// Whether the kernel has taken them, by their names.
#[derive(Debug)]
pub(super) struct Loaded(HashMap<&'static str, Result<(), LoadError>>);

impl Loaded {
    /// Whether it has taken this one.
    ///
    /// # Errors
    ///
    /// Why it has not.
    pub(super) fn take(&mut self, name: &str) -> Result<(), LoadError> {
        let unasked = || LoadError::other("cannot scan", &"its program was not asked for");
        self.0.remove(name).unwrap_or_else(|| Err(unasked()))
    }
}

/// Loads programs, on two threads, which take them in their order.
///
/// # Errors
///
/// When there is no such program, or no thread; whether the kernel takes a program is told by [`Loaded`].
pub(super) fn load(
    ebpf: &mut Ebpf,
    btf: &Btf,
    programs: &[(&'static str, Target)],
) -> Result<Loaded, LoadError> {
    let mut all: HashMap<_, _> = ebpf.programs_mut().collect();
    let programs = programs.iter().map(|&(name, target)| {
        let program = all.remove(name).ok_or_else(|| missing("program", name))?;
        Ok((name, target, program))
    });
    let programs: Vec<_> = programs.collect::<Result<_, LoadError>>()?;
    let waiting = Mutex::new(programs.into_iter());
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || -> Vec<_> {
        std::iter::from_fn(next)
            .map(|(name, target, program)| {
                let loaded = target.load(program, btf);
                (name, loaded.map_err(|error| LoadError::program(name, error)))
            })
            .collect()
    };
    thread::scope(|scope| {
        let other = threads::spawn(scope, work)?;
        let (ours, theirs) = (work(), threads::join(other));
        Ok(Loaded(ours.into_iter().chain(theirs).collect()))
    })
}
