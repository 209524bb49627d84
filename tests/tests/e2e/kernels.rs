//! Kernels that netstate cannot work with. The running kernel plays their part: `netstate` is started where
//! `/sys/kernel/btf` shows something else.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use anyhow::{Context, Result, ensure};
use netstat_tests::{Namespace, binary, daemon::directory};

crate::tests![no_btf, cut_btf, a_field_is_missing, the_verifier_refuses,];

const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// Mounts `btf` over the kernel's own, or nothing but an empty folder, in a mount namespace of its own, and
/// runs `netstate` there.
fn netstate_with(btf: Option<&[u8]>, arguments: &str) -> Result<Output> {
    let directory = directory()?;
    let file = directory.path().join("btf");
    let mount = match btf {
        Some(bytes) => {
            fs::write(&file, bytes)?;
            format!("mount --bind {} {VMLINUX}", file.display())
        }
        None => "mount -t tmpfs none /sys/kernel/btf".to_owned(),
    };
    let namespace = Namespace::new()?;
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c"]);
    command.arg(format!("{mount} && exec \"$0\" --socket \"$1\" {arguments}"));
    command
        .arg(binary::path()?)
        .arg(directory.path().join("netstate.sock"));
    namespace.output(&mut command).context("cannot start unshare")
}

/// The kernel's BTF with the names `from` and `to` exchanged.
fn renamed(from: &str, to: &str) -> Result<Vec<u8>> {
    ensure!(
        from.len() == to.len(),
        "a name of another length would move all others"
    );
    let mut bytes = fs::read(Path::new(VMLINUX))?;
    let places = [place(&bytes, from), place(&bytes, to)];
    for (place, name) in places.into_iter().zip([to, from]) {
        if let Some(place) = place {
            bytes[place..place + name.len()].copy_from_slice(name.as_bytes());
        }
    }
    Ok(bytes)
}

fn place(bytes: &[u8], name: &str) -> Option<usize> {
    let whole = [b"\0", name.as_bytes(), b"\0"].concat();
    bytes
        .windows(whole.len())
        .position(|window| window == whole)
        .map(|place| place + 1)
}

/// Each command that loads the tracer fails with status 1 and a message that says all of `expected`.
fn all_fail(btf: Option<&[u8]>, expected: &[&str]) -> Result<()> {
    for arguments in ["list -an", "watch", "daemon --quiet", "doctor"] {
        let output = netstate_with(btf, arguments)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let found = String::from_utf8_lossy(&output.stdout);
        let said = if arguments == "doctor" {
            found.into_owned()
        } else {
            said
        };
        ensure!(
            output.status.code() == Some(1),
            "{arguments}: {}: {said}",
            output.status
        );
        for part in expected {
            ensure!(said.contains(part), "{arguments} does not say {part:?}: {said}");
        }
        ensure!(!said.contains("panicked"), "{arguments}: {said}");
    }
    Ok(())
}

fn no_btf() -> Result<()> {
    all_fail(None, &[VMLINUX, "CONFIG_DEBUG_INFO_BTF=y"])
}

fn cut_btf() -> Result<()> {
    let bytes = fs::read(VMLINUX)?;
    all_fail(Some(&bytes[..bytes.len() / 2]), &["cannot read the kernel's BTF"])
}

fn a_field_is_missing() -> Result<()> {
    let btf = renamed("sk_ack_backlog", "sk_not_at_home")?;
    all_fail(Some(&btf), &["`sk_ack_backlog`", "`struct sock`", "uname -a"])
}

/// A field is said to be where another is: the kernel knows better.
fn the_verifier_refuses() -> Result<()> {
    let btf = renamed("skc_daddr", "skc_state")?;
    all_fail(Some(&btf), &["refused the BPF program", "skc_state", "uname -a"])
}
