//! The dimensions of known models.

use std::str::FromStr;

use super::FIRST_FILLER;

/// The dimensions of a llama-like model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Transformer blocks.
    pub layers: u32,
    /// Embedding width.
    pub width: u32,
    /// Width of the feed-forward part.
    pub feed_forward: u32,
    /// Attention heads.
    pub heads: u32,
    /// Key and value heads.
    pub kv_heads: u32,
    /// Vocabulary size in tokens.
    pub vocab: u32,
    /// Whether the embeddings are also the output matrix.
    pub tied: bool,
}

/// The names of shapes: the dimensions in the `config.json` of these models. Biases and
/// position scaling are left out: no figure here depends on them.
pub const SHAPES: [(&str, Shape); 9] = [
    ("demo", Shape::new([6, 256, 768, 8, 4, 2048])),
    ("smollm2-135m", Shape::new([30, 576, 1536, 9, 3, 49_152])),
    ("smollm2-360m", Shape::new([32, 960, 2560, 15, 5, 49_152])),
    ("qwen2.5-0.5b", Shape::new([24, 896, 4864, 14, 2, 151_936])),
    (
        "tinyllama-1.1b",
        Shape::new([22, 2048, 5632, 32, 4, 32_000]).with_output(),
    ),
    ("llama-3.2-1b", Shape::new([16, 2048, 8192, 32, 8, 128_256])),
    ("qwen2.5-1.5b", Shape::new([28, 1536, 8960, 12, 2, 151_936])),
    ("smollm2-1.7b", Shape::new([24, 2048, 8192, 32, 32, 49_152])),
    ("llama-3.2-3b", Shape::new([28, 3072, 8192, 24, 8, 128_256])),
];

/// Shorter names.
const SHORT: [(&str, &str); 2] = [("0.5b", "qwen2.5-0.5b"), ("1b", "llama-3.2-1b")];

impl Shape {
    const fn new([layers, width, feed_forward, heads, kv_heads, vocab]: [u32; 6]) -> Self {
        Self {
            layers,
            width,
            feed_forward,
            heads,
            kv_heads,
            vocab,
            tied: true,
        }
    }

    const fn with_output(self) -> Self {
        Self {
            tied: false,
            ..self
        }
    }

    /// Number of weights of such a model.
    pub fn parameters(self) -> u64 {
        let n = |value: u32| u64::from(value);
        let (width, vocab) = (n(self.width), n(self.vocab));
        let kv = width / n(self.heads) * n(self.kv_heads);
        let attention = 2 * width * width + 2 * width * kv;
        let block = attention + 3 * width * n(self.feed_forward) + 2 * width;
        let ends = if self.tied { 1 } else { 2 };
        ends * vocab * width + width + n(self.layers) * block
    }

    fn check(self) -> Result<Self, String> {
        let head = self.width.checked_div(self.heads).unwrap_or(0);
        if self.layers == 0 || self.feed_forward == 0 || self.kv_heads == 0 || head == 0 {
            return Err("every dimension must be at least 1".into());
        }
        if !self.width.is_multiple_of(self.heads)
            || !head.is_multiple_of(2)
            || !self.heads.is_multiple_of(self.kv_heads)
        {
            return Err(
                "width must be an even multiple of heads, heads a multiple of kv_heads".into(),
            );
        }
        if !self.width.is_multiple_of(32) || !self.feed_forward.is_multiple_of(32) {
            return Err(
                "width and ff must be multiples of 32, the block of the quantized types".into(),
            );
        }
        if self.vocab < FIRST_FILLER {
            return Err(format!(
                "vocab must be at least {FIRST_FILLER}: bytes and control tokens"
            ));
        }
        Ok(self)
    }
}

impl FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.to_ascii_lowercase();
        let short = SHORT.iter().find(|(short, _)| *short == text);
        let name = short.map_or(text.as_str(), |(_, name)| name);
        if let Some((_, shape)) = SHAPES.iter().find(|(known, _)| *known == name) {
            return Ok(*shape);
        }
        let numbers: Result<Vec<u32>, _> = text.split(',').map(|n| n.trim().parse()).collect();
        let Ok(&[layers, width, feed_forward, heads, kv_heads, vocab]) = numbers.as_deref() else {
            let names = SHAPES.map(|(name, _)| name).join(", ");
            return Err(format!(
                "use {names}, or layers,width,ff,heads,kv_heads,vocab"
            ));
        };
        Self::new([layers, width, feed_forward, heads, kv_heads, vocab]).check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_parsed_and_invalid_ones_refused() {
        for (name, shape) in SHAPES {
            assert_eq!(name.parse(), Ok(shape));
            assert_eq!(shape.check(), Ok(shape));
        }
        assert_eq!("1b".parse::<Shape>(), "Llama-3.2-1B".parse());
        assert!("2,64,128,4,2,300".parse::<Shape>().is_ok());
        for bad in [
            "",
            "2b",
            "0,64,128,4,2,300",
            "2,64,128,4,3,300",
            "2,64,100,4,2,300",
            "2,64,128,0,2,300",
            "2,64,128,4,2,99",
        ] {
            assert!(bad.parse::<Shape>().is_err(), "{bad}");
        }
    }

    /// The numbers that the models' pages give, without Qwen's biases.
    #[test]
    fn known_models_have_their_number_of_weights() {
        for (name, parameters) in [
            ("smollm2-135m", 134_515_008),
            ("smollm2-360m", 361_821_120),
            ("qwen2.5-0.5b", 494_032_768 - 24 * (896 + 128 + 128)),
            ("tinyllama-1.1b", 1_100_048_384),
            ("llama-3.2-1b", 1_235_814_400),
            ("qwen2.5-1.5b", 1_543_714_304 - 28 * (1536 + 256 + 256)),
            ("smollm2-1.7b", 1_711_376_384),
            ("llama-3.2-3b", 3_212_749_824),
        ] {
            let shape: Shape = name.parse().unwrap();
            assert_eq!(shape.parameters(), parameters, "{name}");
        }
    }
}
