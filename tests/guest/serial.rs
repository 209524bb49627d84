//! Serial ports that pass on every byte as it is.

use std::{fs::File, io};

use anyhow::{Context as _, Result};
use rustix::termios::{OptionalActions, tcdrain, tcgetattr, tcsetattr};

/// Opens a port.
pub(crate) fn open(path: &str) -> Result<File> {
    let raw = |file: &File| -> io::Result<()> {
        let mut settings = tcgetattr(file)?;
        settings.make_raw();
        Ok(tcsetattr(file, OptionalActions::Now, &settings)?)
    };
    let file = File::options().write(true).read(true).open(path);
    file.and_then(|file| raw(&file).map(|()| file))
        .with_context(|| format!("cannot open {path}"))
}

/// Waits until everything has left the port.
pub(crate) fn drain(port: &File) -> Result<()> {
    tcdrain(port).context("cannot write to a serial port")
}
