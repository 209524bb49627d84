//! `netstate watch`: transitions as they happen.

use std::path::Path;

use anyhow::bail;

use super::{
    filtering,
    printing::{self, Form, Source},
    snapshot::{Source as Snapshots, tell_whose_ids},
    tracing::{Running, Stop},
    vigil,
};
use crate::{cli::WatchArgs, client::Client, filter::Filter};

/// Runs the command.
pub(super) async fn run(socket: &Path, args: &WatchArgs) -> anyhow::Result<()> {
    if args.stuck {
        return vigil::run(socket, args).await;
    }
    let stop = Stop::on_signals()?;
    let form = Form::new(
        &args.output,
        filtering::filter("watch", &args.filter, filtering::Known::Events)?,
    )?;
    tell_whose_ids();
    if !args.alone && args.record.is_none() {
        let Some(connected) = stop.or(Client::connect(socket)).await else {
            return Ok(());
        };
        match connected {
            Ok(client) => {
                let (filter, netns) = (form.query().filter.as_ref(), form.query().netns);
                let mut source = Snapshots::find(socket, false).await?;
                source.find_namespaces(filter, netns).await?;
                return from_daemon(client, form, socket, stop).await;
            }
            Err(error) if error.is_absent() => {}
            Err(error) => return Err(error.into()),
        }
    }
    let running = Running::recording(&args.tracer, args.record.as_deref(), stop.clone())?;
    let stream = running.handle.subscribe(form.query().clone());
    if running.handle.ready().await.is_ok() {
        let named = form.query().filter.iter().flat_map(Filter::namespaces);
        for netns in form.query().netns.into_iter().chain(named) {
            if let Ok(Err(why)) = running.handle.exists(netns).await {
                running.finish().await?;
                bail!(why);
            }
        }
        eprintln!("netstate: tracing by itself, without a daemon; Ctrl-C ends");
        let printed = printing::print(Source::Engine(running.handle.clone(), stream), form, stop).await;
        // A recording is finished, even if nobody reads the lines any more.
        let finished = running.finish().await;
        return printed.and(finished);
    }
    running.finish().await
}

async fn from_daemon(mut client: Client, form: Form, socket: &Path, stop: Stop) -> anyhow::Result<()> {
    client.watch(form.query().clone()).await?;
    eprintln!(
        "netstate: connected to the daemon at {}; Ctrl-C ends",
        socket.display()
    );
    printing::print(Source::Daemon(Box::new(client)), form, stop).await
}
