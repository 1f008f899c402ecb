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
    /// `None` without error feedback.
    residual: Option<Slab>,
}

impl CallMemory {
    pub fn new(input: &[u8], in_place: bool) -> CallMemory {
        let recv = (!in_place).then(|| Slab::new(input.iter().map(|byte| !byte)));
        CallMemory { send: Slab::new(input.iter().copied()), recv, residual: None }
    }

    pub fn with_residual(self, residual: Option<&[u8]>) -> CallMemory {
        CallMemory { residual: residual.map(|residual| Slab::new(residual.iter().copied())), ..self }
    }

    pub fn lend(&self) -> Buffers {
        let recv = self.recv.as_ref().unwrap_or(&self.send).base();
        // SAFETY: both slabs are valid for `len` bytes, live in boxes that are not moved or freed while the node
        // may use them, and by the contract above nobody touches them until then.
        let buffers = unsafe { Buffers::new(self.send.base(), recv, self.send.len) };
        let buffers = buffers.expect("two boxes are neither null nor overlap");
        let Some(residual) = &self.residual else { return buffers };
        // SAFETY: as above; it is as long as the others.
        let buffers = unsafe { buffers.with_feedback(residual.base()) };
        buffers.expect("another box overlaps neither")
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

    pub fn residual(&self) -> Option<&[u8]> {
        self.residual.as_ref().map(Slab::content)
    }

    fn slabs(&self) -> impl Iterator<Item = &Slab> {
        [Some(&self.send), self.recv.as_ref(), self.residual.as_ref()].into_iter().flatten()
    }

    pub fn guards_intact(&self) -> bool {
        self.slabs().all(Slab::guards_intact)
    }

    /// What the program does with memory it has back.
    pub fn poison(&mut self) {
        self.send.poison();
        for slab in [&mut self.recv, &mut self.residual].into_iter().flatten() {
            slab.poison();
        }
    }

    /// Whether nobody wrote since `poison`.
    pub fn untouched(&self) -> bool {
        let poisoned = |slab: &Slab| slab.content().iter().all(|byte| *byte == POISON);
        self.guards_intact() && self.slabs().all(poisoned)
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
        let mut memory = CallMemory::new(&[1, 2, 3, 4], false).with_residual(Some(&[5; 4]));
        let mut late = memory.lend();
        memory.poison();
        assert!(memory.untouched());
        late.result_and_residual_mut(2, 1).1.expect("it was lent")[0] = 7;
        assert!(!memory.untouched());
    }
}
