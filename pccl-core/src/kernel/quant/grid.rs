//! Evenly spread codes: where a block's lie, and what they stand for.

use super::work::Work;

/// The least and the greatest finite element of a block.
#[derive(Clone, Copy)]
pub struct Extent<W> {
    pub least: W,
    pub greatest: W,
    /// There is nothing but numbers.
    pub is_finite: bool,
}

/// Code `q` stands for `base + (q − zero) · step`.
#[derive(Clone, Copy)]
pub struct Grid<W> {
    pub base: W,
    pub zero: W,
    pub step: W,
    /// 1 / step; 0 where there is no step. Not to be used where the step is subnormal.
    pub inverse: W,
    /// The largest code of a number.
    pub top: W,
}

impl<W: Work> Grid<W> {
    /// The middle of the codes stands for the middle of the block.
    pub fn centred(extent: Extent<W>, top: u32) -> Grid<W> {
        let Extent { least, greatest, .. } = extent;
        let (top, half) = (W::of_code(top), W::of(0.5));
        let range = greatest - least;
        let (base, step) = if range.is_finite() {
            // Of zeros of both signs neither number may be a negative one.
            (least + range * half + W::ZERO, range.magnitude() / top)
        } else {
            (least * half + greatest * half, (greatest * half - least * half) / (top * half))
        };
        Grid { base, zero: top * half, ..Grid::with_step(step, top) }
    }

    /// One code stands for 0; the others reach from the least to the greatest element.
    pub fn with_zero(extent: Extent<W>, top: u32) -> Grid<W> {
        let top = W::of_code(top);
        let least = if extent.least < W::ZERO { extent.least } else { W::ZERO };
        let greatest = if extent.greatest > W::ZERO { extent.greatest } else { W::ZERO };
        let range = greatest - least;
        let step = if extent.least == extent.greatest {
            // Equal elements: the code beside that of 0 stands for them exactly.
            extent.least.magnitude()
        } else if range.is_finite() {
            range / top
        } else {
            greatest / top - least / top
        };
        let grid = Grid::with_step(step, top);
        let zero = W::of_code(grid.code(least.magnitude()));
        Grid { zero, ..grid }
    }

    fn with_step(step: W, top: W) -> Grid<W> {
        let inverse = if step > W::ZERO { W::of(1.0) / step } else { W::ZERO };
        Grid { base: W::ZERO, zero: W::ZERO, step, inverse, top }
    }

    /// As a header tells: the base of a centred grid, else the code of 0.
    pub fn of_header(first: W, step: W, has_zero: bool, top: u32) -> Grid<W> {
        let top = W::of_code(top);
        let (base, zero) = if has_zero { (W::ZERO, first) } else { (first, top * W::of(0.5)) };
        Grid { base, zero, step, inverse: W::ZERO, top }
    }

    pub fn header(&self, has_zero: bool) -> (W, W) {
        (if has_zero { self.zero } else { self.base }, self.step)
    }

    /// 1 / step would be no number.
    pub fn is_tiny(&self) -> bool {
        self.step > W::ZERO && self.step < W::LEAST_NORMAL
    }

    /// Whether every code stands for a number that the elements' type has, `largest` being its largest. Of a header that no
    /// sound sender writes nothing is taken for granted: NaN fails each comparison.
    pub fn fits(&self, largest: W) -> bool {
        let has_code_of_zero = self.zero >= W::ZERO && self.zero <= self.top;
        has_code_of_zero && self.base.magnitude() + self.step * self.top <= largest * W::of(0.5)
    }

    /// Where an element lies among the codes. Not to be used where the step is subnormal.
    #[inline(always)]
    pub fn position(&self, element: W) -> W {
        (element - self.base) * self.inverse + self.zero
    }

    /// Whether all of a block lie nearest to a code without being moved, as where rounding and `zero` move none beyond the ends:
    /// the two ends tell, as positions follow the order of the elements.
    pub fn reaches(&self, extent: Extent<W>) -> bool {
        let half = W::of(0.5);
        // The first code is even and the last one odd: of two nearest the even one is taken.
        self.position(extent.least) >= half.negated() && self.position(extent.greatest) < self.top + half
    }

    /// The nearest code, also where the step is subnormal.
    pub fn code(&self, element: W) -> u32 {
        let from_base = element - self.base;
        let steps = if self.is_tiny() { from_base / self.step } else { from_base * self.inverse };
        self.nearest(steps + self.zero)
    }

    /// The nearest code to a position, which is a number.
    #[inline(always)]
    pub fn nearest(&self, position: W) -> u32 {
        let position = if position > W::ZERO { position } else { W::ZERO };
        let position = if position < self.top { position } else { self.top };
        position.to_code()
    }

    #[inline(always)]
    pub fn value(&self, code: u32) -> W {
        self.base + (W::of_code(code) - self.zero) * self.step
    }
}
