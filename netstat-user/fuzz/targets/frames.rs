//! Any bytes in place of a client's or the daemon's frames: what can be decoded is encoded as the same again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use netstate::protocol::{Answer, Question, check_greeting, decode, encode};

fuzz_target!(|frame: &[u8]| {
    let _ = check_greeting(frame);
    if let Ok(question) = decode::<Question>(frame) {
        let again = encode(&question).expect("what was decoded can be encoded");
        assert_eq!(decode::<Question>(&again).ok(), Some(question));
    }
    if let Ok(answer) = decode::<Answer>(frame) {
        let bytes = encode(&answer).expect("what was decoded can be encoded");
        let again = decode::<Answer>(&bytes).expect("what was encoded can be decoded");
        // As bytes, because a rate that is no number is not equal to itself.
        assert_eq!(encode(&again).ok(), Some(bytes));
    }
});
