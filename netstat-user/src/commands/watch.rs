//! `netstate watch`: transitions as they happen.

use std::{
    io::{BufWriter, StdoutLock, Write},
    path::Path,
};

use super::{
    selection,
    tracing::{Running, Stop},
};
use crate::{
    cli::{StreamArgs, WatchArgs},
    client::{Client, ClientError},
    clock::WallClock,
    connection::Netns,
    engine::{Handle, Subscription},
    output::{self, color::Palette, json, line::Lines},
    view::StreamItem,
};

/// Runs the command.
pub(super) async fn run(socket: &Path, args: &WatchArgs) -> anyhow::Result<()> {
    let stop = Stop::on_signals()?;
    let printer = Printer::new(&args.stream)?;
    if !args.alone {
        match Client::connect(socket).await {
            Ok(client) => return from_daemon(client, printer, socket, stop).await,
            Err(error) if error.is_absent() => {}
            Err(error) => return Err(error.into()),
        }
    }
    let running = Running::start(args.tracer, stop.clone())?;
    let mut stream = running.handle.subscribe();
    if running.handle.ready().await.is_ok() {
        eprintln!("netstate: tracing; no daemon was asked, Ctrl-C ends");
        print(&running.handle, &mut stream, printer, stop).await?;
    }
    running.finish().await
}

async fn from_daemon(
    mut client: Client,
    mut printer: Printer,
    socket: &Path,
    stop: Stop,
) -> anyhow::Result<()> {
    client.watch().await?;
    eprintln!(
        "netstate: connected to the daemon at {}; Ctrl-C ends",
        socket.display()
    );
    printer.begin()?;
    let mut stopped = std::pin::pin!(stop.requested());
    loop {
        let items = tokio::select! {
            () = &mut stopped => return Ok(()),
            items = client.items() => items.map_err(|error: ClientError| anyhow::Error::from(error))?,
        };
        let (clock, items) = items;
        printer.print(&items, clock)?;
    }
}

/// Prints the stream of an engine in this process until `stop` or the engine's end.
pub(super) async fn print(
    handle: &Handle,
    stream: &mut Subscription,
    mut printer: Printer,
    stop: Stop,
) -> anyhow::Result<()> {
    printer.begin()?;
    let mut stopped = std::pin::pin!(stop.requested());
    loop {
        let first = tokio::select! {
            () = &mut stopped => return Ok(()),
            item = stream.next() => item,
        };
        let Some(first) = first else { return Ok(()) };
        let mut items = vec![first];
        while items.len() < output::BATCH
            && let Some(item) = stream.try_next()
        {
            items.push(item);
        }
        printer.print(&items, handle.clock())?;
    }
}

/// Prints items in the form that the user asked for.
pub(super) struct Printer {
    out: BufWriter<StdoutLock<'static>>,
    lines: Option<Lines>,
    netns: Option<Netns>,
}

impl Printer {
    pub(super) fn new(args: &StreamArgs) -> anyhow::Result<Self> {
        let own = selection::own()?;
        let lines = (!args.json).then(|| Lines::new(Palette::new(args.color), Some(own)));
        Ok(Self {
            out: output::stdout(),
            lines,
            netns: selection::netns(&args.netns)?,
        })
    }

    fn begin(&mut self) -> anyhow::Result<()> {
        let result = self
            .lines
            .as_ref()
            .map_or(Ok(()), |lines| lines.header(&mut self.out));
        output::written(result.and_then(|()| self.out.flush()))
    }

    fn print(&mut self, items: &[StreamItem], clock: WallClock) -> anyhow::Result<()> {
        let netns = self.netns;
        for item in items.iter().filter(|item| concerns(item, netns)) {
            output::written(match &mut self.lines {
                Some(lines) => lines.item(&mut self.out, item, clock),
                None => json::item(&mut self.out, item, clock),
            })?;
        }
        output::written(self.out.flush())
    }
}

/// Whether `item` is about `netns`, where that is all the user wants to see.
fn concerns(item: &StreamItem, netns: Option<Netns>) -> bool {
    match (item, netns) {
        (StreamItem::Transition(transition), Some(netns)) => transition.connection.netns == netns,
        _ => true,
    }
}
