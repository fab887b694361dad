//! How ggml stores the elements of a tensor (layouts: ggml-common.h). The scales are
//! computed directly, without a search: the weights are random anyway.

/// Elements of one block of the simple types.
const BLOCK: usize = 32;
/// Elements of one block of the K types.
const SUPER: usize = 256;

/// How the elements of a tensor are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElementType {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// Blocks of 32 four-bit numbers with one scale.
    Q4_0,
    /// Blocks of 32 five-bit numbers with one scale.
    Q5_0,
    /// Blocks of 32 signed bytes with one scale.
    Q8_0,
    /// Blocks of 256 four-bit numbers, eight scales and minima of six bits.
    Q4K,
    /// Blocks of 256 six-bit numbers, sixteen scales of eight bits.
    Q6K,
}

impl ElementType {
    /// The type number in a tensor's description (`enum ggml_type`).
    pub(super) fn ggml_type(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q5_0 => 6,
            Self::Q8_0 => 8,
            Self::Q4K => 12,
            Self::Q6K => 14,
        }
    }

    /// Elements that are stored together; a row has a multiple of them.
    pub(crate) fn block(self) -> u64 {
        match self {
            Self::F32 | Self::F16 => 1,
            Self::Q4_0 | Self::Q5_0 | Self::Q8_0 => BLOCK as u64,
            Self::Q4K | Self::Q6K => SUPER as u64,
        }
    }

    /// Bytes of `n` elements; `n` is a multiple of the block.
    pub(crate) fn bytes(self, n: u64) -> u64 {
        let of_block = match self {
            Self::F32 => 4,
            Self::F16 => 2,
            Self::Q4_0 => 18,
            Self::Q5_0 => 22,
            Self::Q8_0 => 34,
            Self::Q4K => 144,
            Self::Q6K => 210,
        };
        n / self.block() * of_block
    }

    /// Appends `values` in this form to `out`.
    pub(crate) fn encode(self, values: &[f32], out: &mut Vec<u8>) {
        let encode = match self {
            Self::F32 => return out.extend(values.iter().flat_map(|v| v.to_le_bytes())),
            Self::F16 => return out.extend(values.iter().flat_map(|v| half(*v).to_le_bytes())),
            Self::Q4_0 => q4_0,
            Self::Q5_0 => q5_0,
            Self::Q8_0 => q8_0,
            Self::Q4K => q4_k,
            Self::Q6K => q6_k,
        };
        let (block, bytes) = (self.block(), self.bytes(self.block()));
        #[expect(clippy::cast_possible_truncation, reason = "at most 256")]
        for block in values.chunks(block as usize) {
            let start = out.len();
            encode(block, out);
            debug_assert_eq!(out.len() - start, bytes as usize);
        }
    }
}

/// `v / scale`, rounded and clamped to the bounds.
#[expect(clippy::cast_possible_truncation, reason = "clamped to a byte's range")]
fn level(v: f32, scale: f32, low: i16, high: i16) -> i16 {
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    (v * inverse).round().clamp(f32::from(low), f32::from(high)) as i16
}

/// The same as an unsigned number of a few bits, where `offset` represents zero.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "few bits"
)]
fn bits(v: f32, scale: f32, offset: i16) -> u8 {
    (level(v, scale, -offset, offset - 1) + offset) as u8
}

/// The value of the largest magnitude.
fn extreme(values: &[f32]) -> f32 {
    let larger = |m: f32, v: &f32| if v.abs() > m.abs() { *v } else { m };
    values.iter().fold(0.0, larger)
}

fn q8_0(block: &[f32], out: &mut Vec<u8>) {
    let scale = extreme(block).abs() / 127.0;
    out.extend(half(scale).to_le_bytes());
    #[expect(clippy::cast_possible_truncation, reason = "clamped to i8")]
    out.extend(
        block
            .iter()
            .map(|v| (level(*v, scale, -127, 127) as i8).cast_unsigned()),
    );
}

fn q4_0(block: &[f32], out: &mut Vec<u8>) {
    // The extreme becomes -8, the end of the four-bit range.
    let scale = extreme(block) / -8.0;
    out.extend(half(scale).to_le_bytes());
    let (low, high) = block.split_at(BLOCK / 2);
    let pairs = low.iter().zip(high);
    out.extend(pairs.map(|(l, h)| bits(*l, scale, 8) | bits(*h, scale, 8) << 4));
}

fn q5_0(block: &[f32], out: &mut Vec<u8>) {
    let scale = extreme(block) / -16.0;
    out.extend(half(scale).to_le_bytes());
    let five = |v: &f32| bits(*v, scale, 16);
    let fifth = |all: u32, v: &f32| all >> 1 | u32::from(five(v) >> 4) << 31;
    out.extend(block.iter().fold(0, fifth).to_le_bytes());
    let (low, high) = block.split_at(BLOCK / 2);
    let pairs = low.iter().zip(high);
    out.extend(pairs.map(|(l, h)| five(l) & 15 | five(h) << 4));
}

