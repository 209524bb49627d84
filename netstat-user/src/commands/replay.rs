//! `netstate replay`: the transitions of a recording.

use std::{
    fs::File,
    io::BufReader,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow};
use serde_json::json;

use super::{
    filtering,
    printing::{self, Form, Printer},
    selection,
    tracing::Stop,
};
use crate::{
    cli::{NetnsArg, ReplayArgs},
    clock::WallClock,
    connection::Netns,
    namespaces::Names,
    output,
    recording::{BadRecording, Fact, Header, Part, Player, Reader},
    view::StreamItem,
};

/// Runs the command.
pub(super) async fn run(args: &ReplayArgs) -> anyhow::Result<()> {
    let args = args.clone();
    let replayed = printing::apart(Stop::on_nothing(), move || async move { replay(&args) });
    replayed.await.map(drop)
}

fn replay(args: &ReplayArgs) -> anyhow::Result<()> {
    let filter = filtering::filter("replay", &args.filter, filtering::Known::Events)?;
    let path = &args.file;
    let file = File::open(path).with_context(|| {
        format!(
            "cannot open {}; name a file that `netstate watch --record` has written",
            path.display()
        )
    })?;
    let mut recording = Reader::new(BufReader::new(file)).map_err(|error| refused(path, &error))?;
    let header = recording.header().clone();
    let netns = netns(&args.output.netns, &header)?;
    let names = Names::told(header.names.clone());
    let printer = Printer::new(Form::with(&args.output, filter, header.own, netns)).with_names(names);
    let mut replay = Replay {
        player: Player::new(header.coverage),
        clock: header.clock,
        took: Took::default(),
    };
    if args.time {
        replay
            .measure(&mut recording)
            .map_err(|error| refused(path, &error))?;
        output::print(replay.report(args.output.json))?;
    } else {
        replay.print(&mut recording, printer, path)?;
    }
    if recording.is_cut() {
        eprintln!(
            "netstate: {} was cut off, or is still being recorded; everything up to there has been replayed",
            path.display()
        );
    }
    Ok(())
}

fn refused(path: &Path, error: &BadRecording) -> anyhow::Error {
    anyhow!("cannot replay {}: {error}", path.display())
}

/// The namespace that is wanted, as the host of the recording knew it; `None` for all.
fn netns(arg: &NetnsArg, header: &Header) -> anyhow::Result<Option<Netns>> {
    match arg {
        NetnsArg::Own => Ok(Some(header.own)),
        NetnsArg::Name(name) => {
            let named = header.names.iter().find(|(_, known)| known == name);
            let missing = || {
                anyhow!(
                    "no network namespace was called `{name}` when the recording began; take its inode number"
                )
            };
            named.map(|(netns, _)| Some(*netns)).ok_or_else(missing)
        }
        NetnsArg::All | NetnsArg::Inode(_) | NetnsArg::Path(_) => selection::netns(arg),
    }
}

/// A recording that is being replayed.
struct Replay {
    player: Player,
    clock: WallClock,
    took: Took,
}

/// What a replay has taken.
#[derive(Default)]
struct Took {
    facts: u64,
    transitions: u64,
    reading: Duration,
    folding: Duration,
}

type Recording = Reader<BufReader<File>>;

impl Replay {
    fn print(&mut self, recording: &mut Recording, mut printer: Printer, path: &Path) -> anyhow::Result<()> {
        let (mut facts, mut items) = (Vec::new(), Vec::new());
        printer.begin()?;
        while let Some(part) = recording
            .next(&mut facts)
            .map_err(|error| refused(path, &error))?
        {
            match part {
                Part::Clock(clock) => self.clock = clock,
                Part::Names(names) => printer = printer.with_names(Names::told(names)),
                Part::Facts => {
                    self.fold(&facts, &mut items);
                    printer.print(&items, self.clock)?;
                    items.clear();
                }
            }
        }
        Ok(())
    }

    fn measure(&mut self, recording: &mut Recording) -> Result<(), BadRecording> {
        let (mut facts, mut items) = (Vec::new(), Vec::new());
        loop {
            let begun = Instant::now();
            let part = recording.next(&mut facts)?;
            self.took.reading += begun.elapsed();
            match part {
                None => return Ok(()),
                Some(Part::Facts) => {
                    let begun = Instant::now();
                    self.fold(&facts, &mut items);
                    self.took.folding += begun.elapsed();
                    self.took.facts += facts.len() as u64;
                    self.took.transitions += items.len() as u64;
                    items.clear();
                }
                Some(_) => {}
            }
        }
    }

    fn fold(&mut self, facts: &[Fact], items: &mut Vec<StreamItem>) {
        self.player.tell_all(facts, items);
    }

    /// What it has taken, for people or in JSON.
    fn report(&self, json: bool) -> String {
        let Took {
            facts,
            transitions,
            reading,
            folding,
        } = self.took;
        let rows = self.player.table().len();
        #[expect(clippy::cast_precision_loss, reason = "a rate is read by people")]
        let rate = facts as f64 / folding.as_secs_f64().max(f64::MIN_POSITIVE);
        let (reading, folding) = (reading.as_secs_f64(), folding.as_secs_f64());
        if json {
            let report = json!({
                "facts": facts,
                "facts_per_second": rate.round(),
                "folding_s": folding,
                "reading_s": reading,
                "transitions": transitions,
                "rows": rows,
            });
            return format!("{report}\n");
        }
        format!(
            "{facts} facts folded in {folding:.3} s, {rate:.0} a second; read in {reading:.3} s\n\
             {transitions} transitions, {rows} rows in the end\n"
        )
    }
}
