//! User memory. The only place that turns a caller's pointer into slices.
//!
//! The contract, made when a `Buffers` is created and relied on by every block below: the caller vouches
//! that the memory is valid for `len` bytes (readable, and writable where received into), and that nobody
//! else writes it, nor reads what is received into, until the `Buffers` is dropped.

use std::fmt;
use std::ops::Range;

use super::lend::Loan;

/// Read-only memory of the caller.
#[derive(Debug)]
struct Source {
    base: *const u8,
    len: usize,
}

/// Memory of the caller that is received into.
#[derive(Debug)]
struct Target {
    base: *mut u8,
    len: usize,
}

// SAFETY: the contract of `Buffers` gives the library sole use of the memory from whatever thread it likes.
unsafe impl Send for Source {}
// SAFETY: as above.
unsafe impl Send for Target {}
// SAFETY: through a shared reference the memory is only read.
unsafe impl Sync for Source {}
// SAFETY: as above; `result_mut` wants the only reference.
unsafe impl Sync for Target {}

/// What one operation works on. In place: `own` and `result` are the same bytes.
#[derive(Debug)]
pub struct Buffers {
    /// `None` in place.
    source: Option<Source>,
    target: Target,
    /// What earlier operations lost of this peer's elements, for this one to make good.
    residual: Option<Target>,
    /// Whoever lent the memory waits for this to be dropped.
    _loan: Option<Loan>,
    /// What the memory is part of.
    _kept: Option<Kept>,
}

/// See `Buffers::input_at_stake`.
#[derive(Debug)]
pub struct InputAtStake {
    data: Vec<u8>,
    residual: Vec<u8>,
}

fn copied(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(bytes.len()).ok()?;
    copy.extend_from_slice(bytes);
    Some(copy)
}

/// Something that lives as long as the library has the memory.
struct Kept(#[expect(dead_code, reason = "it is dropped, nothing else")] Box<dyn Send + Sync>);

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kept")
    }
}

/// Why two pointers cannot be one operation's buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuffersError {
    #[error("a buffer is NULL")]
    Null,
    #[error("a buffer of that many elements goes beyond the end of memory")]
    Beyond,
    #[error("the buffers overlap in part: they must be the same memory or disjoint")]
    Overlap,
    #[error("the residual of error feedback must be memory of its own")]
    Residual,
    #[error("the buffers differ in length")]
    Lengths,
    #[error("the memory still belongs to an operation under way")]
    OnLoan,
}

impl Buffers {
    /// # Safety
    /// See the contract at the top of this module; `recv == send` means in place.
    pub unsafe fn new(send: *const u8, recv: *mut u8, len: usize) -> Result<Buffers, BuffersError> {
        if send.is_null() || recv.is_null() {
            return Err(BuffersError::Null);
        }
        let (send_end, recv_end) = (end(send as usize, len)?, end(recv as usize, len)?);
        let target = Target { base: recv, len };
        if std::ptr::eq(send, recv) {
            return Ok(Buffers { source: None, target, residual: None, _loan: None, _kept: None });
        }
        if (send as usize) < recv_end && (recv as usize) < send_end {
            return Err(BuffersError::Overlap);
        }
        let source = Some(Source { base: send, len });
        Ok(Buffers { source, target, residual: None, _loan: None, _kept: None })
    }

    /// With error feedback: `residual`, as long as the others and apart from them, holds what quantization lost before,
    /// and at the end what it lost this time. Of elements of the operation's type.
    ///
    /// # Safety
    /// The contract at the top of this module, for this memory too.
    pub unsafe fn with_feedback(self, residual: *mut u8) -> Result<Buffers, BuffersError> {
        if residual.is_null() {
            return Err(BuffersError::Null);
        }
        let (base, len) = (residual as usize, self.target.len);
        let residual_end = end(base, len)?;
        let meets = |other: usize| other < residual_end && base < other + len;
        let source = self.source.as_ref().map(|source| source.base as usize);
        if meets(self.target.base as usize) || source.is_some_and(meets) {
            return Err(BuffersError::Residual);
        }
        Ok(Buffers { residual: Some(Target { base: residual, len }), ..self })
    }

    /// Keeps `owner` until the library has let go of the memory: a call may be given up before.
    pub fn keeping(self, owner: impl Send + Sync + 'static) -> Buffers {
        Buffers { _kept: Some(Kept(Box::new(owner))), ..self }
    }

    pub(super) fn on_loan(self, loan: Loan) -> Buffers {
        Buffers { _loan: Some(loan), ..self }
    }

