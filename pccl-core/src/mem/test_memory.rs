//! A caller's memory, for the tests of other rooms.

use super::Buffers;

/// Two buffers, or one in place. Whoever lends it must not look at it before the `Buffers` is gone.
#[derive(Debug)]
pub(crate) struct TestMemory {
    send: Option<Vec<u8>>,
    recv: Vec<u8>,
    residual: Option<Vec<u8>>,
}

impl TestMemory {
    pub(crate) fn new(input: &[u8], in_place: bool) -> TestMemory {
        if in_place {
            return TestMemory { send: None, recv: input.to_vec(), residual: None };
        }
        TestMemory { send: Some(input.to_vec()), recv: vec![0xEE; input.len()], residual: None }
    }

    pub(crate) fn with_residual(self, residual: &[u8]) -> TestMemory {
        TestMemory { residual: Some(residual.to_vec()), ..self }
    }

    /// Empty if there is none.
    pub(crate) fn residual(&self) -> &[u8] {
        self.residual.as_deref().unwrap_or_default()
    }

    pub(crate) fn lend(&mut self) -> Buffers {
        let len = self.recv.len();
        let recv = self.recv.as_mut_ptr();
        let send = self.send.as_ref().map_or(recv.cast_const(), |send| send.as_ptr());
        // SAFETY: the vectors are neither moved out of nor resized, and the tests keep their promise (above).
        let buffers = unsafe { Buffers::new(send, recv, len) }.unwrap();
        match &mut self.residual {
            // SAFETY: as above.
            Some(residual) => unsafe { buffers.with_feedback(residual.as_mut_ptr()) }.unwrap(),
            None => buffers,
        }
    }

    /// A part of it, in place.
    pub(crate) fn lend_part(&mut self, from: usize, len: usize) -> Buffers {
        let part = self.recv[from..from + len].as_mut_ptr();
        // SAFETY: as above.
        unsafe { Buffers::new(part, part, len) }.unwrap()
    }

    /// What the caller finds where its input was.
    pub(crate) fn input(&self) -> &[u8] {
        self.send.as_ref().unwrap_or(&self.recv)
    }

    pub(crate) fn result(&self) -> &[u8] {
        &self.recv
    }
}
