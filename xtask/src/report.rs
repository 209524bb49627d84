//! The steps of a command that has several: each runs, however the others end, and a summary closes.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Result;

/// How a step that did not fail ended, in words.
pub(crate) enum Outcome {
    Done(String),
    /// It could not be done here, and why.
    Skipped(String),
}

#[derive(PartialEq, Eq)]
enum Verdict {
    Ok,
    Skipped,
    Failed,
}

struct Step {
    name: String,
    verdict: Verdict,
    text: String,
    seconds: f64,
}

/// What the steps came to so far.
pub(crate) struct Report {
    /// Whether a step that is skipped counts as failed.
    require_all: bool,
    steps: Vec<Step>,
}

impl Report {
    pub(crate) fn new(require_all: bool) -> Self {
        Self {
            require_all,
            steps: Vec::new(),
        }
    }

    /// Runs a step.
    pub(crate) fn step(&mut self, name: &str, step: impl FnOnce() -> Result<Outcome>) {
        println!("\n== {name}");
        let start = Instant::now();
        let outcome = step();
        self.add(name, outcome, start.elapsed());
    }

    /// Adds a step that has been run elsewhere, and took so long.
    pub(crate) fn add(&mut self, name: &str, outcome: Result<Outcome>, took: Duration) {
        let (verdict, text) = match outcome {
            Ok(Outcome::Done(text)) => (Verdict::Ok, text),
            Ok(Outcome::Skipped(reason)) if self.require_all => {
                (Verdict::Failed, format!("skipped: {reason}"))
            }
            Ok(Outcome::Skipped(reason)) => (Verdict::Skipped, reason),
            Err(error) => (Verdict::Failed, format!("{error:#}")),
        };
        println!("{text}");
        let seconds = took.as_secs_f64();
        self.steps.push(Step {
            name: name.to_owned(),
            verdict,
            text,
            seconds,
        });
    }

    /// Prints the summary.
    pub(crate) fn finish(self) -> ExitCode {
        let width = self
            .steps
            .iter()
            .map(|step| step.name.len())
            .max()
            .unwrap_or_default();
        println!("\n== summary");
        for Step {
            name,
            verdict,
            text,
            seconds,
        } in &self.steps
        {
            // Of a failure everything, because the summary may be all that is kept.
            let (verdict, lines) = match verdict {
                Verdict::Ok => ("ok", 1),
                Verdict::Skipped => ("skipped", 1),
                Verdict::Failed => ("FAILED", usize::MAX),
            };
            let mut lines = text.lines().take(lines);
            let first_line = lines.next().unwrap_or_default();
            println!("{verdict:<8} {name:<width$} {seconds:>6.1} s  {first_line}");
            for line in lines {
                println!("         {line}");
            }
        }
        if self.steps.iter().any(|step| step.verdict == Verdict::Failed) {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        }
    }
}
