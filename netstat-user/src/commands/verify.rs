//! `netstate verify`: does the daemon's table say what the kernel says?

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use rustc_hash::FxHashSet;
use tokio::time::sleep;

use super::{printing, selection, tracing::Stop};
use crate::{
    cli::{RoundsArgs, VerifyArgs},
    client::Client,
    clock::WallClock,
    connection::{Cookie, Netns},
    diag::{self, KernelSocket},
    filter::Filter,
    namespaces::{self, Aim, Effort, Found, Names},
    output::{self, verify as print},
    sweeper::SweepError,
    verify::{Comparison, Difference, Id, Ledger, Look, compare, id},
    view::{HistoryQuery, HistoryView, RowQuery, RowView, Trouble, Unswept},
};

/// Between two looks at something that differs.
const PAUSE: Duration = Duration::from_millis(50);
/// Between two rounds of `--watch`.
const ROUND: Duration = Duration::from_secs(1);

/// Runs the command: with `--fail`, 1 when table and kernel differ.
pub(super) async fn run(socket: &Path, args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let mut verifier = Verifier {
        socket: socket.to_owned(),
        netns: selection::netns(&args.netns)?,
        ledger: Ledger::default(),
        printed: FxHashSet::default(),
        json: args.json,
        total: 0,
    };
    let (stop, rounds) = (Stop::of_rounds(args.rounds)?, args.rounds);
    let heard = stop.clone();
    let found = printing::apart(stop, move || async move {
        if rounds.watch {
            verifier.watch(rounds, heard).await?;
        } else {
            verifier.once().await?;
        }
        Ok(verifier.total)
    });
    Ok(if found.await?.is_some_and(|found| found > 0) && args.fail {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

struct Verifier {
    socket: PathBuf,
    netns: Option<Netns>,
    ledger: Ledger,
    /// Differences that have been printed.
    printed: FxHashSet<Id>,
    json: bool,
    total: usize,
}

/// One look, judged.
struct Round {
    at: Instant,
    comparison: Comparison,
    namespaces: usize,
    /// Namespaces that could not be looked at, and why.
    closed: Vec<String>,
    /// Rows of namespaces that nothing leads to, or that the daemon says it cannot look into.
    unjudged: usize,
    /// Differences that have lasted longer than they may.
    lasting: Vec<(Difference, Duration)>,
    settling: Duration,
}

impl Verifier {
    /// Looks until what differs has settled or has had the time to.
    async fn once(&mut self) -> anyhow::Result<()> {
        let mut first = None;
        loop {
            let round = self.look().await?;
            let open = round.comparison.differences.len() - round.lasting.len();
            let first = *first.get_or_insert(round.at);
            // What is young now and was not there at first is the next question's business.
            if open == 0 || round.at - first > round.settling {
                self.report(&round).await?;
                return self.verdict(&round);
            }
            sleep(PAUSE).await;
        }
    }

    async fn watch(&mut self, args: RoundsArgs, stop: Stop) -> anyhow::Result<()> {
        let mut rounds = 0;
        loop {
            let Some(round) = stop.or(self.look()).await else {
                return Ok(());
            };
            let round = round?;
            self.report(&round).await?;
            self.verdict(&round)?;
            rounds += 1;
            if args.are_over(rounds) || stop.or(sleep(ROUND)).await.is_none() {
                return Ok(());
            }
        }
    }

    /// A connection for one question: the daemon hangs up on a client that says nothing for long.
    async fn daemon(&self) -> anyhow::Result<Client> {
        Ok(Client::connect(&self.socket).await?)
    }

    async fn look(&mut self) -> anyhow::Result<Round> {
        let settling = self.daemon().await?.stats().await?.settling;
        let before = kernel(self.netns).await?;
        let query = RowQuery {
            netns: self.netns,
            filter: None,
            holders: false,
            figures: false,
            as_is: true,
            brief: false,
        };
        let (_, snapshot) = self.daemon().await?.rows(query).await?;
        let after = kernel(self.netns).await?;
        // A namespace that could be looked at only once has come or gone meanwhile; and what the daemon cannot look into it
        // does not claim to know.
        let mut looked: FxHashSet<_> = before.looked.intersection(&after.looked).copied().collect();
        let mut closed = after.closed;
        for Unswept { netns, trouble } in &snapshot.about.unswept {
            // Why this command could not enter a namespace, it says itself.
            if looked.remove(netns) || *trouble == Trouble::Unreachable {
                closed.push(format!(
                    "not compared: the daemon says of network namespace {}: {trouble}",
                    netns.0
                ));
            }
        }
        if self.netns.is_some() && looked.is_empty() {
            match (closed.pop(), after.absent) {
                (Some(why), _) => anyhow::bail!(why),
                (None, Some(absent)) => return Err(absent.into()),
                // It has come meanwhile.
                (None, None) => {}
            }
        }
        let within = |sockets: Vec<KernelSocket>| -> Vec<_> {
            let within = |socket: &KernelSocket| looked.contains(&socket.connection.netns);
            sockets.into_iter().filter(within).collect()
        };
        let of_looked = |row: &RowView| looked.contains(&row.connection.netns);
        let (rows, unjudged): (Vec<_>, Vec<_>) = snapshot.rows.into_iter().partition(of_looked);
        let comparison = compare(&Look {
            before: within(before.sockets),
            rows,
            after: within(after.sockets),
        });
        let at = Instant::now();
        let lasting = self.ledger.enter(at, &comparison.differences);
        Ok(Round {
            at,
            namespaces: looked.len(),
            closed,
            unjudged: unjudged.len(),
            lasting: lasting
                .into_iter()
                .filter(|(_, lasted)| *lasted > settling)
                .collect(),
            settling,
            comparison,
        })
    }

    /// Prints the differences that have lasted too long, with what the table remembers of each.
    async fn report(&mut self, round: &Round) -> anyhow::Result<()> {
        let fresh: Vec<_> = round
            .lasting
            .iter()
            .filter_map(|(difference, lasted)| Some((id(difference.connection()?), difference, *lasted)))
            .filter(|(id, ..)| self.printed.insert(*id))
            .collect();
        self.total += fresh.len();
        let cookies: Vec<_> = fresh.iter().map(|((cookie, ..), ..)| *cookie).collect();
        if cookies.is_empty() {
            return Ok(());
        }
        let (clock, histories) = self.histories(&cookies).await?;
        let mut out = output::stdout();
        let mut names = Names::read();
        for (socket, difference, lasted) in fresh {
            let history = histories
                .iter()
                .find(|history| id(&history.row.connection) == socket);
            let history = history.map_or(&[][..], HistoryView::steps);
            output::written(print::difference(
                &mut out, difference, lasted, history, clock, &mut names, self.json,
            ))?;
        }
        output::written(std::io::Write::flush(&mut out))
    }

    /// What the table remembers of sockets with these cookies, as far as that fits into one answer.
    async fn histories(&mut self, cookies: &[Cookie]) -> anyhow::Result<(WallClock, Vec<HistoryView>)> {
        let query = HistoryQuery {
            rows: RowQuery {
                netns: self.netns,
                filter: Filter::any_cookie(cookies),
                holders: false,
                figures: false,
                as_is: true,
                brief: false,
            },
            most: HistoryQuery::MOST,
        };
        let (clock, _, histories) = self.daemon().await?.histories(query).await?;
        Ok((clock, histories.found))
    }

    fn verdict(&self, round: &Round) -> anyhow::Result<()> {
        let verdict = print::Verdict {
            agreed: round.comparison.agreed,
            moved: round.comparison.moved,
            may_settle: round.comparison.differences.len() - round.lasting.len(),
            differences: round.lasting.len(),
            namespaces: round.namespaces,
            namespaces_not_read: round.closed.len(),
            rows_not_judged: round.unjudged,
            staleness_bound_ms: round.settling.as_millis(),
            longest_settled_ms: self.ledger.longest_settled().as_millis(),
        };
        for closed in &round.closed {
            log::warn!("{closed}");
        }
        let mut out = output::stdout();
        output::written(verdict.write(&mut out, self.json))?;
        output::written(std::io::Write::flush(&mut out))
    }
}

/// What the kernel says of all namespaces.
#[derive(Default)]
struct Kernel {
    sockets: Vec<KernelSocket>,
    looked: FxHashSet<Netns>,
    closed: Vec<String>,
    /// The one that was wanted is not there.
    absent: Option<SweepError>,
}

/// Asks the kernel, about one namespace or all.
async fn kernel(wanted: Option<Netns>) -> anyhow::Result<Kernel> {
    // A thread of its own, since it enters namespaces and does not come back.
    let walk = tokio::task::spawn_blocking(move || thread::spawn(move || walk(wanted)).join());
    let walked = walk.await.context("a query to the kernel failed")?;
    walked.unwrap_or_else(|_| anyhow::bail!("a query to the kernel failed"))
}

/// How often what leads into a namespace, mostly a process, may end between being found and being gone through.
const AGAIN: usize = 3;

fn walk(wanted: Option<Netns>) -> anyhow::Result<Kernel> {
    for _ in 0..AGAIN {
        let kernel = walk_once(wanted)?;
        if !kernel.absent.as_ref().is_some_and(was_found) {
            return Ok(kernel);
        }
    }
    walk_once(wanted)
}

/// Whether the namespace was found, and not entered.
fn was_found(error: &SweepError) -> bool {
    matches!(error, SweepError::Absent { netns, others, .. } if others.contains(netns))
}

fn walk_once(wanted: Option<Netns>) -> anyhow::Result<Kernel> {
    let mut kernel = Kernel::default();
    let own = namespaces::own()?;
    let wanted_alone: Vec<_> = wanted.into_iter().collect();
    let aim = Aim {
        everything: wanted.is_none(),
        wanted: &wanted_alone,
        hints: &[],
        effort: Effort::Thorough,
        // What the tracer reads is not asked here.
        held: &mut || None,
    };
    let findings = namespaces::search(aim, &Found::new());
    if let Some(error) = findings.error {
        kernel.closed.push(SweepError::Search(error).to_string());
    }
    let mut refusals = findings.refused;
    let found = findings.found;
    // The own one first, which takes no privilege while the thread is still in it.
    let others = found.keys().copied().collect();
    let mut found: Vec<_> = found.into_iter().collect();
    found.sort_by_key(|(netns, _)| (*netns != own, *netns));
    for (netns, way) in found {
        if wanted.is_some_and(|wanted| wanted != netns) {
            continue;
        }
        if netns != own
            && let Err(error) = namespaces::enter(netns, &way)
        {
            // Gone between finding and entering: nothing to compare.
            if error.kind() != std::io::ErrorKind::NotFound {
                kernel.closed.push(SweepError::Enter { netns, error }.to_string());
            }
            continue;
        }
        refusals.found_here();
        kernel.sockets.extend(diag::sockets(netns)?);
        kernel.looked.insert(netns);
    }
    if wanted.is_none()
        && let Some(refused) = refusals.summary()
    {
        kernel.closed.push(refused.to_string());
    }
    let absent = wanted.filter(|netns| !kernel.looked.contains(netns));
    kernel.absent = absent.map(|netns| SweepError::Absent {
        netns,
        others,
        refused: refusals.summary(),
    });
    Ok(kernel)
}
