//! What a client and the daemon say to each other: frames of a length and so many bytes, over a Unix socket.
//!
//! Each side begins with a [`greeting`], which holds the protocol's version and never changes its form, so
//! that two versions can tell that they do not fit. Everything after it is one value a frame, in postcard's
//! encoding.

use std::io;

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::net::{
    UnixStream,
    unix::{OwnedReadHalf, OwnedWriteHalf},
};
use tokio_util::codec::{FramedRead, FramedWrite, LengthDelimitedCodec};

use crate::clock::{Ktime, WallClock};
use crate::view::{About, Histories, HistoryQuery, RowQuery, RowView, Stats, StreamItem, WatchQuery};

/// The version that this program speaks. Any change of a message is another version.
pub const VERSION: u16 = 11;

/// A question is at most this long.
pub const LONGEST_QUESTION: usize = 4 * 1024;
/// An answer's frame is at most this long.
pub const LONGEST_ANSWER: usize = 4 * 1024 * 1024;
/// Stream items in one frame.
pub const ITEMS_PER_FRAME: usize = 1024;

const MAGIC: &[u8; 8] = b"netstate";

/// What a client asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    /// The rows: [`Answer::Rows`], or [`Answer::BriefRows`] if the query is for those, until [`Answer::End`].
    Rows(RowQuery),
    /// The transitions from now on: [`Answer::Watching`], then [`Answer::Items`] without end.
    Watch(WatchQuery),
    /// The counts: one [`Answer::Stats`].
    Stats,
    /// What the table remembers of connections, live and ended: one [`Answer::Histories`].
    Histories(HistoryQuery),
}

/// What the daemon answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    // The first two by these numbers: `view/packed.rs` writes them itself.
    /// Some of the rows: a [`PackedRows`] as it is sent, and read by [`unpack`](crate::view::unpack).
    ///
    /// [`PackedRows`]: crate::view::PackedRows
    Rows(Vec<RowView>),
    /// Some of the rows, in brief: the same, where ends, state and queues are all that is asked for.
    BriefRows(Vec<u8>),
    /// The stream has begun.
    Watching,
    /// What has happened, and the time of day that its times stand for.
    Items(WallClock, Vec<StreamItem>),
    /// The counts.
    Stats(Box<Stats>),
    /// What was found, the time of day that its times stand for, and the time now.
    Histories(WallClock, Ktime, Histories),
    /// None of the rows so far is a part of the answer: they are told again.
    Again,
    /// No more rows; the time of day that their times stand for; and what belongs to them.
    End(WallClock, About),
    /// The question cannot be answered, and why.
    Failed(String),
}

/// A connection, cut into frames.
#[derive(Debug)]
pub struct Frames {
    incoming: FramedRead<OwnedReadHalf, LengthDelimitedCodec>,
    outgoing: FramedWrite<OwnedWriteHalf, LengthDelimitedCodec>,
}

impl Frames {
    /// Cuts `stream` into frames of at most so many bytes, each way. A longer one that comes in is an error
    /// before it is read.
    #[must_use]
    pub fn new(stream: UnixStream, longest_incoming: usize, longest_outgoing: usize) -> Self {
        let codec = |longest| {
            LengthDelimitedCodec::builder()
                .max_frame_length(longest)
                .new_codec()
        };
        let (read, write) = stream.into_split();
        Self {
            incoming: FramedRead::new(read, codec(longest_incoming)),
            outgoing: FramedWrite::new(write, codec(longest_outgoing)),
        }
    }

    /// The next frame; `None` when the other side has closed.
    ///
    /// # Errors
    ///
    /// When the connection breaks, or the frame is too long.
    pub async fn receive(&mut self) -> io::Result<Option<BytesMut>> {
        self.incoming.next().await.transpose()
    }

    /// Sends a frame.
    ///
    /// # Errors
    ///
    /// When the connection breaks, or the frame is too long.
    pub async fn send(&mut self, frame: Bytes) -> io::Result<()> {
        self.outgoing.send(frame).await
    }
}

/// The first frame of either side.
#[must_use]
pub fn greeting() -> Bytes {
    let mut greeting = BytesMut::with_capacity(MAGIC.len() + 2);
    greeting.extend_from_slice(MAGIC);
    greeting.extend_from_slice(&VERSION.to_le_bytes());
    greeting.freeze()
}

/// The other side is no netstate, or another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadGreeting {
    /// Not a greeting at all.
    #[error("it does not speak netstate's protocol")]
    Foreign,
    /// Another version.
    #[error(
        "it speaks version {0} of the protocol, and this program version {VERSION}: use the same release of netstate for both"
    )]
    Version(u16),
}

/// Checks the first frame of the other side.
///
/// # Errors
///
/// [`BadGreeting`].
pub fn check_greeting(frame: &[u8]) -> Result<(), BadGreeting> {
    match frame.strip_prefix(MAGIC) {
        Some(&[low, high]) => match u16::from_le_bytes([low, high]) {
            VERSION => Ok(()),
            other => Err(BadGreeting::Version(other)),
        },
        _ => Err(BadGreeting::Foreign),
    }
}

