//! How elements lie in memory, and what they are computed in.

use super::grid::Extent;
use super::loops;
use super::work::Work;
use crate::kernel::ahead::Ahead;
use crate::kernel::cpu::Cpu;
use crate::kernel::element::Element;
use crate::kernel::float16;
use crate::kernel::path::{Halves, LANES, Path, Singles};

/// A type of elements, by how they lie.
pub trait Form {
    type Work: Work;
    /// The bytes of one.
    type Cell: Copy;
    const BYTES: usize;
    /// The type's largest number.
    const LARGEST: Self::Work;
    /// `LARGEST` is less than the largest of `Work`: codes of a sound block may stand for more.
    const ENDS_EARLY: bool;

    fn cells(bytes: &[u8]) -> &[Self::Cell];
    fn cells_mut(bytes: &mut [u8]) -> &mut [Self::Cell];
    fn load(cell: Self::Cell) -> Self::Work;
    /// Every NaN as the one of the type.
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
                if number.is_nan() { <$type as Work>::NAN } else { number }.to_le_bytes()
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

/// A 16-bit float, and f32.
pub trait Narrow {
    const INFINITY: i16;
    const LARGEST: f32;
    fn widen(bits: u16) -> f32;
    fn narrow(number: f32) -> u16;
    /// As `widen` of each; a NaN comes out as some NaN.
    fn widen_lanes<P: Path>(path: P, halves: &Halves) -> Singles;
    /// As `narrow` of each.
    fn narrow_lanes<P: Path>(path: P, singles: &Singles) -> Halves;
    /// The same of what is not NaN.
    fn narrow_numbers<P: Path>(path: P, singles: &Singles) -> Halves;
}

pub struct AsF16;
pub struct AsBf16;

impl Narrow for AsF16 {
    const INFINITY: i16 = 0x7c00;
    const LARGEST: f32 = 65_504.0;

    #[inline(always)]
    fn widen(bits: u16) -> f32 {
        float16::f16_to_f32(bits)
    }

    #[inline(always)]
    fn narrow(number: f32) -> u16 {
        float16::f32_to_f16(number)
    }

    #[inline(always)]
    fn widen_lanes<P: Path>(path: P, halves: &Halves) -> Singles {
        path.widen_f16(halves)
    }

    #[inline(always)]
    fn narrow_lanes<P: Path>(path: P, singles: &Singles) -> Halves {
        path.narrow_f16(singles)
    }

    #[inline(always)]
    fn narrow_numbers<P: Path>(path: P, singles: &Singles) -> Halves {
        path.narrow_f16(singles)
    }
}

/// Integer work, which the compiler does well.
impl Narrow for AsBf16 {
    const INFINITY: i16 = 0x7f80;
    const LARGEST: f32 = f32::from_bits(0x7f7f_0000);

    #[inline(always)]
    fn widen(bits: u16) -> f32 {
        float16::bf16_to_f32(bits)
    }

    #[inline(always)]
    fn narrow(number: f32) -> u16 {
        float16::f32_to_bf16(number)
    }

    #[inline(always)]
    fn widen_lanes<P: Path>(_: P, halves: &Halves) -> Singles {
        let mut singles = [0.0; LANES];
        for lane in 0..LANES {
            singles[lane] = float16::bf16_to_f32(u16::from_le_bytes(halves[lane]));
        }
        singles
    }

    #[inline(always)]
    fn narrow_lanes<P: Path>(_: P, singles: &Singles) -> Halves {
        let mut halves = [[0; 2]; LANES];
        for lane in 0..LANES {
            halves[lane] = float16::f32_to_bf16(singles[lane]).to_le_bytes();
        }
        halves
    }

    #[inline(always)]
    fn narrow_numbers<P: Path>(_: P, singles: &Singles) -> Halves {
        let mut halves = [[0; 2]; LANES];
        for lane in 0..LANES {
            halves[lane] = float16::number_to_bf16(singles[lane]).to_le_bytes();
        }
        halves
    }
}

impl<N: Narrow> Form for N {
    type Work = f32;
    type Cell = [u8; 2];
    const BYTES: usize = 2;
    const LARGEST: f32 = N::LARGEST;
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
        N::widen(u16::from_le_bytes(cell))
    }

    #[inline(always)]
    fn store(number: f32) -> [u8; 2] {
        N::narrow(number).to_le_bytes()
    }

    #[inline(always)]
    fn load_lanes<P: Path>(path: P, cells: &Halves) -> Singles {
        N::widen_lanes(path, cells)
    }

    #[inline(always)]
    fn store_lanes<P: Path>(path: P, numbers: &Singles, cells: &mut Halves) {
        *cells = N::narrow_numbers(path, numbers);
    }

    fn extent(cpu: Cpu, ahead: Ahead, elements: &[u8]) -> Extent<f32> {
        let mut extent = Extent { least: 0.0, greatest: 0.0, is_finite: true };
        loops::extent_of_halves::<N>(cpu, ahead, elements, &mut extent);
        extent
    }
}
