//! End-to-end tests: `netstate` on the kernel it runs on, with `ss` as the ground truth.
//!
//! Every test works in network namespaces of its own and with a `netstate` of its own, so they run in
//! parallel and in any order. `cargo xtask test` runs them; `NETSTATE_BIN` names the binary under test.

mod abort;
mod accept;
mod ages;
mod alone;
mod before;
mod bound;
mod cgroup;
mod clients;
mod clock;
mod close;
mod closed_output;
mod connects;
mod containers;
mod daemon;
mod errors;
mod exhausted;
mod family;
mod figures;
mod filter;
mod fwmark;
mod holders;
mod hooks;
mod hostile;
mod kernels;
mod killed;
mod lifecycle;
mod looks;
mod losses;
mod machine;
mod many;
mod memory;
mod names;
mod namespaces;
mod open;
mod orphan;
mod output;
mod overrun;
mod owners;
mod pasting;
mod pids;
mod reasons;
mod record;
mod saturated;
mod schema;
mod show;
mod slow;
mod socket_file;
mod stopping;
mod stuck;
mod terminal;
mod time_wait;
mod timers;
mod verify;
mod vigil;
mod zones;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use netstat_tests::{
    binary, holder, lifecycle as generator, peer,
    requirements::{self, CannotRun},
    wait,
};
use {clap as _, fastrand as _, libc as _, serde as _};

