//! The holder's own side: orders come line by line on stdin, and each is answered with a line.

use std::{
    ffi::CString,
    io::{self, BufRead, Write},
    mem::MaybeUninit,
    net::SocketAddr,
    os::fd::{AsRawFd, OwnedFd},
    os::unix::net::{UnixListener, UnixStream},
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use socket2::{Domain, Protocol, Socket, Type};

use super::{
    hindered, kept,
    threads::{self, Handover},
};
use crate::passing;

/// First argument of the test binary in this role.
pub(super) const ROLE: &str = "act-as-holder";

/// Acts as a holder when the command line says so, and returns how to exit; `None` in a normal test run.
#[must_use]
pub fn act_if_asked() -> Option<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [role, name] = arguments.as_slice() else {
        return None;
    };
    if role != ROLE {
        return None;
    }
    Some(match act(name) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error:#}");
            ExitCode::FAILURE
        }
    })
}

fn act(name: &str) -> Result<()> {
    std::fs::write("/proc/self/comm", name).context("cannot set the process's name")?;
    serve(Sockets::default())
}

fn serve(mut sockets: Sockets) -> Result<()> {
    loop {
        // Locked for one line at a time: another thread may take the next one.
        let order = io::stdin().lock().lines().next();
        let Some(order) = order.transpose()? else {
            break;
        };
        if order == "end" {
            break;
        }
        if let Some(handover) = Handover::ordered(&order) {
            return handover.take(move |id| {
                say(&id)?;
                serve(sockets)
            });
        }
        let answer = match sockets.obey(&order) {
            Ok(answer) => answer,
            Err(error) => format!("failed: {error:#}"),
        };
        say(&answer)?;
    }
    Ok(())
}

fn say(answer: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{answer}")?;
    Ok(stdout.flush()?)
}

#[derive(Default)]
struct Sockets {
    listener: Option<Socket>,
    others: Vec<OwnedFd>,
}

impl Sockets {
    fn obey(&mut self, order: &str) -> Result<String> {
        let (verb, rest) = order.split_once(' ').unwrap_or((order, ""));
        match verb {
            "listen" => self.listen(Protocol::TCP),
            "listen-mptcp" => self.listen(Protocol::MPTCP),
            "connect" => self.connect(Protocol::TCP, rest.parse()?),
            "connect-mptcp" => self.connect(Protocol::MPTCP, rest.parse()?),
            "accept" => self.accept(),
            "pairs" => self.pairs(rest.parse()?),
            "dup" => self.dup(),
            "threads" => threads::start(rest.parse()?),
            "fork" => fork(rest.parse()?),
            "fork-as" => fork_as(rest.parse()?),
            "reap" => {
                // SAFETY: no status is asked for.
                done(if unsafe { libc::wait(std::ptr::null_mut()) } > 0 {
                    Ok(())
                } else {
                    Err(io::Error::last_os_error())
                })
            }
            "fork-accept" => {
                hindered::fork_accepting(self.listener.as_ref().context("not listening")?, rest.parse()?)
            }
            "fork-epoll" => hindered::fork_epoll(self.listener.as_ref().context("not listening")?),
            "fork-vfork" => hindered::fork_vfork(),
            "exit-leader" => hindered::exit_leader(),
            "trace" => hindered::trace(rest.parse()?),
            "ring" => self.ring(),
            "flight" => self.flight(),
            "rename" => done(std::fs::write("/proc/self/comm", rest)),
            "exec" => self.exec(rest),
            "pass" => self.pass(rest),
            "receive" => self.receive(rest),
            "open" => {
                self.others.push(std::fs::File::open(rest)?.into());
                Ok("opened".to_owned())
            }
            "close" => {
                *self = Self::default();
                Ok("closed".to_owned())
            }
            other => bail!("unknown order {other}"),
        }
    }

