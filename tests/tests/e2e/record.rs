//! `watch --record` and `replay`.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use netstat_tests::{
    Daemon, Namespace, Watch, binary,
    daemon::{STOP, directory},
    sockets::{LOOPBACK, Pair, cookie, wait_for_fin},
    traffic::come_and_go,
    wait::{SOON, wait_for},
    watch::Transition,
};
use rustix::process::Signal;

crate::tests![
    a_replay_tells_the_same,
    a_daemon_records_too,
    what_was_cut_off_is_replayed_up_to_there,
    what_is_no_recording_is_refused,
    a_full_disk_ends_the_recording_alone,
    an_older_file_is_replaced_for_its_owner_alone,
    links_and_devices_are_refused,
];

/// A client that closes first, and connections that are reset.
fn traffic(namespace: &Namespace, watch: &Watch) -> Result<()> {
    come_and_go(namespace, 50)?;
    let Pair {
        listener,
        client,
        server,
    } = Pair::new(namespace, LOOPBACK)?;
    let near = cookie(&client)?;
    drop(client);
    wait_for_fin(&server)?;
    drop((server, listener));
    watch.wait("the client in TIME_WAIT", |transition| {
        transition.cookie == near && transition.to == "TIME_WAIT"
    })?;
    Ok(())
}

/// Records some traffic in `file`; returns what was printed of it.
fn record(file: &Path, namespace: &Namespace) -> Result<BTreeMap<u64, Vec<Transition>>> {
    let absent = file.with_extension("sock");
    let mut watch = Watch::start_recording(&absent, file)?;
    traffic(namespace, &watch)?;
    let printed = watch.all_in(namespace.inode());
    watch.signal(Signal::INT)?;
    let status = watch.wait_for_end(STOP)?;
    ensure!(status.success(), "netstate watch: {status}: {:?}", watch.stderr());
    Ok(printed)
}

fn a_daemon_records_too() -> Result<()> {
    let directory = directory()?;
    let file = directory.path().join("daemon.rec");
    let namespace = Namespace::new()?;
    let name = file.to_str().context("not UTF-8")?;
    let daemon = Daemon::start_with(&["--record", name])?;
    let watch = Watch::start(daemon.socket())?;
    traffic(&namespace, &watch)?;
    let printed = watch.all_in(namespace.inode());
    drop((watch, daemon));
    let replayed = replay(&file, &format!("--json --netns {}", namespace.inode()))?;
    ensure!(replayed.success, "{}", replayed.stderr);
    let again = transitions(&replayed.stdout)?;
    ensure!(printed.len() > 100, "only {} connections", printed.len());
    for (cookie, transitions) in &printed {
        // What came after the last look at what was printed is only in the recording.
        let again = again.get(cookie).map(Vec::as_slice).unwrap_or_default();
        ensure!(
            again.starts_with(transitions),
            "{transitions:#?}, and again {again:#?}"
        );
    }
    Ok(())
}

struct Replayed {
    success: bool,
    stdout: String,
    stderr: String,
}

fn replay(file: &Path, arguments: &str) -> Result<Replayed> {
    let mut command = binary::netstate(&file.with_extension("sock"))?;
    command.arg("replay").arg(file).args(arguments.split_whitespace());
    let output = command.output().context("cannot start netstate replay")?;
    Ok(Replayed {
        success: output.status.success(),
        stdout: String::from_utf8(output.stdout)?,
        stderr: String::from_utf8(output.stderr)?,
    })
}

fn transitions(json: &str) -> Result<BTreeMap<u64, Vec<Transition>>> {
    let mut all: BTreeMap<u64, Vec<Transition>> = BTreeMap::new();
    for line in json.lines() {
        let transition: Transition = serde_json::from_str(line).with_context(|| line.to_owned())?;
        all.entry(transition.cookie).or_default().push(transition);
    }
    Ok(all)
}

fn a_replay_tells_the_same() -> Result<()> {
    let directory = directory()?;
    let (file, namespace) = (directory.path().join("traffic"), Namespace::new()?);
    let printed = record(&file, &namespace)?;
    let netns = namespace.inode();
    let replayed = replay(&file, &format!("--json --netns {netns}"))?;
    ensure!(
        replayed.success && replayed.stderr.is_empty(),
        "replay says {:?}",
        replayed.stderr
    );
    let again = transitions(&replayed.stdout)?;
    ensure!(
        printed.len() > 100,
        "only {} connections were printed",
        printed.len()
    );
    for (cookie, transitions) in &printed {
        let again = again.get(cookie).map(Vec::as_slice).unwrap_or_default();
        // What came after the last look at what was printed is only in the recording.
        ensure!(
            again.starts_with(transitions),
            "connection {cookie} went {transitions:#?}, and in the replay {again:#?}"
        );
    }
    let filtered = replay(&file, &format!("--json --netns {netns} TIME_WAIT"))?;
    let kept = transitions(&filtered.stdout)?;
    let kept: Vec<_> = kept.values().flatten().map(|transition| &transition.to).collect();
    ensure!(kept == ["TIME_WAIT"], "the filter kept {kept:?}");
    let lines = replay(&file, &format!("--netns {netns}"))?.stdout;
    let told: usize = again.values().map(Vec::len).sum();
    ensure!(
        lines.lines().count() == told + 2 && lines.contains("FIN_WAIT2 → TIME_WAIT"),
        "{told} transitions as lines, with a header and a date: {lines}"
    );
    let time = replay(&file, "--time")?.stdout;
    ensure!(time.contains("facts folded in"), "--time says {time:?}");
    Ok(())
}

