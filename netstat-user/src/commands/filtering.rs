//! The filter in a command's words.

use clap::{CommandFactory, error::ErrorKind};

use super::selection;
use crate::{
    cli::{Cli, NetnsArg},
    connection::Netns,
    filter::{self, Filter},
    output::names,
};

/// The filter that the words after `command` describe; `None` if there are none.
///
/// # Errors
///
/// As clap's for wrong usage: what is wrong with which word.
pub(super) fn filter(command: &str, words: &[String]) -> Result<Option<Filter>, clap::Error> {
    let text = words.join(" ");
    if text.trim().is_empty() {
        return Ok(None);
    }
    filter::parse(&text, &Here)
        .map(Some)
        .map_err(|problem| usage(command, &problem.to_string()))
}

/// Wrong usage of a command, as clap says it.
fn usage(command: &str, message: &str) -> clap::Error {
    let mut all = Cli::command();
    // This gives the commands their full names.
    all.build();
    match all.find_subcommand_mut(command) {
        Some(command) => command.error(ErrorKind::ValueValidation, message),
        None => all.error(ErrorKind::ValueValidation, message),
    }
}

/// The names of this machine.
struct Here;

impl filter::Names for Here {
    fn port(&self, service: &str) -> Result<Option<u16>, String> {
        names::port(service).map_err(|error| error.to_string())
    }

    fn uid(&self, user: &str) -> Result<Option<u32>, String> {
        names::uid(user).map_err(|error| error.to_string())
    }

    fn netns(&self, name: &str) -> Result<Netns, String> {
        let named = name.parse().and_then(|arg: NetnsArg| {
            let found = selection::netns(&arg);
            found.map_err(|error| format!("{error:#}"))
        })?;
        named.ok_or_else(|| format!("`{name}` is no namespace, but means that any will do"))
    }
}
