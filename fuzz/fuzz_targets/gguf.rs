//! Headers of model files.

#![no_main]

use hearth_gguf::read_header;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(header) = read_header(&mut &data[..]) {
        // The number of weights is bounded by the size of the file.
        assert!(header.weights.len() <= data.len() / 24 + 1);
    }
});
