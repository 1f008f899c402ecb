//! What will happen when: a heap of events, ties broken by the order in which they were planned.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Virtual microseconds.
pub type Us = u64;

struct Entry<E> {
    at: Us,
    planned: u64,
    event: E,
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Entry<E> {
    /// The heap gives the greatest first, so earlier is greater.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.planned).cmp(&(self.at, self.planned))
    }
}

pub struct Queue<E> {
    heap: BinaryHeap<Entry<E>>,
    planned: u64,
}

impl<E> Queue<E> {
    pub fn new() -> Queue<E> {
        Queue { heap: BinaryHeap::with_capacity(256), planned: 0 }
    }

    pub fn push(&mut self, at: Us, event: E) {
        self.planned += 1;
        self.heap.push(Entry { at, planned: self.planned, event });
    }

    pub fn next_at(&self) -> Option<Us> {
        self.heap.peek().map(|entry| entry.at)
    }

    pub fn pop(&mut self) -> Option<(Us, E)> {
        self.heap.pop().map(|entry| (entry.at, entry.event))
    }
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Queue::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_by_plan() {
        let mut queue = Queue::new();
        for (at, event) in [(5, 'c'), (1, 'a'), (5, 'd'), (2, 'b')] {
            queue.push(at, event);
        }
        let order: String = std::iter::from_fn(|| queue.pop()).map(|(_, event)| event).collect();
        assert_eq!(order, "abcd");
    }
}
