//! What the machine was booted for.

use std::{
    ffi::OsString,
    fs::{self, File},
    os::unix::ffi::OsStringExt as _,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

/// Starts the command of `/guest/command`, printing to `output`; returns its process id.
pub(crate) fn start(output: &File) -> Result<u32> {
    let words = words("/guest/command")?;
    let (program, arguments) = words.split_first().context("/guest/command is empty")?;
    let mut command = with_environment(program)?;
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output.try_clone()?);
    spawn(&mut command)
}

/// Starts a shell on the console; returns its process id.
pub(crate) fn interactive() -> Result<u32> {
    let console = File::options().read(true).write(true).open("/dev/ttyS0")?;
    let mut command = with_environment("setsid")?;
    // With a session of its own the shell has a terminal, and Ctrl-C ends what runs in it.
    command
        .args(["--ctty", "sh", "-i"])
        .stdin(console.try_clone()?)
        .stdout(console.try_clone()?)
        .stderr(console);
    spawn(&mut command)
}

/// Runs a command of this program's own to its end.
pub(crate) fn run(line: &str) -> Result<()> {
    let mut words = line.split(' ');
    let mut command = with_environment(words.next().unwrap_or_default())?;
    let status = command.args(words).status();
    let status = status.with_context(|| format!("cannot run {line}"))?;
    ensure!(status.success(), "{line}: {status}");
    Ok(())
}

fn with_environment(program: impl Into<OsString>) -> Result<Command> {
    // The program is looked for in this process's PATH, which the kernel does not set.
    let mut command = Command::new(std::path::Path::new("/bin").join(program.into()));
    command.env_clear().current_dir("/tmp");
    for variable in words("/guest/environment")? {
        let variable = variable.into_string().ok();
        let variable = variable.as_deref().and_then(|variable| variable.split_once('='));
        let (name, value) = variable.context("/guest/environment makes no sense")?;
        command.env(name, value);
    }
    Ok(command)
}

fn spawn(command: &mut Command) -> Result<u32> {
    let program = command.get_program().to_owned();
    let child = command.spawn();
    Ok(child
        .with_context(|| format!("cannot start {}", program.display()))?
        .id())
}

/// The words in a file, each ended by a NUL.
fn words(path: &str) -> Result<Vec<OsString>> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {path}"))?;
    let words = bytes
        .strip_suffix(b"\0")
        .unwrap_or(&bytes)
        .split(|byte| *byte == 0);
    Ok(words.map(|word| OsString::from_vec(word.to_vec())).collect())
}
