//! The filter in a command's words.

use std::{net::IpAddr, path::Path};

use clap::{CommandFactory, error::ErrorKind};

use super::selection;
use crate::{
    cli::{Cli, NetnsArg},
    connection::{Family, Netns, Printable},
    filter::{self, Beforehand, Filter, Kind},
    labels, namespaces,
    output::{name_files, names},
    processes,
    tcp::TcpState,
};

/// What a command knows of the sockets that its filter is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// All that a filter can test.
    Everything,
    /// What the table knows after a scan with metrics.
    Rows,
    /// What events and the table's own scans report.
    Events,
}

impl Known {
    /// Why `filter` cannot be applied, if it tests what is not known.
    fn lacks(self, filter: &Filter) -> Option<&'static str> {
        if self != Self::Everything && filter.names_bound() {
            return Some(
                "`bound` is for `netstate list`: no event and no scan reports sockets that neither listen nor connect",
            );
        }
        if self == Self::Events && filter.names_autobound() {
            return Some(
                "`autobound` is for `netstate list` and `netstate stuck`: no event reports whether the kernel has chosen a port",
            );
        }
        None
    }
}

/// The filter that the words after `command` describe; `None` if there are none.
///
/// # Errors
///
/// As clap's for wrong usage: what is wrong with which word.
pub(super) fn filter(command: &str, words: &[String], known: Known) -> Result<Option<Filter>, clap::Error> {
    let text = words.join(" ");
    if text.trim().is_empty() {
        return Ok(None);
    }
    let parsed = filter::read(&text, &Here).map_err(|problem| usage(command, &problem.to_string()))?;
    if let Some(grouped) = &parsed.grouped {
        eprintln!(
            "netstate: `and` binds tighter than `or`, as ss(8) says, while `ss` itself groups from the left; with \
             parentheses there is no doubt. Taken as: {}",
            Printable(grouped.as_bytes())
        );
    }
    let filter = parsed.filter;
    if let Some(why) = known.lacks(&filter) {
        return Err(usage(command, why));
    }
    let has_two_states = matches!(command, "watch" | "replay");
    let states: &[Option<TcpState>] = if has_two_states { &[None] } else { &EACH_STATE };
    if !matches_some(&filter, states, &FAMILIES, None) {
        eprintln!("netstate: nothing can match this filter: it contradicts itself");
    }
    Ok(Some(filter))
}

/// The states of sockets.
const EACH_STATE: [Option<TcpState>; TcpState::ALL.len()] = {
    let mut all = [None; TcpState::ALL.len()];
    let mut number = 0;
    while number < all.len() {
        all[number] = Some(TcpState::ALL[number]);
        number += 1;
    }
    all
};

/// All of them.
const FAMILIES: [Family; 2] = [Family::Inet, Family::Inet6];

/// Whether `filter` can match a socket in one of `states`, of one of `families`, in this namespace if it is known.
fn matches_some(
    filter: &Filter,
    states: &[Option<TcpState>],
    families: &[Family],
    netns: Option<Netns>,
) -> bool {
    let mut pairs = states
        .iter()
        .flat_map(|state| families.iter().map(|family| (*state, Some(*family))));
    pairs.any(|(state, family)| filter.can_match_any(&Beforehand { state, family, netns }))
}

/// What a command shows besides what its filter says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shown<'a> {
    /// Sockets in these states.
    pub(super) states: &'a [TcpState],
    /// Of these families.
    pub(super) families: &'a [Family],
    /// In this namespace.
    pub(super) netns: Option<Netns>,
    /// The flags that have chosen them.
    pub(super) flags: &'a str,
}

/// Says so if no socket that is `shown` can match `filter`, which does not contradict itself.
pub(super) fn tell_contradiction(filter: &Filter, shown: Shown<'_>) {
    let states: Vec<_> = shown.states.iter().copied().map(Some).collect();
    if !matches_some(filter, &states, shown.families, shown.netns)
        && matches_some(filter, &EACH_STATE, &FAMILIES, None)
    {
        eprintln!(
            "netstate: nothing can match: the filter leaves out all that {} shows",
            shown.flags
        );
    }
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

    fn devices(&self, name: &str) -> Result<Vec<(Netns, u32)>, String> {
        let found = namespaces::Names::read().devices_named(name);
        if found.is_empty() {
            return Err(format!(
                "no interface is called `{name}` in any network namespace that may be entered"
            ));
        }
        Ok(found)
    }

    fn cgroup(&self, path: &str) -> Result<u64, String> {
        labels::cgroup_id(path)
    }

    fn hosts(&self, name: &str) -> Vec<IpAddr> {
        name_files::addresses(Path::new("/etc/hosts"), name)
    }

    fn all(&self, kind: Kind) -> Vec<String> {
        match kind {
            Kind::Process => processes::names(),
            Kind::Service => name_files::services(Path::new("/etc/services")),
            Kind::User => name_files::users(Path::new("/etc/passwd")),
        }
    }
}
