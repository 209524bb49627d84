//! `netstate stuck`: what makes no progress, and what to do about it.

use std::{
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use tokio::time::sleep;

use super::{
    filtering,
    observing::{completed, confirm_peers, observe, reaches},
    printing, selection,
    snapshot::{Source, tell_missing, tell_unnamed, tell_whose_ids},
    tracing::Stop,
};
use crate::{
    cli::StuckArgs,
    clock::WallClock,
    diagnosis::{Findings, Look, Looks, Reading, diagnose},
    filter::Filter,
    namespaces::Names,
    output::{self, stuck::Printer},
    reach::Reaches,
    view::{About, RowQuery},
};

/// Between the two looks at everything.
const BETWEEN: Duration = Duration::from_millis(500);
/// How long data may keep coming unread until that counts, or as long as is asked for, if that is less.
const LONGER: Duration = Duration::from_secs(5);
/// Between two rounds of `--watch`.
const ROUND: Duration = Duration::from_secs(5);

/// Runs the command: with `--fail`, 1 when something is stuck.
pub(super) async fn run(socket: &Path, args: &StuckArgs) -> anyhow::Result<ExitCode> {
    let rounds = Rounds {
        filter: filtering::filter("stuck", &args.filter, filtering::Known::Rows)?,
        query: RowQuery::for_diagnosis(selection::netns(&args.output.netns)?),
        args: args.clone(),
    };
    tell_whose_ids();
    let (stop, socket) = (Stop::of_rounds(args.rounds)?, socket.to_owned());
    let heard = stop.clone();
    let found = printing::apart(stop, move || async move {
        let Some(source) = heard.or(Source::find(&socket, rounds.args.alone)).await else {
            return Ok(false);
        };
        rounds.go(source?, heard).await
    });
    Ok(if found.await? == Some(true) && args.fail {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// What is asked for.
struct Rounds {
    args: StuckArgs,
    query: RowQuery,
    filter: Option<Filter>,
}

impl Rounds {
    /// Examines, and reports, as often as is asked for. Returns whether anything was found.
    async fn go(self, mut source: Source, stop: Stop) -> anyhow::Result<bool> {
        let Self { args, query, filter } = self;
        source.find_namespaces(filter.as_ref(), query.netns).await?;
        let (mut rounds, mut found) = (0, false);
        loop {
            let examined = stop.or(examine(&mut source, &query, args.older, filter.as_ref()));
            let Some(findings) = examined.await else {
                return Ok(found);
            };
            let (clock, mut findings) = findings?;
            findings.found.retain(|finding| finding.severity >= args.severity);
            let suspects = findings.found.iter_mut().map(|finding| &mut finding.suspects);
            if stop.or(observe(suspects.collect())).await.transpose()?.is_none() {
                return Ok(found);
            }
            found |= !findings.found.is_empty();
            if rounds == 0 && matches!(source, Source::Kernel) {
                eprintln!(
                    "netstate: no daemon has watched these connections, so how long they have been stuck is known only as \
                     far as the kernel's own figures tell; `netstate daemon` watches from now on"
                );
            }
            report(&findings, clock, &args)?;
            rounds += 1;
            if args.rounds.are_over(rounds) || stop.or(sleep(ROUND)).await.is_none() {
                return Ok(found);
            }
        }
    }
}

/// Looks twice, and judges; and once more, later, if data keeps coming somewhere that may not be read.
async fn examine(
    source: &mut Source,
    query: &RowQuery,
    older: Option<Duration>,
    filter: Option<&Filter>,
) -> anyhow::Result<(WallClock, Findings)> {
    let mut reading = Reading::default();
    let mut before = look(source, query, &mut reading).await?.1;
    let begun = Instant::now();
    let mut pause = BETWEEN;
    loop {
        let last = Instant::now();
        sleep(pause).await;
        let (clock, now, about) = look(source, query, &mut reading).await?;
        let looks = Looks {
            before: &before,
            now: &now,
            between: last.elapsed(),
            reading: &reading,
            older,
            filter,
            reaches: &Reaches::default(),
        };
        let reaches = reaches(&looks).await?;
        let mut findings = diagnose(&Looks {
            reaches: &reaches,
            ..looks
        });
        confirm_peers(&mut findings).await?;
        pause = older
            .unwrap_or(LONGER)
            .min(LONGER)
            .saturating_sub(begun.elapsed());
        if !findings.undecided || pause.is_zero() {
            tell_missing(&about, &mut Names::read());
            return Ok((clock, findings));
        }
        // What is asked for is an age, and the clock's tick is not to make it too short.
        pause += BETWEEN;
        before = now;
    }
}

async fn look(
    source: &mut Source,
    query: &RowQuery,
    reading: &mut Reading,
) -> anyhow::Result<(WallClock, Look, About)> {
    let (clock, snapshot) = source.rows(query).await?;
    let about = snapshot.about.clone();
    let look = Look::from(completed(snapshot).await?);
    reading.look(&look);
    Ok((clock, look, about))
}

fn report(findings: &Findings, clock: WallClock, args: &StuckArgs) -> anyhow::Result<()> {
    let mut out = output::stdout();
    let mut printer = Printer::new(selection::own()?, args);
    output::written(if args.output.json {
        printer.json(&mut out, findings, clock)
    } else {
        printer.text(&mut out, findings)
    })?;
    output::written(std::io::Write::flush(&mut out))?;
    tell_unnamed(printer.unanswered());
    Ok(())
}
