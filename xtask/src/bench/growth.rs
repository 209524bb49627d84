//! How the table grows: what `cargo bench --bench growth` prints, as figures.

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::figures::{Figures, Line};
use crate::{process, workspace::Workspace};

/// What is taken of each size, and its unit.
const TAKEN: &[(&str, &str, &str)] = &[
    ("bytes_per_connection", "memory of a connection", "bytes"),
    ("resident_mib", "memory of the table, resident", "MiB"),
    ("facts_per_second", "fold", "facts/s"),
    ("nanoseconds_per_fact", "fold", "ns"),
];

/// What is taken of each rate.
const REPLAYED: &[(&str, &str, &str)] = &[
    ("cpu_percent", "replay", "% of a core"),
    ("reached", "replay, reached", "facts/s"),
];

/// Runs it.
pub(super) fn measure(workspace: &Workspace, figures: &mut Figures) -> Result<()> {
    let mut bench = workspace.cargo();
    bench.args(["bench", "--locked", "--package=netstat-user", "--bench=growth"]);
    for line in process::output(&mut bench)?
        .lines()
        .filter(|line| line.starts_with('{'))
    {
        let line: Value = serde_json::from_str(line).context("the benchmark of the table printed no JSON")?;
        let (subject, taken) = match &line["rate"] {
            Value::Null => (format!("{} connections", line["connections"]), TAKEN),
            rate => (format!("{rate} facts/s"), REPLAYED),
        };
        for (key, measure, unit) in taken {
            if let Some(value) = line[*key].as_f64() {
                figures.insert(Line {
                    measure: format!("{measure}, {unit}"),
                    subject: subject.clone(),
                    unit: (*unit).to_owned(),
                    value,
                });
            }
        }
    }
    Ok(())
}
