//! Counts of what the kernel side could not hand over.

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
};

use aya::{
    Ebpf,
    maps::{MapData, PerCpuArray},
    programs::ProgramFd,
};
use netstat_ebpf::wire::{lost, stand_in};

use super::{LoadError, missing};

/// Counts of records that never reached the ring.
pub struct LossCounters {
    counters: PerCpuArray<MapData, u64>,
    stand_in: PerCpuArray<MapData, u64>,
    tracepoint: ProgramFd,
    hooks: Vec<ProgramFd>,
    marks: Vec<ProgramFd>,
}

/// What was lost since the tracer was attached.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Losses {
    /// State changes for which the ring had no room, by CPU.
    pub ring_full: Vec<u64>,
    /// What hooks told of minisocks, request socks and ports, likewise.
    pub news_ring_full: Vec<u64>,
    /// Events that happened on a CPU while their program was already running there, and its stand-in did not
    /// notice: an interrupt's packet changed a socket just then (`recursion_misses`, 5.12).
    pub recursion: u64,
    /// Retransmissions and RSTs that found no room or came while their program was running on the same CPU. No row is
    /// wrong for want of them.
    pub marks: u64,
}

impl Losses {
    /// Events for which the ring had no room.
    #[must_use]
    pub fn ring_full(&self) -> u64 {
        self.ring_full.iter().chain(&self.news_ring_full).sum()
    }
}

impl LossCounters {
    /// Takes the counters out of the object; those of the programs themselves are the kernel's.
    pub(super) fn of(
        ebpf: &mut Ebpf,
        tracepoint: ProgramFd,
        hooks: Vec<ProgramFd>,
        marks: Vec<ProgramFd>,
    ) -> Result<Self, LoadError> {
        Ok(Self {
            counters: per_cpu(ebpf, "LOST")?,
            stand_in: per_cpu(ebpf, "STAND_IN")?,
            tracepoint,
            hooks,
            marks,
        })
    }

    /// Reads the counters.
    ///
    /// # Errors
    ///
    /// When the kernel does not answer.
    pub fn read(&self) -> io::Result<Losses> {
        let ring_full = self.counter(lost::STATE_CHANGE)?;
        Ok(Losses {
            ring_full,
            news_ring_full: self.counter(lost::NEWS)?,
            recursion: self.recursion()?,
            marks: self.marks()?,
        })
    }

    fn marks(&self) -> io::Result<u64> {
        let ring_full: u64 = self.counter(lost::MARK)?.iter().sum();
        let skipped: u64 = self.marks.iter().map(recursion_misses).sum::<io::Result<_>>()?;
        Ok(ring_full + skipped)
    }

    fn counter(&self, index: u32) -> io::Result<Vec<u64>> {
        values(&self.counters, index)
    }

    fn recursion(&self) -> io::Result<u64> {
        // In this order: what comes in between is counted the next time, and nothing is that was not lost.
        let skipped = recursion_misses(&self.tracepoint)?;
        let taken: u64 = values(&self.stand_in, stand_in::TAKEN)?.iter().sum();
        let hooks: u64 = self.hooks.iter().map(recursion_misses).sum::<io::Result<_>>()?;
        Ok(skipped.saturating_sub(taken) + hooks)
    }
}

fn values(map: &PerCpuArray<MapData, u64>, index: u32) -> io::Result<Vec<u64>> {
    let values = map.get(&index, 0).map_err(io::Error::other)?;
    Ok(values.iter().copied().collect())
}

/// aya does not show `bpf_prog_info.recursion_misses`; the kernel prints it here as well.
fn recursion_misses(program: &ProgramFd) -> io::Result<u64> {
    let fd = program.as_fd().as_raw_fd();
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}"))?;
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("recursion_misses:"));
    Ok(line.and_then(|value| value.trim().parse().ok()).unwrap_or(0))
}

fn per_cpu(ebpf: &mut Ebpf, name: &'static str) -> Result<PerCpuArray<MapData, u64>, LoadError> {
    let map = ebpf.take_map(name).ok_or_else(|| missing("map", name))?;
    PerCpuArray::try_from(map).map_err(|e| LoadError::other("cannot use a counter", &e))
}
