//! A list of digests that arrives in parts.

use std::ops::Range;

use crate::limits::MAX_STATE_NOTE_BYTES;
use crate::types::Digest;
use crate::wire::state_ask::DIGEST_BYTES;

/// Digests of one ask, and of the frame that answers it.
pub(super) const PART_DIGESTS: usize = MAX_STATE_NOTE_BYTES / DIGEST_BYTES;

#[derive(Debug)]
pub(super) struct Parts {
    pub digests: Vec<Digest>,
    here: Vec<bool>,
    /// The one source that all parts are asked of: if they do not fit together, it is to blame.
    pub from: Option<usize>,
}

impl Parts {
    /// Memory is taken for `len` digests once they are asked for.
    pub fn new() -> Parts {
        Parts { digests: Vec::new(), here: Vec::new(), from: None }
    }

    /// Begins anew, with this source; gives the ranges to be asked for.
    pub fn ask(&mut self, len: usize, source: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        self.digests = vec![Digest::default(); len];
        self.here = vec![false; len.div_ceil(PART_DIGESTS)];
        self.from = Some(source);
        (0..len).step_by(PART_DIGESTS).map(move |first| first..len.min(first + PART_DIGESTS))
    }

    /// How many were asked for and are not here.
    pub fn due(&self) -> usize {
        self.here.iter().filter(|here| !**here).count()
    }

    /// Takes back what was asked.
    pub fn reset(&mut self) {
        *self = Parts::new();
    }

    /// Takes one part. `None`: it was not asked for. Else whether all are here.
    pub fn take(&mut self, first: usize, payload: &[u8]) -> Option<bool> {
        let (digests, rest) = payload.as_chunks::<DIGEST_BYTES>();
        let part = first / PART_DIGESTS;
        let expected = self.digests.len().checked_sub(first)?.min(PART_DIGESTS);
        let fits = rest.is_empty() && first.is_multiple_of(PART_DIGESTS) && digests.len() == expected;
        let here = self.here.get_mut(part)?;
        if !fits || std::mem::replace(here, true) {
            return None;
        }
        for (place, digest) in self.digests[first..].iter_mut().zip(digests) {
            *place = Digest(*digest);
        }
        Some(self.here.iter().all(|here| *here))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_in_any_order_and_each_once() {
        let len = PART_DIGESTS + 2;
        let mut parts = Parts::new();
        assert_eq!(parts.take(0, &[0; 16]), None);
        let ranges: Vec<Range<usize>> = parts.ask(len, 3).collect();
        assert_eq!((ranges.as_slice(), parts.from), (&[0..PART_DIGESTS, PART_DIGESTS..len][..], Some(3)));
        assert_eq!(parts.take(PART_DIGESTS, &[7; 16]), None);
        assert_eq!(parts.due(), 2);
        assert_eq!(parts.take(PART_DIGESTS, &[7; 32]), Some(false));
        assert_eq!(parts.due(), 1);
        assert_eq!(parts.take(PART_DIGESTS, &[7; 32]), None);
        assert_eq!(parts.take(1, &[1; PART_DIGESTS * 16]), None);
        assert_eq!(parts.take(0, &[1; PART_DIGESTS * 16]), Some(true));
        assert_eq!((parts.digests[0], parts.digests[len - 1]), (Digest([1; 16]), Digest([7; 16])));
        assert_eq!(parts.take(2 * PART_DIGESTS, &[]), None);
        parts.reset();
        assert_eq!((parts.from, parts.digests.len()), (None, 0));
    }
}
