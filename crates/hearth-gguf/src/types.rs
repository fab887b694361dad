//! The element types of tensors.

/// How the elements of a tensor are stored: a number of `enum ggml_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ElementType(pub u32);

impl ElementType {
    /// 32-bit floats.
    pub const F32: Self = Self(0);
    /// 16-bit floats.
    pub const F16: Self = Self(1);
    /// Blocks of 32 four-bit numbers with one scale.
    pub const Q4_0: Self = Self(2);
    /// Blocks of 32 five-bit numbers with one scale.
    pub const Q5_0: Self = Self(6);
    /// Blocks of 32 signed bytes with one scale.
    pub const Q8_0: Self = Self(8);
    /// Superblocks of two-bit numbers.
    pub const Q2_K: Self = Self(10);
    /// Superblocks of four-bit numbers.
    pub const Q4_K: Self = Self(12);
    /// Superblocks of five-bit numbers.
    pub const Q5_K: Self = Self(13);
    /// Superblocks of six-bit numbers.
    pub const Q6_K: Self = Self(14);
    /// Blocks of 32 four-bit numbers on a non-linear scale.
    pub const IQ4_NL: Self = Self(20);
    /// Blocks of 32 four-bit floats.
    pub const MXFP4: Self = Self(39);
    /// Blocks of 128 one-bit numbers.
    pub const Q1_0: Self = Self(41);

    /// Elements and bytes of a block (ggml-common.h). An unknown type counts as 32-bit
    /// floats, the largest type of weights.
    fn block(self) -> (u64, u64) {
        match self.0 {
            1 | 25 | 30 => (1, 2),
            2 | 20 => (32, 18),
            3 => (32, 20),
            6 => (32, 22),
            7 => (32, 24),
            8 => (32, 34),
            9 => (32, 36),
            10 => (256, 84),
            11 | 21 => (256, 110),
            12 => (256, 144),
            13 => (256, 176),
            14 => (256, 210),
            15 => (256, 292),
            16 | 35 => (256, 66),
            17 => (256, 74),
            18 => (256, 98),
            19 => (256, 50),
            22 => (256, 82),
            23 => (256, 136),
            24 => (1, 1),
            27 | 28 => (1, 8),
            29 => (256, 56),
            34 => (256, 54),
            39 => (32, 17),
            40 => (64, 36),
            41 => (128, 18),
            42 => (64, 18),
            _ => (1, 4),
        }
    }

    /// Whether it is one of ggml's.
    pub(super) fn is_known(self) -> bool {
        // Only 32-bit floats and integers have the size that an unknown type is given.
        matches!(self.0, 0 | 26) || self.block() != Self(u32::MAX).block()
    }

    /// Bytes of this many elements.
    pub fn bytes(self, elements: u64) -> u64 {
        let (count, size) = self.block();
        elements.div_ceil(count).saturating_mul(size)
    }

    /// Whether it is one of the types that are stored in blocks.
    pub fn is_quantized(self) -> bool {
        self.block().0 > 1
    }
}

/// Whether llama.cpp's mixtures (`Q4_K_M`) spend more bits on the `attn_v` and `ffn_down`
/// matrices of a block: those of the first and last eighth, and every third in between
/// (`use_more_bits` in llama-quant.cpp).
pub fn takes_more_bits(block: u32, blocks: u32) -> bool {
    block < blocks / 8 || block >= 7 * blocks / 8 || (block - blocks / 8) % 3 == 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_sizes_are_ggmls() {
        for (element, bytes_of_256) in [
            (ElementType::F32, 1024),
            (ElementType::F16, 512),
            (ElementType::Q4_0, 144),
            (ElementType::Q8_0, 272),
            (ElementType::Q4_K, 144),
            (ElementType::Q6_K, 210),
            (ElementType::MXFP4, 136),
            (ElementType(999), 1024),
        ] {
            assert_eq!(element.bytes(256), bytes_of_256, "{element:?}");
        }
        assert_eq!(ElementType::F32.bytes(u64::MAX), u64::MAX);
    }
}
