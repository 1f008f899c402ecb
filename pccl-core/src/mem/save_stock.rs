//! Areas for saved input, kept for the next operation: fresh memory costs a fault per page and its zeroing.

#[cfg(target_os = "linux")]
use crate::limits::MIN_HUGE_SAVE_BYTES;
use crate::limits::{MAX_SAVE_EXCESS_BYTES, MIN_KEPT_SAVE_BYTES, SAVE_STRETCH_OPS};

/// Areas not in use. Together with those in use they are never more than the last few operations had in use at once;
/// they are dropped when a smaller operation follows, one that needs none, or none at all for a while: see `trim` and
/// `clear`.
#[derive(Debug, Default)]
pub struct SaveStock {
    /// The one given back last at the end.
    free: Vec<Vec<u8>>,
    free_bytes: usize,
    in_use: usize,
    in_use_bytes: usize,
    /// The most in use at once during the present stretch of operations, and during the one before it.
    peaks_bytes: [usize; 2],
    /// Operations of the present stretch.
    begun: usize,
}

impl SaveStock {
    /// An empty area with room for `len` bytes.
    pub fn take(&mut self, len: usize) -> Vec<u8> {
        let fits =
            |area: &Vec<u8>| (len..=len.saturating_add(MAX_SAVE_EXCESS_BYTES)).contains(&area.capacity());
        let best =
            (0..self.free.len()).filter(|i| fits(&self.free[*i])).min_by_key(|i| self.free[*i].capacity());
        let area = match best {
            Some(index) => self.take_free(index),
            None => fresh(len),
        };
        self.in_use += 1;
        self.in_use_bytes += area.capacity();
        self.peaks_bytes[0] = self.peaks_bytes[0].max(self.in_use_bytes);
        self.bound();
        area
    }

    pub fn give(&mut self, mut area: Vec<u8>) {
        self.in_use -= 1;
        self.in_use_bytes -= area.capacity();
        if area.capacity() >= MIN_KEPT_SAVE_BYTES {
            area.clear();
            self.free_bytes += area.capacity();
            self.free.push(area);
        }
        self.bound();
    }

    /// An operation begins that will save `len` bytes at most. If it is the only one, larger areas have had
    /// their time.
    pub fn trim(&mut self, len: usize) {
        self.begun += 1;
        if self.begun > SAVE_STRETCH_OPS {
            self.begun = 1;
            self.peaks_bytes = [self.in_use_bytes, self.peaks_bytes[0]];
        }
        if self.in_use == 0 {
            self.free.retain(|area| len > 0 && area.capacity() <= len.saturating_add(MAX_SAVE_EXCESS_BYTES));
            self.free_bytes = self.free.iter().map(Vec::capacity).sum();
        }
        self.bound();
    }

    /// Drops areas, those of no use for longest first, down to what was in use at once lately.
    fn bound(&mut self) {
        let most = self.peaks_bytes[0].max(self.peaks_bytes[1]);
        while !self.free.is_empty() && self.free_bytes + self.in_use_bytes > most {
            drop(self.take_free(0));
        }
    }

    fn take_free(&mut self, index: usize) -> Vec<u8> {
        let area = self.free.remove(index);
        self.free_bytes -= area.capacity();
        area
    }

    pub fn clear(&mut self) {
        (self.free, self.free_bytes) = (Vec::new(), 0);
    }

    pub fn is_empty(&self) -> bool {
        self.free.is_empty()
    }
}

/// Memory from the allocator, which asks the system for large areas one by one and gives them back whole. No page is
/// touched yet.
fn fresh(len: usize) -> Vec<u8> {
    let area = Vec::with_capacity(len);
    #[cfg(target_os = "linux")]
    if len >= MIN_HUGE_SAVE_BYTES {
        advise_huge_pages(&area);
    }
    area
}

#[cfg(target_os = "linux")]
fn advise_huge_pages(area: &Vec<u8>) {
    const PAGE_BYTES: usize = 2 << 20;
    let skip = area.as_ptr().align_offset(PAGE_BYTES);
    let len = area.capacity().saturating_sub(skip) / PAGE_BYTES * PAGE_BYTES;
    if len > 0 {
        // SAFETY: the range lies within the area's own memory, and this advice does not change what is in it.
        // Whether the system follows it is its own affair.
        unsafe { libc::madvise(area.as_ptr().add(skip).cast_mut().cast(), len, libc::MADV_HUGEPAGE) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn given(stock: &mut SaveStock, sizes: &[usize]) -> Vec<*const u8> {
        let areas: Vec<_> = sizes.iter().map(|len| stock.take(*len)).collect();
        let addresses = areas.iter().map(|area| area.as_ptr()).collect();
        areas.into_iter().for_each(|area| stock.give(area));
        addresses
    }

    #[test]
    fn the_next_operation_of_the_same_size_gets_the_same_area() {
        let mut stock = SaveStock::default();
        let mut before = given(&mut stock, &[40 * MIB, 40 * MIB]);
        stock.trim(40 * MIB);
        let mut after = given(&mut stock, &[40 * MIB, 40 * MIB]);
        before.sort();
        after.sort();
        assert_eq!(before, after);
    }

    #[test]
    fn areas_go_when_a_smaller_operation_follows_or_one_that_needs_none() {
        let mut stock = SaveStock::default();
        given(&mut stock, &[64 * MIB, 3 * MIB]);
        stock.trim(2 * MIB);
        assert_eq!(stock.free.len(), 1);
        stock.trim(0);
        assert!(stock.is_empty());
    }

    #[test]
    fn areas_stay_while_another_operation_saves() {
        let mut stock = SaveStock::default();
        given(&mut stock, &[64 * MIB, 3 * MIB]);
        let area = stock.take(3 * MIB);
        stock.trim(1);
        assert_eq!(stock.free.len(), 1);
        stock.give(area);
        assert_eq!(stock.free.len(), 2);
    }

    #[test]
    fn areas_of_past_sizes_go_also_while_operations_always_save() {
        let mut stock = SaveStock::default();
        given(&mut stock, &[64 * MIB, 3 * MIB, 3 * MIB]);
        // One is always under way: the next begins before it ends.
        let mut area = stock.take(3 * MIB);
        for begun in 0..=2 * SAVE_STRETCH_OPS {
            assert!(begun >= SAVE_STRETCH_OPS || stock.free_bytes >= 64 * MIB, "it may be wanted again");
            stock.trim(3 * MIB);
            let next = stock.take(3 * MIB);
            stock.give(std::mem::replace(&mut area, next));
        }
        assert!(stock.free_bytes + stock.in_use_bytes < 7 * MIB, "two were in use at once");
        assert_eq!(stock.free.len(), 1, "and the other one waits for the next");
        stock.give(area);
    }

    #[test]
    fn in_use_and_free_are_never_more_than_was_in_use_at_once() {
        let mut stock = SaveStock::default();
        for mib in [64, 63, 40, 20, 9] {
            // The other one is under way, so nothing is trimmed.
            let other = stock.take(MIB);
            given(&mut stock, &[mib * MIB]);
            stock.give(other);
            assert!(stock.free_bytes <= 65 * MIB, "{} bytes", stock.free_bytes);
        }
    }

    #[test]
    fn no_area_much_larger_than_asked_for_is_given_and_small_ones_are_not_kept() {
        let mut stock = SaveStock::default();
        given(&mut stock, &[64 * MIB, 1000]);
        assert_eq!(stock.free.len(), 1);
        assert!(stock.take(3 * MIB).capacity() < 4 * MIB);
    }
}
