//! Conversions between 16-bit floats and f32, on bits, without branches that keep a loop from being vectorised.
//!
//! Widening is exact; narrowing rounds to nearest even and makes every NaN the canonical one. Both expect the
//! standard floating-point mode.

/// Adding and subtracting 2⁻¹⁴ moves an f16 subnormal's mantissa into place without an f32 subnormal.
const F16_LOWEST_NORMAL_BITS: u32 = (127 - 14) << 23;
/// 0.5: what is added to it has its unit in the last place at 2⁻²⁴, an f16 subnormal's.
const F16_SUBNORMAL_UNIT_BITS: u32 = 126 << 23;
/// 2¹⁶: from here on there is no finite f16.
const F16_OVERFLOW_BITS: u32 = (127 + 16) << 23;
const F32_INFINITY_BITS: u32 = 0x7f80_0000;

/// Bits of either type, ordered like the numbers: −0 below +0, NaN beyond the infinities. Turns its result back, too.
#[inline(always)]
pub fn order_key(bits: i16) -> i16 {
    bits ^ ((bits >> 15) & 0x7fff)
}

#[inline(always)]
pub fn f16_to_f32(half: u16) -> f32 {
    let sign = u32::from(half & 0x8000) << 16;
    let shifted = u32::from(half & 0x7fff) << 13;
    let normal = shifted + ((127 - 15) << 23);
    let subnormal =
        (f32::from_bits(shifted + F16_LOWEST_NORMAL_BITS) - f32::from_bits(F16_LOWEST_NORMAL_BITS)).to_bits();
    let finite = if shifted < 1 << 23 { subnormal } else { normal };
    let bits = if shifted >= 31 << 23 { shifted | F32_INFINITY_BITS } else { finite };
    f32::from_bits(bits | sign)
}

#[inline(always)]
pub fn f32_to_f16(value: f32) -> u16 {
    let sign = value.to_bits() & 0x8000_0000;
    let bits = value.to_bits() ^ sign;
    let subnormal = (f32::from_bits(bits) + f32::from_bits(F16_SUBNORMAL_UNIT_BITS))
        .to_bits()
        .wrapping_sub(F16_SUBNORMAL_UNIT_BITS);
    let odd = (bits >> 13) & 1;
    let normal = bits.wrapping_sub((127 - 15) << 23).wrapping_add(0xfff + odd) >> 13;
    let finite = if bits < F16_LOWEST_NORMAL_BITS { subnormal } else { normal };
    let number = if bits >= F16_OVERFLOW_BITS { 0x7c00 } else { finite } | sign >> 16;
    (if bits > F32_INFINITY_BITS { 0x7e00 } else { number }) as u16
}

#[inline(always)]
pub fn bf16_to_f32(value: u16) -> f32 {
    f32::from_bits(u32::from(value) << 16)
}

#[inline(always)]
pub fn f32_to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    let odd = (bits >> 16) & 1;
    let number = bits.wrapping_add(0x7fff + odd) >> 16;
    (if bits & 0x7fff_ffff > F32_INFINITY_BITS { 0x7fc0 } else { number }) as u16
}

/// The same of what is not NaN.
#[inline(always)]
pub fn number_to_bf16(number: f32) -> u16 {
    let bits = number.to_bits();
    let odd = (bits >> 16) & 1;
    (bits.wrapping_add(0x7fff + odd) >> 16) as u16
}
