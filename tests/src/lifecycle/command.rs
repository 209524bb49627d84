//! The generator as a program: by itself, and as a role of the end-to-end tests.

use std::{ffi::OsString, process::ExitCode};

use clap::Parser;

use super::{Options, run};
use crate::binary;

/// First argument of the test binary in this role.
pub const ROLE: &str = "act-as-lifecycle";

/// Runs the generator as these arguments say, the program's name first; prints what came of it.
#[must_use]
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let options = Options::parse_from(arguments);
    if let Some(path) = &options.netstate {
        binary::choose(path.clone());
    }
    match run(&options) {
        Ok(report) => {
            print!("{report}");
            if report.is_good() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            eprintln!("lifecycle: seed {}: {error:#}", options.seed);
            ExitCode::FAILURE
        }
    }
}

/// Acts as the generator when the command line says so; `None` in a normal test run.
#[must_use]
pub fn act_if_asked() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    let role = arguments.next()?;
    (role == ROLE).then(|| main(std::iter::once(role).chain(arguments)))
}
