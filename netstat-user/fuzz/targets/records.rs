//! Any bytes in place of what the BPF programs write.

#![no_main]

use libfuzzer_sys::fuzz_target;
use netstate::{
    clock::Tick,
    decode::{DecodeError, file_record, ring_record, sweep_record, sweep_step},
};

fuzz_target!(|bytes: &[u8]| {
    let _ = ring_record(bytes);
    all(bytes, |bytes| Ok(sweep_record(bytes, Tick::of(250))?.1));
    all(bytes, |bytes| match sweep_step(bytes)? {
        Some((length, _)) => Ok(&bytes[length..]),
        None => Err(DecodeError::Short { kind: 0, len: 0 }),
    });
    all(bytes, |bytes| Ok(file_record(bytes)?.1));
});

/// Reads records as long as there are any, as the sweeper does; each must take something away.
fn all(mut bytes: &[u8], take: impl Fn(&[u8]) -> Result<&[u8], DecodeError>) {
    while let Ok(rest) = take(bytes) {
        assert!(rest.len() < bytes.len(), "a record of no length");
        bytes = rest;
    }
}
