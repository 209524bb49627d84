//! What a kernel announces and keeps from the tracer: seen on a microVM's 6.18, which runs no BPF program of a tracepoint
//! while a thread of its process 1 is the current task, and counts none of that. So what softirq does on such a thread is
//! told to nobody. tracefs is told, and says here what that was.

use std::{
    collections::BTreeSet,
    fs::{self, OpenOptions},
    io::{self, Write},
    net::IpAddr,
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result};
use rustix::{
    mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen},
    time::{ClockId, clock_gettime},
};

use super::states::State;

/// Between two looks at which threads process 1 has.
const LOOK: Duration = Duration::from_millis(20);
const THREADS: &str = "/proc/1/task";
const EVENT: &str = "events/sock/inet_sock_set_state/enable";

/// A change of state that the kernel has announced while a thread of process 1 was the current task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Announced {
    /// Nanoseconds since 1970.
    pub(super) time: i64,
    pub(super) from: State,
    pub(super) to: State,
    /// Local address, and port unless none was there yet.
    pub(super) local: (IpAddr, Option<u16>),
    pub(super) remote: (IpAddr, Option<u16>),
}

/// tracefs at work, in an instance of its own that is removed on drop.
#[derive(Debug)]
pub(super) struct Witness {
    instance: PathBuf,
    over: Arc<AtomicBool>,
    lookout: Option<JoinHandle<()>>,
    /// The mount, which nobody else sees and which goes with this.
    _tracefs: OwnedFd,
}

impl Witness {
    /// Begins; `None` where the kernel has no tracefs.
    ///
    /// # Errors
    /// When tracefs does not do what it should.
    pub(super) fn start() -> Result<Option<Self>> {
        let Ok(tracefs) = mount() else {
            return Ok(None);
        };
        let root = PathBuf::from(format!("/proc/self/fd/{}", tracefs.as_raw_fd()));
        let instance = root.join(format!("instances/netstate-test-{}", std::process::id()));
        fs::create_dir(&instance).context("cannot make an instance of tracefs")?;
        let mut witness = Self {
            instance,
            over: Arc::default(),
            lookout: None,
            _tracefs: tracefs,
        };
        witness.write("trace_clock", "boot")?;
        let mut known = BTreeSet::new();
        follow(&witness.instance, &mut known).context("cannot follow process 1")?;
        witness.write(EVENT, "1")?;
        let (instance, over) = (witness.instance.clone(), Arc::clone(&witness.over));
        witness.lookout = Some(thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                // A thread that has ended meanwhile cannot be followed.
                let _ = follow(&instance, &mut known);
                thread::sleep(LOOK);
            }
        }));
        Ok(Some(witness))
    }

    /// Ends, and says what was announced.
    ///
    /// # Errors
    /// When that makes no sense.
    pub(super) fn finish(mut self) -> Result<Vec<Announced>> {
        self.rest();
        self.write(EVENT, "0")?;
        let trace = fs::read_to_string(self.instance.join("trace"))?;
        let offset = boot_in_wall_time();
        let lines = trace
            .lines()
            .filter(|line| line.contains("protocol=IPPROTO_TCP "));
        let parse = |line: &str| parse(line, offset).with_context(|| format!("not understood: {line}"));
        lines.map(parse).collect()
    }

    fn write(&self, file: &str, value: &str) -> Result<()> {
        fs::write(self.instance.join(file), value)
            .with_context(|| format!("cannot write to {file} of tracefs"))
    }

    fn rest(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(lookout) = self.lookout.take() {
            // It does not panic.
            let _ = lookout.join();
        }
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.rest();
        // Refused only while something in it is open.
        let _ = fs::remove_dir(&self.instance);
    }
}

fn mount() -> io::Result<OwnedFd> {
    let tracefs = fsopen("tracefs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&tracefs)?;
    let mounted = fsmount(&tracefs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    Ok(mounted)
}

/// Has the threads of process 1 followed that are not `known` yet.
fn follow(instance: &Path, known: &mut BTreeSet<u32>) -> io::Result<()> {
    let mut followed = OpenOptions::new()
        .append(true)
        .open(instance.join("set_event_pid"))?;
    for entry in fs::read_dir(THREADS)? {
        let number = entry?.file_name().to_str().and_then(|name| name.parse().ok());
        if let Some(number) = number.filter(|number| known.insert(*number)) {
            write!(followed, "{number}")?;
        }
    }
    Ok(())
}

/// What the wall clock is ahead of the one that goes on while the host is suspended.
fn boot_in_wall_time() -> i64 {
    let nanoseconds = |clock| {
        let now = clock_gettime(clock);
        now.tv_sec * 1_000_000_000 + now.tv_nsec
    };
    nanoseconds(ClockId::Realtime) - nanoseconds(ClockId::Boottime)
}

/// `COMM-PID [CPU] FLAGS SECONDS.MICROSECONDS: inet_sock_set_state: KEY=VALUE…`.
fn parse(line: &str, offset: i64) -> Option<Announced> {
    let (head, fields) = line.split_once(": inet_sock_set_state: ")?;
    let (seconds, micros) = head.split_whitespace().next_back()?.split_once('.')?;
    let since_boot = seconds.parse::<i64>().ok()? * 1_000_000_000 + micros.parse::<i64>().ok()? * 1000;
    let field = |key: &str| {
        let mut fields = fields
            .split_whitespace()
            .filter_map(|field| field.split_once('='));
        fields.find_map(|(name, value)| (name == key).then_some(value))
    };
    let state = |key| State::named(field(key)?.strip_prefix("TCP_")?);
    let end = |addr, port| {
        let addr: IpAddr = field(addr)?.parse().ok()?;
        let port = field(port)?.parse().ok().filter(|port| *port != 0);
        Some((addr.to_canonical(), port))
    };
    Some(Announced {
        time: since_boot + offset,
        from: state("oldstate")?,
        to: state("newstate")?,
        local: end("saddrv6", "sport")?,
        remote: end("daddrv6", "dport")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_tracefs_is_understood() {
        let line = " tokio-rt-worker-75      [001] .Ns2. 11827.056125: inet_sock_set_state: family=AF_INET \
                    protocol=IPPROTO_TCP sport=20353 dport=21 saddr=10.77.0.2 daddr=127.0.0.1 \
                    saddrv6=::ffff:10.77.0.2 daddrv6=::ffff:127.0.0.1 oldstate=TCP_LAST_ACK newstate=TCP_CLOSE";
        let expected = Announced {
            time: 11_827_056_125_000 + 7,
            from: State::named("LAST_ACK").unwrap(),
            to: State::CLOSE,
            local: ("10.77.0.2".parse().unwrap(), Some(20353)),
            remote: ("127.0.0.1".parse().unwrap(), Some(21)),
        };
        assert_eq!(parse(line, 7), Some(expected));
        assert_eq!(parse("# tracer: nop", 7), None);
    }
}
