//! Blocks that the loops do not do: with infinities or NaN in them, with a subnormal step, or near the end of the range.
//! One element at a time.

use super::float8::Float8;
use super::form::Form;
use super::grid::{Extent, Grid};
use super::work::Work;

/// In a marked block these codes stand above those of numbers.
pub const ODD_CODES: u32 = 3;
const MINUS_INFINITY: u32 = 1;
const PLUS_INFINITY: u32 = 2;
const NAN: u32 = 3;

/// The same among codes of 8-bit floats: none of a number, but for that of −0, which is +0 in a marked block.
const FLOAT8_INFINITY: u8 = 0x7f;
const FLOAT8_NAN: u8 = 0x80;

/// Of what is finite; 0 if nothing is.
pub fn finite_extent<F: Form>(elements: &[u8]) -> Extent<F::Work> {
    let numbers = || F::cells(elements).iter().map(|cell| F::load(*cell)).filter(|number| number.is_finite());
    let first = numbers().next().unwrap_or(F::Work::ZERO);
    let start = Extent { least: first, greatest: first, is_finite: false };
    numbers().fold(start, |extent, number| Extent {
        least: if number < extent.least { number } else { extent.least },
        greatest: if number > extent.greatest { number } else { extent.greatest },
        ..extent
    })
}

/// The code of each element in turn; what is no number gets one above `top`.
pub fn quantize<F: Form>(grid: &Grid<F::Work>, top: u32, elements: &[u8], mut put: impl FnMut(usize, u32)) {
    for (i, cell) in F::cells(elements).iter().enumerate() {
        let element = F::load(*cell);
        let code = if element.is_finite() {
            grid.code(element)
        } else if element == F::Work::INFINITY {
            top + PLUS_INFINITY
        } else if element < F::Work::ZERO {
            top + MINUS_INFINITY
        } else {
            top + NAN
        };
        put(i, code);
    }
}

/// What the codes stand for.
pub fn dequantize<F: Form>(
    grid: &Grid<F::Work>,
    top: Option<u32>,
    code: impl Fn(usize) -> u32,
    elements: &mut [u8],
) {
    for (i, cell) in F::cells_mut(elements).iter_mut().enumerate() {
        let code = code(i);
        let value = match top.map_or(0, |top| code.saturating_sub(top)) {
            0 => within(grid.value(code), F::LARGEST),
            MINUS_INFINITY => F::Work::INFINITY.negated(),
            PLUS_INFINITY => F::Work::INFINITY,
            _ => F::Work::NAN,
        };
        *cell = F::store(value);
    }
}

pub fn to_float8<F: Form, C: Float8>(inverse: F::Work, elements: &[u8], codes: &mut [u8]) {
    for (code, cell) in codes.iter_mut().zip(F::cells(elements)) {
        let element = F::load(*cell);
        *code = if element.is_finite() {
            match C::encode((element * inverse).to_single()) {
                FLOAT8_NAN => 0,
                code => code,
            }
        } else if element == F::Work::INFINITY {
            FLOAT8_INFINITY
        } else if element < F::Work::ZERO {
            FLOAT8_INFINITY | 0x80
        } else {
            FLOAT8_NAN
        };
    }
}

pub fn of_float8<F: Form, C: Float8>(step: F::Work, is_marked: bool, codes: &[u8], elements: &mut [u8]) {
    for (cell, code) in F::cells_mut(elements).iter_mut().zip(codes) {
        let value = match *code {
            FLOAT8_INFINITY if is_marked => F::Work::INFINITY,
            0xff if is_marked => F::Work::INFINITY.negated(),
            FLOAT8_NAN if is_marked => F::Work::NAN,
            code => within(F::Work::of_single(C::decode(code)) * step, F::LARGEST),
        };
        *cell = F::store(value);
    }
}

/// Not beyond the largest number. NaN, of a header that no sound sender writes, stays one.
fn within<W: Work>(value: W, largest: W) -> W {
    if value > largest {
        largest
    } else if value < largest.negated() {
        largest.negated()
    } else if value.is_finite() {
        value
    } else {
        W::NAN
    }
}
