//! Which of the running small operations may keep the contributions that arrive.
//!
//! Each takes room for all of them from the process's budget when it starts. Where there is none it waits, and what arrives
//! for it is dropped and asked for again when it has room. An operation that waits although all of its contributions have
//! been here is one that every member has begun: it needs nobody's call to come to its end. One of these at a time has room
//! beside the budget, so none of them waits for those that hold room and lack a member (docs/SCHEDULES.md, *Bytes sent
//! ahead*).

use std::collections::VecDeque;

use crate::limits::MAX_EAGER_RUNNING_BYTES;
use crate::mem::{Budget, Share};

#[derive(Debug)]
pub(super) struct Rooms {
    share: Share,
    /// The operation that has room beside the budget, by its slot.
    beside: Option<usize>,
    /// Slots, and what each needs, in the order of their starts.
    waiting: VecDeque<(usize, usize)>,
    /// Those of them that every member has begun.
    begun: VecDeque<usize>,
}

/// What one operation has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    None,
    /// So many bytes of the budget.
    Budget(usize),
    Beside,
}

impl Rooms {
    pub fn new(budget: &Budget) -> Rooms {
        Rooms {
            share: budget.share(MAX_EAGER_RUNNING_BYTES),
            beside: None,
            waiting: VecDeque::new(),
            begun: VecDeque::new(),
        }
    }

    /// An operation starts. If it gets none it waits.
    pub fn enter(&mut self, slot: usize, bytes: usize) -> Room {
        if self.waiting.is_empty() && self.share.take(bytes) {
            return Room::Budget(bytes);
        }
        self.waiting.push_back((slot, bytes));
        Room::None
    }

    /// Each contribution to an operation that waits has been here.
    pub fn all_begun(&mut self, slot: usize) {
        self.begun.push_back(slot);
    }

    /// The operation keeps no contributions any more, or is over.
    pub fn leave(&mut self, slot: usize, room: Room) {
        match room {
            Room::Budget(bytes) => self.share.give(bytes),
            Room::Beside => self.beside = None,
            Room::None => {
                self.waiting.retain(|(waiting, _)| *waiting != slot);
                self.begun.retain(|waiting| *waiting != slot);
            }
        }
    }

    /// One that has waited, and what it has from now on.
    pub fn next(&mut self) -> Option<(usize, Room)> {
        if let Some(&(slot, bytes)) = self.waiting.front()
            && self.share.take(bytes)
        {
            self.leave(slot, Room::None);
            return Some((slot, Room::Budget(bytes)));
        }
        let slot = self.begun.front().copied().filter(|_| self.beside.is_none())?;
        self.leave(slot, Room::None);
        self.beside = Some(slot);
        Some((slot, Room::Beside))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_wait_in_order() {
        let budget = Budget::new(100);
        let mut rooms = Rooms::new(&budget);
        assert_eq!(rooms.enter(0, 60), Room::Budget(60));
        assert_eq!((rooms.enter(1, 60), rooms.enter(2, 10)), (Room::None, Room::None), "nobody overtakes");
        assert_eq!(rooms.next(), None);
        rooms.leave(0, Room::Budget(60));
        let next = [rooms.next(), rooms.next(), rooms.next()];
        assert_eq!(next, [Some((1, Room::Budget(60))), Some((2, Room::Budget(10))), None]);
        rooms.leave(1, Room::Budget(60));
        rooms.leave(2, Room::Budget(10));
        assert_eq!((budget.used_bytes(), rooms.enter(3, 100)), (0, Room::Budget(100)));
    }

    #[test]
    fn what_everybody_has_begun_has_room_beside_the_budget_one_after_the_other() {
        let mut rooms = Rooms::new(&Budget::new(0));
        let entered: Vec<Room> = (0..5).map(|slot| rooms.enter(slot, 1)).collect();
        assert_eq!((entered, rooms.next()), (vec![Room::None; 5], None), "somebody may not have called them");
        [3, 1, 4].into_iter().for_each(|slot| rooms.all_begun(slot));
        assert_eq!((rooms.next(), rooms.next()), (Some((3, Room::Beside)), None));
        // One is over before its turn has come.
        rooms.leave(1, Room::None);
        assert_eq!(rooms.next(), None);
        rooms.leave(3, Room::Beside);
        assert_eq!((rooms.next(), rooms.next()), (Some((4, Room::Beside)), None));
        rooms.leave(4, Room::Beside);
        assert_eq!((rooms.next(), rooms.waiting.len()), (None, 2));
    }
}
