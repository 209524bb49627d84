//! Descriptors on their way from one process to another.

use std::{
    io::{self, ErrorKind, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, OwnedFd},
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

/// Sends a copy of `passed` through a socket of `AF_UNIX`, where it stays until somebody takes it.
///
/// # Errors
/// When the kernel refuses.
pub fn pass(through: impl AsFd, passed: impl AsFd) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let passed = [passed.as_fd()];
    if !control.push(SendAncillaryMessage::ScmRights(&passed)) {
        return Err(ErrorKind::InvalidInput.into());
    }
    sendmsg(&through, &[IoSlice::new(b"x")], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Takes what was sent by [`pass`].
///
/// # Errors
/// When the kernel refuses, or nothing was sent.
pub fn take(from: impl AsFd) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(
        &from,
        &mut [IoSliceMut::new(&mut byte)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let taken = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    taken.ok_or_else(|| ErrorKind::UnexpectedEof.into())
}
