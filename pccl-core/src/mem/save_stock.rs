//! Areas for saved input, kept for the next operation: fresh memory costs a fault per page and its zeroing.

use crate::limits::{MAX_SAVE_EXCESS_BYTES, MIN_HUGE_SAVE_BYTES, MIN_KEPT_SAVE_BYTES};

/// Areas not in use. Never more than were in use at once, and dropped when a smaller operation follows, one that
/// needs none, or none at all for a while: see `trim` and `clear`.
#[derive(Debug, Default)]
pub struct SaveStock {
    free: Vec<Vec<u8>>,
    in_use: usize,
}

impl SaveStock {
    /// An empty area with room for `len` bytes.
    pub fn take(&mut self, len: usize) -> Vec<u8> {
        self.in_use += 1;
        let fits =
            |area: &Vec<u8>| (len..=len.saturating_add(MAX_SAVE_EXCESS_BYTES)).contains(&area.capacity());
        let best =
            (0..self.free.len()).filter(|i| fits(&self.free[*i])).min_by_key(|i| self.free[*i].capacity());
        match best {
            Some(index) => self.free.swap_remove(index),
            None => fresh(len),
        }
    }

    pub fn give(&mut self, mut area: Vec<u8>) {
        self.in_use -= 1;
        if area.capacity() >= MIN_KEPT_SAVE_BYTES {
            area.clear();
            self.free.push(area);
        }
    }

    /// An operation begins that will save `len` bytes at most. If it is the only one, larger areas have had
    /// their time.
    pub fn trim(&mut self, len: usize) {
        if self.in_use == 0 {
            self.free.retain(|area| len > 0 && area.capacity() <= len.saturating_add(MAX_SAVE_EXCESS_BYTES));
        }
    }

    pub fn clear(&mut self) {
        self.free = Vec::new();
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
    fn no_area_much_larger_than_asked_for_is_given_and_small_ones_are_not_kept() {
        let mut stock = SaveStock::default();
        given(&mut stock, &[64 * MIB, 1000]);
        assert_eq!(stock.free.len(), 1);
        assert!(stock.take(3 * MIB).capacity() < 4 * MIB);
    }
}
