//! A host that has no processor time to spare: clients and servers that connect and close as fast as they can, each pair
//! in a namespace of its own, and threads that only compute.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

use anyhow::{Context, Result, anyhow, ensure};

use crate::{
    Namespace,
    sockets::{LOOPBACK, accept, connect, listen, reset},
};

/// What runs at once.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Clients, each with a server and in a namespace of its own.
    pub pairs: usize,
    /// Threads that only compute.
    pub neighbours: usize,
    /// Connections that each pair holds open besides.
    pub held: usize,
}

/// A host that is saturated until this is stopped or dropped.
#[derive(Debug)]
pub struct Saturation {
    /// Where the pairs are.
    pub namespaces: Vec<Arc<Namespace>>,
    stop: Arc<AtomicBool>,
    connections: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Result<()>>>,
    held: Vec<(TcpStream, TcpStream)>,
    /// Kept, so that a client that ends after its server is not refused.
    listeners: Vec<TcpListener>,
}

impl Saturation {
    /// Saturates the host.
    ///
    /// # Errors
    /// When a namespace or a listener cannot be made.
    pub fn start(size: Size) -> Result<Self> {
        let mut all = Self {
            namespaces: Vec::new(),
            stop: Arc::default(),
            connections: Arc::default(),
            threads: Vec::new(),
            held: Vec::new(),
            listeners: Vec::new(),
        };
        for _ in 0..size.pairs {
            all.add_pair(size.held)?;
        }
        for _ in 0..size.neighbours {
            let stop = Arc::clone(&all.stop);
            all.threads.push(thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
                Ok(())
            }));
        }
        Ok(all)
    }

    fn add_pair(&mut self, held: usize) -> Result<()> {
        let namespace = Arc::new(Namespace::new()?);
        let listener = listen(&namespace, LOOPBACK)?;
        let target = listener.local_addr()?;
        for _ in 0..held {
            let client = connect(&namespace, target)?;
            self.held.push((client, accept(&listener)?));
        }
        self.listeners.push(listener.try_clone()?);
        self.threads.push(thread::spawn(move || serve(&listener)));
        let (stop, connections) = (Arc::clone(&self.stop), Arc::clone(&self.connections));
        let within = Arc::clone(&namespace);
        self.threads.push(thread::spawn(move || {
            within.enter_for_good()?;
            let load = || {
                while !stop.load(Ordering::Relaxed) {
                    connect_once(target)?;
                    connections.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            };
            let done = load();
            let mut last = TcpStream::connect(target).context("cannot end the server")?;
            last.write_all(&[LAST]).context("cannot end the server")?;
            done
        }));
        self.namespaces.push(namespace);
        Ok(())
    }

    /// How many connections have come and gone so far.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Ends the load; what is held stays until this is dropped.
    ///
    /// # Errors
    /// When the kernel refused something.
    pub fn stop(&mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().map_err(|_| anyhow!("the load panicked"))??;
        }
        ensure!(self.connections() > 0, "no connection was made");
        Ok(())
    }
}

impl Drop for Saturation {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

/// What the last connection of a client sends.
const LAST: u8 = 1;

/// Accepts connections and closes each once its peer has, up to the client's last one. A server that stopped earlier could leave
/// its accept queue full, and that connection unanswered.
fn serve(listener: &TcpListener) -> Result<()> {
    loop {
        let (mut stream, _) = listener.accept().context("cannot accept")?;
        let mut received = [0];
        // A RST is an end, too.
        if stream.read(&mut received).is_ok() && received == [LAST] {
            return Ok(());
        }
    }
}

/// A connection that its client ends by a RST, so that no port stays taken.
fn connect_once(target: SocketAddr) -> Result<()> {
    reset(TcpStream::connect(target).context("cannot connect")?)
}
