//! Socket calls that the standard library and socket2 do not have.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
};

use libc::{c_char, c_int, c_short};
use socket2::{Domain, SockFilter, SockRef, Socket, Type};

/// `IPPROTO_MPTCP`, `include/uapi/linux/in.h`.
pub(super) const IPPROTO_MPTCP: i32 = 262;
/// `include/uapi/linux/tcp.h`.
pub(super) const TCP_FASTOPEN_NO_COOKIE: c_int = 34;

/// Sets an option of `IPPROTO_TCP`.
///
/// # Errors
/// When the kernel refuses.
pub(super) fn set_tcp(socket: impl AsFd, option: c_int, value: c_int) -> io::Result<()> {
    crate::sockets::set_tcp_option(socket, option, value)
}

/// From now on the kernel drops every packet that comes for this socket (`tcp_filter`), as if it had been
/// lost on the way. Minisocks and those that a listener has already accepted are not concerned.
///
/// # Errors
/// When the kernel refuses.
pub(super) fn deafen(socket: impl AsFd) -> io::Result<()> {
    SockRef::from(&socket).attach_filter(&[SockFilter::new(RETURN, 0, 0, 0)])
}

/// `BPF_RET | BPF_K`: with 0, keep nothing of the packet.
const RETURN: u16 = 6;

/// Undoes [`deafen`].
///
/// # Errors
/// When the kernel refuses: it was not deaf.
pub(super) fn hear(socket: impl AsFd) -> io::Result<()> {
    SockRef::from(&socket).detach_filter()
}

/// The network namespace that `socket` is in.
///
/// # Errors
/// When it is no socket.
pub(super) fn namespace_of(socket: impl AsFd) -> io::Result<OwnedFd> {
    /// `include/uapi/linux/sockios.h`.
    const SIOCGSKNS: libc::c_ulong = 0x894c;
    // SAFETY: the request takes no argument and returns a new descriptor or -1.
    unsafe {
        let fd = libc::ioctl(socket.as_fd().as_raw_fd(), SIOCGSKNS as _);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Moves the calling thread into a network namespace of its own.
///
/// # Errors
/// When the kernel refuses.
pub(super) fn leave_namespace() -> io::Result<()> {
    // SAFETY: only the thread's network namespace changes; no memory or descriptor table is unshared.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Sets `lo` up in the calling thread's namespace.
///
/// # Errors
/// When the kernel refuses.
pub(super) fn set_loopback_up() -> io::Result<()> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
    // SAFETY: all of its fields are numbers, or unions of such.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = c_char::try_from(b'l').unwrap_or(0);
    request.ifr_name[1] = c_char::try_from(b'o').unwrap_or(0);
    request.ifr_ifru.ifru_flags = c_short::try_from(libc::IFF_UP | libc::IFF_RUNNING).unwrap_or(0);
    // SAFETY: the request is given the `struct ifreq` that it takes.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Lets this process have as many descriptors as it may.
///
/// # Errors
/// When the kernel refuses.
pub(super) fn raise_descriptor_limit() -> io::Result<usize> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)?;
    Ok(limit
        .maximum
        .and_then(|most| usize::try_from(most).ok())
        .unwrap_or(usize::MAX))
}

/// A cookie that no socket has yet, and that those made from now on soon pass: each CPU deals them out of a batch of 4096
/// of its own (`gen_cookie_next`).
///
/// # Errors
/// When no socket can be made.
pub(super) fn next_cookies() -> io::Result<u64> {
    const BATCH: u64 = 4096;
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    let processors = std::thread::available_parallelism()?.get() as u64;
    Ok(socket.cookie()? + BATCH * processors)
}
