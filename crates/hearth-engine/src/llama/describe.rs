//! The description of a model.

use hearth_gguf::Header;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_sys_2 as sys;

use super::raw::raw;

/// llama.cpp's short description of a model, e.g. `llama 1B Q4_0`, but with the size that
/// the file states: llama.cpp guesses it from the number of layers, and reports 256
/// million parameters for a model of 135 million.
pub(super) fn describe(model: &LlamaModel, header: &Header) -> String {
    let mut text = [0u8; 128];
    // SAFETY: the model is valid; at most `len` bytes are written, with a NUL.
    unsafe { sys::llama_model_desc(raw(model), text.as_mut_ptr().cast(), text.len()) };
    let end = text.iter().position(|b| *b == 0).unwrap_or(text.len());
    let text = String::from_utf8_lossy(&text[..end]);
    // Architecture, size, and a type that may have several words.
    let mut words = text.splitn(3, ' ');
    let (Some(architecture), Some(_), Some(rest)) = (words.next(), words.next(), words.next())
    else {
        return text.into_owned();
    };
    let size = size_name(&header.size_label, model.n_params());
    format!("{architecture} {size} {rest}")
}

/// The file's size label where it is plausible, else the number of parameters.
fn size_name(label: &str, parameters: u64) -> String {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    if (1..=16).contains(&label.len()) && label.chars().all(is_name) {
        return label.to_owned();
    }
    #[expect(clippy::cast_precision_loss, reason = "rounded anyway")]
    match parameters {
        1_000_000_000.. => format!("{:.1}B", parameters as f64 / 1e9),
        _ => format!("{}M", parameters.div_ceil(1_000_000)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_the_file_s_or_counted() {
        for (label, parameters, name) in [
            ("135M", 134_515_008, "135M"),
            ("8x7B", 46_700_000_000, "8x7B"),
            ("", 134_515_008, "135M"),
            ("", 1_543_714_304, "1.5B"),
            ("no size at all", 50_000, "1M"),
            ("0123456789abcdefg", 2_000_000, "2M"),
        ] {
            assert_eq!(size_name(label, parameters), name);
        }
    }
}
