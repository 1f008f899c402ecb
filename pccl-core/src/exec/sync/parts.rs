//! A list of digests that arrives in parts.

use std::collections::BTreeSet;
use std::ops::Range;

use super::fetch::MAX_DOUBLINGS;
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

/// One source's answer. Parts of several are never mixed: if they do not fit together, it is to blame.
#[derive(Debug)]
struct Try {
    source: usize,
    /// How many digests were asked for; memory is taken for them once the first ones are here.
    len: usize,
    digests: Vec<Digest>,
    here: Vec<bool>,
}

impl Try {
    fn parts_here(&self) -> usize {
        self.here.iter().filter(|here| **here).count()
    }
}

/// Answers that are kept beside the one that is awaited: those of sources that were late, of which the most is here.
const MAX_LATE_TRIES: usize = 2;

#[derive(Debug)]
pub(super) struct Parts {
    /// Those that were asked for, once they are here and found right.
    pub digests: Vec<Digest>,
    /// The latest comes last.
    tries: Vec<Try>,
    /// The source whose answer is awaited.
    pub from: Option<usize>,
    /// When it was asked, or sent the last of it.
    pub heard: Time,
    /// Sources that have kept us waiting in this turn.
    pub late: BTreeSet<usize>,
    /// How often every source in reach was late.
    turns: u32,
}

impl Parts {
    pub fn new() -> Parts {
        Parts {
            digests: Vec::new(),
            tries: Vec::new(),
            from: None,
            heard: Time::default(),
            late: BTreeSet::new(),
            turns: 0,
        }
    }

    /// From now on this source's answer is awaited. Gives the ranges to be asked for: none, if they were and are still due.
    pub fn ask(
        &mut self,
        len: usize,
        source: usize,
        now: Time,
    ) -> impl Iterator<Item = Range<usize>> + use<> {
        let asked = self.tries.iter().position(|one| one.source == source);
        let due = if asked.is_some() { 0 } else { len };
        let one = asked.map(|at| self.tries.remove(at));
        let new = || Try { source, len, digests: Vec::new(), here: Vec::new() };
        if self.tries.len() > MAX_LATE_TRIES
            && let Some(least) = (0..self.tries.len()).min_by_key(|at| self.tries[*at].parts_here())
        {
            self.tries.remove(least);
        }
        self.tries.push(one.unwrap_or_else(new));
        (self.from, self.heard) = (Some(source), now);
        (0..due).step_by(PART_DIGESTS).map(move |first| first..due.min(first + PART_DIGESTS))
    }

    /// What was asked of this source may be lost. True if its answer was awaited.
    pub fn forget(&mut self, source: usize) -> bool {
        self.tries.retain(|one| one.source != source);
        self.from.take_if(|from| *from == source).is_some()
    }

    /// Another source is to be asked, as this one is late; what it sends all the same counts.
    pub fn pass_on(&mut self) {
        self.late.extend(self.from.take());
    }

    /// All were late: they are waited for anew, one after the other, and for twice as long.
    pub fn begin_turn(&mut self) {
        self.late.clear();
        self.turns += 1;
    }

    /// How long one source is waited for: `us`, and twice as long in each further turn.
    pub fn patience_us(&self, us: u64) -> u64 {
        us << self.turns.min(MAX_DOUBLINGS)
    }

    /// Takes one part of what was asked of this source; gives all of it if that was the last.
    pub fn take(&mut self, source: usize, first: usize, payload: &[u8], now: Time) -> Option<Vec<Digest>> {
        let at = self.tries.iter().position(|one| one.source == source)?;
        let one = &mut self.tries[at];
        if !is_part(one.len, first, payload) {
            return None;
        }
        if one.here.is_empty() {
            one.digests = vec![Digest::default(); one.len];
            one.here = vec![false; one.len.div_ceil(PART_DIGESTS)];
        }
        if std::mem::replace(one.here.get_mut(first / PART_DIGESTS)?, true) {
            return None;
        }
        if self.from == Some(source) {
            self.heard = now;
        }
        let (digests, _) = payload.as_chunks::<DIGEST_BYTES>();
        for (place, digest) in one.digests[first..].iter_mut().zip(digests) {
            *place = Digest(*digest);
        }
        let whole = one.here.iter().all(|here| *here);
        whole.then(|| self.tries.remove(at).digests)
    }

