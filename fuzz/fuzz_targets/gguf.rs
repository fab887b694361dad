//! Headers of model files.

#![no_main]

use hearthd::gguf::read_header;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(header) = read_header(&mut &data[..]) {
        // Nothing is there that was not in the file.
        assert!(header.weights.len() <= data.len() / 24 + 1);
    }
});
