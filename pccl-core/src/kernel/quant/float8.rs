//! 8-bit floats, on bits, without branches that keep a loop from being vectorised. Rounded to nearest even.
//!
//! The two formats of "FP8 Formats for Deep Learning" (Micikevicius and others, 2022), of numbers only: what is no number
//! is told by the block (`careful`).

/// One of the formats.
pub trait Float8 {
    const MANTISSA_BITS: u32;
    const BIAS: u32;
    /// A number whose last place is the format's least subnormal.
    const SUBNORMAL_UNIT: f32;
    /// The largest number is 1.75 times this power of two.
    const LARGEST_EXPONENT: i32;

    /// Of a number within the format's range.
    #[inline(always)]
    fn encode(number: f32) -> u8 {
        let sign = number.to_bits() >> 24 & 0x80;
        let bits = number.to_bits() & 0x7fff_ffff;
        let shift = 23 - Self::MANTISSA_BITS;
        let subnormal = (f32::from_bits(bits) + Self::SUBNORMAL_UNIT)
            .to_bits()
            .wrapping_sub(Self::SUBNORMAL_UNIT.to_bits());
        let odd = bits >> shift & 1;
        let normal =
            bits.wrapping_sub((127 - Self::BIAS) << 23).wrapping_add((1 << (shift - 1)) - 1 + odd) >> shift;
        let is_subnormal = bits < (128 - Self::BIAS) << 23;
        (if is_subnormal { subnormal } else { normal } | sign) as u8
    }

    #[inline(always)]
    fn decode(code: u8) -> f32 {
        // Widened with its sign, which then stands where that of an f32 does.
        let wide = i32::from(code as i8) as u32;
        let (sign, magnitude) = (wide & 0x8000_0000, wide & 0x7f);
        let normal = (magnitude << (23 - Self::MANTISSA_BITS)) + ((127 - Self::BIAS) << 23);
        let subnormal =
            (f32::from_bits(magnitude + Self::SUBNORMAL_UNIT.to_bits()) - Self::SUBNORMAL_UNIT).to_bits();
        let bits = if magnitude < 1 << Self::MANTISSA_BITS { subnormal } else { normal };
        f32::from_bits(bits | sign)
    }
}

pub struct E4M3;
pub struct E5M2;

impl Float8 for E4M3 {
    const MANTISSA_BITS: u32 = 3;
    const BIAS: u32 = 7;
    const SUBNORMAL_UNIT: f32 = 16_384.0;
    const LARGEST_EXPONENT: i32 = 8;
}

impl Float8 for E5M2 {
    const MANTISSA_BITS: u32 = 2;
    const BIAS: u32 = 15;
    const SUBNORMAL_UNIT: f32 = 128.0;
    const LARGEST_EXPONENT: i32 = 15;
}
