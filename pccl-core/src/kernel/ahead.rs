//! Memory that is worked on next comes into the cache while the processor computes.
//!
//! A block is looked at twice, for its extremes and for its codes. Fetching the next block all the while, a little in each
//! step, lets memory and arithmetic wait for each other as little as they can: all at once would be more than a
//! processor has under way, and it would wait.

const CACHE_LINE_BYTES: usize = 64;
/// What to fetch. Only an address: nothing is read or written through it.
#[derive(Clone, Copy)]
pub struct Ahead {
    /// Where its first cache line begins.
    line: *const u8,
    lines: usize,
}

impl Ahead {
    pub fn of(bytes: &[u8]) -> Ahead {
        let into_line = bytes.as_ptr().addr() % CACHE_LINE_BYTES;
        let lines = if bytes.is_empty() { 0 } else { (into_line + bytes.len()).div_ceil(CACHE_LINE_BYTES) };
        Ahead { line: bytes.as_ptr().wrapping_sub(into_line), lines }
    }

    pub fn halves(self) -> (Ahead, Ahead) {
        self.split(self.lines.div_ceil(2))
    }

    fn split(self, lines: usize) -> (Ahead, Ahead) {
        let second = self.line.wrapping_add(lines * CACHE_LINE_BYTES);
        (Ahead { lines, ..self }, Ahead { line: second, lines: self.lines - lines })
    }

    /// To be fetched by and by, in so many steps of a loop.
    pub fn in_steps(self, steps: usize) -> Steps {
        Steps { left: self, lines_a_step: self.lines.div_ceil(steps.max(1)) }
    }
}

/// What is left to fetch.
pub struct Steps {
    left: Ahead,
    lines_a_step: usize,
}

impl Steps {
    #[inline(always)]
    pub fn fetch(&mut self) {
        let (now, left) = self.left.split(self.lines_a_step.min(self.left.lines));
        for line in 0..now.lines {
            fetch(now.line.wrapping_add(line * CACHE_LINE_BYTES));
        }
        self.left = left;
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn fetch(line: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: a hint; no address does harm.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) };
}

/// Not tried elsewhere: processors look ahead by themselves.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn fetch(_line: *const u8) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_fetched_once_a_few_in_each_step() {
        let memory = [0; 4160];
        for (at, len) in
            [(0, 0), (0, 1), (0, 64), (0, 65), (16, 64), (63, 2), (0, 4096), (16, 4096), (48, 4000)]
        {
            let all = Ahead::of(&memory[at..at + len]);
            let (first, second) = all.halves();
            assert_eq!(first.lines + second.lines, all.lines);
            assert!(first.lines.abs_diff(second.lines) <= 1);
            assert_eq!((first.line, second.line), (all.line, all.line.wrapping_add(64 * first.lines)));
            let address = memory[at..].as_ptr().addr();
            let lines = if len == 0 { 0 } else { (address + len - 1) / 64 - address / 64 + 1 };
            assert_eq!(all.lines, lines, "{len} bytes at {at}");
            for count in [0, 1, 2, 7, 64, 200] {
                let mut steps = all.in_steps(count);
                for step in 0..count.max(1) {
                    let before = steps.left.lines;
                    steps.fetch();
                    assert!(
                        before - steps.left.lines <= lines.div_ceil(count.max(1)),
                        "{count} steps, step {step}"
                    );
                }
                let end = all.line.wrapping_add(64 * lines);
                assert_eq!((steps.left.lines, steps.left.line), (0, end), "{lines} lines in {count} steps");
            }
        }
    }
}
