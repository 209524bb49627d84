//! Holds very many TCP connections in a network namespace of its own.

use std::process::ExitCode;

use {
    anyhow as _, clap as _, fastrand as _, jiff as _, libc as _, netstate as _, rustix as _, serde as _,
    serde_json as _, socket2 as _, tempfile as _,
};
#[cfg(test)]
use {jsonschema as _, libtest_mimic as _};

fn main() -> ExitCode {
    netstat_tests::crowd::command::main(std::env::args_os())
}