    /// A copy of what an operation on these overwrites of its input: the data in place, and the residual. `None` if the
    /// system has no memory for it.
    pub fn input_at_stake(&self) -> Option<InputAtStake> {
        let len = self.target.len;
        let data = if self.in_place() { copied(self.own(0, len))? } else { Vec::new() };
        let residual = match &self.residual {
            // SAFETY: contract of `Buffers`; nothing else refers to it while this is borrowed.
            Some(residual) => copied(unsafe { std::slice::from_raw_parts(residual.base, residual.len) })?,
            None => Vec::new(),
        };
        Some(InputAtStake { data, residual })
    }

    /// The input is again what it was.
    pub fn put_back(&mut self, input: &InputAtStake) {
        let in_place = self.in_place();
        let (data, residual) = self.result_and_residual_mut(0, self.target.len);
        if in_place {
            data.copy_from_slice(&input.data);
        }
        if let Some(residual) = residual {
            residual.copy_from_slice(&input.residual);
        }
    }

    pub fn len(&self) -> usize {
        self.target.len
    }

    /// Where the memory of the result lies, to compare with that of others.
    pub fn addresses(&self) -> Range<usize> {
        let base = self.target.base as usize;
        base..base + self.target.len
    }

    pub fn is_empty(&self) -> bool {
        self.target.len == 0
    }

    pub fn in_place(&self) -> bool {
        self.source.is_none()
    }

    pub fn has_feedback(&self) -> bool {
        self.residual.is_some()
    }

    /// This peer's own contribution. In place this is also the memory of the result.
    pub fn own(&self, at: usize, len: usize) -> &[u8] {
        match &self.source {
            Some(source) => {
                check(at, len, source.len);
                // SAFETY: contract of `Buffers`; the range was checked against its length.
                unsafe { std::slice::from_raw_parts(source.base.add(at), len) }
            }
            None => self.result(at, len),
        }
    }

    pub fn result(&self, at: usize, len: usize) -> &[u8] {
        check(at, len, self.target.len);
        // SAFETY: contract of `Buffers`; the range was checked; `&self` keeps `result_mut` away.
        unsafe { std::slice::from_raw_parts(self.target.base.add(at), len) }
    }

    pub fn result_mut(&mut self, at: usize, len: usize) -> &mut [u8] {
        check(at, len, self.target.len);
        // SAFETY: contract of `Buffers`; the range was checked; `&mut self` makes this the only slice.
        unsafe { std::slice::from_raw_parts_mut(self.target.base.add(at), len) }
    }

    /// The result beside the residual, if there is one.
    pub fn result_and_residual_mut(&mut self, at: usize, len: usize) -> (&mut [u8], Option<&mut [u8]>) {
        let residual = self.residual.as_ref().map(|residual| {
            check(at, len, residual.len);
            // SAFETY: contract of `Buffers`; `with_feedback` checked that it is apart from the target.
            unsafe { std::slice::from_raw_parts_mut(residual.base.add(at), len) }
        });
        check(at, len, self.target.len);
        // SAFETY: contract of `Buffers`; `&mut self` makes these the only slices.
        (unsafe { std::slice::from_raw_parts_mut(self.target.base.add(at), len) }, residual)
    }

    /// The own contribution beside the place where its sum goes; `None` in place, where they are one.
    pub fn own_and_result_mut(&mut self, at: usize, len: usize) -> (Option<&[u8]>, &mut [u8]) {
        check(at, len, self.target.len);
        let own = self.source.as_ref().map(|source| {
            // SAFETY: contract of `Buffers`; `new` checked that source and target are disjoint.
            unsafe { std::slice::from_raw_parts(source.base.add(at), len) }
        });
        // SAFETY: contract of `Buffers`; `&mut self` makes this the only slice of the target.
        (own, unsafe { std::slice::from_raw_parts_mut(self.target.base.add(at), len) })
    }
}

/// The address right behind, which no wrong length may wrap around to the beginning.
fn end(base: usize, len: usize) -> Result<usize, BuffersError> {
    base.checked_add(len).ok_or(BuffersError::Beyond)
}

/// An offset outside the buffers can only be our own bug: offsets come from the plan, and the engine checks
/// what the wire says against the plan first.
fn check(at: usize, len: usize, available: usize) {
    assert!(
        at.checked_add(len).is_some_and(|end| end <= available),
        "range {at}+{len} outside a buffer of {available} bytes"
    );
}
