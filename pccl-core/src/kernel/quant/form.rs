//! How elements lie in memory, and what they are computed in.

use super::grid::Extent;
use super::loops;
use super::work::Work;
use crate::kernel::ahead::Ahead;
use crate::kernel::cpu::Cpu;
use crate::kernel::element::Element;
use crate::kernel::float16;
use crate::kernel::path::{LANES, Path};

/// A type of elements.
pub trait Form {
    type Work: Work;
    /// The bytes of one.
    type Cell: Copy;
    const BYTES: usize;
    /// The type's largest number.
    const LARGEST: Self::Work;
    /// It is not that of `Work`, which the others can be taken for granted to fit (and need no loop compiled for it).
    const ENDS_EARLY: bool;

    fn cells(bytes: &[u8]) -> &[Self::Cell];
    fn cells_mut(bytes: &mut [u8]) -> &mut [Self::Cell];
    fn load(cell: Self::Cell) -> Self::Work;
    fn store(number: Self::Work) -> Self::Cell;
    /// As `load` of each.
    fn load_lanes<P: Path>(path: P, cells: &[Self::Cell; LANES]) -> [Self::Work; LANES];
    /// As `store` of each. None is NaN.
    fn store_lanes<P: Path>(path: P, numbers: &[Self::Work; LANES], cells: &mut [Self::Cell; LANES]);
    /// Least and greatest element; of no use where not all are finite. Memory is fetched `ahead` meanwhile.
    fn extent(cpu: Cpu, ahead: Ahead, elements: &[u8]) -> Extent<Self::Work>;
}

macro_rules! as_it_is {
    ($type:ident) => {
        impl Form for $type {
            type Work = $type;
            type Cell = <$type as Element>::Cell;
            const BYTES: usize = size_of::<$type>();
            const LARGEST: $type = $type::MAX;
            const ENDS_EARLY: bool = false;

            #[inline(always)]
            fn cells(bytes: &[u8]) -> &[Self::Cell] {
                <$type as Element>::cells(bytes)
            }

            #[inline(always)]
            fn cells_mut(bytes: &mut [u8]) -> &mut [Self::Cell] {
                <$type as Element>::cells_mut(bytes)
            }

            #[inline(always)]
            fn load(cell: Self::Cell) -> $type {
                $type::from_le_bytes(cell)
            }

            #[inline(always)]
            fn store(number: $type) -> Self::Cell {
                number.to_le_bytes()
            }

            #[inline(always)]
            fn load_lanes<P: Path>(_: P, cells: &[Self::Cell; LANES]) -> [$type; LANES] {
                let mut numbers = [0.0; LANES];
                for lane in 0..LANES {
                    numbers[lane] = $type::from_le_bytes(cells[lane]);
                }
                numbers
            }

            #[inline(always)]
            fn store_lanes<P: Path>(_: P, numbers: &[$type; LANES], cells: &mut [Self::Cell; LANES]) {
                for lane in 0..LANES {
                    cells[lane] = numbers[lane].to_le_bytes();
                }
            }

            fn extent(cpu: Cpu, ahead: Ahead, elements: &[u8]) -> Extent<$type> {
                let mut extent = Extent { least: 0.0, greatest: 0.0, is_finite: true };
                loops::extent::<$type>(cpu, ahead, elements, &mut extent);
                extent
            }
        }
    };
}

as_it_is!(f32);
as_it_is!(f64);

/// A 16-bit float on its way to f32 and back, on bits.
pub trait Narrow {
    const INFINITY: i16;
    fn widen(bits: u16) -> f32;
    fn narrow(number: f32) -> u16;
}

pub struct AsF16;
pub struct AsBf16;

impl Narrow for AsF16 {
    const INFINITY: i16 = 0x7c00;

    #[inline(always)]
    fn widen(bits: u16) -> f32 {
        float16::f16_to_f32(bits)
    }

    #[inline(always)]
    fn narrow(number: f32) -> u16 {
        float16::f32_to_f16(number)
    }
}

impl Narrow for AsBf16 {
    const INFINITY: i16 = 0x7f80;

    #[inline(always)]
    fn widen(bits: u16) -> f32 {
        float16::bf16_to_f32(bits)
    }

    #[inline(always)]
    fn narrow(number: f32) -> u16 {
        float16::f32_to_bf16(number)
    }
}

macro_rules! half {
    ($type:ident, $largest:expr, |$path:ident, $cells:ident| $load:expr, |$numbers:ident| $store:expr) => {
        impl Form for $type {
            type Work = f32;
            type Cell = [u8; 2];
            const BYTES: usize = 2;
            const LARGEST: f32 = $largest;
            const ENDS_EARLY: bool = true;

            #[inline(always)]
            fn cells(bytes: &[u8]) -> &[[u8; 2]] {
                bytes.as_chunks().0
            }

            #[inline(always)]
            fn cells_mut(bytes: &mut [u8]) -> &mut [[u8; 2]] {
                bytes.as_chunks_mut().0
            }

            #[inline(always)]
            fn load(cell: [u8; 2]) -> f32 {
                Self::widen(u16::from_le_bytes(cell))
            }

            #[inline(always)]
            fn store(number: f32) -> [u8; 2] {
                Self::narrow(number).to_le_bytes()
            }

            #[inline(always)]
            fn load_lanes<P: Path>($path: P, $cells: &[[u8; 2]; LANES]) -> [f32; LANES] {
                $load
            }

            #[inline(always)]
            fn store_lanes<P: Path>($path: P, $numbers: &[f32; LANES], cells: &mut [[u8; 2]; LANES]) {
                *cells = $store;
            }

            fn extent(cpu: Cpu, ahead: Ahead, elements: &[u8]) -> Extent<f32> {
                let mut extent = Extent { least: 0.0, greatest: 0.0, is_finite: true };
                loops::extent_of_halves::<$type>(cpu, ahead, elements, &mut extent);
                extent
            }
        }
    };
}

half!(AsF16, 65_504.0, |path, cells| path.widen_f16(cells), |numbers| path.narrow_f16(numbers));
half!(
    AsBf16,
    f32::from_bits(0x7f7f_0000),
    |_path, cells| {
        let mut numbers = [0.0; LANES];
        for lane in 0..LANES {
            numbers[lane] = float16::bf16_to_f32(u16::from_le_bytes(cells[lane]));
        }
        numbers
    },
    |numbers| {
        let mut cells = [[0; 2]; LANES];
        for lane in 0..LANES {
            cells[lane] = float16::number_to_bf16(numbers[lane]).to_le_bytes();
        }
        cells
    }
);
