//! A list of digests that arrives in parts.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::limits::MAX_STATE_NOTE_BYTES;
use crate::types::{Digest, Time};
use crate::wire::state_ask::DIGEST_BYTES;

/// Digests of one ask, and of the frame that answers it.
pub(super) const PART_DIGESTS: usize = MAX_STATE_NOTE_BYTES / DIGEST_BYTES;

/// Whether this is, by its place and length, a part of so many digests.
pub(super) fn is_part(count: usize, first: usize, payload: &[u8]) -> bool {
    let rest = count.checked_sub(first).filter(|rest| *rest > 0);
    let expected = rest.map(|rest| rest.min(PART_DIGESTS) * DIGEST_BYTES);
    first.is_multiple_of(PART_DIGESTS) && expected == Some(payload.len())
}

#[derive(Debug)]
pub(super) struct Parts {
    pub digests: Vec<Digest>,
    here: Vec<bool>,
    /// The one source that all parts are asked of: if they do not fit together, it is to blame.
    pub from: Option<usize>,
    /// When the last of them was asked for, or came.
    pub heard: Time,
    /// Sources that kept us waiting for them.
    pub late: BTreeSet<usize>,
}

impl Parts {
    /// Memory is taken for `len` digests once they are asked for.
    pub fn new() -> Parts {
        Parts {
            digests: Vec::new(),
            here: Vec::new(),
            from: None,
            heard: Time::default(),
            late: BTreeSet::new(),
        }
    }

    /// Begins anew, with this source; gives the ranges to be asked for.
    pub fn ask(
        &mut self,
        len: usize,
        source: usize,
        now: Time,
    ) -> impl Iterator<Item = Range<usize>> + use<> {
        self.digests = vec![Digest::default(); len];
        self.here = vec![false; len.div_ceil(PART_DIGESTS)];
        self.from = Some(source);
        self.heard = now;
        (0..len).step_by(PART_DIGESTS).map(move |first| first..len.min(first + PART_DIGESTS))
    }

    /// Takes back what was asked.
    pub fn reset(&mut self) {
        *self = Parts { late: std::mem::take(&mut self.late), ..Parts::new() };
    }

    /// Takes it back from a source that is late with it; it is asked for again only where there is no other.
    pub fn pass_on(&mut self) {
        self.late.extend(self.from);
        self.reset();
    }

    /// Takes one part. `None`: it was not asked for. Else whether all are here.
    pub fn take(&mut self, first: usize, payload: &[u8], now: Time) -> Option<bool> {
        let fits = is_part(self.digests.len(), first, payload);
        let here = self.here.get_mut(first / PART_DIGESTS)?;
        if !fits || std::mem::replace(here, true) {
            return None;
        }
        let (digests, _) = payload.as_chunks::<DIGEST_BYTES>();
        self.heard = now;
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
        assert_eq!(parts.take(0, &[0; 16], Time(1)), None);
        let ranges: Vec<Range<usize>> = parts.ask(len, 3, Time(0)).collect();
        assert_eq!((ranges.as_slice(), parts.from), (&[0..PART_DIGESTS, PART_DIGESTS..len][..], Some(3)));
        assert_eq!(parts.take(PART_DIGESTS, &[7; 16], Time(1)), None);
        assert_eq!(parts.take(PART_DIGESTS, &[7; 32], Time(1)), Some(false));
        assert_eq!(parts.heard, Time(1));
        assert_eq!(parts.take(PART_DIGESTS, &[7; 32], Time(1)), None);
        assert_eq!(parts.take(1, &[1; PART_DIGESTS * 16], Time(1)), None);
        assert_eq!(parts.take(0, &[1; PART_DIGESTS * 16], Time(1)), Some(true));
        assert_eq!((parts.digests[0], parts.digests[len - 1]), (Digest([1; 16]), Digest([7; 16])));
        assert_eq!(parts.take(2 * PART_DIGESTS, &[], Time(1)), None);
        parts.reset();
        assert_eq!((parts.from, parts.digests.len(), parts.late.len()), (None, 0, 0));
        parts.ask(1, 3, Time(2)).for_each(drop);
        parts.pass_on();
        assert_eq!((parts.from, parts.late.contains(&3)), (None, true));
    }
}
