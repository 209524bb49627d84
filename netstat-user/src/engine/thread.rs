//! The thread that the engine runs on.

use std::{future::Future, io, thread};

use tokio::sync::oneshot;

use super::{Engine, EngineError};

/// The engine at work.
#[derive(Debug)]
pub struct Thread(oneshot::Receiver<Result<(), EngineError>>);

impl Engine {
    /// Runs the engine on a thread of its own until `stop` completes, then detaches everything.
    ///
    /// # Errors
    ///
    /// When no thread can be had.
    pub fn spawn(self, stop: impl Future<Output = ()> + Send + 'static) -> io::Result<Thread> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (ended, end) = oneshot::channel();
        thread::Builder::new().name("engine".to_owned()).spawn(move || {
            // Nobody waits for it: the program is about to end.
            let _ = ended.send(runtime.block_on(self.run(stop)));
        })?;
        Ok(Thread(end))
    }
}

impl Thread {
    /// Waits until the engine has stopped. `None` when its thread has ended without a word, which is a bug.
    ///
    /// # Errors
    ///
    /// When the tracer has broken down.
    pub async fn ended(self) -> Option<Result<(), EngineError>> {
        self.0.await.ok()
    }
}
