//! Which of the running small operations may keep the contributions that arrive.
//!
//! Each takes room for all of them from the process's budget when it starts. Where there is none it waits, and what arrives for it is
//! dropped and asked for again when its turn has come. One operation at a time has room whatever the budget says, so the
//! first that waits always gets some in the end: whoever has room gets all contributions, as nobody needs room to send.

use std::collections::VecDeque;

use crate::limits::MAX_EAGER_RUNNING_BYTES;
use crate::mem::{Budget, Share};

#[derive(Debug)]
pub(super) struct Rooms {
    share: Share,
    /// By slot of the operation, with what it took of the budget.
    taken: Vec<(usize, usize)>,
    /// The one that needs nothing of the budget.
    beside: Option<usize>,
    /// Slots, and what each needs.
    waiting: VecDeque<(usize, usize)>,
}

impl Rooms {
    pub fn new(budget: &Budget) -> Rooms {
        Rooms {
            share: budget.share(MAX_EAGER_RUNNING_BYTES),
            taken: Vec::new(),
            beside: None,
            waiting: VecDeque::new(),
        }
    }

    /// An operation starts. False if it has to wait.
    pub fn enter(&mut self, slot: usize, bytes: usize) -> bool {
        let has_room = self.waiting.is_empty() && self.find(slot, bytes);
        if !has_room {
            self.waiting.push_back((slot, bytes));
        }
        has_room
    }

    fn find(&mut self, slot: usize, bytes: usize) -> bool {
        if self.share.take(bytes) {
            self.taken.push((slot, bytes));
            return true;
        }
        if self.beside.is_none() {
            self.beside = Some(slot);
            return true;
        }
        false
    }

    /// The operation keeps no contributions any more, or is over. Not all have been here.
    pub fn leave(&mut self, slot: usize) {
        if let Some(at) = self.taken.iter().position(|(taker, _)| *taker == slot) {
            self.share.give(self.taken.swap_remove(at).1);
        }
        if self.beside == Some(slot) {
            self.beside = None;
        }
        self.waiting.retain(|(waiting, _)| *waiting != slot);
    }

    /// One that has waited, and has room from now on.
    pub fn next(&mut self) -> Option<usize> {
        let &(slot, bytes) = self.waiting.front()?;
        self.find(slot, bytes).then(|| self.waiting.pop_front())?;
        Some(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_wait_in_order_and_one_needs_no_budget() {
        let budget = Budget::new(100);
        let mut rooms = Rooms::new(&budget);
        assert!(rooms.enter(0, 60) && rooms.enter(1, 60), "the second is the one beside the budget");
        assert!(!rooms.enter(2, 60) && !rooms.enter(3, 10), "nobody overtakes");
        assert_eq!(rooms.next(), None);
        rooms.leave(1);
        assert_eq!((rooms.next(), rooms.next(), rooms.next()), (Some(2), Some(3), None));
        rooms.leave(0);
        assert!(rooms.enter(4, 90));
        for slot in [3, 4, 2, 7] {
            rooms.leave(slot);
        }
        assert_eq!(budget.used_bytes(), 0);
    }

    #[test]
    fn without_any_budget_there_is_room_for_one_at_a_time() {
        let mut rooms = Rooms::new(&Budget::new(0));
        assert!(rooms.enter(5, 60) && !rooms.enter(6, 1) && !rooms.enter(7, 1));
        // It is over before its turn has come.
        rooms.leave(6);
        assert_eq!(rooms.next(), None);
        rooms.leave(5);
        assert_eq!((rooms.next(), rooms.next()), (Some(7), None));
    }
}
