//! The simulated program's memory: the only `unsafe` of the simulator.
//!
//! A `Slab` is lent to the node with `lend` and not looked at until the node has completed the call. Guard
//! bytes stand on both sides; what is kept after completion is poisoned, so that a late write shows.

use std::cell::UnsafeCell;

use pccl_core::mem::Buffers;

const GUARD_BYTES: usize = 16;
const GUARD: u8 = 0xa5;
const POISON: u8 = 0xdb;

/// One buffer between guards.
struct Slab {
    bytes: Box<[UnsafeCell<u8>]>,
    len: usize,
}

impl Slab {
    fn new(content: impl ExactSizeIterator<Item = u8>) -> Slab {
        let len = content.len();
        let guard = || std::iter::repeat_n(GUARD, GUARD_BYTES);
        let bytes = guard().chain(content).chain(guard()).map(UnsafeCell::new).collect();
        Slab { bytes, len }
    }

    fn base(&self) -> *mut u8 {
        self.bytes[GUARD_BYTES..].as_ptr() as *mut u8
    }

    fn all(&self) -> &[u8] {
        // SAFETY: only called through `CallMemory`'s methods, when no `Buffers` over it is alive (its contract);
        // `UnsafeCell<u8>` has the layout of `u8`.
        unsafe { std::slice::from_raw_parts(self.bytes.as_ptr() as *const u8, self.bytes.len()) }
    }

    fn content(&self) -> &[u8] {
        &self.all()[GUARD_BYTES..GUARD_BYTES + self.len]
    }

    fn poison(&mut self) {
        for byte in &mut self.bytes[GUARD_BYTES..GUARD_BYTES + self.len] {
            *byte.get_mut() = POISON;
        }
    }

    fn guards_intact(&self) -> bool {
        let all = self.all();
        let intact = |bytes: &[u8]| bytes.iter().all(|byte| *byte == GUARD);
        intact(&all[..GUARD_BYTES]) && intact(&all[GUARD_BYTES + self.len..])
    }
}

/// The memory of one all-reduce call. Outlives the node it was lent to: it is kept until the run's end.
///
/// The contract: after `lend`, no other method is called until the node has completed the call or is gone.
pub struct CallMemory {
    send: Slab,
    /// `None` in place.
    recv: Option<Slab>,
}

impl CallMemory {
    pub fn new(input: &[u8], in_place: bool) -> CallMemory {
        let recv = (!in_place).then(|| Slab::new(input.iter().map(|byte| !byte)));
        CallMemory { send: Slab::new(input.iter().copied()), recv }
    }

    pub fn lend(&self) -> Buffers {
        let recv = self.recv.as_ref().unwrap_or(&self.send).base();
        // SAFETY: both slabs are valid for `len` bytes, live in boxes that are not moved or freed while the node
        // may use them, and by the contract above nobody touches them until then.
        let buffers = unsafe { Buffers::new(self.send.base(), recv, self.send.len) };
        buffers.expect("two boxes are neither null nor overlap")
    }

    pub fn in_place(&self) -> bool {
        self.recv.is_none()
    }

    pub fn send(&self) -> &[u8] {
        self.send.content()
    }

    pub fn result(&self) -> &[u8] {
        self.recv.as_ref().unwrap_or(&self.send).content()
    }

    pub fn guards_intact(&self) -> bool {
        self.send.guards_intact() && self.recv.as_ref().is_none_or(Slab::guards_intact)
    }

    /// What the program does with memory it has back.
    pub fn poison(&mut self) {
        self.send.poison();
        if let Some(recv) = &mut self.recv {
            recv.poison();
        }
    }

    /// Whether nobody wrote since `poison`.
    pub fn untouched(&self) -> bool {
        let poisoned = |slab: &Slab| slab.content().iter().all(|byte| *byte == POISON);
        self.guards_intact() && poisoned(&self.send) && self.recv.as_ref().is_none_or(poisoned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_after_the_end_shows() {
        let mut memory = CallMemory::new(&[1, 2, 3, 4], true);
        let mut late = memory.lend();
        memory.poison();
        assert!(memory.untouched());
        late.result_mut(2, 1)[0] = 7;
        assert!(!memory.untouched());
    }
}
