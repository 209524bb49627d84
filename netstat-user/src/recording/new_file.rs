//! The file of a new recording, which shows who talks to whom: for its owner alone, whatever was there before.
//!
//! It is made under another name and takes the place of an older recording at once. So no link is followed, a file that others may
//! read or hold open is not written to, and neither are its other names.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags, openat, renameat, statat, unlinkat},
    io::Errno,
};

/// Names that are tried.
const ATTEMPTS: u32 = 16;

/// Why there is no recording.
#[derive(Debug, thiserror::Error)]
pub enum NoFile {
    /// The path ends with no name.
    #[error("cannot record in {}: it names no file; add a file's name", .0.display())]
    Nameless(PathBuf),
    /// What is there is not a regular file.
    #[error(
        "cannot record in {}: it is {what}, and a recording is a regular file; remove it or name another file",
        path.display()
    )]
    NotRegular {
        /// Its path.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// The system refused.
    #[error(
        "cannot record in {}: {error}; name a file in a folder that is there and that you may write to",
        path.display()
    )]
    Refused {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// A new file that is not yet in its place.
#[derive(Debug)]
pub struct NewFile {
    path: PathBuf,
    folder: OwnedFd,
    name: OsString,
    file: File,
    /// What it is called until then; `None` once it is in its place.
    provisional: Option<OsString>,
}

impl NewFile {
    /// Makes the file that is to be at `path`, mode 0600.
    ///
    /// # Errors
    ///
    /// [`NoFile`].
    pub fn create(path: &Path) -> Result<Self, NoFile> {
        let nameless = || NoFile::Nameless(path.to_owned());
        let name = path.file_name().ok_or_else(nameless)?;
        if path.as_os_str().as_encoded_bytes().ends_with(b"/") {
            return Err(nameless());
        }
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        let refused = |error| refused(path, error);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = openat(CWD, parent, flags, Mode::empty()).map_err(refused)?;
        check(&folder, name, path)?;
        let (file, provisional) = create_beside(&folder, name).map_err(refused)?;
        Ok(Self {
            path: path.to_owned(),
            folder,
            name: name.to_owned(),
            file,
            provisional: Some(provisional),
        })
    }

    /// Puts the file in its place, where an older recording goes.
    ///
    /// # Errors
    ///
    /// [`NoFile`].
    pub fn put_in_place(mut self) -> Result<File, NoFile> {
        check(&self.folder, &self.name, &self.path)?;
        if let Some(provisional) = &self.provisional {
            renameat(&self.folder, provisional, &self.folder, &self.name)
                .map_err(|error| refused(&self.path, error))?;
        }
        self.provisional = None;
        self.file.try_clone().map_err(|error| NoFile::Refused {
            path: self.path.clone(),
            error,
        })
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(provisional) = &self.provisional {
            // If it cannot be removed, an empty file is left over.
            let _ = unlinkat(&self.folder, provisional, AtFlags::empty());
        }
    }
}

fn refused(path: &Path, error: Errno) -> NoFile {
    NoFile::Refused {
        path: path.to_owned(),
        error: error.into(),
    }
}

/// Whether a recording may take the place of what is there. That may change until it does, and then goes, but is not
/// written to: `rename` follows no link.
fn check(folder: &OwnedFd, name: &OsStr, path: &Path) -> Result<(), NoFile> {
    let found = match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) => found,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(refused(path, error)),
    };
    let what = match FileType::from_raw_mode(found.st_mode) {
        FileType::RegularFile => return Ok(()),
        FileType::Symlink => "a symbolic link, which is not followed",
        FileType::Directory => "a folder",
        FileType::Fifo => "a named pipe",
        FileType::Socket => "a socket",
        _ => "a device",
    };
    Err(NoFile::NotRegular {
        path: path.to_owned(),
        what,
    })
}

fn create_beside(folder: &OwnedFd, name: &OsStr) -> Result<(File, OsString), Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut last = Errno::EXIST;
    for attempt in 0..ATTEMPTS {
        let mut provisional = OsString::from(".");
        // Room for what follows in a name of at most 255 bytes.
        let short = name.len() <= 200;
        provisional.push(if short { name } else { OsStr::new("netstate") });
        provisional.push(format!(".{}-{attempt}.new", std::process::id()));
        match openat(folder, &provisional, flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => return Ok((file.into(), provisional)),
            Err(Errno::EXIST) => last = Errno::EXIST,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        io::Write as _,
        os::unix::fs::{PermissionsExt as _, symlink},
    };

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn an_older_file_is_replaced_and_not_written_to() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("rec"), folder.path().join("other"));
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        fs::hard_link(&path, &other).unwrap();
        let mut file = NewFile::create(&path).unwrap().put_in_place().unwrap();
        file.write_all(b"new").unwrap();
        assert_eq!(
            (fs::read(&path).unwrap().as_slice(), mode(&path)),
            (&b"new"[..], 0o600)
        );
        assert_eq!(fs::read(&other).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn nothing_is_left_of_a_recording_that_does_not_begin() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rec");
        fs::write(&path, "old").unwrap();
        drop(NewFile::create(&path).unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn only_a_regular_file_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("target"), folder.path().join("link"));
        fs::write(&target, "precious").unwrap();
        symlink(&target, &link).unwrap();
        let dangling = folder.path().join("dangling");
        symlink(folder.path().join("nowhere"), &dangling).unwrap();
        for path in [
            link.as_path(),
            dangling.as_path(),
            folder.path(),
            Path::new("/dev/null"),
        ] {
            let error = NewFile::create(path).unwrap_err();
            assert!(matches!(error, NoFile::NotRegular { .. }), "{error}");
        }
        assert_eq!(fs::read(&target).unwrap(), b"precious");
        assert!(!folder.path().join("nowhere").exists());
        // A link that comes after the check goes, and what it leads to stays.
        let late = folder.path().join("late");
        let file = NewFile::create(&late).unwrap();
        symlink(&target, &late).unwrap();
        assert!(file.put_in_place().is_err());
        assert_eq!(fs::read(&target).unwrap(), b"precious");
        for nameless in ["/", "..", ""] {
            assert!(matches!(
                NewFile::create(Path::new(nameless)),
                Err(NoFile::Nameless(_))
            ));
        }
    }
}
