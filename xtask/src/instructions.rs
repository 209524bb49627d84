//! `cargo xtask instructions`: how many instructions the replayable parts take, and whether that is more than it was.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::{
    packages, process,
    report::{Outcome, Report},
    workspace::Workspace,
};

/// Counts the instructions of decoding, folding, filtering, printing and recording, with callgrind, and compares them
/// with the bounds that are checked in.
///
/// Other than times, instructions are the same on a busy machine.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write the counts down as what is right from now on
    #[arg(long)]
    record: bool,
}

/// The benchmark that has the parts.
const BENCH: &str = "parts";

const BUILD: &[&str] = &[
    "bench",
    "--no-run",
    "--locked",
    "--package=netstat-user",
    "--bench",
    BENCH,
];

/// The counts that are checked in.
const KNOWN: &str = "netstat-user/benches/instructions.toml";

/// A part may take so much more than is checked in, in hundredths: another compiler's code is a little different.
const TOLERANCE: u64 = 10;

/// Instructions for one thing that is decoded, folded, and so on.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Counts {
    /// By part.
    instructions: BTreeMap<String, u64>,
}

/// As the benchmark has them: things that each part is done to at once.
const ITEMS: u64 = 4096;

pub(crate) fn main(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    let file = workspace.root.join(KNOWN);
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let known: Counts =
        toml::from_str(&text).with_context(|| format!("cannot understand {}", file.display()))?;
    let mut report = Report::new(true);
    let mut bench = None;
    report.step("benchmark", || {
        if process::find("valgrind").is_none() {
            packages::install(&["valgrind"], "counting instructions")?;
        }
        bench = Some(workspace.build(BENCH, BUILD, None)?);
        Ok(Outcome::Done("built".to_owned()))
    });
    let Some(bench) = bench else {
        return Ok(report.finish());
    };
    let mut counted = Counts::default();
    for (part, &bound) in &known.instructions {
        report.step(part, || {
            let count = count(workspace, &bench, part)?;
            counted.instructions.insert(part.clone(), count);
            if args.record {
                return Ok(Outcome::Done(format!("{count} instructions, {bound} before")));
            }
            let most = bound + bound * TOLERANCE / 100;
            ensure!(
                count <= most,
                "{count} instructions for one, {bound} are checked in: find out what takes them, or say that it is worth \
                 it with `cargo xtask instructions --record`"
            );
            Ok(Outcome::Done(format!("{count} instructions for one, {bound} are checked in")))
        });
    }
    if args.record {
        let text = format!("{}{}", comment(&text), toml::to_string(&counted)?);
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(report.finish())
}

/// What the file says of itself.
fn comment(text: &str) -> String {
    let lines = text.split_inclusive('\n');
    lines.take_while(|line| line.starts_with('#')).collect()
}

/// The instructions of one part, for one thing.
fn count(workspace: &Workspace, bench: &Path, part: &str) -> Result<u64> {
    let folder = workspace.target.join("instructions");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let out: PathBuf = folder.join(part);
    let mut callgrind = Command::new("valgrind");
    callgrind
        .args([
            "--tool=callgrind",
            "--collect-atstart=no",
            "--toggle-collect=*measured*",
        ])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(bench)
        .args(["count", part]);
    process::output(&mut callgrind)?;
    let profile = fs::read_to_string(&out).with_context(|| format!("cannot read {}", out.display()))?;
    let total = profile.lines().find_map(|line| line.strip_prefix("totals:"));
    let total: u64 = total
        .and_then(|total| total.split_whitespace().next()?.parse().ok())
        .context("callgrind tells no total")?;
    ensure!(
        total > 0,
        "nothing was counted: the function that is measured has no name in the benchmark"
    );
    Ok(total / ITEMS)
}
