//! What quantization is computed in: f32, and f64 for elements of f64.

use std::ops::{Add, Div, Mul, Sub};

use crate::kernel::element::Element;

/// A float whose arithmetic is IEEE 754, each operation rounded to nearest even.
pub trait Work:
    Element + PartialOrd + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self>
{
    const ZERO: Self;
    /// The least positive number that is not subnormal.
    const LEAST_NORMAL: Self;
    const LARGEST: Self;
    const INFINITY: Self;
    const NAN: Self;

    /// Exact for every whole number of up to 24 bits, and for halves and powers of two within range.
    fn of(number: f64) -> Self;
    /// 0 up to 65535: exact.
    fn of_code(code: u32) -> Self;
    /// The nearest whole number, to the even one of two, of a number from 0 to 65535.
    fn to_code(self) -> u32;
    fn to_single(self) -> f32;
    fn of_single(number: f32) -> Self;
    /// The number without its sign.
    fn magnitude(self) -> Self;
    fn is_negative(self) -> bool;
    /// The sign of the first argument alone is turned.
    fn negated(self) -> Self;
    fn is_finite(self) -> bool;
    /// Of a positive number: the power of two that is not above it (0 counts as the least normal number), and whether
    /// it is more than 1.75 times that.
    fn exponent(self) -> (i32, bool);
    /// For exponents of normal numbers.
    fn power_of_two(exponent: i32) -> Self;
    const LEAST_EXPONENT: i32;
}

macro_rules! work {
    ($type:ident, $bits:ident, $mantissa_bits:literal, $bias:literal, $round:literal) => {
        impl Work for $type {
            const ZERO: Self = 0.0;
            const LEAST_NORMAL: Self = $type::MIN_POSITIVE;
            const LARGEST: Self = $type::MAX;
            const INFINITY: Self = $type::INFINITY;
            const NAN: Self = $type::from_bits((($bias * 2 + 1) << 1 | 1) << ($mantissa_bits - 1));
            const LEAST_EXPONENT: i32 = 1 - $bias;

            #[inline(always)]
            fn of(number: f64) -> Self {
                number as $type
            }

            #[inline(always)]
            fn of_code(code: u32) -> Self {
                // Of i32, as vectors have no conversion of u32.
                code as i32 as $type
            }

            #[inline(always)]
            fn to_code(self) -> u32 {
                // A number whose last place is 1: adding rounds, and the low bits are the sum.
                (self + $round).to_bits() as u32 & 0xffff
            }

            #[inline(always)]
            fn to_single(self) -> f32 {
                self as f32
            }

            #[inline(always)]
            fn of_single(number: f32) -> Self {
                number as $type
            }

            #[inline(always)]
            fn magnitude(self) -> Self {
                $type::from_bits(self.to_bits() & ($bits::MAX >> 1))
            }

            #[inline(always)]
            fn is_negative(self) -> bool {
                self.is_sign_negative()
            }

            #[inline(always)]
            fn negated(self) -> Self {
                -self
            }

            #[inline(always)]
            fn is_finite(self) -> bool {
                $type::is_finite(self)
            }

            fn exponent(self) -> (i32, bool) {
                let bits = self.to_bits() & ($bits::MAX >> 1);
                let (exponent, mantissa) = (bits >> $mantissa_bits, bits & ((1 << $mantissa_bits) - 1));
                let above = mantissa > 0b11 << ($mantissa_bits - 2);
                (Ord::max(exponent as i32, 1) - $bias, above || exponent == 0)
            }

            fn power_of_two(exponent: i32) -> Self {
                $type::from_bits(((exponent + $bias) as $bits) << $mantissa_bits)
            }
        }
    };
}

work!(f32, u32, 23, 127, 12_582_912.0);
work!(f64, u64, 52, 1023, 6_755_399_441_055_744.0);
