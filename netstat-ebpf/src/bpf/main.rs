//! The BPF programs of netstate: one module for each, and what they have in common.
#![no_std]
#![no_main]
// `zerocopy` is the library's; every item here is private to the object.
#![allow(unused_crate_dependencies, unreachable_pub)]
// The kernel's types are what they are, and a program is one function in the end.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_ptr_alignment,
    clippy::cast_sign_loss,
    clippy::inline_always,
    clippy::needless_pass_by_value
)]
mod connect_failure;
mod end;
mod figures_iter;
mod file_iter;
mod file_table;
mod interrupted;
mod kernel;
mod look;
mod mark;
mod minisock;
mod news;
mod port;
mod process;
mod request;
mod ring;
mod seq;
mod sighting;
mod socket;
mod socket_iter;
mod state_change;

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // The programs hold nothing that can panic; the verifier refuses an endless loop if that changes.
    loop {}
}

/// The kernel lends its GPL-only helpers to a program that says so.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
