//! `cargo xtask fuzz`: the fuzz targets, for a while each.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    packages, process,
    report::{Outcome, Report},
    workspace::Workspace,
};

/// The package of the fuzz targets.
const FOLDER: &str = "netstat-user/fuzz";

/// The targets, each a file in its folder `targets`.
const TARGETS: [&str; 5] = ["records", "frames", "filter", "table", "recording"];

/// The version of cargo-fuzz that runs them.
const CARGO_FUZZ: &str = "0.13.2";

/// Fuzzes what takes bytes from others, with the address sanitizer: records, frames, filters, recordings, the table.
///
/// What is found on the way stays in the target folder and is where the next run begins.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long for each target
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// The targets: records, frames, filter, table, recording
    #[arg(default_values = TARGETS)]
    targets: Vec<String>,
}

pub(crate) fn main(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    if let Some(unknown) = args
        .targets
        .iter()
        .find(|target| !TARGETS.contains(&target.as_str()))
    {
        bail!(
            "there is no fuzz target `{unknown}`; there are {}",
            TARGETS.join(", ")
        );
    }
    let mut report = Report::new(true);
    let mut cargo_fuzz = None;
    report.step("cargo-fuzz", || {
        cargo_fuzz = Some(find(workspace)?);
        Ok(Outcome::Done(format!("version {CARGO_FUZZ}")))
    });
    if let Some(cargo_fuzz) = cargo_fuzz {
        for target in &args.targets {
            report.step(&format!("fuzz {target}"), || {
                fuzz(workspace, &cargo_fuzz, target, args.seconds)
            });
        }
    }
    Ok(report.finish())
}

fn fuzz(workspace: &Workspace, cargo_fuzz: &Path, target: &str, seconds: u32) -> Result<Outcome> {
    let home = workspace.target.join("fuzz");
    let corpus = home.join("corpus").join(target);
    let artifacts = home.join("artifacts").join(target);
    for folder in [&corpus, &artifacts] {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let before = entries(&corpus);
    // cargo-fuzz is cargo's `fuzz` command, and calls cargo; sanitizers are a matter of nightly, or of saying so.
    let mut command = Command::new(cargo_fuzz);
    command
        .current_dir(&workspace.root)
        .env("RUSTC_BOOTSTRAP", "1")
        .args(["fuzz", "run", "--fuzz-dir", FOLDER, "--target-dir"])
        .arg(&home)
        .arg(target)
        .arg(&corpus)
        .arg("--")
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .args(["-print_final_stats=1", "-verbosity=0", "-timeout=10"]);
    process::run(&mut command).with_context(|| format!("what broke it is in {}", artifacts.display()))?;
    let found = entries(&corpus);
    Ok(Outcome::Done(format!(
        "{seconds} s, nothing broke; {found} inputs in the corpus, {} of them new",
        found.saturating_sub(before)
    )))
}

fn entries(folder: &Path) -> usize {
    fs::read_dir(folder).map_or(0, Iterator::count)
}

/// cargo-fuzz out of the target folder, installed there first if need be; and the C++ compiler that its runtime
/// takes.
fn find(workspace: &Workspace) -> Result<PathBuf> {
    if process::find("c++").is_none() {
        packages::install(&["g++"], "fuzzing")?;
    }
    let home = workspace
        .target
        .join("tools")
        .join(format!("cargo-fuzz-{CARGO_FUZZ}"));
    let binary = home.join("bin/cargo-fuzz");
    if !binary.is_file() {
        println!("installing cargo-fuzz {CARGO_FUZZ} into {}", home.display());
        let mut install = workspace.cargo();
        install
            .args([
                "install",
                "cargo-fuzz",
                "--quiet",
                "--locked",
                "--version",
                CARGO_FUZZ,
                "--root",
            ])
            .arg(&home)
            .arg("--target-dir")
            .arg(home.join("build"));
        process::run(&mut install).context("cannot install cargo-fuzz")?;
        // Its parts are of no use any more; if they cannot be removed, they only take room.
        let _ = fs::remove_dir_all(home.join("build"));
    }
    Ok(binary)
}
