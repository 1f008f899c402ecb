//! What a kernel needs of an element: its bytes, and five operations.

use super::division::Divisor;
use super::float16;

/// One element type. Everything is inlined into the loops of `walk`.
pub trait Element: Copy {
    /// The element's bytes as they lie in memory.
    type Cell: Copy;
    /// A world size, made ready to divide many elements by.
    type Divisor: Copy;

    fn cells(bytes: &[u8]) -> &[Self::Cell];
    fn cells_mut(bytes: &mut [u8]) -> &mut [Self::Cell];
    fn load(cell: Self::Cell) -> Self;
    fn store(self) -> Self::Cell;

    fn add(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn max(self, other: Self) -> Self;
    fn min(self, other: Self) -> Self;
    fn divisor(world_size: u64) -> Self::Divisor;
    fn divided_by(self, divisor: Self::Divisor) -> Self;
}

/// f16 as its bits.
#[derive(Clone, Copy)]
pub struct Half(u16);

/// bf16 as its bits.
#[derive(Clone, Copy)]
pub struct BFloat16(u16);

macro_rules! cells_of {
    ($bytes:literal) => {
        type Cell = [u8; $bytes];

        #[inline(always)]
        fn cells(bytes: &[u8]) -> &[Self::Cell] {
            bytes.as_chunks().0
        }

        #[inline(always)]
        fn cells_mut(bytes: &mut [u8]) -> &mut [Self::Cell] {
            bytes.as_chunks_mut().0
        }
    };
}

macro_rules! cell_as_number {
    () => {
        #[inline(always)]
        fn load(cell: Self::Cell) -> Self {
            Self::from_le_bytes(cell)
        }

        #[inline(always)]
        fn store(self) -> Self::Cell {
            self.to_le_bytes()
        }
    };
}

macro_rules! integer_operations {
    () => {
        #[inline(always)]
        fn add(self, other: Self) -> Self {
            self.wrapping_add(other)
        }

        #[inline(always)]
        fn mul(self, other: Self) -> Self {
            self.wrapping_mul(other)
        }

        #[inline(always)]
        fn max(self, other: Self) -> Self {
            Ord::max(self, other)
        }

        #[inline(always)]
        fn min(self, other: Self) -> Self {
            Ord::min(self, other)
        }
    };
}

macro_rules! unsigned {
    ($type:ty, $bytes:literal) => {
        impl Element for $type {
            cells_of!($bytes);
            cell_as_number!();
            integer_operations!();

            type Divisor = Divisor<$type>;

            #[inline(always)]
            fn divisor(world_size: u64) -> Self::Divisor {
                Divisor::<$type>::new(world_size)
            }

            #[inline(always)]
            fn divided_by(self, divisor: Self::Divisor) -> Self {
                divisor.divide(self)
            }
        }
    };
}

macro_rules! signed {
    ($type:ty, $unsigned:ty, $bytes:literal) => {
        impl Element for $type {
            cells_of!($bytes);
            cell_as_number!();
            integer_operations!();

            type Divisor = Divisor<$unsigned>;

            #[inline(always)]
            fn divisor(world_size: u64) -> Self::Divisor {
                Divisor::<$unsigned>::new(world_size)
            }

            #[inline(always)]
            fn divided_by(self, divisor: Self::Divisor) -> Self {
                // All ones if negative. Wraps where the lowest value is divided by 1: back to the lowest value.
                let sign = self >> (<$type>::BITS - 1);
                let magnitude = (self ^ sign).wrapping_sub(sign) as $unsigned;
                (divisor.divide(magnitude) as $type ^ sign).wrapping_sub(sign)
            }
        }
    };
}

unsigned!(u8, 1);
unsigned!(u16, 2);
unsigned!(u32, 4);
unsigned!(u64, 8);
signed!(i8, u8, 1);
signed!(i16, u16, 2);
signed!(i32, u32, 4);
signed!(i64, u64, 8);

macro_rules! float {
    ($type:ty, $bytes:literal, $nan:literal) => {
        impl Element for $type {
            cells_of!($bytes);
            cell_as_number!();

            #[inline(always)]
            fn add(self, other: Self) -> Self {
                let sum = self + other;
                if sum.is_nan() { Self::from_bits($nan) } else { sum }
            }

            #[inline(always)]
            fn mul(self, other: Self) -> Self {
                let product = self * other;
                if product.is_nan() { Self::from_bits($nan) } else { product }
            }

            #[inline(always)]
            fn max(self, other: Self) -> Self {
                // The two agree, but for the zeros: there, +0 wins if either is. In this form each is one instruction.
                let (one, same) =
                    (if self > other { self } else { other }, if other > self { other } else { self });
                let number = Self::from_bits(one.to_bits() & same.to_bits());
                if self.is_nan() | other.is_nan() { Self::from_bits($nan) } else { number }
            }

            #[inline(always)]
            fn min(self, other: Self) -> Self {
                let (one, same) =
                    (if self < other { self } else { other }, if other < self { other } else { self });
                let number = Self::from_bits(one.to_bits() | same.to_bits());
                if self.is_nan() | other.is_nan() { Self::from_bits($nan) } else { number }
            }

            type Divisor = $type;

            #[inline(always)]
            fn divisor(world_size: u64) -> $type {
                world_size as $type
            }

            #[inline(always)]
            fn divided_by(self, divisor: $type) -> Self {
                let average = self / divisor;
                if average.is_nan() { Self::from_bits($nan) } else { average }
            }
        }
    };
}

float!(f32, 4, 0x7fc0_0000);
float!(f64, 8, 0x7ff8_0000_0000_0000);

macro_rules! float16 {
    ($type:ident, $widen:path, $narrow:path, $infinity:literal, $nan:literal) => {
        impl $type {
            /// `number`, unless an operand is NaN.
            #[inline(always)]
            fn unless_nan(self, other: Self, number: i16) -> Self {
                let (a, b) = ((self.0 & 0x7fff) as i16, (other.0 & 0x7fff) as i16);
                let larger = if a > b { a } else { b };
                $type(if larger > $infinity { $nan } else { number as u16 })
            }
        }

        impl Element for $type {
            cells_of!(2);

            #[inline(always)]
            fn load(cell: Self::Cell) -> Self {
                $type(u16::from_le_bytes(cell))
            }

            #[inline(always)]
            fn store(self) -> Self::Cell {
                self.0.to_le_bytes()
            }

            #[inline(always)]
            fn add(self, other: Self) -> Self {
                $type($narrow($widen(self.0) + $widen(other.0)))
            }

            #[inline(always)]
            fn mul(self, other: Self) -> Self {
                $type($narrow($widen(self.0) * $widen(other.0)))
            }

            #[inline(always)]
            fn max(self, other: Self) -> Self {
                let (a, b) = (float16::order_key(self.0 as i16), float16::order_key(other.0 as i16));
                self.unless_nan(other, float16::order_key(if a > b { a } else { b }))
            }

            #[inline(always)]
            fn min(self, other: Self) -> Self {
                let (a, b) = (float16::order_key(self.0 as i16), float16::order_key(other.0 as i16));
                self.unless_nan(other, float16::order_key(if a < b { a } else { b }))
            }

            type Divisor = f32;

            #[inline(always)]
            fn divisor(world_size: u64) -> f32 {
                world_size as f32
            }

            #[inline(always)]
            fn divided_by(self, divisor: f32) -> Self {
                $type($narrow($widen(self.0) / divisor))
            }
        }
    };
}

float16!(Half, float16::f16_to_f32, float16::f32_to_f16, 0x7c00, 0x7e00);
float16!(BFloat16, float16::bf16_to_f32, float16::f32_to_bf16, 0x7f80, 0x7fc0);
