//! Division of many integers by one number, without dividing: a multiplication and shifts, which vectorise.
//!
//! Granlund and Montgomery, "Division by Invariant Integers using Multiplication" (1994), figure 4.1.

/// How to divide an unsigned integer of one type.
#[derive(Clone, Copy)]
pub struct Divisor<T> {
    multiplier: T,
    /// 0 where the divisor is 1, else 1.
    first_shift: u32,
    second_shift: u32,
}

/// Numbers of one type; products need the wide one; the rest is done in lanes that vectors can shift.
macro_rules! divisor {
    ($type:ty, $wide:ty, $lane:ty) => {
        impl Divisor<$type> {
            /// A divisor that the type cannot hold is larger than any sum: all quotients are 0.
            pub fn new(divisor: u64) -> Self {
                let divisor = u128::from(divisor).min(1 << <$type>::BITS);
                // The least power of two that is not below the divisor.
                let log = (divisor - 1).checked_ilog2().map_or(0, |log| log + 1);
                let multiplier = ((1u128 << log) - divisor << <$type>::BITS) / divisor + 1;
                Divisor {
                    multiplier: multiplier as $type,
                    first_shift: log.min(1),
                    second_shift: log.saturating_sub(1),
                }
            }

            #[inline(always)]
            pub fn divide(self, number: $type) -> $type {
                let product = <$wide>::from(number) * <$wide>::from(self.multiplier);
                let (number, high) = (<$lane>::from(number), (product >> <$type>::BITS) as $lane);
                // `wrapping_shr` takes the place of a check: no shift reaches the width.
                let half = (number - high).wrapping_shr(self.first_shift);
                (high + half).wrapping_shr(self.second_shift) as $type
            }
        }
    };
}

divisor!(u8, u16, u16);
divisor!(u16, u32, u16);
divisor!(u32, u64, u32);
divisor!(u64, u128, u64);
