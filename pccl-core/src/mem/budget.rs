//! The memory that operations may take besides their callers': one sum for the whole process.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::limits::{MAX_EAGER_BYTES, MEMORY_BUDGET_BYTES};

/// Bytes that may be taken, and are taken. A clone is the same budget. Nobody waits for it: who gets nothing goes
/// on without, more slowly.
#[derive(Clone, Debug)]
pub struct Budget {
    limit_bytes: usize,
    used_bytes: Sum,
}

#[derive(Clone, Debug)]
enum Sum {
    /// `OF_PROCESS`: a static on the heap would stay behind when the library is unloaded.
    OfProcess,
    Own(Arc<AtomicUsize>),
}

static OF_PROCESS: AtomicUsize = AtomicUsize::new(0);

impl Sum {
    fn bytes(&self) -> &AtomicUsize {
        match self {
            Sum::OfProcess => &OF_PROCESS,
            Sum::Own(bytes) => bytes,
        }
    }
}

/// Whole contributions sent ahead are set aside: both ends count on their limit, so it cannot shrink.
impl Default for Budget {
    fn default() -> Budget {
        Budget::new(MEMORY_BUDGET_BYTES - MAX_EAGER_BYTES)
    }
}

impl Budget {
    pub fn new(limit_bytes: usize) -> Budget {
        Budget { limit_bytes, used_bytes: Sum::Own(Arc::default()) }
    }

    /// The one that all communicators of this process share.
    pub fn of_process() -> Budget {
        Budget { used_bytes: Sum::OfProcess, ..Budget::default() }
    }

    pub fn used_bytes(&self) -> usize {
        self.used_bytes.bytes().load(Ordering::Relaxed)
    }

    pub fn free_bytes(&self) -> usize {
        self.limit_bytes - self.used_bytes()
    }

    /// Nothing yet, and never more than `cap_bytes`.
    pub fn share(&self, cap_bytes: usize) -> Share {
        Share { budget: self.clone(), cap_bytes, taken_bytes: 0 }
    }
}

/// What one user has taken from a budget; given back when this is dropped.
#[derive(Debug)]
pub struct Share {
    budget: Budget,
    cap_bytes: usize,
    taken_bytes: usize,
}

impl Share {
    /// All of it, or nothing.
    pub fn take(&mut self, bytes: usize) -> bool {
        if bytes > self.cap_bytes - self.taken_bytes {
            return false;
        }
        let limit = self.budget.limit_bytes;
        let used = self.budget.used_bytes.bytes();
        let more = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= limit);
        // Only a sum: no other memory is ordered by it.
        let taken = used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok();
        if taken {
            self.taken_bytes += bytes;
        }
        taken
    }

    pub fn give(&mut self, bytes: usize) {
        assert!(bytes <= self.taken_bytes, "more is given back than was taken");
        self.taken_bytes -= bytes;
        self.budget.used_bytes.bytes().fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.give(self.taken_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_together_stay_within_the_budget_and_each_within_its_cap() {
        let budget = Budget::new(100);
        let (mut a, mut b) = (budget.share(70), budget.clone().share(70));
        assert!(a.take(60) && !a.take(20) && a.take(10));
        assert!(b.take(30) && !b.take(1));
        a.give(5);
        assert!(b.take(5) && !b.take(1));
        assert_eq!((budget.used_bytes(), budget.free_bytes()), (100, 0));
    }

    #[test]
    fn a_dropped_share_has_given_everything_back() {
        let budget = Budget::new(100);
        let mut share = budget.share(100);
        assert!(share.take(40));
        drop(share);
        assert_eq!(budget.used_bytes(), 0);
    }
}
