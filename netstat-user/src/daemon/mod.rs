//! The daemon's query socket.

mod session;
mod socket;

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use tokio::{sync::Semaphore, task::JoinSet, time::sleep};

use crate::engine::Handle;
pub use socket::{Claim, ListenError, Listener};

/// Clients served at once; more wait in the socket's backlog.
const MOST_CLIENTS: usize = 256;
/// Clients that watch, which they may do for ever: there is always room for one that asks.
const MOST_WATCHERS: usize = 192;

/// Serves clients until `stop` completes, then removes the socket.
pub async fn serve(listener: Listener, handle: Handle, stop: impl Future<Output = ()>) {
    let mut stop = pin!(stop);
    let mut clients = JoinSet::new();
    let watchers = Arc::new(Semaphore::new(MOST_WATCHERS));
    loop {
        tokio::select! {
            () = &mut stop => return,
            Some(_) = clients.join_next() => {}
            client = listener.accept(), if clients.len() < MOST_CLIENTS => match client {
                Ok(stream) => {
                    let (handle, watchers) = (handle.clone(), Arc::clone(&watchers));
                    clients.spawn(async move {
                        if let Err(error) = session::serve(stream, handle, watchers).await
                            && !error.is_farewell()
                        {
                            log::warn!("dropped a client: {error}");
                        }
                    });
                }
                Err(error) => {
                    // Out of descriptors, most likely: clients that leave give some back.
                    log::warn!("cannot accept a client: {error}");
                    sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
}
