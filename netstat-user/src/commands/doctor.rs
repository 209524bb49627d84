//! `netstate doctor`: can it run here, and what is to be done if not.

use std::{
    net::{Ipv4Addr, TcpListener},
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use rustix::system::uname;
use serde::Serialize;

use crate::{
    cli::DoctorArgs,
    client::{Client, ClientError},
    decode::RingRecord,
    engine::{DEFAULT_NICE, try_nice},
    facts::FigureSet,
    loader::{self, Tracer, VMLINUX},
    output::{self, json},
    sources,
    sweeper::{Decoder, Figuring, Job, Outcome, Scope, SweepError, Walker},
    tcp::TcpState,
};

/// What one check found.
#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    ok: bool,
    detail: String,
}

impl Finding {
    fn good(check: &'static str, detail: impl Into<String>) -> Self {
        Self {
            check,
            ok: true,
            detail: detail.into(),
        }
    }

    fn bad(check: &'static str, detail: impl Into<String>) -> Self {
        Self {
            check,
            ok: false,
            detail: detail.into(),
        }
    }
}

/// Runs the command: 1 when something is missing.
pub(super) async fn run(socket: &Path, args: DoctorArgs) -> anyhow::Result<ExitCode> {
    let mut findings = vec![kernel(), btf(), privileges(), precedence()];
    findings.extend(tracer());
    findings.push(daemon(socket).await);
    let mut out = output::stdout();
    for finding in &findings {
        output::written(if args.json {
            json::line(&mut out, finding)
        } else {
            line(&mut out, finding)
        })?;
    }
    output::written(std::io::Write::flush(&mut out))?;
    let all_good = findings.iter().all(|finding| finding.ok);
    Ok(if all_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn line(out: &mut impl std::io::Write, finding: &Finding) -> std::io::Result<()> {
    let mark = if finding.ok { "ok  " } else { "FAIL" };
    writeln!(out, "{mark}  {:<12} {}", finding.check, finding.detail)
}

fn kernel() -> Finding {
    let system = uname();
    let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
    Finding::good(
        "kernel",
        format!(
            "{} {} {}",
            text(system.sysname()),
            text(system.release()),
            text(system.machine())
        ),
    )
}

fn btf() -> Finding {
    match loader::check_fields() {
        Ok(absent) if absent.is_empty() => {
            Finding::good("BTF", format!("{VMLINUX} has every field that netstate reads"))
        }
        Ok(absent) => Finding::good(
            "BTF",
            format!(
                "{VMLINUX} has every field that is needed; without {}",
                absent.join(", ")
            ),
        ),
        Err(error) => Finding::bad("BTF", error.to_string()),
    }
}

/// Capabilities by their bits (`include/uapi/linux/capability.h`): those that tracing takes, and those that
/// more takes besides, with what.
const TO_TRACE: [(u32, &str); 2] = [(38, "CAP_PERFMON"), (39, "CAP_BPF")];
const TO_SEE_MORE: [(u32, &str, &str); 2] = [
    (21, "CAP_SYS_ADMIN", "to scan other network namespaces"),
    (
        19,
        "CAP_SYS_PTRACE",
        "to find those that only other users' processes lead to, as containers' do",
    ),
];

fn privileges() -> Finding {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let Some(mask) = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()) else {
        return Finding::bad("privileges", "cannot read /proc/self/status; is /proc mounted?");
    };
    let lacks = |bit: u32| mask & (1 << bit) == 0;
    let trace = TO_TRACE.iter().filter(|(bit, _)| lacks(*bit));
    let trace = trace.map(|(_, name)| *name).collect::<Vec<_>>().join(", ");
    let more = TO_SEE_MORE.iter().filter(|(bit, ..)| lacks(*bit));
    let more = more.map(|(_, name, what)| format!("{name} is missing {what}"));
    match (trace, more.collect::<Vec<_>>().join("; ")) {
        (none, nor) if none.is_empty() && nor.is_empty() => {
            Finding::good("privileges", "all capabilities that netstate uses")
        }
        (none, enter) if none.is_empty() => Finding::good(
            "privileges",
            format!("enough for this network namespace; {enter}: run with sudo"),
        ),
        (trace, _) => Finding::bad("privileges", format!("{trace} missing: run with sudo")),
    }
}

/// Whether the thread that reads the ring can have its precedence.
fn precedence() -> Finding {
    match try_nice(DEFAULT_NICE) {
        Ok(()) => Finding::good(
            "precedence",
            format!("the event ring can be read at nice {DEFAULT_NICE}"),
        ),
        Err(why) => Finding::good("precedence", why),
    }
}

/// Loads and attaches everything, and tries it.
fn tracer() -> Vec<Finding> {
    match loader::attach(RING, &[]) {
        Err(error) => vec![Finding::bad("programs", error.to_string())],
        Ok(tracer) => try_out(tracer),
    }
}

const RING: u32 = 1 << 20;

fn try_out(mut tracer: Tracer) -> Vec<Finding> {
    let mut findings = vec![Finding::good("programs", "the kernel accepts and attaches them")];
    findings.push(match listen_once() {
        Err(error) => Finding::bad("events", format!("cannot listen on 127.0.0.1 to try: {error}")),
        Ok(port) if announced(&mut tracer, port) => {
            Finding::good("events", "tp_btf/inet_sock_set_state announces a new listener")
        }
        Ok(_) => Finding::bad(
            "events",
            "tp_btf/inet_sock_set_state is attached but did not announce a new listener; \
             please report this with the output of `uname -a`",
        ),
    });
    findings.push(match tracer.iterators.without_figures() {
        None => Finding::good(
            "figures",
            "timers, windows and other details of sockets can be read",
        ),
        Some(error) => Finding::good("figures", format!("`list -o` has none: {error}")),
    });
    findings.push(match tracer.iterators.prepare_looks() {
        Ok(()) => Finding::good("probes", "single sockets can be read without a scan"),
        Err(error) => Finding::good("probes", format!("each `list` scans all sockets: {error}")),
    });
    let mut walker = Walker::new(tracer.iterators);
    findings.push(walked(
        "sockets",
        "iter/tcp",
        &mut walker,
        Job::Sockets(Scope::once(None, Figuring::Everywhere)),
    ));
    findings.push(walked("holders", "iter/task_file", &mut walker, Job::Holders));
    let sources = sources::describe(&tracer.hooks);
    findings.extend(sources.into_iter().map(|source| Finding::good("source", source)));
    findings
}

/// Makes a listener on a free port and lets it go.
fn listen_once() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn announced(tracer: &mut Tracer, port: u16) -> bool {
    let limit = Instant::now() + Duration::from_secs(1);
    while Instant::now() < limit {
        match tracer.events.take() {
            Some(Ok(RingRecord::State(event)))
                if event.to == TcpState::Listen && event.connection.local.port() == Some(port) =>
            {
                return true;
            }
            Some(_) => {}
            None => std::thread::yield_now(),
        }
    }
    false
}

fn walked(check: &'static str, iterator: &str, walker: &mut Walker, job: Job) -> Finding {
    let mut count = 0;
    let (mut failures, mut decoder, mut refused) = (Vec::new(), Decoder::default(), None);
    // Walking enters other namespaces: on a thread of its own, which ends with the walk.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            walker.run(job, |outcome| match outcome {
                Outcome::Part(part, _) => {
                    if let Some(part) = decoder.decode(&part, &mut FigureSet::default()) {
                        count += part.sightings.len();
                        decoder.take_back(part);
                    }
                }
                Outcome::SocketsDone(mut done) => {
                    std::mem::take(&mut decoder).judge(&mut done);
                    refused = done.refused;
                    failures.extend(done.failed.into_iter().map(|failed| failed.1));
                }
                Outcome::HoldersDone(done) => match done.found {
                    Ok(scan) => count += scan.holders().len(),
                    Err(error) => failures.push(error),
                },
                Outcome::Counted(..) | Outcome::LooksPrepared(_) | Outcome::Looked(..) => {}
            });
        });
    });
    let fatal = failures
        .iter()
        .find(|failure| !matches!(failure, SweepError::Enter { .. }));
    if let Some(failure) = fatal {
        return Finding::bad(check, format!("{iterator}: {failure}"));
    }
    let closed = failures.first().map(ToString::to_string);
    let refused = refused.map(|refused| refused.to_string());
    let notes = closed.into_iter().chain(refused).map(|note| format!("; {note}"));
    Finding::good(
        check,
        format!("{iterator} finds {count}{}", notes.collect::<String>()),
    )
}

async fn daemon(socket: &Path) -> Finding {
    match Client::connect(socket).await {
        Ok(mut client) => match client.stats().await {
            Ok(stats) => Finding::good(
                "daemon",
                format!("netstate {} answers at {}", stats.version, socket.display()),
            ),
            Err(error) => Finding::bad("daemon", error.to_string()),
        },
        Err(ClientError::Absent(path)) => Finding::good(
            "daemon",
            format!(
                "none at {}; `watch`, `list` and `stuck` work without, `netstate daemon` starts one",
                path.display()
            ),
        ),
        Err(error) => Finding::bad("daemon", error.to_string()),
    }
}
