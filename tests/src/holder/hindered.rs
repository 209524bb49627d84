//! Processes that cannot run, or that share a listener and differ in what they do with it.

use std::{io, thread};

use anyhow::{Result, ensure};
use rustix::event::epoll;
use socket2::Socket;

use super::role::child;

/// Children that accept one connection each and do nothing afterwards; returns when all have.
pub(super) fn fork_accepting(listener: &Socket, count: usize) -> Result<String> {
    let (mut done, tell) = io::pipe()?;
    let mut pids = Vec::new();
    for _ in 0..count {
        // SAFETY: this process has one thread, so that the child may do anything.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let accepted = listener.accept();
            // Its end tells the parent.
            let _ = io::Write::write(&mut &tell, &[u8::from(accepted.is_ok())]);
            child(0)?;
        }
        ensure!(pid > 0, "cannot fork: {}", io::Error::last_os_error());
        pids.push(pid.to_string());
    }
    let mut accepted = vec![0; count];
    io::Read::read_exact(&mut done, &mut accepted)?;
    ensure!(
        accepted.iter().all(|accepted| *accepted == 1),
        "one could not accept"
    );
    Ok(pids.join(" "))
}

/// A child that waits for connections by an epoll instance of its own, edge-triggered, and misses those that are there:
/// it has been told of them.
pub(super) fn fork_epoll(listener: &Socket) -> Result<String> {
    let (mut done, tell) = io::pipe()?;
    // SAFETY: this process has one thread, so that the child may do anything.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let instance = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let events = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&instance, listener, epoll::EventData::new_u64(0), events)?;
        let _ = io::Write::write(&mut &tell, &[1]);
        child(0)?;
    }
    ensure!(pid > 0, "cannot fork: {}", io::Error::last_os_error());
    io::Read::read_exact(&mut done, &mut [0])?;
    Ok(pid.to_string())
}

/// A child that sleeps uninterruptibly until a child of its own ends: that is how `vfork` waits
/// (`wait_for_vfork_done`).
pub(super) fn fork_vfork() -> Result<String> {
    // SAFETY: this process has one thread, so that the child may do anything.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let flags = libc::CLONE_VFORK | libc::SIGCHLD;
        // SAFETY: it touches no memory. The signal ends the sleep, too.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        // SAFETY: as `fork`, since no memory is shared; the stack is the same.
        let inner = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
        child(inner)?;
        child(0)?;
    }
    ensure!(pid > 0, "cannot fork: {}", io::Error::last_os_error());
    Ok(pid.to_string())
}

/// Ends the main thread; another one lives on.
pub(super) fn exit_leader() -> Result<String> {
    thread::Builder::new().spawn(|| {
        println!("exits");
        loop {
            thread::park();
        }
    })?;
    // SAFETY: only this thread ends, and nothing that the other one uses is on its stack.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
    Err(io::Error::last_os_error().into())
}

/// Stops a process as a debugger does.
pub(super) fn trace(pid: libc::pid_t) -> Result<String> {
    let null = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: attaching takes no memory.
    let attached = unsafe { libc::ptrace(libc::PTRACE_ATTACH, pid, null, null) };
    ensure!(
        attached == 0,
        "cannot trace {pid}: {}",
        io::Error::last_os_error()
    );
    // SAFETY: no status is asked for.
    let waited = unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::__WALL) };
    ensure!(waited == pid, "it does not stop");
    Ok("traced".to_owned())
}
