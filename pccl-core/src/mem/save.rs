//! What an in-place operation is about to overwrite, kept until its outcome.

use super::{Buffers, SaveStock};

/// The overwritten part of one operation's input. At most one payload's worth: no span is saved twice.
#[derive(Debug, Default)]
pub struct SaveArea {
    /// The spans one after the other; room for the whole payload from the first one on.
    bytes: Vec<u8>,
    /// Where they belong, and their lengths.
    spans: Vec<(usize, usize)>,
}

impl SaveArea {
    /// Keeps a copy of these bytes as they are now.
    pub fn save(&mut self, stock: &mut SaveStock, buffers: &Buffers, at: usize, len: usize) {
        if self.spans.is_empty() {
            self.bytes = stock.take(buffers.len());
        }
        self.bytes.extend_from_slice(buffers.result(at, len));
        match self.spans.last_mut() {
            Some((last, last_len)) if *last + *last_len == at => *last_len += len,
            _ => self.spans.push((at, len)),
        }
    }

    pub fn bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Puts back everything saved but the first `skip` spans, which only a planted bug makes other than 0.
    pub fn restore(&self, buffers: &mut Buffers, skip: usize) {
        let mut from = 0;
        for (i, &(at, len)) in self.spans.iter().enumerate() {
            if i >= skip {
                buffers.result_mut(at, len).copy_from_slice(&self.bytes[from..from + len]);
            }
            from += len;
        }
    }

    pub fn release(self, stock: &mut SaveStock) {
        if !self.spans.is_empty() {
            stock.give(self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restoring_puts_back_what_was_saved_and_leaves_the_rest() {
        let mut memory = [1u8, 2, 3, 4, 5, 6, 7, 8];
        let base = memory.as_mut_ptr();
        // SAFETY: `memory` outlives the buffers and is not touched until they are last used.
        let mut buffers = unsafe { Buffers::new(base, base, 8) }.unwrap();
        let mut stock = SaveStock::default();
        let mut saved = SaveArea::default();
        for (at, len) in [(4, 1), (5, 1), (1, 2)] {
            saved.save(&mut stock, &buffers, at, len);
        }
        assert_eq!(saved.spans, [(4, 2), (1, 2)]);
        buffers.result_mut(0, 8).fill(9);
        saved.restore(&mut buffers, 0);
        assert_eq!(buffers.result(0, 8), [9, 2, 3, 9, 5, 6, 9, 9]);
        saved.release(&mut stock);
    }
}
