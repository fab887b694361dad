//! Headers of pictures and sounds, and the form of a transcription: what is read of them before
//! anything is decoded.

#![no_main]

use hearth_api::openai;
use hearth_proto::{picture, sound};
use libfuzzer_sys::fuzz_target;

/// The most fields that are made of the bytes.
const FIELDS_MAX: usize = 8;

fuzz_target!(|data: &[u8]| {
    let Some((door, bytes)) = data.split_first() else {
        return;
    };
    match door % 3 {
        0 => {
            if let Ok(picture) = picture::read(bytes) {
                assert!(picture.width > 0 && picture.height > 0, "{picture:?}");
            }
        }
        1 => drop(sound::read(bytes)),
        // Names and contents, with a zero byte between them.
        _ => {
            let mut texts = bytes.splitn(2 * FIELDS_MAX, |byte| *byte == 0);
            let mut fields = Vec::new();
            while let (Some(name), Some(content)) = (texts.next(), texts.next()) {
                fields.push((String::from_utf8_lossy(name).into_owned(), content.to_vec()));
            }
            if let Err(failure) = openai::decode_transcription(fields) {
                assert!(!failure.message.is_empty() && failure.message.len() <= 1000);
            }
        }
    }
});