    fn listen(&mut self, protocol: Protocol) -> Result<String> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(protocol))?;
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
        socket.listen(1024)?;
        let address = socket.local_addr()?;
        self.listener = Some(socket);
        shown(&address)
    }

    fn connect(&mut self, protocol: Protocol, target: SocketAddr) -> Result<String> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(protocol))?;
        socket.connect(&target.into())?;
        let address = socket.local_addr()?;
        self.others.push(socket.into());
        shown(&address)
    }

    fn accept(&mut self) -> Result<String> {
        let (socket, remote) = self.listener.as_ref().context("not listening")?.accept()?;
        self.others.push(socket.into());
        shown(&remote)
    }

    fn pairs(&mut self, count: usize) -> Result<String> {
        let target = self.listen(Protocol::TCP)?.parse()?;
        for _ in 0..count {
            self.connect(Protocol::TCP, target)?;
            self.accept()?;
        }
        Ok("done".to_owned())
    }

    fn newest(&self) -> Result<&OwnedFd> {
        self.others.last().context("no socket")
    }

    fn dup(&mut self) -> Result<String> {
        let copy = self.newest()?.try_clone()?;
        let fd = copy.as_raw_fd();
        self.others.push(copy);
        Ok(fd.to_string())
    }

    /// Gives the newest socket to an `io_uring`, and closes its own descriptor.
    fn ring(&mut self) -> Result<String> {
        let socket = self.others.pop().context("no socket")?;
        self.others.push(kept::ring(&socket)?);
        Ok("done".to_owned())
    }

    /// Sends the newest socket to itself, does not receive it, and closes its own descriptor.
    fn flight(&mut self) -> Result<String> {
        let socket = self.others.pop().context("no socket")?;
        let (from, to) = UnixStream::pair()?;
        passing::pass(&from, &socket)?;
        self.others.extend([OwnedFd::from(from), OwnedFd::from(to)]);
        Ok("done".to_owned())
    }

    /// Becomes another program, which inherits the newest socket.
    fn exec(&self, program: &str) -> Result<String> {
        rustix::io::fcntl_setfd(self.newest()?, rustix::io::FdFlags::empty())?;
        let program = CString::new(program)?;
        let arguments = [program.as_ptr(), c"1000".as_ptr(), std::ptr::null()];
        // SAFETY: strings that end with NUL, and a list that ends with NULL.
        unsafe { libc::execv(program.as_ptr(), arguments.as_ptr()) };
        Err(io::Error::last_os_error().into())
    }

    fn pass(&self, path: &str) -> Result<String> {
        passing::pass(UnixStream::connect(path)?, self.newest()?)?;
        Ok("passed".to_owned())
    }

    fn receive(&mut self, path: &str) -> Result<String> {
        let listener = UnixListener::bind(path)?;
        println!("receiving");
        let (stream, _) = listener.accept()?;
        self.others.push(passing::take(stream)?);
        Ok("received".to_owned())
    }
}

/// Children that hold all that their parent holds.
fn fork(count: usize) -> Result<String> {
    let children = (0..count).map(|_| {
        // SAFETY: this process has one thread, so that the child may do anything.
        child(i64::from(unsafe { libc::fork() }))
    });
    let pids: Vec<_> = children.collect::<Result<_>>()?;
    Ok(pids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
}

/// A child that gets a process id that another has had.
fn fork_as(pid: libc::pid_t) -> Result<String> {
    let set_tid = [pid];
    // SAFETY: all of it may be zero.
    let mut arguments: libc::clone_args = unsafe { MaybeUninit::zeroed().assume_init() };
    arguments.exit_signal = u64::try_from(libc::SIGCHLD)?;
    arguments.set_tid = set_tid.as_ptr() as u64;
    arguments.set_tid_size = 1;
    // SAFETY: as `fork`, with a stack of its own since no memory is shared.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of_val(&arguments)) };
    Ok(child(pid)?.to_string())
}

/// What `fork` has returned: the child's process id; and the child itself waits for the end of its parent.
pub(super) fn child(pid: i64) -> Result<i64> {
    match pid {
        1.. => Ok(pid),
        0 => loop {
            // SAFETY: neither touches memory.
            unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                libc::pause();
            }
        },
        _ => Err(io::Error::last_os_error()).context("cannot fork"),
    }
}

fn done(result: io::Result<()>) -> Result<String> {
    result?;
    Ok("done".to_owned())
}

fn shown(address: &socket2::SockAddr) -> Result<String> {
    Ok(address.as_socket().context("not an IP socket")?.to_string())
}
