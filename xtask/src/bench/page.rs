//! `docs/benchmarks.md`: the results in tables, and then what is written by hand, which stays.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context as _, Result};

use super::{Args, charts, figures::Figures, machine, targets};

const PAGE: &str = "docs/benchmarks.md";
/// What follows is written by hand.
const BY_HAND: &str = "<!-- What follows is written by hand. -->";

/// What a connection may take on the clock, as a multiple of its processor time, where nothing else runs on its core.
const QUIET: f64 = 1.15;

/// Says so if other processes took the processors meanwhile, which spoils every figure.
fn disturbance(figures: &Figures) -> Option<String> {
    let clock = figures.median("cost", "untraced")?;
    let processor = figures.median("cost, processor time", "untraced")?;
    (clock > QUIET * processor).then(|| {
        format!(
            "**The machine was not quiet**: an untraced connection took {clock:.1} us, of which {processor:.1} us were its \
             own. Measure again.\n\n"
        )
    })
}

/// The tables.
pub(super) fn results(figures: &Figures) -> String {
    let mut text = disturbance(figures).unwrap_or_default();
    text.push_str("| target | reached | |\n|---|---|---|\n");
    for verdict in targets::verdicts(figures) {
        let met = if verdict.met { "met" } else { "**not met**" };
        let _ = writeln!(text, "| {} | {} | {met} |", verdict.target, verdict.reached);
    }
    text += "\n| measure | of | median | spread | |\n|---|---|---:|---:|---|\n";
    for series in figures.series() {
        let (least, most) = series.spread();
        let _ = writeln!(
            text,
            "| {} | {} | {:.2} | {least:.2} … {most:.2} | {} |",
            series.measure,
            series.subject,
            series.median(),
            series.unit,
        );
    }
    text
}

/// Writes the page in the workspace at `root`.
pub(super) fn write(root: &Path, figures: &Figures, args: &Args) -> Result<()> {
    let path = root.join(PAGE);
    let old = fs::read_to_string(&path).unwrap_or_default();
    let by_hand = old.split_once(BY_HAND).map_or("\n", |(_, text)| text);
    let mut text = format!(
        "# Benchmarks\n\nWritten by `cargo xtask bench`: {} rounds, {} sockets, {} s. Everything was measured in one run, in turn.\n\n",
        args.rounds, args.sockets, args.seconds
    );
    for line in machine::describe() {
        let _ = writeln!(text, "- {line}");
    }
    let _ = write!(
        text,
        "\n## Results\n\n{}{}\n{BY_HAND}{by_hand}",
        results(figures),
        charts::of(figures)
    );
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    println!("written to {PAGE}");
    Ok(())
}
