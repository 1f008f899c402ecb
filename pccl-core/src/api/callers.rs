//! Whether a program uses a communicator from one thread or from several: only with one is a wait a proof that
//! nothing else will be called meanwhile.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

thread_local! {
    /// Its address is the thread's mark, also while the thread is torn down, when it has no name any more. A thread that
    /// comes after another one has ended may have the same: then there is one at a time, which is what counts.
    static MARK: u8 = const { 0 };
}

#[derive(Debug, Default)]
pub(super) struct Callers {
    first: OnceLock<usize>,
    several: AtomicBool,
}

impl Callers {
    /// The present thread makes a call.
    pub fn note(&self) {
        let current = MARK.with(|mark| std::ptr::from_ref(mark) as usize);
        if *self.first.get_or_init(|| current) != current {
            self.several.store(true, Ordering::Relaxed);
        }
    }

    /// Whether all calls so far came from one thread.
    pub fn one(&self) -> bool {
        !self.several.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_thread_is_noticed_and_stays_known() {
        let callers = Callers::default();
        callers.note();
        callers.note();
        assert!(callers.one());
        std::thread::scope(|threads| threads.spawn(|| callers.note()).join()).unwrap();
        callers.note();
        assert!(!callers.one());
    }
}
