//! Starting the tracer inside this process.

use std::{future::Future, path::Path, time::Duration};

use anyhow::Context;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::{
    cli::{RoundsArgs, TracerArgs},
    engine::{Engine, Handle, Recording, Setup, Thread},
    loader,
    recording::NewFile,
};

/// A running engine.
pub(super) struct Running {
    /// To ask it.
    pub(super) handle: Handle,
    engine: Thread,
    stop: Stop,
}

impl Running {
    /// Attaches the tracer and starts the engine.
    pub(super) fn start(args: &TracerArgs, stop: Stop) -> anyhow::Result<Self> {
        Self::recording(args, None, stop)
    }

    /// The same, and records what the tracer tells in the file at `path`, which is made anew.
    pub(super) fn recording(args: &TracerArgs, path: Option<&Path>, stop: Stop) -> anyhow::Result<Self> {
        let file = path.map(NewFile::create).transpose()?;
        let tracer = loader::attach(args.ring_size, &args.without_hooks)?;
        // An older recording stays until there is something to record.
        let recording = file.zip(path).map(|(file, path)| {
            file.put_in_place().map(|file| Recording {
                file,
                path: path.to_owned(),
            })
        });
        let recording = recording.transpose()?;
        let setup = Setup {
            ring_bytes: args.ring_size,
            history_bytes: args.history,
            nice: args.nice,
        };
        let (engine, handle) = Engine::new(tracer, setup, recording)?;
        let engine = engine
            .spawn(stop.clone().requested())
            .context("cannot start the tracer's thread")?;
        Ok(Self { handle, engine, stop })
    }

    /// Stops the engine, if it has not stopped by itself, and says why if it should not have.
    pub(super) async fn finish(self) -> anyhow::Result<()> {
        self.stop.now();
        let ended = tokio::time::timeout(Duration::from_secs(1), self.engine.ended()).await;
        match ended {
            Ok(result) => Ok(result.context("the tracer broke down")??),
            // Its work is cut off with the process.
            Err(_) => Ok(()),
        }
    }
}

/// A wish to stop that everybody hears.
#[derive(Debug, Clone)]
pub(super) struct Stop(watch::Sender<bool>);

impl Stop {
    /// For a command that repeats, as [`Stop::on_signals`]; else signals end the process as they always do.
    pub(super) fn of_rounds(rounds: RoundsArgs) -> anyhow::Result<Self> {
        if rounds.watch {
            Self::on_signals()
        } else {
            Ok(Self::on_nothing())
        }
    }

    /// Never comes: signals end the process as they always do.
    pub(super) fn on_nothing() -> Self {
        Self(watch::Sender::new(false))
    }

    /// Comes with SIGINT, SIGTERM or SIGHUP.
    pub(super) fn on_signals() -> anyhow::Result<Self> {
        let stop = Self(watch::Sender::new(false));
        for kind in [
            SignalKind::interrupt(),
            SignalKind::terminate(),
            SignalKind::hangup(),
        ] {
            let mut signals = signal(kind).context("cannot listen for signals")?;
            let stop = stop.clone();
            tokio::spawn(async move {
                signals.recv().await;
                stop.now();
            });
        }
        Ok(stop)
    }

    /// Stops everybody.
    pub(super) fn now(&self) {
        self.0.send_replace(true);
    }

    /// What comes of `work`; `None` if the wish comes before.
    pub(super) async fn or<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            done = work => Some(done),
            () = self.clone().requested() => None,
        }
    }

    /// Waits for the wish.
    pub(super) fn requested(self) -> impl Future<Output = ()> + Send {
        let mut heard = self.0.subscribe();
        async move {
            // An error says that nobody can wish any more, and `self` lives as long as this does.
            let _ = heard.wait_for(|&stop| stop).await;
            drop(self);
        }
    }
}
