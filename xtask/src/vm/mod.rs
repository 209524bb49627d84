//! `cargo xtask vm`: the end-to-end tests on other kernels than the running one.

mod cpio;
mod image;
mod kernel;
mod machine;
mod modules;
mod qemu;

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use self::{image::Contents, kernel::Kernel, machine::Machine, qemu::Qemu};
use crate::{
    process,
    report::{Outcome, Report},
    run,
    tally::Tally,
    test,
    workspace::Workspace,
};

/// The oldest long-term kernel that Debian still builds, and the one after it.
const KERNELS: [&str; 2] = ["6.1", "6.12"];

/// The binary that is a machine's first process.
const INIT: &str = "guest";

/// How much longer than on a machine of one's own everything may take: QEMU translates each instruction, and the
/// host may have better to do.
const PATIENCE: &str = "8";

/// More than a run takes, by far.
const LIMIT: Duration = Duration::from_mins(30);

/// Boots Debian's kernels in virtual machines, and runs the end-to-end tests in each.
///
/// Nothing is installed, and no root is needed: kernels are unpacked under `target`, and so is QEMU if it is not here.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The kernels: a series that Debian has, such as 6.12, or the path of a vmlinuz-RELEASE with its modules in
    /// ../lib/modules/RELEASE
    #[arg(default_values = KERNELS)]
    kernels: Vec<String>,
    /// Run this instead of the tests; all binaries of the project can be called by their names
    #[arg(long, value_name = "LINE", conflicts_with_all = ["shell", "tests"])]
    run: Option<String>,
    /// Open a shell in the machine instead; it ends with the shell
    #[arg(long, conflicts_with = "tests")]
    shell: bool,
    /// Count what cannot run as failed; CI=true in the environment says the same
    #[arg(long)]
    require_all: bool,
    /// What the tests take: a part of their names, or what `cargo test -- --help` tells
    #[arg(value_name = "ARGS", last = true)]
    tests: Vec<OsString>,
}

