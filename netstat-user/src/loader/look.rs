//! Running the program that looks at single sockets.

use aya::{
    Ebpf,
    maps::{Array, MapData},
    programs::{RawTracePoint, RawTracePointRunOptions, TestRun},
};
use netstat_ebpf::wire::SocketLook;
use zerocopy::{FromZeros, transmute};

use super::{LoadError, missing, program};

/// The program, and the map that it shares with its only caller.
const LOOK: &str = "look";
const LOOKS: &str = "LOOKS";

/// The map's value, as what aya copies: plain numbers.
type Value = [u64; size_of::<[SocketLook; SocketLook::BATCH]>() / size_of::<u64>()];

/// What the program is asked through.
pub(super) struct Looks(Array<MapData, Value>);

impl Looks {
    /// Has the kernel verify the program.
    pub(super) fn load(ebpf: &mut Ebpf) -> Result<Self, LoadError> {
        let program: &mut RawTracePoint = program(ebpf, LOOK)?;
        program.load().map_err(|error| LoadError::program(LOOK, error))?;
        let map = ebpf.take_map(LOOKS).ok_or_else(|| missing("map", LOOKS))?;
        let map = Array::try_from(map).map_err(|e| LoadError::other("cannot use the map of probes", &e))?;
        Ok(Self(map))
    }

    /// Has the program look at all of `looks`, in as many runs as it takes.
    pub(super) fn at(&mut self, ebpf: &Ebpf, looks: &mut [SocketLook]) -> Result<(), LoadError> {
        let cannot = |error: &dyn ToString| LoadError::other("cannot look at sockets", &error.to_string());
        let look = ebpf.program(LOOK).ok_or_else(|| missing("program", LOOK))?;
        let look = <&RawTracePoint>::try_from(look).map_err(|error| cannot(&error))?;
        let mut batch = [SocketLook::new_zeroed(); SocketLook::BATCH];
        for looks in looks.chunks_mut(SocketLook::BATCH) {
            let count = looks.len();
            batch[..count].copy_from_slice(looks);
            let value: Value = transmute!(batch);
            self.0.set(0, value, 0).map_err(|error| cannot(&error))?;
            let mut options = RawTracePointRunOptions::new();
            options.args[0] = count as u64;
            look.test_run(options).map_err(|error| cannot(&error))?;
            let value = self.0.get(&0, 0).map_err(|error| cannot(&error))?;
            batch = transmute!(value);
            looks.copy_from_slice(&batch[..count]);
        }
        Ok(())
    }
}
