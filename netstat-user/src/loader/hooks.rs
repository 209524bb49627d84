//! The hooks in the kernel's own functions (`fentry`, `fexit`), and its further tracepoints (`tp_btf`): each is optional. What
//! a hook in a function would have told is left to the sweeps where a kernel refuses it; what a tracepoint would have told is
//! not known then.

use super::{LoadError, missing, program, verification::Target};
use crate::sources::{HookState, Subject};
use aya::{
    Btf, Ebpf,
    programs::{BtfTracePoint, FEntry, FExit, ProgramError, ProgramFd},
};

#[derive(Clone, Copy)]
enum Place {
    Entry,
    Exit,
    Tracepoint,
}

/// A hook: its program, and the kernel's function, under the names that it has had.
struct Hook {
    program: &'static str,
    subject: Subject,
    place: Place,
    functions: &'static [&'static str],
}

const fn hook(
    program: &'static str,
    subject: Subject,
    place: Place,
    functions: &'static [&'static str],
) -> Hook {
    Hook {
        program,
        subject,
        place,
        functions,
    }
}

const HOOKS: &[Hook] = &[
    hook("connecting_v4", Subject::Ports, Place::Exit, &["tcp_v4_connect"]),
    hook("connecting_v6", Subject::Ports, Place::Exit, &["tcp_v6_connect"]),
    hook(
        "listening",
        Subject::Ports,
        Place::Exit,
        &["inet_csk_listen_start"],
    ),
    hook(
        "permitted_v4",
        Subject::Connects,
        Place::Exit,
        &["tcp_v4_pre_connect"],
    ),
    hook(
        "permitted_v6",
        Subject::Connects,
        Place::Exit,
        &["tcp_v6_pre_connect"],
    ),
    hook(
        "request_hashed",
        Subject::Requests,
        Place::Entry,
        &["inet_csk_reqsk_queue_hash_add"],
    ),
    hook(
        "request_freed_v4",
        Subject::Requests,
        Place::Entry,
        &["tcp_v4_reqsk_destructor"],
    ),
    hook(
        "request_freed_v6",
        Subject::Requests,
        Place::Entry,
        &["tcp_v6_reqsk_destructor"],
    ),
    // Those that end a minisock come first: whoever hears of its beginning hears of its end too.
    hook(
        "minisock_expired",
        Subject::Minisocks,
        Place::Entry,
        &["tw_timer_handler"],
    ),
    hook(
        "minisock_descheduled",
        Subject::Minisocks,
        Place::Entry,
        &["inet_twsk_deschedule_put"],
    ),
    hook(
        "minisock_segment",
        Subject::Minisocks,
        Place::Exit,
        &["tcp_timewait_state_process"],
    ),
    hook(
        "minisock_hashed",
        Subject::Minisocks,
        Place::Entry,
        &["inet_twsk_hashdance_schedule", "inet_twsk_hashdance"],
    ),
    // The one that is told of both sides comes first: whoever hears that a RST has come hears too if it was our own.
    hook(
        "send_reset",
        Subject::Resets,
        Place::Tracepoint,
        &["tcp_send_reset"],
    ),
    hook(
        "receive_reset",
        Subject::Resets,
        Place::Tracepoint,
        &["tcp_receive_reset"],
    ),
    hook(
        "retransmit",
        Subject::Retransmits,
        Place::Tracepoint,
        &["tcp_retransmit_skb"],
    ),
    hook(
        "retransmit_synack",
        Subject::Retransmits,
        Place::Tracepoint,
        &["tcp_retransmit_synack"],
    ),
];

/// Stands for every hook.
pub const ALL: &str = "all";

/// The kernel's functions that hooks are for, under all their names.
pub fn functions() -> impl Iterator<Item = &'static str> {
    HOOKS.iter().flat_map(|hook| hook.functions).copied()
}

/// What the hooks can be attached to, as the kernel's BTF names it.
pub(super) fn targets() -> impl Iterator<Item = String> {
    HOOKS.iter().flat_map(|hook| {
        let functions = hook.functions.iter();
        functions.map(|&function| match hook.place {
            Place::Entry | Place::Exit => function.to_owned(),
            Place::Tracepoint => Target::Tracepoint(function).name(),
        })
    })
}

