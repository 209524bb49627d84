//! Where the tracer's knowledge comes from on this kernel: what is announced, and what is left to sweeps.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What the kernel announces besides the state changes of full socks. The rest is found by sweeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Coverage {
    /// The ports that `connect` and `listen` choose.
    pub ports: bool,
    /// Request socks, from beginning to end.
    pub requests: bool,
    /// Minisocks, from beginning to end.
    pub minisocks: bool,
}

impl Coverage {
    /// Whether every change of every socket is announced.
    #[must_use]
    pub const fn is_complete(self) -> bool {
        self.ports && self.requests && self.minisocks
    }
}

/// What a hook tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    /// The ports that `connect` and `listen` choose.
    Ports,
    /// Request socks: connections that are half open.
    Requests,
    /// Minisocks: TIME_WAIT, and FIN_WAIT2 that no process holds.
    Minisocks,
    /// RSTs that come and go, which say whose an abort was.
    Resets,
    /// Segments and SYN-ACKs that are sent again.
    Retransmits,
    /// Connects that fail without a change of state.
    Connects,
}

impl Subject {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Minisocks,
        Self::Requests,
        Self::Ports,
        Self::Resets,
        Self::Retransmits,
        Self::Connects,
    ];

    /// Whether it is reported only with `hook`. The hooks on `connect` serve two subjects: its port, and its failure.
    fn depends_on(self, hook: &HookState) -> bool {
        match self {
            Self::Connects => hook.subject == Self::Ports && hook.hook.ends_with("_connect"),
            _ => hook.subject == self,
        }
    }

    /// Whether sweeps find what no hook tells.
    #[must_use]
    pub const fn is_swept(self) -> bool {
        matches!(self, Self::Ports | Self::Requests | Self::Minisocks)
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ports => "ports of SYN_SENT and LISTEN",
            Self::Requests => "half-open connections",
            Self::Minisocks => "minisocks",
            Self::Resets => "resets",
            Self::Retransmits => "retransmissions",
            Self::Connects => "failed connects",
        })
    }
}

/// How a hook in the kernel's code fared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookState {
    /// `fentry/` or `fexit/` and the kernel's function, or `tp_btf/` and its tracepoint.
    pub hook: String,
    /// What it tells of.
    pub subject: Subject,
    /// Why the kernel refused it; `None` when it is attached.
    pub refused: Option<String>,
}

/// What is announced because of `hooks`: a subject only if all its hooks are there.
#[must_use]
pub fn coverage(hooks: &[HookState]) -> Coverage {
    let covered = |subject| {
        let mut hooks = hooks.iter().filter(|hook| hook.subject == subject).peekable();
        hooks.peek().is_some() && hooks.all(|hook| hook.refused.is_none())
    };
    Coverage {
        ports: covered(Subject::Ports),
        requests: covered(Subject::Requests),
        minisocks: covered(Subject::Minisocks),
    }
}

/// Each subject and how it is known, for people: `minisocks by hooks`, `minisocks by scan (…)` with the reason, or
/// `resets not reported (…)`.
#[must_use]
pub fn describe(hooks: &[HookState]) -> Vec<String> {
    let described = Subject::ALL.iter().map(|subject| {
        let refused = hooks
            .iter()
            .filter(|hook| subject.depends_on(hook))
            .find_map(|hook| Some((hook, hook.refused.as_ref()?)));
        match refused {
            None if subject.is_swept() => format!("{subject} by hooks"),
            None if *subject == Subject::Connects => failed_connects(hooks),
            None => format!("{subject} by tracepoints"),
            Some((hook, why)) => {
                let instead = if subject.is_swept() {
                    "by scan"
                } else {
                    "not reported"
                };
                format!("{subject} {instead} ({}: {why})", hook.hook)
            }
        }
    });
    described.collect()
}

/// The same of failed connects, where the hooks that report most of them are attached.
fn failed_connects(hooks: &[HookState]) -> String {
    let mut groups = hooks.iter().filter(|hook| hook.subject == Subject::Connects);
    let refused = groups.find_map(|hook| Some((hook, hook.refused.as_ref()?)));
    match refused {
        None => "failed connects by hooks".to_owned(),
        Some((hook, why)) => format!(
            "failed connects by hooks, without those that control groups refuse ({}: {why})",
            hook.hook
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(subject: Subject, refused: Option<&str>) -> HookState {
        HookState {
            hook: "fentry/f".to_owned(),
            subject,
            refused: refused.map(str::to_owned),
        }
    }

    #[test]
    fn a_subject_is_covered_only_by_all_its_hooks() {
        let hooks = [
            hook(Subject::Ports, None),
            hook(Subject::Minisocks, None),
            hook(Subject::Minisocks, Some("not permitted")),
        ];
        let found = coverage(&hooks);
        assert!(found.ports && !found.minisocks && !found.requests);
        assert!(!found.is_complete());
        assert_eq!(describe(&hooks)[0], "minisocks by scan (fentry/f: not permitted)");
        assert_eq!(describe(&hooks)[2], "ports of SYN_SENT and LISTEN by hooks");
        let connect = |subject, name: &str, refused: Option<&str>| HookState {
            hook: format!("fexit/{name}"),
            ..hook(subject, refused)
        };
        let hooks = [
            connect(Subject::Ports, "tcp_v4_connect", None),
            connect(Subject::Connects, "tcp_v4_pre_connect", Some("no such function")),
        ];
        assert_eq!(
            describe(&hooks)[5],
            "failed connects by hooks, without those that control groups refuse (fexit/tcp_v4_pre_connect: no such function)"
        );
        let hooks = [connect(Subject::Ports, "tcp_v4_connect", Some("not permitted"))];
        assert_eq!(
            describe(&hooks)[5],
            "failed connects not reported (fexit/tcp_v4_connect: not permitted)"
        );
        let hooks = [hook(Subject::Resets, Some("no such function"))];
        assert_eq!(
            describe(&hooks)[3],
            "resets not reported (fentry/f: no such function)"
        );
    }
}
