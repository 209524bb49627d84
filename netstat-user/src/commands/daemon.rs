//! `netstate daemon`: the tracer, the table and the query socket.

use std::path::Path;

use super::{
    printing::{self, Form, Source},
    tracing::{Running, Stop},
};
use crate::{
    cli::DaemonArgs,
    daemon::{self, Claim},
};

/// Runs the command.
pub(super) async fn run(socket: &Path, args: &DaemonArgs) -> anyhow::Result<()> {
    let stop = Stop::on_signals()?;
    let claim = Claim::new(socket)?;
    let form = if args.quiet {
        None
    } else {
        Some(Form::new(&args.output, None)?)
    };
    let running = Running::recording(&args.tracer, args.record.as_deref(), stop.clone())?;
    let stream = form.map(|form| {
        let stream = running.handle.subscribe(form.query().clone());
        (form, stream)
    });
    if running.handle.ready().await.is_err() {
        return running.finish().await;
    }
    let listener = claim.listen()?;
    let server = tokio::spawn(daemon::serve(
        listener,
        running.handle.clone(),
        stop.clone().requested(),
    ));
    eprintln!("netstate: tracing; queries at {}", socket.display());
    if let Some((form, stream)) = stream
        && let Err(error) =
            printing::print(Source::Engine(running.handle.clone(), stream), form, stop.clone()).await
    {
        // Nobody reads the lines any more; the table and its clients go on.
        log::warn!("prints no more transitions: {error:#}");
    }
    // The engine ends with the wish to stop, or by itself when it breaks down.
    let stopped = stop.clone().requested();
    tokio::select! {
        () = stopped => {}
        () = running.handle.gone() => {}
    }
    stop.now();
    // The socket goes with the server.
    let _ = server.await;
    running.finish().await
}
