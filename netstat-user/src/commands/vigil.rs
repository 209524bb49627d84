//! `netstate watch --stuck`: what becomes stuck, and what becomes of it.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::bail;
use tokio::time::timeout;

use super::{
    filtering,
    observing::{observe, reaches},
    printing, selection,
    snapshot::{Asked, Source, tell_missing, tell_unnamed, tell_whose_ids},
    tracing::{Running, Stop},
};
use crate::{
    cli::WatchArgs,
    client::Client,
    clock::WallClock,
    diagnosis::{Changes, Look, Looks, Outcome, Reading, Stuck, Vigil, outcome},
    filter::Filter,
    keepers,
    namespaces::Names,
    output::{self, vigil::Printer},
    reach::Reaches,
    view::{HistoryQuery, RowQuery},
};

/// Between the first two looks, which the first judgement takes.
const FIRST: Duration = Duration::from_millis(500);
/// Between two looks, if they are quick,
const EVERY: Duration = Duration::from_secs(1);
/// or so many times as long as one takes.
const PAUSE: u32 = 20;
/// Connections whose ends are asked for at once, and at most after one look.
const BATCH: usize = 64;
const MOST: usize = 1024;

/// Runs the command.
pub(super) async fn run(socket: &Path, args: &WatchArgs) -> anyhow::Result<()> {
    let stop = Stop::on_signals()?;
    let watch = Watch::new(args)?;
    tell_whose_ids();
    if !args.alone {
        let Some(connected) = stop.or(Client::connect(socket)).await else {
            return Ok(());
        };
        match connected {
            Ok(client) => {
                let source = Source::Daemon(Asked::new(socket, client));
                eprintln!(
                    "netstate: connected to the daemon at {}; Ctrl-C ends",
                    socket.display()
                );
                return watch.start(source, stop).await;
            }
            Err(error) if error.is_absent() => {}
            Err(error) => return Err(error.into()),
        }
    }
    let running = Running::start(&args.tracer, stop.clone())?;
    if running.handle.ready().await.is_ok() {
        if let Some(netns) = watch.query.netns
            && let Ok(Err(why)) = running.handle.exists(netns).await
        {
            running.finish().await?;
            bail!(why);
        }
        eprintln!("netstate: tracing by itself, without a daemon; Ctrl-C ends");
        watch.start(Source::Engine(running.handle.clone()), stop).await?;
    }
    running.finish().await
}

/// What is asked for.
#[derive(Debug, Clone)]
struct Watch {
    args: WatchArgs,
    query: RowQuery,
    filter: Option<Filter>,
}

impl Watch {
    fn new(args: &WatchArgs) -> anyhow::Result<Self> {
        Ok(Self {
            query: RowQuery::for_diagnosis(selection::netns(&args.output.netns)?),
            filter: filtering::filter("watch", &args.filter, filtering::Known::Rows)?,
            args: args.clone(),
        })
    }

    async fn start(self, source: Source, stop: Stop) -> anyhow::Result<()> {
        let heard = stop.clone();
        printing::apart(stop, move || self.keep(source, heard))
            .await
            .map(drop)
    }

    /// Looks again and again, and prints what has changed.
    async fn keep(self, mut source: Source, stop: Stop) -> anyhow::Result<()> {
        source
            .find_namespaces(self.filter.as_ref(), self.query.netns)
            .await?;
        let mut stopped = std::pin::pin!(stop.requested());
        let mut printer = Printer::new(&self.args.output, selection::own()?);
        let mut out = output::stdout();
        output::written(printer.begin(&mut out))?;
        let mut vigil = Vigil::default();
        let mut reading = Reading::default();
        let mut before: Option<(Look, Instant)> = None;
        // Said once that names are missing.
        let mut unnamed = false;
        loop {
            let begun = Instant::now();
            let look = tokio::select! {
                look = self.look(&mut source, before.is_none()) => look,
                () = &mut stopped => return Ok(()),
            };
            let (clock, now) = look?;
            let at = Instant::now();
            reading.look(&now);
            if let Some((before, then)) = &before {
                let looks = Looks {
                    before,
                    now: &now,
                    between: at - *then,
                    reading: &reading,
                    older: self.args.older,
                    filter: self.filter.as_ref(),
                    reaches: &Reaches::default(),
                };
                let reaches = reaches(&looks).await?;
                let changes = vigil.look(&Looks {
                    reaches: &reaches,
                    ..looks
                });
                let (stuck, over) = tokio::select! {
                    told = self.follow(&mut source, changes) => told?,
                    () = &mut stopped => return Ok(()),
                };
                output::written(printer.print(&mut out, &stuck, &over, clock))?;
                if !unnamed && let Some(note) = printer.unanswered() {
                    tell_unnamed(Some(note));
                    unnamed = true;
                }
            }
            let pause = if before.is_none() { FIRST } else { EVERY };
            before = Some((now, at));
            if timeout(pause.max(begun.elapsed() * PAUSE), &mut stopped)
                .await
                .is_ok()
            {
                return Ok(());
            }
        }
    }

    async fn look(&self, source: &mut Source, first: bool) -> anyhow::Result<(WallClock, Look)> {
        let (clock, snapshot) = source.rows(&self.query).await?;
        if first {
            tell_missing(&snapshot.about, &mut Names::read());
        }
        Ok((clock, Look::from(snapshot)))
    }

    /// Asks what has become of what was stuck.
    async fn follow(
        &self,
        source: &mut Source,
        changes: Changes,
    ) -> anyhow::Result<(Vec<Stuck>, Vec<(Stuck, Outcome)>)> {
        let Changes {
            mut stuck,
            recovered,
            left,
        } = changes;
        observe(stuck.iter_mut().map(|stuck| &mut stuck.suspects).collect()).await?;
        for stuck in &mut stuck {
            keepers::complete(std::slice::from_mut(&mut stuck.row));
        }
        let mut over: Vec<_> = recovered
            .into_iter()
            .map(|(stuck, since)| (stuck, Outcome::Progress(since)))
            .collect();
        let (asked, unasked) = left.split_at(left.len().min(MOST));
        for batch in asked.chunks(BATCH) {
            let cookies: Vec<_> = batch.iter().map(|stuck| stuck.row.connection.cookie).collect();
            let query = HistoryQuery {
                rows: RowQuery {
                    filter: Filter::any_cookie(&cookies),
                    // They have been looked at a moment ago.
                    as_is: true,
                    brief: false,
                    holders: false,
                    figures: false,
                    ..self.query.clone()
                },
                most: HistoryQuery::MOST,
            };
            let histories = source.histories(&query).await?;
            over.extend(
                batch
                    .iter()
                    .map(|stuck| (stuck.clone(), outcome(stuck, &histories.found))),
            );
        }
        over.extend(unasked.iter().map(|stuck| (stuck.clone(), Outcome::Gone)));
        Ok((stuck, over))
    }
}
