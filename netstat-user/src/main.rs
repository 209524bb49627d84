//! The `netstate` command.
// What it depends on is the library's.
#![allow(unused_crate_dependencies)]

use std::process::ExitCode;

fn main() -> ExitCode {
    netstate::commands::main()
}
