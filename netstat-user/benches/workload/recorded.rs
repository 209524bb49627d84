//! Recordings of made-up traffic.

use netstate::{
    clock::WallClock,
    connection::Netns,
    recording::{self, Header, Writer},
};

use super::{ALL_HOOKS, Fact, Traffic};

/// A fact as a recording has it.
pub(crate) fn recorded(fact: &Fact) -> recording::Fact {
    match *fact {
        Fact::State(event) => recording::Fact::State(event),
        Fact::News(news) => recording::Fact::News(news),
        Fact::Gone(gone) => recording::Fact::Gone(gone),
    }
}

/// A recording of what `traffic` does next, in pieces of so many facts each.
pub(crate) fn recording(traffic: &mut Traffic, pieces: impl IntoIterator<Item = usize>) -> Vec<u8> {
    let header = Header {
        program: String::new(),
        kernel: String::new(),
        coverage: ALL_HOOKS,
        own: Netns(1),
        clock: WallClock::default(),
        names: Vec::new(),
    };
    let mut bytes = Vec::new();
    if let Ok(mut writer) = Writer::new(&mut bytes, &header) {
        let mut encoded = Vec::new();
        for facts in pieces {
            encoded.clear();
            for _ in 0..facts {
                recording::encode(&recorded(&traffic.next()), &mut encoded);
            }
            let _ = writer.facts(&encoded);
        }
        let _ = writer.end();
    }
    bytes
}
