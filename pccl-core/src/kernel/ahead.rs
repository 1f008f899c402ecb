//! Memory that is worked on next comes into the cache while the processor computes.
//!
//! A block is looked at twice, for its extremes and for its codes. Fetching the next block all the while, a little in each
//! step, lets memory and arithmetic wait for each other as little as they can: all at once would be more than a
//! processor has under way, and it would wait.

const CACHE_LINE_BYTES: usize = 64;
/// Where a computation has no steps of its own.
const PARTS: usize = 4;

/// What to fetch. Only an address: nothing is read or written through it.
#[derive(Clone, Copy)]
pub struct Ahead {
    start: *const u8,
    len: usize,
}

impl Ahead {
    pub fn of(bytes: &[u8]) -> Ahead {
        Ahead { start: bytes.as_ptr(), len: bytes.len() }
    }

    /// The first half, whole cache lines, and the rest.
    pub fn halves(self) -> (Ahead, Ahead) {
        let first = (self.len / 2).next_multiple_of(CACHE_LINE_BYTES).min(self.len);
        let second = Ahead { start: self.start.wrapping_add(first), len: self.len - first };
        (Ahead { len: first, ..self }, second)
    }

    /// To be fetched by and by, in so many steps of a loop.
    pub fn in_steps(self, steps: usize) -> Steps {
        let lines = self.len.div_ceil(CACHE_LINE_BYTES);
        Steps { next: self.start, lines, lines_a_step: lines.div_ceil(steps.max(1)) }
    }

    /// Calls `each` with ranges that together are `0..count`, and fetches a share of the memory before each.
    pub fn during(self, count: usize, mut each: impl FnMut(std::ops::Range<usize>)) {
        // Whole vectors, as rests are slow.
        let step = count.div_ceil(PARTS).next_multiple_of(64);
        let mut steps = self.in_steps(PARTS);
        for part in 0..PARTS {
            steps.fetch();
            let range = (part * step).min(count)..((part + 1) * step).min(count);
            if !range.is_empty() {
                each(range);
            }
        }
    }
}

/// What is left to fetch.
pub struct Steps {
    next: *const u8,
    lines: usize,
    lines_a_step: usize,
}

impl Steps {
    #[inline(always)]
    pub fn fetch(&mut self) {
        let lines = self.lines_a_step.min(self.lines);
        for _ in 0..lines {
            fetch(self.next);
            self.next = self.next.wrapping_add(CACHE_LINE_BYTES);
        }
        self.lines -= lines;
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn fetch(line: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: a hint; no address does harm.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) };
}

/// There is no stable hint, and processors look ahead by themselves.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn fetch(_line: *const u8) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_fetched_once_however_many_steps_there_are() {
        let memory = [0; 4096];
        for (len, count) in [(0, 3), (1, 0), (64, 1), (65, 2), (4000, 7), (4096, 16), (4096, 200)] {
            let (first, second) = Ahead::of(&memory[..len]).halves();
            assert_eq!((first.start, first.len + second.len), (memory.as_ptr(), len));
            assert_eq!(second.start, memory[first.len..].as_ptr());
            let mut steps = first.in_steps(count);
            for _ in 0..count.max(1) {
                steps.fetch();
            }
            let lines = first.len.div_ceil(CACHE_LINE_BYTES);
            assert_eq!((steps.lines, steps.next), (0, first.start.wrapping_add(lines * CACHE_LINE_BYTES)));
        }
    }

    #[test]
    fn every_element_has_its_turn_once() {
        for count in (0..300).chain([511, 512, 513, 2047, 2048]) {
            let mut seen = Vec::new();
            Ahead::of(&[0; 100]).during(count, |range| seen.extend(range));
            assert!(seen.iter().copied().eq(0..count), "{count}: {seen:?}");
        }
    }
}
