//! `cargo xtask bench`: measures netstate beside its peers, and writes what comes of it to `docs/benchmarks.md`.

mod charts;
mod figures;
mod growth;
mod machine;
mod page;
mod targets;

use std::{
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;

use crate::{packages, process, run, workspace::Workspace};
use figures::Figures;

/// Measures netstate and its peers side by side, as root, through sudo if need be, and writes docs/benchmarks.md.
///
/// Nothing else should run on the machine meanwhile. It takes some ten minutes.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only this; can be given several times. Nothing is written then
    #[arg(long, value_name = "MEASURE", value_enum)]
    only: Vec<Measure>,
    /// How often each is measured, in turn with the others
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// How many sockets the large host has
    #[arg(long, default_value_t = 190_000)]
    sockets: usize,
    /// How long the measures take that go by time
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Measure {
    /// What tracing costs a host at full churn
    Cost,
    /// What is lost then
    Lost,
    /// From a transition to its line
    Latency,
    /// What the daemon takes on an idle host
    Idle,
    /// Questions on a host with very many sockets
    Asking,
    /// How everything grows with connections and events
    Growth,
}

const BENCH: &str = "bench";
const CROWD: &str = "crowd";

const BUILD: &[&str] = &[
    "build",
    "--release",
    "--locked",
    "--package=netstat-tests",
    "--bin=bench",
    "--bin=crowd",
];

/// Programs that are measured or needed, and the packages that they are in.
const PROGRAMS: &[(&str, &str)] = &[
    ("ss", "iproute2"),
    ("ip", "iproute2"),
    ("netstat", "net-tools"),
    ("tcpstates", "libbpf-tools"),
    ("tcplife", "libbpf-tools"),
];

pub(crate) fn main(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    install()?;
    let built = Built::new(workspace)?;
    let mut figures = Figures::default();
    let mut failed = None;
    for measure in Measure::value_variants() {
        if args.only.is_empty() || args.only.contains(measure) {
            println!("measuring: {}", measure.name());
            // What has been measured is shown, whatever else fails.
            if let Err(error) = built.add(workspace, *measure, args, &mut figures) {
                eprintln!("error: {}: {error:#}", measure.name());
                failed = Some(error);
            }
        }
    }
    println!("\n{}{}", page::results(&figures), charts::of(&figures));
    if let Some(error) = failed {
        return Err(error);
    }
    if args.only.is_empty() {
        page::write(&workspace.root, &figures, args)?;
    }
    Ok(if targets::all_met(&figures) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn install() -> Result<()> {
    let missing = PROGRAMS.iter().filter(|(name, _)| process::find(name).is_none());
    let mut packages: Vec<_> = missing.map(|(_, package)| *package).collect();
    packages.dedup();
    if packages.is_empty() {
        return Ok(());
    }
    packages::install(&packages, "the benchmark")
}

/// The programs that measure and are measured.
struct Built {
    netstate: PathBuf,
    bench: PathBuf,
    crowd: PathBuf,
}

impl Built {
    fn new(workspace: &Workspace) -> Result<Self> {
        let helpers = workspace.build_all(BUILD, None)?;
        let helper = |name: &str| {
            let found = helpers.iter().find(|(built, _)| built == name);
            found
                .map(|(_, path)| path.clone())
                .with_context(|| format!("cargo built no executable named {name}"))
        };
        Ok(Self {
            netstate: workspace.build(run::NETSTATE, run::BUILD, None)?,
            bench: helper(BENCH)?,
            crowd: helper(CROWD)?,
        })
    }

    /// Measures, and adds what comes of it to `figures`.
    fn add(&self, workspace: &Workspace, measure: Measure, args: &Args, figures: &mut Figures) -> Result<()> {
        if measure == Measure::Growth {
            growth::measure(workspace, figures)?;
        }
        figures.add(&self.measure(measure, args)?)
    }

    /// What the helper has printed.
    fn measure(&self, measure: Measure, args: &Args) -> Result<String> {
        let Some(mut command) = process::as_root(&self.bench, &[]) else {
            bail!(
                "this traces the kernel and makes network namespaces, which takes root, and there is no sudo here"
            );
        };
        let flag = |path: &Path| path.as_os_str().to_owned();
        command.arg("--netstate").arg(flag(&self.netstate));
        command.arg("--crowd").arg(flag(&self.crowd));
        command.arg(format!("--rounds={}", args.rounds));
        command.arg(format!("--sockets={}", args.sockets));
        command.arg(format!("--seconds={}", args.seconds));
        command.arg(measure.name()).stderr(Stdio::inherit());
        process::output(&mut command)
    }
}

impl Measure {
    fn name(self) -> String {
        self.to_possible_value()
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    }
}
