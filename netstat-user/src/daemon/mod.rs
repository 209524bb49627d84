//! The daemon's query socket.

mod session;
mod socket;

use std::{future::Future, pin::pin, time::Duration};

use tokio::{task::JoinSet, time::sleep};

use crate::engine::Handle;
pub use socket::{Claim, ListenError, Listener};

/// Clients served at once; more wait in the socket's backlog.
const MOST_CLIENTS: usize = 256;

/// Serves clients until `stop` completes, then removes the socket.
pub async fn serve(listener: Listener, handle: Handle, stop: impl Future<Output = ()>) {
    let mut stop = pin!(stop);
    let mut clients = JoinSet::new();
    loop {
        tokio::select! {
            () = &mut stop => return,
            Some(_) = clients.join_next() => {}
            client = listener.accept(), if clients.len() < MOST_CLIENTS => match client {
                Ok(stream) => {
                    let handle = handle.clone();
                    clients.spawn(async move {
                        if let Err(error) = session::serve(stream, handle).await {
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
