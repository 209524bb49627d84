//! Having a Unix socket to oneself.

use std::{
    fs::{self, DirBuilder, File, Permissions, TryLockError},
    io,
    os::unix::{
        fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt, PermissionsExt},
        net,
    },
    path::{Path, PathBuf},
};

use tokio::net::{UnixListener, UnixStream};

/// The socket cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another daemon has it.
    #[error(
        "a netstate daemon already serves {0}; query it with `netstate list`, stop it, or give another --socket"
    )]
    InUse(PathBuf),
    /// Another program listens there.
    #[error("another program listens at {0}; give another --socket")]
    Foreign(PathBuf),
    /// Something that is no socket is there.
    #[error("{0} is there and is no socket; remove it, or give another --socket")]
    NotASocket(PathBuf),
    /// The system refused.
    #[error(
        "cannot listen at {path}: {action}: {error}; give another --socket, short enough and in a folder that you may write to"
    )]
    Io {
        /// The socket.
        path: PathBuf,
        /// What failed.
        action: &'static str,
        /// Why.
        error: io::Error,
    },
}

/// The right to a socket's path, before there is a socket: it is made once there is something to answer.
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
    /// Whoever holds the lock may replace a socket that a killed daemon left behind.
    _lock: File,
}

impl Claim {
    /// Claims `path` for this daemon.
    ///
    /// # Errors
    ///
    /// [`ListenError`].
    pub fn new(path: &Path) -> Result<Self, ListenError> {
        // Said now, and not after the tracer has been loaded for nothing.
        net::SocketAddr::from_pathname(path).map_err(refused(path, "its name"))?;
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            let folder_error = refused(path, "cannot make its folder");
            DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(folder)
                .map_err(folder_error)?;
        }
        let lock = lock(path)?;
        remove_stale(path)?;
        Ok(Self {
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// Makes the socket.
    ///
    /// # Errors
    ///
    /// [`ListenError`].
    pub fn listen(self) -> Result<Listener, ListenError> {
        let listener = UnixListener::bind(&self.path).map_err(refused(&self.path, "cannot bind"))?;
        let mode = Permissions::from_mode(0o660);
        fs::set_permissions(&self.path, mode).map_err(refused(&self.path, "cannot set its mode"))?;
        Ok(Listener {
            listener,
            claim: self,
        })
    }
}

/// A Unix socket that is this daemon's. It goes when this is dropped.
#[derive(Debug)]
pub struct Listener {
    listener: UnixListener,
    claim: Claim,
}

impl Listener {
    pub(super) async fn accept(&self) -> io::Result<UnixStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // The lock's file stays: removing it would let two daemons lock two files of one name.
        let _ = fs::remove_file(&self.claim.path);
    }
}

/// What the system said when `action` was tried for the socket at `path`.
fn refused(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> ListenError {
    let path = path.to_owned();
    move |error| ListenError::Io { path, action, error }
}

fn lock(path: &Path) -> Result<File, ListenError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = File::options()
        .create(true)
        // A lock that others may open is a lock that others may take.
        .mode(0o600)
        .write(true)
        .truncate(false)
        .open(&name)
        .map_err(refused(path, "cannot open its lock"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(ListenError::InUse(path.to_owned())),
        Err(TryLockError::Error(error)) => Err(refused(path, "cannot lock it")(error)),
    }
}

fn remove_stale(path: &Path) -> Result<(), ListenError> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => match net::UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path)
                .map_err(refused(path, "cannot remove the socket of a daemon that is gone")),
            // It is alive, and no netstate: that would hold the lock.
            _ => Err(ListenError::Foreign(path.to_owned())),
        },
        Ok(_) => Err(ListenError::NotASocket(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(refused(path, "cannot look at it")(error)),
    }
}