fn what_was_cut_off_is_replayed_up_to_there() -> Result<()> {
    let directory = directory()?;
    let file = directory.path().join("traffic");
    record(&file, &Namespace::new()?)?;
    let whole = replay(&file, "--json")?.stdout;
    let bytes = fs::read(&file)?;
    let cut = directory.path().join("cut");
    fs::write(&cut, &bytes[..bytes.len() - 5])?;
    let replayed = replay(&cut, "--json")?;
    ensure!(
        replayed.success && replayed.stderr.contains("was cut off"),
        "a recording that is cut off: {:?}",
        replayed.stderr
    );
    ensure!(
        whole.starts_with(&replayed.stdout),
        "more than was recorded: {}",
        replayed.stdout
    );
    let mut damaged = bytes;
    // In what the header holds.
    damaged[30] ^= 1;
    fs::write(&cut, damaged)?;
    let replayed = replay(&cut, "--json")?;
    ensure!(
        !replayed.success && replayed.stderr.contains("it is damaged: "),
        "a damaged recording: {:?}",
        replayed.stderr
    );
    Ok(())
}

fn what_is_no_recording_is_refused() -> Result<()> {
    let replayed = replay(Path::new("/etc/passwd"), "")?;
    ensure!(
        !replayed.success
            && replayed.stdout.is_empty()
            && replayed.stderr.contains("/etc/passwd")
            && replayed.stderr.contains("no recording of netstate's"),
        "/etc/passwd: {:?}",
        replayed.stderr
    );
    Ok(())
}

/// A file system with room for so many bytes, until this is dropped.
struct Small(PathBuf);

impl Small {
    fn new(path: PathBuf, bytes: u32) -> Result<Self> {
        fs::create_dir(&path)?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "none"]);
        let mounted = mount.arg(&path).status().context("cannot start mount")?;
        ensure!(mounted.success(), "mount: {mounted}");
        Ok(Self(path))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Whatever still uses it keeps it, and it goes with that.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

fn a_full_disk_ends_the_recording_alone() -> Result<()> {
    let directory = directory()?;
    let small = Small::new(directory.path().join("small"), 32 * 1024)?;
    let file = small.0.join("traffic");
    let watch = Watch::start_recording(&directory.path().join("absent.sock"), &file)?;
    let namespace = Namespace::new()?;
    wait_for("the recording to end", 4 * SOON, || {
        come_and_go(&namespace, 200)?;
        let ended = |line: &String| line.contains("the recording in") && line.contains("ends here");
        Ok(watch.stderr().iter().any(ended).then_some(()))
    })?;
    traffic(&namespace, &watch)?;
    let told = watch
        .stderr()
        .iter()
        .filter(|line| line.contains("ends here"))
        .count();
    ensure!(told == 1, "said {told} times: {:?}", watch.stderr());
    let replayed = replay(&file, "--json")?;
    ensure!(
        replayed.success && replayed.stderr.contains("was cut off"),
        "what fitted on the disk: {:?}",
        replayed.stderr
    );
    Ok(())
}

/// A recording shows who talks to whom: whoever could read what was there before must not read it.
fn an_older_file_is_replaced_for_its_owner_alone() -> Result<()> {
    let directory = directory()?;
    let (file, other) = (directory.path().join("traffic"), directory.path().join("other"));
    fs::write(&file, "older")?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644))?;
    fs::hard_link(&file, &other)?;
    let namespace = Namespace::new()?;
    let printed = record(&file, &namespace)?;
    let mode = fs::metadata(&file)?.permissions().mode() & 0o777;
    ensure!(mode == 0o600, "mode {mode:o}");
    ensure!(fs::read(&other)? == b"older", "its other name was written to");
    let replayed = replay(&file, &format!("--json --netns {}", namespace.inode()))?;
    ensure!(replayed.success && !printed.is_empty(), "{}", replayed.stderr);
    Ok(())
}

fn links_and_devices_are_refused() -> Result<()> {
    let directory = directory()?;
    let (target, link) = (directory.path().join("precious"), directory.path().join("link"));
    fs::write(&target, "precious")?;
    symlink(&target, &link)?;
    let link = link.to_str().context("not UTF-8")?;
    for (command, path, what) in [
        ("watch", link, "symbolic link"),
        ("daemon", link, "symbolic link"),
        ("watch", "/dev/null", "device"),
        ("watch", "/tmp", "folder"),
    ] {
        let socket = directory.path().join("absent.sock");
        let output = binary::run(&socket, &format!("{command} --record {path}"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.code() == Some(1) && said.contains(what) && said.contains("name another file"),
            "{command} --record {path}: {}: {said}",
            output.status
        );
    }
    ensure!(fs::read(&target)? == b"precious", "the link was followed");
    let mut names = fs::read_dir(directory.path())?;
    let left = names.find(|entry| {
        let name = entry.as_ref().map(fs::DirEntry::file_name);
        name.is_ok_and(|name| name.to_string_lossy().ends_with(".new"))
    });
    ensure!(left.is_none(), "{left:?} is left over");
    Ok(())
}