    /// These are right; nobody is waited for any more.
    pub fn settle(&mut self, digests: Vec<Digest>) {
        *self = Parts { digests, ..Parts::new() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_in_any_order_and_each_once() {
        let len = PART_DIGESTS + 2;
        let mut parts = Parts::new();
        assert_eq!(parts.take(3, 0, &[0; 16], Time(1)), None);
        let ranges: Vec<Range<usize>> = parts.ask(len, 3, Time(0)).collect();
        assert_eq!((ranges.as_slice(), parts.from), (&[0..PART_DIGESTS, PART_DIGESTS..len][..], Some(3)));
        for (source, first, payload) in
            [(3, PART_DIGESTS, &[7; 16][..]), (4, PART_DIGESTS, &[7; 32]), (3, 1, &[1; 65536])]
        {
            assert_eq!(parts.take(source, first, payload, Time(1)), None);
        }
        assert_eq!(parts.heard, Time(0));
        assert_eq!(parts.take(3, PART_DIGESTS, &[7; 32], Time(1)), None);
        assert_eq!(parts.heard, Time(1));
        assert_eq!(parts.take(3, PART_DIGESTS, &[7; 32], Time(2)), None);
        assert_eq!(parts.heard, Time(1), "it has come before");
        let whole = parts.take(3, 0, &[1; PART_DIGESTS * 16], Time(2)).expect("all are here");
        assert_eq!((whole.len(), whole[0], whole[len - 1]), (len, Digest([1; 16]), Digest([7; 16])));
        assert_eq!(parts.take(3, 0, &[1; PART_DIGESTS * 16], Time(3)), None);
        parts.settle(whole);
        assert_eq!((parts.digests.len(), parts.from), (len, None));
    }

    #[test]
    fn whoever_is_late_may_still_answer_and_is_not_asked_twice() {
        let mut parts = Parts::new();
        assert_eq!(parts.ask(1, 3, Time(0)).count(), 1);
        parts.pass_on();
        assert_eq!((parts.from, parts.late.contains(&3)), (None, true));
        assert_eq!(parts.ask(1, 4, Time(5)).count(), 1);
        parts.pass_on();
        parts.begin_turn();
        assert_eq!((parts.late.len(), parts.patience_us(10)), (0, 20));
        assert_eq!(parts.ask(1, 3, Time(6)).count(), 0, "it was asked, and its links are the same");
        assert_eq!(parts.take(4, 0, &[9; 16], Time(7)), Some(vec![Digest([9; 16])]));
        assert_eq!((parts.from, parts.heard), (Some(3), Time(6)));
        assert!(parts.forget(3) && !parts.forget(4));
        assert_eq!(parts.take(3, 0, &[9; 16], Time(8)), None, "it may be lost");
        assert_eq!(parts.ask(1, 3, Time(9)).count(), 1);
    }

    /// The first and the third send half of theirs before they are late.
    #[test]
    fn of_many_late_answers_those_are_kept_of_which_the_most_is_here() {
        let len = PART_DIGESTS + 2;
        let mut parts = Parts::new();
        for source in 0..9 {
            assert_eq!(parts.ask(len, source, Time(0)).count(), 2);
            if [0, 2].contains(&source) {
                assert_eq!(parts.take(source, PART_DIGESTS, &[7; 32], Time(1)), None);
            }
            parts.pass_on();
        }
        assert_eq!(parts.tries.len(), MAX_LATE_TRIES + 1);
        assert_eq!(parts.take(7, 0, &[1; PART_DIGESTS * 16], Time(2)), None, "it is not kept");
        assert_eq!(parts.ask(len, 0, Time(3)).count(), 0, "what is under way is not asked for again");
        assert!(parts.take(2, 0, &[1; PART_DIGESTS * 16], Time(4)).is_some());
    }

    #[test]
    fn of_many_late_answers_of_which_nothing_is_here_the_latest_are_kept() {
        let mut parts = Parts::new();
        for source in 0..9 {
            assert_eq!(parts.ask(1, source, Time(0)).count(), 1);
            parts.pass_on();
        }
        assert_eq!(parts.tries.len(), MAX_LATE_TRIES + 1);
        assert_eq!(parts.take(5, 0, &[9; 16], Time(1)), None);
        assert!(parts.take(6, 0, &[9; 16], Time(1)).is_some());
        for _ in 0..99 {
            parts.begin_turn();
        }
        assert_eq!(parts.patience_us(1), 1 << MAX_DOUBLINGS);
    }
}
