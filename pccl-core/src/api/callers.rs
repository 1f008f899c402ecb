//! Whether a program uses a communicator from one thread or from several: only with one is a wait a proof that
//! nothing else will be called meanwhile.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ThreadId};

#[derive(Debug, Default)]
pub(super) struct Callers {
    first: OnceLock<ThreadId>,
    several: AtomicBool,
}

impl Callers {
    /// The present thread makes a call.
    pub fn note(&self) {
        let current = thread::current().id();
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
        thread::scope(|threads| threads.spawn(|| callers.note()).join()).unwrap();
        callers.note();
        assert!(!callers.one());
    }
}
