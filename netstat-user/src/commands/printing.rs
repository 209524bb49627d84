//! Printing the stream of transitions, wherever it comes from.

use std::{
    io::{BufWriter, StdoutLock, Write},
    time::Duration,
};

use anyhow::Context;
use tokio::{runtime, task::spawn_blocking, time::timeout};

use super::{selection, tracing::Stop};
use crate::{
    cli::OutputArgs,
    client::Client,
    clock::WallClock,
    connection::Netns,
    engine::{Handle, Subscription},
    filter::Filter,
    namespaces::Names,
    output::{self, color::Palette, json, line::Lines},
    view::{StreamItem, WatchQuery},
};

/// How long what is being printed may take to get out once the command is to stop.
const GRACE: Duration = Duration::from_millis(300);

/// Where items come from.
pub(super) enum Source {
    /// The engine of this process.
    Engine(Handle, Subscription),
    /// The daemon.
    Daemon(Box<Client>),
}

impl Source {
    /// What has happened since the last call, after waiting for something to happen; `None` at the end.
    async fn next(&mut self) -> anyhow::Result<Option<(WallClock, Vec<StreamItem>)>> {
        match self {
            Self::Daemon(client) => Ok(Some(client.items().await?)),
            Self::Engine(handle, stream) => {
                let items = stream.next_batch(output::BATCH).await;
                Ok(items.map(|items| (handle.clock(), items)))
            }
        }
    }

    /// What had happened before the command was to stop and is not printed yet, as far as this process has it.
    async fn rest(self) -> Option<(WallClock, Vec<StreamItem>)> {
        match self {
            Self::Daemon(_) => None,
            Self::Engine(handle, mut stream) => {
                handle.gone().await;
                Some((handle.clock(), stream.rest().await))
            }
        }
    }
}

/// The form that the user asked for.
#[derive(Debug, Clone)]
pub(super) struct Form {
    json: bool,
    query: WatchQuery,
    own: Netns,
    palette: Palette,
}

impl Form {
    pub(super) fn new(args: &OutputArgs, filter: Option<Filter>) -> anyhow::Result<Self> {
        let own = selection::own()?;
        let netns = selection::netns(&args.netns)?;
        // A namespace that is not there is an error, whether a flag names it or the filter.
        let only = filter.as_ref().and_then(Filter::only_namespace);
        Ok(Self::with(args, filter, own, netns.or(only)))
    }

    /// For what happened where `own` was the caller's own namespace, of `netns` or of all.
    pub(super) fn with(args: &OutputArgs, filter: Option<Filter>, own: Netns, netns: Option<Netns>) -> Self {
        Self {
            json: args.json,
            query: WatchQuery { netns, filter },
            own,
            palette: Palette::new(args.color),
        }
    }

    /// What is to be shown.
    pub(super) fn query(&self) -> &WatchQuery {
        &self.query
    }
}

/// Prints what comes from `source` until that ends, or `stop`.
pub(super) async fn print(source: Source, form: Form, stop: Stop) -> anyhow::Result<()> {
    let heard = stop.clone();
    apart(stop, move || run(source, Printer::new(form), heard))
        .await
        .map(drop)
}

/// Does what prints, until it is done or `stop` comes. `None` if it does not end by itself then.
///
/// Writing waits for whoever reads the output, for ever if need be. So it has a thread of its own, which is left
/// behind when the command is to stop, or when that reader has gone.
pub(super) async fn apart<F, T>(
    stop: Stop,
    work: impl FnOnce() -> F + Send + 'static,
) -> anyhow::Result<Option<T>>
where
    F: Future<Output = anyhow::Result<T>>,
    T: Send + 'static,
{
    let runtime = runtime::Handle::current();
    let mut printing = spawn_blocking(move || runtime.block_on(work()));
    let ended = tokio::select! {
        ended = &mut printing => Ok(ended),
        () = stop.requested() => timeout(GRACE, printing).await,
        () = output::reader_gone() => return Err(output::Closed.into()),
    };
    match ended {
        Ok(result) => result.context("printing failed")?.map(Some),
        Err(_) => Ok(None),
    }
}

async fn run(mut source: Source, mut printer: Printer, stop: Stop) -> anyhow::Result<()> {
    printer.begin()?;
    let mut stopped = std::pin::pin!(stop.requested());
    loop {
        let items = tokio::select! {
            () = &mut stopped => break,
            items = source.next() => items?,
        };
        let Some((clock, items)) = items else {
            return Ok(());
        };
        printer.print(&items, clock)?;
    }
    match source.rest().await {
        Some((clock, items)) => printer.print(&items, clock),
        None => Ok(()),
    }
}

/// Standard output, and what goes there.
pub(super) struct Printer {
    out: BufWriter<StdoutLock<'static>>,
    form: Form,
    lines: Option<Lines>,
    names: Names,
}

impl Printer {
    pub(super) fn new(form: Form) -> Self {
        let lines = (!form.json).then(|| Lines::new(form.palette, Some(form.own)));
        Self {
            out: output::streaming(),
            form,
            lines,
            names: Names::read(),
        }
    }

    /// The same with these names for namespaces from here on.
    pub(super) fn with_names(self, names: Names) -> Self {
        let lines = self.lines.map(|lines| lines.with_names(names.clone()));
        Self { lines, names, ..self }
    }

    pub(super) fn begin(&mut self) -> anyhow::Result<()> {
        let header = self
            .lines
            .as_ref()
            .map_or(Ok(()), |lines| lines.header(&mut self.out));
        output::written(header.and_then(|()| self.out.flush()))
    }

    pub(super) fn print(&mut self, items: &[StreamItem], clock: WallClock) -> anyhow::Result<()> {
        for item in items.iter().filter(|item| self.form.query.wants(item)) {
            output::written(match &mut self.lines {
                Some(lines) => lines.item(&mut self.out, item, clock),
                None => json::item(&mut self.out, item, &mut self.names, clock),
            })?;
        }
        output::written(self.out.flush())
    }
}
