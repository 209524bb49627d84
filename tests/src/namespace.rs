//! Network namespaces of the tests' own.

use std::{
    fs::{self, File},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Output},
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use anyhow::{Context, Result, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Where `ip netns add` puts its files.
const DIRECTORY: &str = "/run/netns";
/// What the names begin with; the number of the process follows, and that of the namespace.
const PREFIX: &str = "netstate-test-";

/// A network namespace with only `lo` in it, deleted on drop.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    file: File,
    inode: u32,
}

impl Namespace {
    /// Makes a namespace with a name that no other has, and sets `lo` up.
    ///
    /// # Errors
    /// When `ip` is not there or refuses.
    pub fn new() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        if number == 0 {
            delete_leftovers();
        }
        let name = format!("{PREFIX}{}-{number}", std::process::id());
        checked(
            Command::new("ip").args(["netns", "add", &name]).output(),
            "ip netns add",
        )?;
        let path = Path::new(DIRECTORY).join(&name);
        let opened = File::open(&path).and_then(|file| Ok((file.metadata()?.ino(), file)));
        let (inode, file) = opened.with_context(|| format!("cannot open {}", path.display()))?;
        let namespace = Self {
            name,
            file,
            inode: u32::try_from(inode)?,
        };
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// The name that `ip netns` knows it by.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that it is mounted on.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        Path::new(DIRECTORY).join(&self.name)
    }

    /// Inode number of the namespace.
    #[must_use]
    pub fn inode(&self) -> u32 {
        self.inode
    }

    /// Runs `work` on a thread inside the namespace. Sockets made there stay in the namespace, and so do
    /// processes started there.
    ///
    /// # Panics
    /// When the namespace cannot be entered, or `work` panics.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("setns into a namespace of this process's own failed");
            work()
        };
        thread::scope(|scope| scope.spawn(inside).join())
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Moves the calling thread into the namespace.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn enter_for_good(&self) -> std::io::Result<()> {
        Ok(move_into_link_name_space(
            self.file.as_fd(),
            Some(LinkNameSpaceType::Network),
        )?)
    }

    /// A way in that lasts longer than its name.
    ///
    /// # Errors
    /// When there are too many descriptors.
    pub fn way(&self) -> std::io::Result<OwnedFd> {
        self.file.as_fd().try_clone_to_owned()
    }

    /// Starts `command` inside the namespace.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&self, command: &mut Command) -> Result<Child> {
        let program = command.get_program().to_owned();
        self.enter(|| command.spawn())
            .with_context(|| format!("cannot start {}", program.display()))
    }

    /// Runs `command` inside the namespace to its end.
    ///
    /// # Errors
    /// When it cannot be started; an exit status other than 0 is the caller's to judge.
    pub fn output(&self, command: &mut Command) -> Result<Output> {
        let program = command.get_program().to_owned();
        self.enter(|| command.output())
            .with_context(|| format!("cannot start {}", program.display()))
    }

    /// Runs `program` with `arguments` (separated by blanks) inside the namespace; returns its stdout.
    ///
    /// # Errors
    /// When it cannot be started or fails.
    pub fn run(&self, program: &str, arguments: &str) -> Result<String> {
        let output = self.enter(|| Command::new(program).args(arguments.split_whitespace()).output());
        checked(output, &format!("{program} {arguments}"))
    }

    /// Runs `ip` with `arguments` inside the namespace.
    ///
    /// # Errors
    /// When it fails.
    pub fn ip(&self, arguments: &str) -> Result<()> {
        self.run("ip", arguments).map(drop)
    }

    /// Sets a `net.` parameter, such as `ipv4/tcp_fin_timeout`, for this namespace alone.
    ///
    /// # Errors
    /// When the kernel has no such parameter or refuses the value.
    pub fn set_parameter(&self, name: &str, value: &str) -> Result<()> {
        // /proc/sys/net shows the namespace of the thread that opens it.
        let path = PathBuf::from("/proc/sys/net").join(name);
        self.enter(|| std::fs::write(&path, value))
            .with_context(|| format!("cannot write {value} to {}", path.display()))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let output = Command::new("ip").args(["netns", "delete", &self.name]).output();
        if let Err(error) = checked(output, "ip netns delete") {
            eprintln!("{} is left behind: {error:#}", self.name);
        }
    }
}

/// Deletes the namespaces of processes that were killed before they could do so: every sweep would have to look into them, and
/// what it costs is measured.
fn delete_leftovers() {
    let names = fs::read_dir(DIRECTORY).into_iter().flatten().flatten();
    for name in names.filter_map(|entry| entry.file_name().into_string().ok()) {
        let process = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        let ended = |process: &str| !Path::new("/proc").join(process).exists();
        if process.is_some_and(ended) {
            // Another test may be at it as well.
            let _ = Command::new("ip").args(["netns", "delete", &name]).output();
        }
    }
}

/// The stdout of a command that must succeed.
fn checked(output: std::io::Result<Output>, what: &str) -> Result<String> {
    let output = output.with_context(|| format!("cannot run {what}"))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{what}: {}: {}",
        output.status,
        complaint.trim()
    );
    String::from_utf8(output.stdout).with_context(|| format!("{what} printed something that is not UTF-8"))
}
