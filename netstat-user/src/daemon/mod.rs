//! The daemon's query socket.

mod session;
mod socket;

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    net::UnixStream,
    sync::Semaphore,
    task::{AbortHandle, JoinSet},
    time::sleep,
};

use crate::{clock::Ktime, engine::Handle};
pub use socket::{Claim, ListenError, Listener};

/// Clients served at once. One more takes the place of the one that has been silent longest.
const MOST_CLIENTS: usize = 256;
/// Clients that watch, which they may do for ever: there is always room for one that asks.
const MOST_WATCHERS: usize = 192;
/// Answers made at once, for clients that take them promptly. Those of slow clients go on besides, each at its client's pace.
const MOST_SNAPSHOTS: usize = 16;
/// Clients that are being told that there is no room.
const MOST_REFUSALS: usize = 64;

/// What clients share.
#[derive(Debug, Clone)]
struct Places {
    watchers: Arc<Semaphore>,
    snapshots: Arc<Semaphore>,
}

/// Since when it has been a client's turn to say something; 0 while it is ours.
#[derive(Debug)]
struct Silence(AtomicU64);

impl Default for Silence {
    fn default() -> Self {
        Self(AtomicU64::new(Ktime::now().0))
    }
}

impl Silence {
    fn begins(&self) {
        self.0.store(Ktime::now().0, Ordering::Relaxed);
    }

    fn ends(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    fn since(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|since| *since > 0)
    }
}

/// A client that is being served.
#[derive(Debug)]
struct Client {
    silent: Arc<Silence>,
    task: AbortHandle,
}

/// Serves clients until `stop` completes, then removes the socket.
pub async fn serve(listener: Listener, handle: Handle, stop: impl Future<Output = ()>) {
    let mut stop = pin!(stop);
    let mut server = Server::new(handle);
    let mut refused = false;
    loop {
        tokio::select! {
            () = &mut stop => return,
            Some(_) = server.tasks.join_next() => server.clients.retain(|client| !client.task.is_finished()),
            Some(_) = server.refusals.join_next() => {}
            client = listener.accept() => match client {
                Ok(stream) => {
                    refused = false;
                    server.admit(stream);
                }
                Err(error) => {
                    // Out of descriptors, most likely: clients that leave give some back. Said once.
                    if !std::mem::replace(&mut refused, true) {
                        log::warn!("cannot accept clients: {error}; tracing goes on");
                    }
                    sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
}

/// Those who are served.
struct Server {
    handle: Handle,
    places: Places,
    tasks: JoinSet<()>,
    clients: Vec<Client>,
    refusals: JoinSet<()>,
}

impl Server {
    fn new(handle: Handle) -> Self {
        Self {
            handle,
            places: Places {
                watchers: Arc::new(Semaphore::new(MOST_WATCHERS)),
                snapshots: Arc::new(Semaphore::new(MOST_SNAPSHOTS)),
            },
            tasks: JoinSet::new(),
            clients: Vec::new(),
            refusals: JoinSet::new(),
        }
    }

    fn admit(&mut self, stream: UnixStream) {
        if self.clients.len() >= MOST_CLIENTS && !self.drop_a_silent_one() {
            if self.refusals.len() < MOST_REFUSALS {
                self.refusals.spawn(session::refuse(
                    stream,
                    format!("{MOST_CLIENTS} clients are being served already; try again, or end one of them"),
                ));
            }
            return;
        }
        let silent = Arc::new(Silence::default());
        let (handle, places, flag) = (self.handle.clone(), self.places.clone(), Arc::clone(&silent));
        let task = self.tasks.spawn(async move {
            if let Err(error) = session::serve(stream, handle, places, &flag).await
                && !error.is_farewell()
            {
                log::debug!("dropped a client: {error}");
            }
        });
        self.clients.push(Client { silent, task });
    }

    fn drop_a_silent_one(&mut self) -> bool {
        let clients = self.clients.iter().enumerate();
        let silent = clients.filter_map(|(at, client)| Some((client.silent.since()?, at)));
        let Some((_, at)) = silent.min() else {
            return false;
        };
        self.clients.swap_remove(at).task.abort();
        true
    }
}
