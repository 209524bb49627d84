//! The first file system of a machine: the binaries under test, what they call, and nothing else.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs::{self, File},
    io::BufWriter,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{cpio::Archive, modules};
use crate::process;

/// The programs that the tests call, and those that make a shell useful. Only the former must be there.
const PROGRAMS: [&str; 10] = [
    "ip", "ss", "netstat", "ps", "sh", "unshare", "mount", "cp", "setsid", "setpriv",
];
const PLEASANT: [&str; 21] = [
    "bash", "bpftool", "cat", "cut", "date", "dmesg", "env", "find", "grep", "head", "kill", "ls", "mkdir",
    "rm", "sed", "sleep", "sort", "tail", "timeout", "umount", "wc",
];

/// What the system's library looks names up in.
const NAMES: [&str; 2] = ["/etc/services", "/etc/protocols"];

/// Small files with contents of their own.
const FILES: [(&str, &str); 5] = [
    (
        "/etc/passwd",
        "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    ),
    ("/etc/group", "root:x:0:\nnogroup:x:65534:\n"),
    (
        "/etc/hosts",
        "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n",
    ),
    ("/etc/hostname", "guest\n"),
    (
        "/etc/nsswitch.conf",
        "passwd: files\ngroup: files\nhosts: files\nservices: files\nprotocols: files\n",
    ),
];

/// What goes into an image.
pub(crate) struct Contents<'a> {
    /// The binaries of the project, by the names that they are called by.
    pub(crate) binaries: &'a [(String, PathBuf)],
    /// The binary that is the machine's first process.
    pub(crate) init: &'a Path,
    /// `lib/modules/RELEASE` of the kernel.
    pub(crate) modules: &'a Path,
    /// What to run, and its arguments.
    pub(crate) command: &'a [OsString],
    /// Variables for what runs.
    pub(crate) environment: &'a [(&'a str, String)],
}

/// Writes the image to `path`.
pub(crate) fn write(path: &Path, contents: &Contents) -> Result<()> {
    let out = File::create(path).with_context(|| format!("cannot make {}", path.display()))?;
    let mut image = Image {
        archive: Archive::new(BufWriter::new(out)),
        libraries: BTreeSet::new(),
    };
    image.program("/init", contents.init)?;
    for (name, path) in contents.binaries {
        image.program(&format!("/bin/{name}"), path)?;
    }
    for name in PROGRAMS {
        let path = process::find(name).with_context(|| format!("there is no {name} here"))?;
        image.program(&format!("/bin/{name}"), &path)?;
    }
    for (name, path) in PLEASANT
        .iter()
        .filter_map(|name| Some((name, process::find(name)?)))
    {
        image.program(&format!("/bin/{name}"), &path)?;
    }
    for (number, module) in modules::read(contents.modules)?.iter().enumerate() {
        let path = format!("/guest/modules/{number:02}-{}.ko", module.name);
        image.archive.file(&path, 0o644, &module.contents)?;
    }
    for name in NAMES {
        image.copy(name, Path::new(name), 0o644)?;
    }
    for (name, text) in FILES {
        image.archive.file(name, 0o644, text.as_bytes())?;
    }
    image.instructions(contents)?;
    image.archive.finish().context("cannot write the image")
}

struct Image {
    archive: Archive<BufWriter<File>>,
    /// Those that are in it.
    libraries: BTreeSet<PathBuf>,
}

impl Image {
    /// Adds a program, and the libraries that it is linked with.
    fn program(&mut self, name: &str, path: &Path) -> Result<()> {
        self.copy(name, path, 0o755)?;
        for library in libraries(path)? {
            if self.libraries.insert(library.clone()) {
                let name = library.to_str().context("a library's path is not UTF-8")?;
                self.copy(name, &library, 0o755)?;
            }
        }
        Ok(())
    }

    fn copy(&mut self, name: &str, path: &Path, permissions: u32) -> Result<()> {
        let contents = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(self.archive.file(name, permissions, &contents)?)
    }

    /// What the first process reads.
    fn instructions(&mut self, contents: &Contents) -> Result<()> {
        let mut environment = Vec::new();
        for (name, value) in contents.environment {
            environment.extend_from_slice(format!("{name}={value}\0").as_bytes());
        }
        self.archive.file("/guest/environment", 0o644, &environment)?;
        let mut command = Vec::new();
        for word in contents.command {
            command.extend_from_slice(word.as_bytes());
            command.push(0);
        }
        self.archive.file("/guest/command", 0o644, &command)?;
        Ok(())
    }
}

/// The files that the dynamic linker would load for a program, itself among them. It is asked, since it alone
/// knows where it looks.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let mut ldd = Command::new("ldd");
    let output = ldd
        .arg(program)
        .output()
        .with_context(|| process::cannot_start(&ldd))?;
    // A program that is linked statically makes ldd fail, and needs nothing.
    Ok(String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(library)
        .collect())
}

/// The path in a line of ldd: `NAME => PATH (ADDRESS)`, `PATH (ADDRESS)`, or one without any, for what the
/// kernel itself provides.
fn library(line: &str) -> Option<PathBuf> {
    line.split_whitespace()
        .find(|word| word.starts_with('/'))
        .map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::library;

    #[test]
    fn libraries_are_read() {
        let lines = "\tlinux-vdso.so.1 (0x00007ffd)\n\
                     \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
                     \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n\
                     \tstatically linked\n";
        let found: Vec<_> = lines.lines().filter_map(library).collect();
        let expected = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"];
        assert_eq!(found, expected.map(PathBuf::from));
    }
}