/// A test: its name and what it does.
type Test = (&'static str, fn() -> anyhow::Result<()>);

/// The tests of a module, by the names of their functions.
macro_rules! tests {
    ($($name:ident),+ $(,)?) => {
        pub(crate) const TESTS: &[crate::Test] = &[$((stringify!($name), $name)),+];
    };
}
pub(crate) use tests;

const GROUPS: &[(&str, &[Test])] = &[
    // The slowest first, so that none of them is left to run alone at the end.
    ("time_wait", time_wait::TESTS),
    ("namespaces", namespaces::TESTS),
    ("connects", connects::TESTS),
    ("containers", containers::TESTS),
    ("orphan", orphan::TESTS),
    ("stuck::asking", stuck::asking::TESTS),
    ("stuck::ages", stuck::ages::TESTS),
    ("stuck::silent", stuck::silent::TESTS),
    ("stuck::opening", stuck::opening::TESTS),
    ("stuck::blame", stuck::blame::TESTS),
    ("stuck::elsewhere", stuck::elsewhere::TESTS),
    ("stuck::kept", stuck::kept::TESTS),
    ("stuck::data", stuck::data::TESTS),
    ("stuck::closing", stuck::closing::TESTS),
    ("stuck::ports", stuck::ports::TESTS),
    ("hooks", hooks::TESTS),
    ("holders", holders::TESTS),
    ("holders::mptcp", holders::mptcp::TESTS),
    ("holders::threads", holders::threads::TESTS),
    ("reasons::timeouts", reasons::timeouts::TESTS),
    ("reasons::closed", reasons::closed::TESTS),
    ("reasons::refused", reasons::refused::TESTS),
    ("reasons::aborted", reasons::aborted::TESTS),
    ("reasons::after_close", reasons::after_close::TESTS),
    ("many", many::TESTS),
    ("abort", abort::TESTS),
    ("accept", accept::TESTS),
    ("ages", ages::TESTS),
    ("alone", alone::TESTS),
    ("before", before::TESTS),
    ("bound", bound::TESTS),
    ("cgroup", cgroup::TESTS),
    ("clients", clients::TESTS),
    ("clock", clock::TESTS),
    ("close", close::TESTS),
    ("closed_output", closed_output::TESTS),
    ("daemon", daemon::TESTS),
    ("errors", errors::TESTS),
    ("exhausted", exhausted::TESTS),
    ("family", family::TESTS),
    ("figures", figures::TESTS),
    ("filter", filter::TESTS),
    ("fwmark", fwmark::TESTS),
    ("hostile", hostile::TESTS),
    ("kernels", kernels::TESTS),
    ("killed", killed::TESTS),
    ("looks", looks::TESTS),
    ("losses", losses::TESTS),
    ("names", names::TESTS),
    ("open", open::TESTS),
    ("output", output::TESTS),
    ("owners", owners::TESTS),
    ("pasting", pasting::TESTS),
    ("pids", pids::TESTS),
    ("record", record::TESTS),
    ("schema", schema::TESTS),
    ("show", show::TESTS),
    ("slow", slow::TESTS),
    ("socket_file", socket_file::TESTS),
    ("stopping", stopping::TESTS),
    ("terminal", terminal::TESTS),
    ("timers", timers::TESTS),
    ("verify", verify::TESTS),
    ("vigil", vigil::TESTS),
    ("zones", zones::TESTS),
];

/// Those that count what the whole host does, or load it so that others would have to wait for it: they run one by one,
/// last.
const ALONE: &[(&str, &[Test])] = &[
    ("lifecycle", lifecycle::TESTS),
    ("memory", memory::TESTS),
    ("overrun", overrun::TESTS),
    ("saturated", saturated::TESTS),
    ("crowds", holders::crowds::TESTS),
    ("unasked", holders::mptcp::unasked::TESTS),
];

/// Those that do what only the owner of a machine may do: run one by one too.
const OWN_MACHINE: &[(&str, &[Test])] = &[("machine", machine::TESTS)];

/// More than there are processors, because most tests mostly wait for the kernel's timers.
const THREADS: usize = 6;
/// Where the machine is slow they mostly compute, and the kernel's timers do not wait for them.
const THREADS_IF_SLOW: usize = 3;

fn main() -> ExitCode {
    if let Some(exit) = peer::act_if_asked()
        .or_else(holder::act_if_asked)
        .or_else(generator::command::act_if_asked)
    {
        return exit;
    }
    let mut arguments = Arguments::from_args();
    let threads = if wait::is_slow() { THREADS_IF_SLOW } else { THREADS };
    arguments.test_threads.get_or_insert(threads);
    let missing = requirements::missing();
    if let (None, false, Err(error)) = (&missing, arguments.list, binary::path()) {
        eprintln!("{error:#}");
        return ExitCode::FAILURE;
    }
    let together = libtest_mimic::run(&arguments, trials(GROUPS, missing.as_deref()));
    arguments.test_threads = Some(1);
    let mut alone = trials(ALONE, missing.as_deref());
    if requirements::own_machine() {
        alone.extend(trials(OWN_MACHINE, missing.as_deref()));
    }
    let alone = libtest_mimic::run(&arguments, alone);
    if together.has_failed() {
        return together.exit_code();
    }
    alone.exit_code()
}

fn trials(groups: &[(&'static str, &'static [Test])], missing: Option<&str>) -> Vec<Trial> {
    let named = |(group, tests): &(&'static str, &'static [Test])| {
        let group = *group;
        tests
            .iter()
            .map(move |(name, test)| (format!("{group}::{name}"), *test))
    };
    let trial = |(name, test): (String, fn() -> anyhow::Result<()>)| {
        let missing = missing.map(str::to_owned);
        Trial::ignorable_test(name, move || match missing {
            None => run(test),
            Some(reason) => cannot_run(&reason),
        })
    };
    groups.iter().flat_map(named).map(trial).collect()
}

fn run(test: fn() -> anyhow::Result<()>) -> Result<Completion, Failed> {
    match test() {
        Ok(()) => Ok(Completion::Completed),
        Err(error) => match error.downcast_ref::<CannotRun>() {
            Some(CannotRun(reason)) => cannot_run(reason),
            // The chain without the backtrace, which shows nothing of what happened in other processes.
            None => Err(error
                .chain()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("\n")
                .into()),
        },
    }
}

/// A test that cannot run here says why; that is a failure only where all must.
fn cannot_run(reason: &str) -> Result<Completion, Failed> {
    if requirements::all_required() {
        let switch = requirements::REQUIRE_ALL;
        return Err(format!("{reason}; {switch}=1 makes this a failure").into());
    }
    Ok(Completion::ignored_with(reason))
}