/// A message as a frame.
///
/// # Errors
///
/// When the message cannot be encoded, which none of the above is.
pub fn encode(message: &impl Serialize) -> Result<Bytes, postcard::Error> {
    postcard::to_stdvec(message).map(Bytes::from)
}

/// A frame as a message.
///
/// # Errors
///
/// When it is none.
pub fn decode<T: DeserializeOwned>(frame: &[u8]) -> Result<T, postcard::Error> {
    match postcard::take_from_bytes(frame)? {
        (message, []) => Ok(message),
        _ => Err(postcard::Error::DeserializeBadEncoding),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::{Ipv4Addr, Ipv6Addr},
        num::NonZeroU32,
        time::Duration,
    };

    use proptest::prelude::*;

    use super::*;
    use crate::{
        connection::{Connection, Cookie, Endpoint, Family, Netns},
        facts::{Form, Queues},
        owners::Owners,
        tcp::TcpState,
        view::{PackedRows, unpack},
    };

    #[test]
    fn a_greeting_tells_the_version() {
        assert_eq!(check_greeting(&greeting()), Ok(()));
        assert_eq!(check_greeting(b"netstate\x01\x00"), Err(BadGreeting::Version(1)));
        assert_eq!(check_greeting(b"GET / HTTP/1.1"), Err(BadGreeting::Foreign));
        assert_eq!(check_greeting(b"netstate\x01\x00\x00"), Err(BadGreeting::Foreign));
    }

    fn row(port: u16) -> RowView {
        let end = Endpoint::new(Ipv4Addr::LOCALHOST.into(), port);
        RowView {
            connection: Connection {
                cookie: Cookie(u64::from(port)),
                netns: Netns(1),
                family: Family::Inet,
                local: end,
                remote: end,
                device: None,
                mptcp: false,
            },
            state: TcpState::Established,
            form: Form::Full,
            since: Ktime(5),
            in_state: Duration::from_secs(2),
            at_least: true,
            queues: None,
            uid: Some(1000),
            owners: Owners::default(),
            cgroup: None,
            fwmark: None,
            autobound: None,
            bound: false,
            inode: Some(7),
            figures: None,
        }
    }

    #[test]
    fn packed_rows_are_an_answer() {
        for count in [0, 1, 127, 128, 300] {
            let rows: Vec<_> = (0..count).map(row).collect();
            let mut packed = PackedRows::new(false);
            rows.iter().try_for_each(|row| packed.push(row)).unwrap();
            let frame = packed.into_frame();
            assert_eq!(frame, encode(&Answer::Rows(rows.clone())).unwrap());
            let mut unpacked = Vec::new();
            assert!(unpack(&frame, |row| unpacked.push(row)).unwrap());
            assert_eq!(unpacked, rows);
            assert!(unpack(&[&frame[..], &[0]].concat(), drop).is_err());
        }
        assert!(!unpack(&encode(&Answer::Watching).unwrap(), drop).unwrap());
    }

    #[test]
    fn brief_rows_are_an_answer() {
        let listener = RowView {
            state: TcpState::Listen,
            queues: Some(Queues {
                recv: 3,
                send: 0,
                backlog: 128,
            }),
            ..row(80)
        };
        let minisock = RowView {
            form: Form::Minisock,
            connection: Connection {
                family: Family::Inet6,
                remote: Endpoint::new(Ipv6Addr::LOCALHOST.into(), 0),
                device: NonZeroU32::new(7),
                mptcp: true,
                ..row(1).connection
            },
            ..row(1)
        };
        let rows: Vec<_> = [listener, minisock, row(u16::MAX)].map(brief).into();
        let mut packed = PackedRows::new(true);
        rows.iter().try_for_each(|row| packed.push(row)).unwrap();
        let frame = packed.into_frame();
        let Answer::BriefRows(bytes) = decode(&frame).unwrap() else {
            panic!("another answer");
        };
        let mut unpacked = Vec::new();
        assert!(unpack(&frame, |row| unpacked.push(row)).unwrap());
        assert_eq!(unpacked, rows);
        assert!(unpack(&[&frame[..], &[0]].concat(), drop).is_err());
        assert!(unpack(&frame[..frame.len() - 1], drop).is_err());
        let part = Answer::BriefRows(bytes[1..].to_vec());
        assert!(unpack(&encode(&part).unwrap(), drop).is_err());
        let nonsense = Answer::BriefRows(vec![0xff; bytes.len()]);
        assert!(unpack(&encode(&nonsense).unwrap(), drop).is_err());
    }

    /// What is left of a row in brief.
    fn brief(row: RowView) -> RowView {
        RowView {
            since: Ktime(0),
            in_state: Duration::ZERO,
            at_least: false,
            uid: None,
            inode: None,
            fwmark: None,
            ..row
        }
    }

    #[test]
    fn a_message_is_the_whole_frame() {
        let frame = encode(&Question::Stats).unwrap();
        assert_eq!(decode::<Question>(&frame).unwrap(), Question::Stats);
        assert!(decode::<Question>(&[&frame[..], &[0]].concat()).is_err());
    }

    proptest! {
        #[test]
        fn no_frame_panics(frame in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = check_greeting(&frame);
            let _ = decode::<Question>(&frame);
            let _ = decode::<Answer>(&frame);
            let _ = unpack(&frame, drop);
        }
    }
}
