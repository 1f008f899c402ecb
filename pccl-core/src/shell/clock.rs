//! The one place that asks what time it is, and the one timer of a loop.

use std::cell::Cell;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::types::Time;

#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    pub fn start() -> Clock {
        Clock(Instant::now())
    }

    pub fn now(self) -> Time {
        // A second at the beginning, so that no deadline in the past is before the beginning of time.
        Time(self.0.elapsed().as_micros() as u64 + 1_000_000)
    }
}

/// Wakes a loop at its machine's next deadline.
#[derive(Debug, Default)]
pub struct Timer {
    deadline: Cell<Option<Time>>,
    sooner: Notify,
}

impl Timer {
    /// To be told after everything the machine did. Costs little where nothing changed.
    pub fn set(&self, deadline: Option<Time>) {
        let before = self.deadline.replace(deadline);
        // Later is found out when the old time comes.
        if deadline.is_some_and(|d| before.is_none_or(|b| d < b)) {
            self.sooner.notify_one();
        }
    }

    /// Calls `due` at each deadline, for ever. What was ready before is handled before: a machine must not take
    /// somebody for silent whose words lie unread.
    pub async fn run(&self, clock: Clock, mut due: impl FnMut()) {
        loop {
            let Some(deadline) = self.deadline.get() else {
                self.sooner.notified().await;
                continue;
            };
            let wait = Duration::from_micros(deadline.since_us(clock.now()));
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.sooner.notified() => continue,
            }
            for _ in 0..2 {
                // Each goes once around everything that is ready, and asks the system for more.
                tokio::task::yield_now().await;
            }
            if self.deadline.get().is_some_and(|deadline| deadline <= clock.now()) {
                due();
            }
        }
    }
}
