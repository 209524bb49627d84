//! What leads into a network namespace.

use std::{
    ffi::c_void,
    fs::File,
    io,
    os::fd::{FromRawFd as _, OwnedFd},
    path::PathBuf,
};

use rustix::{
    fs::{FileType, fstat},
    io::Errno,
    ioctl::{Ioctl, IoctlOutput, Opcode, ioctl},
    process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open},
};

use crate::{connection::Netns, facts::Descriptor};

/// A way into a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// A file of the namespace.
    File(PathBuf),
    /// A socket in it that a process holds. Nothing else may be left of a namespace.
    Socket(Descriptor),
}

impl Way {
    /// The namespace that it leads to now.
    ///
    /// # Errors
    ///
    /// When it leads nowhere any more: `NotFound`, or for a file of a process that has just ended `ESRCH`. When the
    /// process may not be looked at: `PermissionDenied`.
    pub fn leads_to(&self) -> io::Result<Netns> {
        match self {
            Self::File(path) => super::identify(path),
            Self::Socket(descriptor) => super::number(&through_socket(*descriptor)?.metadata()?),
        }
    }

    /// Opens the namespace, which lives on while that is open.
    ///
    /// # Errors
    ///
    /// As [`leads_to`](Self::leads_to).
    pub(super) fn open(&self) -> io::Result<File> {
        match self {
            Self::File(path) => File::open(path),
            Self::Socket(descriptor) => through_socket(*descriptor),
        }
    }
}

/// The namespace of a socket that another process holds. The socket is held here too meanwhile, for some microseconds: if
/// its process closes it just then, it is closed from here.
fn through_socket(descriptor: Descriptor) -> io::Result<File> {
    copied(descriptor).map_err(|error| {
        let kind = match error {
            // This process can have no more, which says nothing of the other one.
            Errno::MFILE | Errno::NFILE | Errno::NOMEM => return error.into(),
            Errno::PERM | Errno::ACCESS => io::ErrorKind::PermissionDenied,
            // The process has closed it or has ended; or there is something else by now.
            _ => io::ErrorKind::NotFound,
        };
        kind.into()
    })
}

fn copied(Descriptor { pid, fd }: Descriptor) -> Result<File, Errno> {
    let (pid, fd) = (i32::try_from(pid), i32::try_from(fd));
    let (Some(pid), Ok(fd)) = (pid.ok().and_then(Pid::from_raw), fd) else {
        return Err(Errno::SRCH);
    };
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    let socket = pidfd_getfd(process, fd, PidfdGetfdFlags::empty())?;
    // Whatever else has the number by now is not asked: of some files nobody knows what that does.
    if FileType::from_raw_mode(fstat(&socket)?.st_mode) != FileType::Socket {
        return Err(Errno::NOTSOCK);
    }
    // SAFETY: it is a socket, and `SIOCGSKNS` takes no argument.
    Ok(unsafe { ioctl(&socket, NamespaceOfSocket) }?.into())
}

/// `SIOCGSKNS` (`sock_ioctl`, 4.10): a descriptor of the socket's network namespace. Takes `CAP_NET_ADMIN` there.
struct NamespaceOfSocket;

// SAFETY: the opcode takes no pointer, and what it returns is a new descriptor, which nobody else owns.
unsafe impl Ioctl for NamespaceOfSocket {
    type Output = OwnedFd;

    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        /// `include/uapi/linux/sockios.h`.
        const SIOCGSKNS: Opcode = 0x894c;
        SIOCGSKNS
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::null_mut()
    }

    unsafe fn output_from_ptr(output: IoctlOutput, _: *mut c_void) -> rustix::io::Result<OwnedFd> {
        // SAFETY: the kernel has just given it to us.
        Ok(unsafe { OwnedFd::from_raw_fd(output) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespaces;
    use std::{net::TcpListener, os::fd::AsRawFd as _};

    fn of_own(fd: i32) -> Way {
        Way::Socket(Descriptor {
            pid: std::process::id(),
            fd: u32::try_from(fd).unwrap(),
        })
    }

    #[test]
    fn what_is_no_socket_leads_nowhere() {
        let file = File::open("/dev/null").unwrap();
        for way in [of_own(file.as_raw_fd()), of_own(i32::MAX)] {
            let error = way.leads_to().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotFound, "{way:?}: {error}");
        }
        let nobody = Way::Socket(Descriptor { pid: 0, fd: 0 });
        assert_eq!(nobody.leads_to().unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_socket_leads_to_its_namespace() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        match of_own(socket.as_raw_fd()).leads_to() {
            Ok(netns) => assert_eq!(netns, namespaces::own().unwrap()),
            // It takes a capability, which whoever runs the tests may not have.
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied),
        }
    }
}
