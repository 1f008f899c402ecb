//! Memory that is worked on next comes into the cache while the processor computes.
//!
//! A block is looked at twice, for its extremes and for its codes: the first look waits for memory, the second for the
//! arithmetic. Fetching the next block during the second one lets neither wait for the other.

const CACHE_LINE_BYTES: usize = 64;
/// A part of the memory is asked for before each part of the computation: all at once would be more than a processor
/// has under way, and it would wait.
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

    /// Calls `each` with ranges that together are `0..count`, and fetches a share of the memory before each.
    pub fn during(self, count: usize, mut each: impl FnMut(std::ops::Range<usize>)) {
        // Whole vectors, as rests are slow.
        let step = count.div_ceil(PARTS).next_multiple_of(64);
        let share = self.len.div_ceil(PARTS).next_multiple_of(CACHE_LINE_BYTES);
        for part in 0..PARTS {
            for line in (part * share..self.len.min((part + 1) * share)).step_by(CACHE_LINE_BYTES) {
                fetch(self.start.wrapping_add(line));
            }
            let range = (part * step).min(count)..((part + 1) * step).min(count);
            if !range.is_empty() {
                each(range);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn fetch(line: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: a hint; no address does harm.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) };
}

/// There is no stable hint, and processors look ahead by themselves.
#[cfg(not(target_arch = "x86_64"))]
fn fetch(_line: *const u8) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_has_its_turn_once() {
        for count in (0..300).chain([511, 512, 513, 2047, 2048]) {
            let mut seen = Vec::new();
            Ahead::of(&[0; 100]).during(count, |range| seen.extend(range));
            assert!(seen.iter().copied().eq(0..count), "{count}: {seen:?}");
        }
    }
}
