//! What an in-place operation is about to overwrite, kept until its outcome.

use super::{Buffers, Pool};

/// Saved spans of one operation's input. At most one payload's worth: no span is saved twice.
#[derive(Debug, Default)]
pub struct SaveArea {
    spans: Vec<(usize, Vec<u8>)>,
}

impl SaveArea {
    /// Keeps a copy of these bytes as they are now.
    pub fn save(&mut self, pool: &mut Pool, buffers: &Buffers, at: usize, len: usize) {
        self.spans.push((at, pool.take_copy(buffers.result(at, len))));
    }

    pub fn bytes(&self) -> u64 {
        self.spans.iter().map(|(_, bytes)| bytes.len() as u64).sum()
    }

    /// Puts back everything saved but the first `skip` spans, which only a planted bug makes other than 0.
    pub fn restore(&self, buffers: &mut Buffers, skip: usize) {
        for (at, bytes) in self.spans.iter().skip(skip) {
            buffers.result_mut(*at, bytes.len()).copy_from_slice(bytes);
        }
    }

    pub fn release(self, pool: &mut Pool) {
        for (_, bytes) in self.spans {
            pool.give(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restoring_puts_back_what_was_saved_and_leaves_the_rest() {
        let mut memory = [1u8, 2, 3, 4, 5, 6];
        let base = memory.as_mut_ptr();
        // SAFETY: `memory` outlives the buffers and is not touched until they are last used.
        let mut buffers = unsafe { Buffers::new(base, base, 6) }.unwrap();
        let mut pool = Pool::new(1 << 10);
        let mut saved = SaveArea::default();
        saved.save(&mut pool, &buffers, 1, 2);
        buffers.result_mut(0, 6).fill(9);
        saved.restore(&mut buffers, 0);
        assert_eq!(buffers.result(0, 6), [9, 2, 3, 9, 9, 9]);
        saved.release(&mut pool);
    }
}
