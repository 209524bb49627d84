//! One run of QEMU: boots a kernel with an image, passes on what it prints, and ends it when it takes too long.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::{kernel::Kernel, qemu::Qemu};
use crate::process;

/// What the image's first process makes of its argument; see `tests/guest`.
const RUN: &str = "run";
const SHELL: &str = "shell";
const PROBE: &str = "probe";

/// How long a machine with hardware's help may take to boot: several times what it takes.
const PROBE_LIMIT: Duration = Duration::from_secs(15);

/// Every test has a daemon and several processes, and the first file system is in memory too.
const MEMORY: &str = "2G";
const PROCESSORS: &str = "2";

/// A panic ends the machine at once, and so does what follows it: `-no-reboot`. What guards against others on the
/// same hardware costs much where each instruction is translated, and guards nothing here.
const KERNEL_COMMAND_LINE: &str =
    "console=ttyS0 panic=-1 rdinit=/init mitigations=off init_on_alloc=0 audit=0";

/// What the kernel prints when something is wrong with it.
const COMPLAINTS: [&str; 6] = [
    "WARNING: ",
    "BUG: ",
    "Oops: ",
    "Kernel panic",
    "INFO: task ",
    "detected stall",
];

/// Who carries out the machine's instructions.
#[derive(Clone, Copy)]
enum Acceleration {
    Kvm,
    Tcg,
}

impl Acceleration {
    fn arguments(self) -> [&'static str; 4] {
        match self {
            Self::Kvm => ["-accel", "kvm", "-cpu", "host"],
            // One thread for all processors: with one each, QEMU 7.2 can run an instruction that another
            // processor has replaced, and the kernel replaces instructions all the time (static keys, ftrace).
            Self::Tcg => ["-accel", "tcg,thread=single", "-cpu", "max"],
        }
    }
}

/// A machine that can be started.
pub(crate) struct Machine<'a> {
    pub(crate) qemu: &'a Qemu,
    pub(crate) kernel: &'a Kernel,
    pub(crate) image: &'a Path,
    /// Where its logs go; made if need be.
    pub(crate) folder: &'a Path,
}

/// How a machine's command ended.
pub(crate) struct Ended {
    /// Its exit status; `None` when a signal ended it.
    pub(crate) status: Option<i32>,
    /// What the kernel complained of.
    pub(crate) complaints: Vec<String>,
}

