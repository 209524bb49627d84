//! `netstate stuck`: what makes no progress, and what to do about it.

use std::{
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use tokio::time::{sleep, timeout};

use super::{
    filtering, selection,
    snapshot::{Source, tell_missing},
    tracing::Stop,
};
use crate::{
    cli::StuckArgs,
    diagnosis::{Findings, Look, Looks, diagnose},
    filter::Filter,
    namespaces::Names,
    output::{self, color::Palette, stuck as print},
    view::RowQuery,
};

/// Between the two looks at everything.
const BETWEEN: Duration = Duration::from_millis(500);
/// Between two rounds of `--watch`.
const ROUND: Duration = Duration::from_secs(5);

/// Runs the command: with `--fail`, 1 when something is stuck.
pub(super) async fn run(socket: &Path, args: &StuckArgs) -> anyhow::Result<ExitCode> {
    let filter = filtering::filter("stuck", &args.filter)?;
    let query = RowQuery {
        netns: selection::netns(&args.output.netns)?,
        // What matches is judged by all others too.
        filter: None,
        holders: true,
        figures: true,
        as_is: false,
    };
    let mut stopped = std::pin::pin!(Stop::of_rounds(args.rounds)?.requested());
    let mut source = Source::find(socket, args.alone).await?;
    let (mut rounds, mut found) = (0, false);
    loop {
        let findings = tokio::select! {
            findings = examine(&mut source, &query, args.older, filter.as_ref()) => findings?,
            () = &mut stopped => break,
        };
        found |= !findings.found.is_empty();
        if rounds == 0 && matches!(source, Source::Kernel) {
            eprintln!(
                "netstate: no daemon has watched these connections, so how long they have been stuck is known only as far \
                 as the kernel's own figures tell; `netstate daemon` watches from now on"
            );
        }
        report(&findings, args)?;
        rounds += 1;
        if args.rounds.are_over(rounds) || timeout(ROUND, &mut stopped).await.is_ok() {
            break;
        }
    }
    Ok(if args.fail && found {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Looks twice, and judges.
async fn examine(
    source: &mut Source,
    query: &RowQuery,
    older: Option<Duration>,
    filter: Option<&Filter>,
) -> anyhow::Result<Findings> {
    let (_, first) = source.rows(query).await?;
    let began = Instant::now();
    sleep(BETWEEN).await;
    let (_, second) = source.rows(query).await?;
    tell_missing(&second.about, &mut Names::read());
    let (before, now) = (Look::from(first), Look::from(second));
    Ok(diagnose(&Looks {
        before: &before,
        now: &now,
        between: began.elapsed(),
        older,
        filter,
    }))
}

fn report(findings: &Findings, args: &StuckArgs) -> anyhow::Result<()> {
    let mut out = output::stdout();
    let mut names = Names::read();
    output::written(if args.output.json {
        print::json(&mut out, findings, &mut names)
    } else {
        print::text(&mut out, findings, &mut names, Palette::new(args.output.color))
    })?;
    output::written(std::io::Write::flush(&mut out))
}