fn q4_k(block: &[f32], out: &mut Vec<u8>) {
    let parts: Vec<(f32, f32)> = block
        .chunks(BLOCK)
        .map(|part| {
            let low = part.iter().copied().fold(0.0, f32::min);
            let high = part.iter().copied().fold(0.0, f32::max);
            ((high - low) / 15.0, -low)
        })
        .collect();
    let most = |of: fn(&(f32, f32)) -> f32| parts.iter().map(of).fold(0.0, f32::max) / 63.0;
    let (scale, minimum) = (most(|p| p.0), most(|p| p.1));
    out.extend(half(scale).to_le_bytes());
    out.extend(half(minimum).to_le_bytes());
    let six = |v: f32, unit: f32| level(v, unit, 0, 63).to_le_bytes()[0];
    let s: Vec<u8> = parts.iter().map(|p| six(p.0, scale)).collect();
    let m: Vec<u8> = parts.iter().map(|p| six(p.1, minimum)).collect();
    // Four scales and minima as they are, with the upper bits of the other four.
    out.extend((0..4).map(|n| s[n] | s[n + 4] >> 4 << 6));
    out.extend((0..4).map(|n| m[n] | m[n + 4] >> 4 << 6));
    out.extend((4..8).map(|n| s[n] & 15 | m[n] << 4));
    let four = |n: usize| {
        let part = n / BLOCK;
        let (unit, low) = (scale * f32::from(s[part]), minimum * f32::from(m[part]));
        level(block[n] + low, unit, 0, 15).to_le_bytes()[0]
    };
    for pair in (0..SUPER).step_by(2 * BLOCK) {
        out.extend((pair..pair + BLOCK).map(|n| four(n) | four(n + BLOCK) << 4));
    }
}

fn q6_k(block: &[f32], out: &mut Vec<u8>) {
    let parts: Vec<f32> = block.chunks(16).map(|part| extreme(part) / -32.0).collect();
    let scale = extreme(&parts) / -128.0;
    let s: Vec<i16> = parts.iter().map(|p| level(*p, scale, -128, 127)).collect();
    let six = |n: usize| bits(block[n], scale * f32::from(s[n / 16]), 32);
    for half in [0, 128] {
        out.extend((half..half + 64).map(|n| six(n) & 15 | six(n + 64) << 4));
    }
    for half in [0, 128] {
        let upper = |n: usize| (0..4).fold(0, |all, k| all | six(n + 32 * k) >> 4 << (2 * k));
        out.extend((half..half + 32).map(upper));
    }
    out.extend(s.iter().map(|s| s.to_le_bytes()[0]));
    out.extend(half(scale).to_le_bytes());
}

/// IEEE half precision, rounded to nearest even; too large becomes infinite.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "shifted into 16 bits, or below 1024"
)]
fn half(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = ((bits >> 16) & 0x8000) as u16;
    let magnitude = bits & 0x7fff_ffff;
    if magnitude < 0x3880_0000 {
        // Below the smallest normal half the step is 2^-24; the K types' scales of
        // scales lie in this range.
        let steps = f32::from_bits(magnitude) * 16_777_216.0;
        return sign | steps.round_ties_even() as u16;
    }
    if magnitude >= 0x4780_0000 {
        return sign | 0x7c00;
    }
    let rounded = magnitude + 0x0fff + ((magnitude >> 13) & 1);
    sign | ((rounded - 0x3800_0000) >> 13) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_floats_are_rounded_to_the_nearest() {
        assert_eq!(half(0.0), 0);
        assert_eq!(half(1.0), 0x3c00);
        assert_eq!(half(-2.0), 0xc000);
        assert_eq!(half(65504.0), 0x7bff);
        assert_eq!(half(1e9), 0x7c00);
        assert_eq!(half(1.0 / 3.0), 0x3555);
        // The smallest normal one, the largest below it, the smallest, half of that.
        assert_eq!(half(2.0_f32.powi(-14)), 0x0400);
        assert_eq!(half(-1023.0 * 2.0_f32.powi(-24)), 0x83ff);
        assert_eq!(half(2.0_f32.powi(-24)), 1);
        assert_eq!(half(2.0_f32.powi(-25)), 0);
    }

    #[test]
    fn blocks_have_ggml_s_sizes_and_keep_their_values() {
        let values: Vec<f32> = (0..32u8).map(|n| f32::from(n) - 16.0).collect();
        let encode = |element: ElementType| {
            let mut out = Vec::new();
            element.encode(&values, &mut out);
            assert_eq!(out.len() as u64, element.bytes(32));
            out
        };
        assert_eq!(encode(ElementType::Q8_0)[2].cast_signed(), -127);
        // -16 is the extreme: four-bit 0; 0, in the upper half, is 8.
        assert_eq!(encode(ElementType::Q4_0)[2], 0x80);
        // Five bits hold all of them: the upper half has the fifth bit.
        let five = encode(ElementType::Q5_0);
        assert_eq!(five[2..6], [0, 0, 0xff, 0xff]);
        assert_eq!(five[6..8], [0x00, 0x11]);
    }

    #[test]
    fn blocks_of_zeros_are_encoded() {
        for element in [ElementType::Q4_0, ElementType::Q4K, ElementType::Q6K] {
            let mut out = Vec::new();
            element.encode(&[0.0; SUPER], &mut out);
            assert_eq!(out.len() as u64, element.bytes(256));
        }
    }
}
