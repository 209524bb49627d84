//! Threads that help to load.

use std::{
    panic::resume_unwind,
    thread::{Builder, Scope, ScopedJoinHandle},
};

use super::LoadError;

/// Starts one.
///
/// # Errors
///
/// When the system has none left.
pub(super) fn spawn<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, T>, LoadError> {
    let thread = Builder::new().name("loader".to_owned());
    thread
        .spawn_scoped(scope, work)
        .map_err(|error| LoadError::other("cannot start a thread", &error))
}

/// Waits for what comes of it.
pub(super) fn join<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
}
