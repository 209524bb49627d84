//! Connections that come and go.

use std::{
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use anyhow::{Context, Result, anyhow};

use crate::{
    Namespace,
    sockets::{LOOPBACK, accept, connect, listen, reset, wait_for_reset},
};

/// Lets `count` connections come and go, each with six transitions; with two more of their listener.
///
/// # Errors
/// When the kernel refuses.
pub fn come_and_go(namespace: &Namespace, count: usize) -> Result<()> {
    let listener = listen(namespace, LOOPBACK)?;
    (0..count).try_for_each(|_| one(namespace, &listener))
}

fn one(namespace: &Namespace, listener: &TcpListener) -> Result<()> {
    let client = connect(namespace, listener.local_addr()?)?;
    let server = accept(listener)?;
    reset(client)?;
    wait_for_reset(&server)
}

/// Connections that come and go until this is dropped.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Load {
    /// Begins, inside `namespace`.
    #[must_use]
    pub fn start(namespace: &Arc<Namespace>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, namespace) = (Arc::clone(&stop), Arc::clone(namespace));
        let thread = thread::spawn(move || {
            let listener = listen(&namespace, LOOPBACK)?;
            while !stopped.load(Ordering::Relaxed) {
                one(&namespace, &listener)?;
            }
            Ok(())
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }

    /// Stops, and says whether all went well.
    ///
    /// # Errors
    /// When the kernel refused something.
    pub fn stop(mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("stopped twice")?;
        thread.join().map_err(|_| anyhow!("the load panicked"))?
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
