//! Any bytes in place of a recording; and behind a header that is sound, any facts that can be decoded, in any order:
//! neither the reader nor the table that is told of them panics.

#![no_main]

use libfuzzer_sys::fuzz_target;
use netstate::{
    clock::WallClock,
    connection::Netns,
    recording::{Header, Player, Reader, Writer},
    sources::Coverage,
};

fuzz_target!(|bytes: &[u8]| {
    replay(bytes);
    let Some((&kernel, bytes)) = bytes.split_first() else {
        return;
    };
    let header = Header {
        program: String::new(),
        kernel: String::new(),
        coverage: Coverage {
            ports: kernel & 1 != 0,
            requests: kernel & 2 != 0,
            minisocks: kernel & 4 != 0,
        },
        own: Netns(1),
        clock: WallClock::default(),
        names: Vec::new(),
    };
    let mut recording = Vec::new();
    let mut writer = Writer::new(&mut recording, &header).expect("there is room in memory");
    writer.facts(bytes).expect("there is room in memory");
    writer.end().expect("there is room in memory");
    replay(&recording);
});

fn replay(recording: &[u8]) {
    let Ok(mut reader) = Reader::new(recording) else {
        return;
    };
    let mut player = Player::new(reader.header().coverage);
    let (mut facts, mut items) = (Vec::new(), Vec::new());
    while let Ok(Some(_)) = reader.next(&mut facts) {
        for fact in &facts {
            player.tell(fact, &mut items);
        }
        items.clear();
    }
}