pub(crate) fn main(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    if args.shell {
        let [kernel] = args.kernels.as_slice() else {
            bail!("a shell is opened in one machine: name its kernel, as in `cargo xtask vm --shell 6.12`");
        };
        let binaries = Binaries::build(workspace)?;
        let guest = Guest::new(workspace, kernel, &binaries, &[], false)?;
        guest.machine().interactive()?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut report = Report::new(args.require_all || test::in_ci());
    let mut binaries = None;
    report.step("programs", || Ok(test::install_programs()));
    report.step("build", || {
        binaries = Some(Binaries::build(workspace)?);
        Ok(Outcome::Done("done".to_owned()))
    });
    if let Some(binaries) = binaries {
        // What they need is installed and downloaded one after the other.
        let guests = args
            .kernels
            .iter()
            .map(|kernel| guest(workspace, kernel, &binaries, args));
        let guests: Vec<_> = guests.collect();
        // An emulated machine keeps one processor busy at the most, so they run at the same time.
        thread::scope(|scope| {
            let running: Vec<_> = guests
                .into_iter()
                .zip(&args.kernels)
                .map(|(guest, kernel)| {
                    scope.spawn(move || {
                        let start = Instant::now();
                        let outcome = guest.and_then(|guest| boot(&guest, kernel, args));
                        (outcome, start.elapsed())
                    })
                })
                .collect();
            for (kernel, running) in args.kernels.iter().zip(running) {
                let broken = |_| (Err(anyhow::anyhow!("running it broke off")), Duration::ZERO);
                let (outcome, took) = running.join().unwrap_or_else(broken);
                println!("\n== Linux {kernel}");
                report.add(&format!("Linux {kernel}"), outcome, took);
            }
        });
    }
    Ok(report.finish())
}

fn guest(workspace: &Workspace, kernel: &str, binaries: &Binaries, args: &Args) -> Result<Guest> {
    let command = match &args.run {
        Some(line) => vec!["sh".into(), "-c".into(), line.into()],
        // Its output would be a terminal, for what it knows.
        None => [
            &[test::END_TO_END.into(), "--color=never".into()],
            args.tests.as_slice(),
        ]
        .concat(),
    };
    let require_all = args.require_all || test::in_ci();
    Guest::new(workspace, kernel, binaries, &command, require_all)
}

/// Runs one kernel's machine to its end.
fn boot(guest: &Guest, kernel: &str, args: &Args) -> Result<Outcome> {
    let mut tally = Tally::default();
    let ended = guest.machine().run(LIMIT, |line| {
        println!("{kernel:<5}| {line}");
        tally.add(line);
    })?;
    let (release, count) = (&guest.kernel.release, ended.complaints.len());
    let results = if args.run.is_none() {
        format!("{tally}, ")
    } else {
        String::new()
    };
    let complaints: String = ended
        .complaints
        .iter()
        .flat_map(|line| ["\n    ", line])
        .collect();
    let failures = tally.failures();
    let text = format!("{release}: {results}{count} complaint(s) of the kernel{complaints}{failures}");
    let console = guest.machine().console();
    match ended.status {
        Some(0) if !ended.complaints.is_empty() => bail!("{text}\n    more is in {}", console.display()),
        Some(0) if args.run.is_none() && tally.is_empty() => bail!("{text}; no test ran"),
        Some(0) => Ok(Outcome::Done(text)),
        Some(code) => bail!(
            "{text}\nexit status {code}; the console is in {}",
            console.display()
        ),
        None => bail!(
            "{text}\nended by a signal; the console is in {}",
            console.display()
        ),
    }
}

/// What is run in the machines.
struct Binaries {
    init: PathBuf,
    /// By the names that they are called by.
    named: Vec<(String, PathBuf)>,
}

impl Binaries {
    fn build(workspace: &Workspace) -> Result<Self> {
        let netstate = workspace.build(run::NETSTATE, run::BUILD, None)?;
        // Cargo builds the binaries of a package along with its tests.
        let tests = workspace.build_all(test::BUILD_END_TO_END, None)?;
        let folder = workspace.target.join("vm/bin");
        fs::create_dir_all(&folder)?;
        let mut binaries = Self {
            init: PathBuf::new(),
            named: Vec::new(),
        };
        for (name, path) in [(run::NETSTATE.to_owned(), netstate)].into_iter().chain(tests) {
            let small = folder.join(&name);
            strip(&path, &small)?;
            if name == INIT {
                binaries.init = small;
            } else {
                binaries.named.push((name, small));
            }
        }
        Ok(binaries)
    }
}

/// Leaves out what only a debugger reads, which is most of a binary.
fn strip(from: &Path, to: &Path) -> Result<()> {
    let mut strip = Command::new("strip");
    strip.arg("--strip-debug").arg("-o").arg(to).arg(from);
    process::output(&mut strip).map(drop)
}

/// A kernel and an image for it.
struct Guest {
    qemu: Qemu,
    kernel: Kernel,
    folder: PathBuf,
    image: PathBuf,
    /// Keeps others out of the folder.
    _lock: File,
}

impl Guest {
    fn new(
        workspace: &Workspace,
        kernel: &str,
        binaries: &Binaries,
        command: &[OsString],
        require_all: bool,
    ) -> Result<Self> {
        let qemu = Qemu::find(workspace)?;
        let kernel = Kernel::find(workspace, kernel)?;
        println!("Linux {}", kernel.release);
        let folder = workspace.target.join("vm").join(&kernel.release);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let lock = lock(&folder).with_context(|| format!("cannot lock {}", folder.display()))?;
        let image = folder.join("image.cpio");
        let mut environment = vec![
            ("PATH", "/bin".to_owned()),
            ("HOME", "/tmp".to_owned()),
            ("TERM", "linux".to_owned()),
            ("NETSTATE_BIN", format!("/bin/{}", run::NETSTATE)),
            ("NETSTATE_TEST_PATIENCE", PATIENCE.to_owned()),
            ("NETSTATE_TEST_OWN_MACHINE", "1".to_owned()),
        ];
        if require_all {
            environment.push(("NETSTATE_REQUIRE_ALL", "1".to_owned()));
        }
        image::write(
            &image,
            &Contents {
                binaries: &binaries.named,
                init: &binaries.init,
                modules: &kernel.modules,
                command,
                environment: &environment,
            },
        )?;
        Ok(Self {
            qemu,
            kernel,
            folder,
            image,
            _lock: lock,
        })
    }

    fn machine(&self) -> Machine<'_> {
        Machine {
            qemu: &self.qemu,
            kernel: &self.kernel,
            image: &self.image,
            folder: &self.folder,
        }
    }
}

/// Waits until no other run uses the folder.
fn lock(folder: &Path) -> io::Result<File> {
    let lock = File::create(folder.join("lock"))?;
    if lock.try_lock().is_err() {
        println!("waiting for another run of this kernel to end");
        lock.lock()?;
    }
    Ok(lock)
}
