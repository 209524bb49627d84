//! Answers with many rows: who reads them slowly keeps nobody else waiting.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
};

use anyhow::{Context, Result, bail, ensure};
use netstat_tests::{
    Daemon, Namespace, binary,
    unaccepted::Unaccepted,
    wait::{SOON, patient},
};
use netstate::{
    connection::Netns,
    protocol::{self, Answer, Question},
    view::{RowQuery, unpack},
};

crate::tests![slow_readers_keep_nobody_waiting];

/// A client that has asked for rows and reads nothing before it is told to.
struct Slow {
    stream: UnixStream,
    /// The length of the frame that has begun to come.
    length: [u8; 4],
}

impl Slow {
    fn ask(daemon: &Daemon, query: &RowQuery) -> Result<Self> {
        let mut stream = UnixStream::connect(daemon.socket())?;
        stream.set_read_timeout(Some(patient(SOON)))?;
        for frame in [
            protocol::greeting(),
            protocol::encode(&Question::Rows(query.clone()))?,
        ] {
            let length = u32::try_from(frame.len())?.to_be_bytes();
            stream.write_all(&[&length, &frame[..]].concat())?;
        }
        Ok(Self {
            stream,
            length: [0; 4],
        })
    }

    /// Waits until the answer has begun.
    fn begin(&mut self) -> Result<()> {
        self.begin_frame().context("no greeting")?;
        self.frame()?;
        self.begin_frame().context("no answer")
    }

    fn begin_frame(&mut self) -> Result<()> {
        Ok(self.stream.read_exact(&mut self.length)?)
    }

    fn frame(&mut self) -> Result<Vec<u8>> {
        let mut frame = vec![0; usize::try_from(u32::from_be_bytes(self.length))?];
        self.stream.read_exact(&mut frame)?;
        Ok(frame)
    }

    /// Reads the answer to its end; returns how many rows it has.
    fn read(mut self) -> Result<usize> {
        let mut rows = 0;
        loop {
            let frame = self.frame()?;
            if !unpack(&frame, |_| rows += 1)? {
                match protocol::decode(&frame)? {
                    Answer::End(..) => return Ok(rows),
                    Answer::Again => rows = 0,
                    other => bail!("{other:?} among rows"),
                }
            }
            self.begin_frame()?;
        }
    }
}

/// More than have their answers made at once do not read theirs. Others are served nevertheless, and not only because the slow
/// ones were dropped: they get all of their answers later.
fn slow_readers_keep_nobody_waiting() -> Result<()> {
    const SLOW: usize = 20;
    const CONNECTIONS: usize = 2_000;
    let namespace = Namespace::new()?;
    let _connections = Unaccepted::new(&namespace, CONNECTIONS)?;
    let daemon = Daemon::start()?;
    let query = RowQuery {
        netns: Some(Netns(namespace.inode())),
        filter: None,
        holders: false,
        figures: true,
        as_is: false,
        brief: false,
    };
    let mut slow: Vec<_> = (0..SLOW)
        .map(|_| Slow::ask(&daemon, &query))
        .collect::<Result<_>>()?;
    for client in &mut slow {
        client.begin()?;
    }
    let list = binary::run_in(&namespace, daemon.socket(), "list -an")?;
    let listed = list.lines().filter(|line| line.starts_with("tcp")).count();
    ensure!(listed == 1 + 2 * CONNECTIONS, "{listed} rows");
    daemon.stats()?;
    for (number, client) in slow.into_iter().enumerate() {
        let rows = client
            .read()
            .with_context(|| format!("client {number} was dropped; {}", daemon.log()))?;
        ensure!(rows == listed, "client {number} got {rows} rows of {listed}");
    }
    Ok(())
}
