//! Blocks that the loops do not do: with infinities or NaN in them, with a subnormal step, or near the end of the range.
//! One element at a time.

use super::float8::Float8;
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
pub fn finite_extent<W: Work>(elements: &[u8]) -> Extent<W> {
    let numbers = || W::cells(elements).iter().map(|cell| W::load(*cell)).filter(|number| number.is_finite());
    let first = numbers().next().unwrap_or(W::ZERO);
    let start = Extent { least: first, greatest: first, is_finite: false };
    numbers().fold(start, |extent, number| Extent {
        least: if number < extent.least { number } else { extent.least },
        greatest: if number > extent.greatest { number } else { extent.greatest },
        ..extent
    })
}

/// The code of each element in turn; what is no number gets one above `top`.
pub fn quantize<W: Work>(grid: &Grid<W>, top: u32, elements: &[u8], mut put: impl FnMut(usize, u32)) {
    for (i, cell) in W::cells(elements).iter().enumerate() {
        let element = W::load(*cell);
        let code = if element.is_finite() {
            grid.code(element)
        } else if element == W::INFINITY {
            top + PLUS_INFINITY
        } else if element < W::ZERO {
            top + MINUS_INFINITY
        } else {
            top + NAN
        };
        put(i, code);
    }
}

/// What the codes stand for. `largest` is the largest number of the elements' type.
pub fn dequantize<W: Work>(
    grid: &Grid<W>,
    top: Option<u32>,
    largest: W,
    code: impl Fn(usize) -> u32,
    elements: &mut [u8],
) {
    for (i, cell) in W::cells_mut(elements).iter_mut().enumerate() {
        let code = code(i);
        let value = match top.map_or(0, |top| code.saturating_sub(top)) {
            0 => within(grid.value(code), largest),
            MINUS_INFINITY => W::INFINITY.negated(),
            PLUS_INFINITY => W::INFINITY,
            _ => W::NAN,
        };
        *cell = value.store();
    }
}

pub fn to_float8<W: Work, F: Float8>(inverse: W, elements: &[u8], codes: &mut [u8]) {
    for (code, cell) in codes.iter_mut().zip(W::cells(elements)) {
        let element = W::load(*cell);
        *code = if element.is_finite() {
            match F::encode((element * inverse).to_single()) {
                FLOAT8_NAN => 0,
                code => code,
            }
        } else if element == W::INFINITY {
            FLOAT8_INFINITY
        } else if element < W::ZERO {
            FLOAT8_INFINITY | 0x80
        } else {
            FLOAT8_NAN
        };
    }
}

pub fn of_float8<W: Work, F: Float8>(
    step: W,
    is_marked: bool,
    largest: W,
    codes: &[u8],
    elements: &mut [u8],
) {
    for (cell, code) in W::cells_mut(elements).iter_mut().zip(codes) {
        let value = match *code {
            FLOAT8_INFINITY if is_marked => W::INFINITY,
            0xff if is_marked => W::INFINITY.negated(),
            FLOAT8_NAN if is_marked => W::NAN,
            code => within(W::of_single(F::decode(code)) * step, largest),
        };
        *cell = value.store();
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