impl Machine<'_> {
    /// Runs it, and calls `line` with each line that its command prints.
    pub(crate) fn run(&self, limit: Duration, mut line: impl FnMut(&str)) -> Result<Ended> {
        let acceleration = self.acceleration();
        self.boot(acceleration, RUN, limit, &mut line)
            .with_context(|| self.advice())?;
        let outcome = fs::read_to_string(self.outcome())?;
        let status = match outcome.trim().split_once(' ') {
            Some(("exit", code)) => Some(code.parse()?),
            Some(("signal", _)) => None,
            _ => bail!("the machine ended before its command did; {}", self.advice()),
        };
        Ok(Ended {
            status,
            complaints: self.complaints()?,
        })
    }

    /// Boots the machine and waits for its end.
    fn boot(
        &self,
        acceleration: Acceleration,
        mode: &str,
        limit: Duration,
        line: &mut dyn FnMut(&str),
    ) -> Result<()> {
        fs::create_dir_all(self.folder)?;
        for log in [self.console(), self.outcome()] {
            fs::write(&log, "").with_context(|| format!("cannot make {}", log.display()))?;
        }
        let mut qemu = self.command(acceleration, mode);
        qemu.arg("-serial").arg(serial_file(&self.console()));
        qemu.args(["-serial", "stdio"]);
        qemu.arg("-serial").arg(serial_file(&self.outcome()));
        qemu.stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = qemu.spawn().with_context(|| process::cannot_start(&qemu))?;
        let passed_on = pass_on(&mut child, limit, line);
        if passed_on.is_err() {
            child.kill().context("cannot end QEMU")?;
        }
        let output = child.wait_with_output().context("cannot wait for QEMU")?;
        passed_on?;
        if !output.status.success() {
            let complaint = String::from_utf8_lossy(&output.stderr);
            bail!("QEMU failed: {}: {}", output.status, complaint.trim());
        }
        Ok(())
    }

    /// Hardware's help where it works, else QEMU's own translation, which is some ten times slower.
    ///
    /// That is tried, once in the life of this process: where machines run in machines, KVM can be there and
    /// boot nothing.
    fn acceleration(&self) -> Acceleration {
        static FOUND: OnceLock<Acceleration> = OnceLock::new();
        *FOUND.get_or_init(|| {
            if File::options().read(true).write(true).open("/dev/kvm").is_err() {
                return Acceleration::Tcg;
            }
            let booted = self.boot(Acceleration::Kvm, PROBE, PROBE_LIMIT, &mut |_| ());
            let ready = fs::read_to_string(self.outcome()).is_ok_and(|outcome| outcome.trim() == PROBE);
            if booted.is_ok() && ready {
                return Acceleration::Kvm;
            }
            println!("KVM boots no machine here; QEMU translates instead, which is slow");
            Acceleration::Tcg
        })
    }

    /// Runs it with its console on this terminal.
    pub(crate) fn interactive(&self) -> Result<()> {
        let mut qemu = self.command(self.acceleration(), SHELL);
        qemu.args(["-serial", "mon:stdio", "-serial", "null", "-serial", "null"]);
        process::run(&mut qemu)
    }

    /// QEMU's command line but for the serial ports; `mode` is for the machine's first process.
    fn command(&self, acceleration: Acceleration, mode: &str) -> Command {
        let mut qemu = self.qemu.command();
        qemu.args(acceleration.arguments());
        qemu.args(["-smp", PROCESSORS, "-m", MEMORY]);
        qemu.args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]);
        qemu.arg("-kernel").arg(&self.kernel.image);
        qemu.arg("-initrd").arg(self.image);
        qemu.arg("-append")
            .arg(format!("{KERNEL_COMMAND_LINE} -- {mode}"));
        qemu
    }

    /// What the console showed.
    pub(crate) fn console(&self) -> PathBuf {
        self.folder.join("console.log")
    }

    fn outcome(&self) -> PathBuf {
        self.folder.join("outcome")
    }

    fn advice(&self) -> String {
        let console = fs::read(self.console()).unwrap_or_default();
        let console = String::from_utf8_lossy(&console);
        let lines: Vec<_> = console.lines().collect();
        let last = lines[lines.len().saturating_sub(15)..].join("\n    ");
        format!("{} ends with\n    {last}", self.console().display())
    }

    fn complaints(&self) -> Result<Vec<String>> {
        let console = fs::read(self.console())?;
        let lines = String::from_utf8_lossy(&console).into_owned();
        let is_complaint = |line: &&str| COMPLAINTS.iter().any(|mark| line.contains(mark));
        Ok(lines.lines().filter(is_complaint).map(str::to_owned).collect())
    }
}

/// Passes on what the machine prints, until it ends or `limit` is over.
fn pass_on(child: &mut Child, limit: Duration, line: &mut dyn FnMut(&str)) -> Result<()> {
    let stdout = child.stdout.take().context("no standard output")?;
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let mut reader = BufReader::new(stdout);
        let mut bytes = Vec::new();
        while reader.read_until(b'\n', &mut bytes).is_ok_and(|count| count > 0) {
            let text = String::from_utf8_lossy(&bytes);
            if tell.send(text.trim_end_matches(['\r', '\n']).to_owned()).is_err() {
                break;
            }
            bytes.clear();
        }
    });
    let end = Instant::now() + limit;
    loop {
        match told.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(text) => line(&text),
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
            Err(RecvTimeoutError::Timeout) => bail!("the machine still runs after {limit:?}"),
        }
    }
}

fn serial_file(path: &Path) -> String {
    // QEMU splits options at commas, and takes two for one.
    format!("file:{}", path.display()).replace(',', ",,")
}
