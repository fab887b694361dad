//! Messages over the socket between daemon and engine. A message that can be read can be
//! written and read again, and stays the same.

#![no_main]

use std::fmt::Debug;

use hearth_proto::{Command, Event, framing};
use libfuzzer_sys::fuzz_target;

fn all<T: serde::de::DeserializeOwned + serde::Serialize + Debug>(mut bytes: &[u8]) {
    while let Ok(Some(message)) = framing::read::<T>(&mut bytes) {
        // JSON has no infinity: the writer has to ensure that there is none.
        if format!("{message:?}").contains("inf") {
            continue;
        }
        let written = framing::encode(&message).expect("what was read can be written");
        let again: T = framing::read(&mut written.as_slice())
            .expect("what was written can be read")
            .expect("it is there");
        // serde_json may read a long fraction as an adjacent number.
        let shape = |message: &T| format!("{message:?}").replace(|c: char| c.is_ascii_digit(), "");
        assert_eq!(shape(&message), shape(&again));
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((which, bytes)) = data.split_first() else {
        return;
    };
    // A stream of frames, or the content of one frame.
    let framed = || {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        [&length.to_le_bytes()[..], bytes].concat()
    };
    match which % 4 {
        0 => all::<Command>(bytes),
        1 => all::<Event>(bytes),
        2 => all::<Command>(&framed()),
        _ => all::<Event>(&framed()),
    }
});
