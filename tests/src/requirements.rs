//! What the tests need of the machine, asked for before any of them starts.

use std::{fmt, path::Path, process::Command};

/// Set to `1` where every test must run: a test that cannot is then a failure.
pub const REQUIRE_ALL: &str = "NETSTATE_REQUIRE_ALL";

/// Set to `1` where the machine is there for nothing but the tests.
pub const OWN_MACHINE: &str = "NETSTATE_TEST_OWN_MACHINE";

/// Whether tests may do what concerns the whole machine, such as setting its clock.
#[must_use]
pub fn own_machine() -> bool {
    is_set(OWN_MACHINE)
}

/// Why no test can run here; `None` when all can.
#[must_use]
pub fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("needs root, to make network namespaces and load the tracer".to_owned());
    }
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        return Some("needs a kernel with BTF (CONFIG_DEBUG_INFO_BTF)".to_owned());
    }
    let tools = [("ip", "iproute2"), ("ss", "iproute2"), ("netstat", "net-tools")];
    let absent = tools
        .into_iter()
        .find(|(tool, _)| Command::new(tool).arg("-V").output().is_err());
    absent.map(|(tool, package)| format!("needs `{tool}`; install {package}"))
}

/// Whether a test that cannot run counts as failed.
#[must_use]
pub fn all_required() -> bool {
    is_set(REQUIRE_ALL)
}

fn is_set(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| value == "1")
}

/// The error of a test that finds out only while it runs that this kernel cannot do what it needs.
#[derive(Debug)]
pub struct CannotRun(pub &'static str);

impl fmt::Display for CannotRun {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.0)
    }
}

impl std::error::Error for CannotRun {}
