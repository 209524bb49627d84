//! Why the tracer cannot be loaded, in words that say what to do.

use std::{io, path::PathBuf};

use aya::{EbpfError, programs::ProgramError};

/// Loading or attaching failed. Nothing is left behind: what was loaded goes with the file descriptors.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The kernel refused for want of privileges.
    #[error(
        "{action}: not permitted; run with sudo, or grant the binary its capabilities: \
         setcap cap_bpf,cap_perfmon,cap_sys_admin,cap_sys_ptrace+ep netstate"
    )]
    NotPermitted {
        /// What was tried.
        action: String,
    },
    /// The kernel shows no BTF.
    #[error(
        "cannot read {path}: {error}; netstate needs a kernel with BTF (CONFIG_DEBUG_INFO_BTF=y, the \
         default of current distributions): boot such a kernel"
    )]
    NoBtf {
        /// Where it should be.
        path: PathBuf,
        /// Why it could not be read.
        error: io::Error,
    },
    /// The kernel's BTF cannot be parsed.
    #[error("cannot read the kernel's BTF: {0}; please report this with the output of `uname -a`")]
    BadBtf(String),
    /// The kernel lacks a field.
    #[error(
        "this kernel has no field `{path}` in `struct {owner}`, which netstate reads; \
         please report this with the output of `uname -a`"
    )]
    MissingField {
        /// The structure.
        owner: &'static str,
        /// The field's path in it.
        path: &'static str,
    },
    /// The kernel has no such function to hook, or shows none.
    #[error("this kernel's BTF has no function `{function}`")]
    NoFunction {
        /// The function.
        function: &'static str,
    },
    /// The verifier refused a program.
    #[error(
        "the kernel refused the BPF program `{program}` ({error}); the verifier's last words:\n{log}\n\
         netstate needs Linux 5.15 or newer: boot such a kernel, or, if it is one, please report this with the \
         output of `uname -a`"
    )]
    Refused {
        /// The program.
        program: &'static str,
        /// What the system call said.
        error: io::Error,
        /// The end of the verifier's log.
        log: String,
    },
    /// Anything else.
    #[error("{action}: {message}")]
    Other {
        /// What was tried.
        action: String,
        /// What was said.
        message: String,
    },
}

/// How many lines of the verifier's log are worth showing.
const LOG_LINES: usize = 8;

impl LoadError {
    /// An error of the object as a whole: parsing it, creating its maps.
    pub(super) fn object(error: &EbpfError) -> Self {
        Self::from_chain("cannot load the BPF object".to_owned(), error)
    }

    /// An error of one program.
    pub(super) fn program(program: &'static str, error: ProgramError) -> Self {
        match error {
            ProgramError::LoadError {
                io_error,
                verifier_log,
            } => {
                if is_refusal_of_privilege(&io_error) && verifier_log.to_string().trim().is_empty() {
                    return Self::NotPermitted {
                        action: format!("cannot load the BPF program `{program}`"),
                    };
                }
                Self::Refused {
                    program,
                    error: io_error,
                    log: last_lines(&verifier_log.to_string()),
                }
            }
            error => Self::from_chain(format!("cannot attach the BPF program `{program}`"), &error),
        }
    }

    /// The error in a few words, without advice.
    pub(super) fn in_short(&self) -> String {
        match self {
            Self::NotPermitted { .. } => "not permitted".to_owned(),
            Self::Refused { error, log, .. } => {
                let last = log.lines().last().unwrap_or_default().trim();
                format!("{error}: {last}")
            }
            other => other.to_string(),
        }
    }

    pub(super) fn other(action: &str, message: &impl ToString) -> Self {
        Self::Other {
            action: action.to_owned(),
            message: message.to_string(),
        }
    }

    fn from_chain(action: String, error: &(dyn std::error::Error + 'static)) -> Self {
        let mut message = error.to_string();
        let mut cause = Some(error);
        while let Some(error) = cause {
            if error
                .downcast_ref::<io::Error>()
                .is_some_and(is_refusal_of_privilege)
            {
                return Self::NotPermitted { action };
            }
            let text = error.to_string();
            if !message.contains(&text) {
                message = format!("{message}: {text}");
            }
            cause = error.source();
        }
        Self::Other { action, message }
    }
}

fn is_refusal_of_privilege(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

fn last_lines(log: &str) -> String {
    let lines: Vec<_> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    let from = lines.len().saturating_sub(LOG_LINES);
    lines[from..]
        .iter()
        .map(|line| format!("    {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}
