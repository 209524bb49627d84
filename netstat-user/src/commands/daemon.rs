//! `netstate daemon`: the tracer, the table and the query socket.

use std::path::Path;

use super::{
    tracing::{Running, Stop},
    watch::{self, Printer},
};
use crate::{
    cli::DaemonArgs,
    daemon::{self, Claim},
};

/// Runs the command.
pub(super) async fn run(socket: &Path, args: &DaemonArgs) -> anyhow::Result<()> {
    let stop = Stop::on_signals()?;
    let claim = Claim::new(socket)?;
    let printer = if args.quiet {
        None
    } else {
        Some(Printer::new(&args.stream)?)
    };
    let running = Running::start(args.tracer, stop.clone())?;
    let mut stream = running.handle.subscribe();
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
    if let Some(printer) = printer
        && let Err(error) = watch::print(&running.handle, &mut stream, printer, stop.clone()).await
    {
        // Nobody reads the lines any more; the table and its clients go on.
        log::warn!("prints no more transitions: {error:#}");
    }
    drop(stream);
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
