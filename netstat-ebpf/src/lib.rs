//! What the kernel side and the user side of netstate agree on: the records that cross the border
//! ([`wire`]) and the kernel fields that the BPF programs read ([`fields`]).
//!
//! Each record is defined here once and used by both sides, so the two cannot drift apart.
#![no_std]
// The optional dependencies belong to the BPF binary of this package.
#![cfg_attr(feature = "bpf", allow(unused_crate_dependencies))]

pub mod fields;
pub mod wire;
