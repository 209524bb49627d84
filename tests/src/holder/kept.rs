//! Sockets that only an `io_uring` has.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use anyhow::{Context, Result, ensure};
use rustix::io_uring::{IoringRegisterOp, io_uring_params, io_uring_register, io_uring_setup};

/// A ring that has registered `file`.
pub(super) fn ring(file: impl AsFd) -> Result<OwnedFd> {
    let mut params = io_uring_params::default();
    // SAFETY: the parameters ask for nothing that has to be mapped or kept.
    let ring = unsafe { io_uring_setup(4, &mut params) }.context("io_uring_setup")?;
    let files = [-1, file.as_fd().as_raw_fd()];
    let count = u32::try_from(files.len())?;
    // SAFETY: so many descriptors are there, which the kernel reads before it returns.
    let registered = unsafe {
        io_uring_register(
            &ring,
            IoringRegisterOp::RegisterFiles,
            files.as_ptr().cast(),
            count,
        )
    };
    ensure!(registered? == 0, "the file is not registered");
    Ok(ring)
}