/// The hooks, as far as the kernel has taken them.
#[derive(Debug, Default)]
pub(super) struct Hooks {
    pub(super) states: Vec<HookState>,
    pub(super) programs: Vec<ProgramFd>,
    /// The programs that tell of no state.
    pub(super) marks: Vec<ProgramFd>,
}

/// Attaches what the kernel takes, and notes why it does not take the rest. `unwanted` names functions, or [`ALL`].
pub(super) fn attach(ebpf: &mut Ebpf, btf: &Btf, unwanted: &[String]) -> Hooks {
    let mut hooks = Hooks::default();
    // Where the kernel permits no hook in functions at all, one refusal is enough.
    let mut not_permitted = None;
    for hook in HOOKS {
        let attached = match &not_permitted {
            _ if hook.is_among(unwanted) => Err("turned off by --without-hooks".to_owned()),
            Some(why) if hook.place.is_in_function() => Err(String::clone(why)),
            _ => hook.attach(ebpf, btf).map_err(|error| {
                let why = error.in_short();
                if hook.place.is_in_function() && matches!(error, LoadError::NotPermitted { .. }) {
                    let refused = format!("{}/{}", hook.place.name(), hook.functions[0]);
                    not_permitted = Some(format!("not tried, since {refused} is not permitted"));
                }
                why
            }),
        };
        let (function, refused) = match attached {
            Ok((function, program)) => {
                if hook.place.is_in_function() {
                    hooks.programs.push(program);
                } else {
                    hooks.marks.push(program);
                }
                (function, None)
            }
            Err(why) => (hook.functions.first().copied().unwrap_or_default(), Some(why)),
        };
        hooks.states.push(HookState {
            hook: format!("{}/{function}", hook.place.name()),
            subject: hook.subject,
            refused,
        });
    }
    hooks
}

impl Hook {
    fn is_among(&self, unwanted: &[String]) -> bool {
        unwanted
            .iter()
            .any(|name| name == ALL || self.functions.contains(&name.as_str()))
    }

    /// Attaches the hook to the first of its functions that the kernel has.
    fn attach(&self, ebpf: &mut Ebpf, btf: &Btf) -> Result<(&'static str, ProgramFd), LoadError> {
        let (&last, earlier) = self
            .functions
            .split_last()
            .ok_or_else(|| missing("function", self.program))?;
        for &function in earlier {
            match self.attach_to(function, ebpf, btf) {
                Err(LoadError::NoFunction { .. }) => {}
                done => return done.map(|fd| (function, fd)),
            }
        }
        self.attach_to(last, ebpf, btf).map(|fd| (last, fd))
    }

    fn attach_to(&self, function: &'static str, ebpf: &mut Ebpf, btf: &Btf) -> Result<ProgramFd, LoadError> {
        let error = |error| match error {
            ProgramError::Btf(_) => LoadError::NoFunction { function },
            error => LoadError::program(self.program, error),
        };
        let fd = match self.place {
            Place::Entry => {
                let program: &mut FEntry = program(ebpf, self.program)?;
                program.load(function, btf).map_err(error)?;
                program.attach().map_err(error)?;
                program.fd().and_then(|fd| Ok(fd.try_clone()?))
            }
            Place::Tracepoint => {
                let program: &mut BtfTracePoint = program(ebpf, self.program)?;
                program.load(function, btf).map_err(error)?;
                program.attach().map_err(error)?;
                program.fd().and_then(|fd| Ok(fd.try_clone()?))
            }
            Place::Exit => {
                let program: &mut FExit = program(ebpf, self.program)?;
                program.load(function, btf).map_err(error)?;
                program.attach().map_err(error)?;
                program.fd().and_then(|fd| Ok(fd.try_clone()?))
            }
        };
        fd.map_err(error)
    }
}

impl Place {
    const fn name(self) -> &'static str {
        match self {
            Self::Entry => "fentry",
            Self::Exit => "fexit",
            Self::Tracepoint => "tp_btf",
        }
    }

    const fn is_in_function(self) -> bool {
        matches!(self, Self::Entry | Self::Exit)
    }
}
