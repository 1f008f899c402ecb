//! Where a user thread waits for what its communicator's thread finds out.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::watch;
use crate::error::{Error, ErrorKind, Result};
use crate::proto::peer::Done;

/// The outcome of one call, once there is one; it stays.
#[derive(Debug, Default)]
pub struct Slot {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    outcome: Option<Result<Done>>,
    waker: Option<Waker>,
}

/// The duty to fill a slot. Dropped without an outcome, as when the thread that had it panics or was stopped before it
/// read of the call, it says so to whoever waits: nobody waits for ever.
#[derive(Debug)]
pub struct Completer {
    slot: Option<Arc<Slot>>,
    /// Whether the thread has ended because it was told to.
    stopped: Arc<AtomicBool>,
}

impl Slot {
    /// For a call of a thread that says with `stopped` that it was told to end.
    pub fn new(stopped: Arc<AtomicBool>) -> (Completer, Arc<Slot>) {
        let slot = Arc::new(Slot::default());
        (Completer { slot: Some(slot.clone()), stopped }, slot)
    }

    /// Blocks until there is an outcome, or whoever watches this thread's waits has given up.
    pub fn wait(&self) -> Result<Done> {
        loop {
            let Some(interval) = watch::interval() else { return self.wait_unwatched() };
            if let Some(outcome) = self.wait_until(Instant::now() + interval) {
                return outcome;
            }
            watch::check()?;
        }
    }

    /// `None` if there is no outcome within `ms`.
    pub fn wait_timeout(&self, ms: u64) -> Option<Result<Done>> {
        let deadline = Instant::now() + Duration::from_millis(ms);
        loop {
            let Some(interval) = watch::interval() else { return self.wait_until(deadline) };
            let outcome = self.wait_until(deadline.min(Instant::now() + interval));
            if outcome.is_some() {
                return outcome;
            }
            if let Err(given_up) = watch::check() {
                return Some(Err(given_up));
            }
            if Instant::now() >= deadline {
                return None;
            }
        }
    }

    fn wait_unwatched(&self) -> Result<Done> {
        let mut state = self.lock();
        loop {
            if let Some(outcome) = &state.outcome {
                return outcome.clone();
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn wait_until(&self, deadline: Instant) -> Option<Result<Done>> {
        let mut state = self.lock();
        loop {
            if state.outcome.is_some() {
                return state.outcome.clone();
            }
            let left = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    pub fn is_done(&self) -> bool {
        self.lock().outcome.is_some()
    }

    pub fn poll(&self, context: &mut Context<'_>) -> Poll<Result<Done>> {
        let mut state = self.lock();
        if let Some(outcome) = &state.outcome {
            return Poll::Ready(outcome.clone());
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }

    fn fill(&self, outcome: Result<Done>) {
        let waker = {
            let mut state = self.lock();
            state.outcome = Some(outcome);
            state.waker.take()
        };
        self.changed.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic is done under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Completer {
    pub fn complete(mut self, outcome: Result<Done>) {
        if let Some(slot) = self.slot.take() {
            slot.fill(outcome);
        }
    }
}

impl Drop for Completer {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            slot.fill(Err(match self.stopped.load(Ordering::Acquire) {
                // The call came at the same moment, and too late.
                true => shut_down(),
                false => Error::new(
                    ErrorKind::Internal,
                    "the communicator's thread has ended without an answer to this call; \
                     destroy the communicator and make a new one",
                ),
            }));
        }
    }
}

/// To whoever calls after the end.
pub fn shut_down() -> Error {
    Error::new(ErrorKind::InvalidUsage, "this communicator was shut down")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new() -> (Completer, Arc<Slot>) {
        Slot::new(Arc::default())
    }

    #[test]
    fn an_outcome_reaches_a_waiting_thread_and_stays() {
        let (completer, slot) = new();
        assert_eq!(slot.wait_timeout(0), None);
        let waiting = slot.clone();
        let thread = std::thread::spawn(move || waiting.wait());
        completer.complete(Ok(Done::Left));
        assert_eq!(thread.join().unwrap(), Ok(Done::Left));
        assert_eq!(slot.wait_timeout(0), Some(Ok(Done::Left)));
        assert!(slot.is_done());
    }

    #[test]
    fn a_watched_wait_ends_when_the_program_gives_up_and_the_outcome_still_comes() {
        let (completer, slot) = new();
        let mut asked = 0;
        let gives_up = move || {
            asked += 1;
            asked > 1
        };
        let given_up = watch::watched(gives_up, || slot.wait());
        assert_eq!(given_up.unwrap_err().kind, ErrorKind::InvalidUsage);
        let given_up = watch::watched(|| true, || slot.wait_timeout(u64::from(u32::MAX)));
        assert!(given_up.is_some_and(|outcome| outcome.is_err()));
        assert_eq!(watch::watched(|| false, || slot.wait_timeout(1)), None);
        completer.complete(Ok(Done::Left));
        assert_eq!(watch::watched(|| true, || slot.wait()), Ok(Done::Left));
    }

    #[test]
    fn a_panic_of_the_answering_thread_is_an_error_for_the_waiting_one() {
        let (completer, slot) = new();
        let thread = std::thread::spawn(move || {
            let _completer = completer;
            panic!("planted");
        });
        assert_eq!(slot.wait().unwrap_err().kind, ErrorKind::Internal);
        assert!(thread.join().is_err());
    }

    #[test]
    fn a_call_that_comes_when_the_thread_was_stopped_is_none_that_it_owes_an_answer() {
        let stopped = Arc::new(AtomicBool::new(false));
        let (completer, slot) = Slot::new(stopped.clone());
        stopped.store(true, Ordering::Release);
        drop(completer);
        assert_eq!(slot.wait().unwrap_err().kind, ErrorKind::InvalidUsage);
    }
}
