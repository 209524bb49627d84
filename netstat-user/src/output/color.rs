//! Colours, for those who can see them.

use std::io::IsTerminal;

use crate::{cli::ColorArg, diagnosis::Severity, tcp::TcpState};

/// Whether to colour what goes to standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Palette {
    on: bool,
}

impl Palette {
    /// Colours as asked for; by default on a terminal that has them, unless `NO_COLOR` is set to anything.
    #[must_use]
    pub fn new(when: ColorArg) -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && std::env::var_os("TERM").is_none_or(|terminal| terminal != "dumb");
        let on = match when {
            ColorArg::Always => true,
            ColorArg::Never => false,
            ColorArg::Auto => wanted && std::io::stdout().is_terminal(),
        };
        Self { on }
    }

    /// What to print before a state's name.
    #[must_use]
    pub fn state(self, state: TcpState) -> &'static str {
        self.pick(match state {
            TcpState::Established | TcpState::Listen => "\x1b[32m",
            TcpState::SynSent | TcpState::SynRecv => "\x1b[33m",
            TcpState::TimeWait | TcpState::Close => "\x1b[2m",
            TcpState::CloseWait => "\x1b[35m",
            TcpState::FinWait1 | TcpState::FinWait2 | TcpState::LastAck | TcpState::Closing => "\x1b[36m",
        })
    }

    /// What to print before a finding so severe.
    #[must_use]
    pub fn severity(self, severity: Severity) -> &'static str {
        self.pick(match severity {
            Severity::Critical => "\x1b[1;31m",
            Severity::Warning => "\x1b[33m",
            Severity::Note => "\x1b[2m",
        })
    }

    /// What to print before something that went wrong.
    #[must_use]
    pub fn alarm(self) -> &'static str {
        self.pick("\x1b[31m")
    }

    /// What to print before something that matters less.
    #[must_use]
    pub fn faint(self) -> &'static str {
        self.pick("\x1b[2m")
    }

    /// What to print after any of them.
    #[must_use]
    pub fn reset(self) -> &'static str {
        self.pick("\x1b[0m")
    }

    fn pick(self, code: &'static str) -> &'static str {
        if self.on { code } else { "" }
    }
}
