//! What an operation is about to overwrite of what it must be able to put back, kept until its outcome.

use super::SaveStock;

/// The overwritten part of one operation's input, or of its residual. At most one payload's worth: no span is saved twice.
#[derive(Debug, Default)]
pub struct SaveArea {
    /// The spans one after the other; room for the whole payload from the first one on.
    bytes: Vec<u8>,
    /// Where they belong, and their lengths.
    spans: Vec<(usize, usize)>,
}

impl SaveArea {
    /// Keeps a copy of these bytes, which lie at `at` in memory of `whole` bytes.
    pub fn save(&mut self, stock: &mut SaveStock, whole: usize, at: usize, bytes: &[u8]) {
        if self.spans.is_empty() {
            self.bytes = stock.take(whole);
        }
        self.bytes.extend_from_slice(bytes);
        match self.spans.last_mut() {
            Some((last, last_len)) if *last + *last_len == at => *last_len += bytes.len(),
            _ => self.spans.push((at, bytes.len())),
        }
    }

    pub fn bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Everything saved, to be put back where it lay.
    pub fn spans(&self) -> impl Iterator<Item = (usize, &[u8])> {
        let mut rest = self.bytes.as_slice();
        self.spans.iter().map(move |&(at, len)| {
            let (span, after) = rest.split_at(len);
            rest = after;
            (at, span)
        })
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
        let mut stock = SaveStock::default();
        let mut saved = SaveArea::default();
        for (at, len) in [(4, 1), (5, 1), (1, 2)] {
            saved.save(&mut stock, 8, at, &memory[at..at + len]);
        }
        assert_eq!(saved.spans, [(4, 2), (1, 2)]);
        memory.fill(9);
        saved.spans().for_each(|(at, span)| memory[at..at + span.len()].copy_from_slice(span));
        assert_eq!(memory, [9, 2, 3, 9, 5, 6, 9, 9]);
        saved.release(&mut stock);
    }
}
