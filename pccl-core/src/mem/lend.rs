//! Borrowed slices as buffers of operations: safe, because the borrow does not end before the library has let
//! go of the memory, whatever becomes of the operation. The shape is that of `std::thread::scope`.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::{Buffers, BuffersError, Element};

/// Within it slices can be lent to operations. Made by `lend`.
#[derive(Debug)]
pub struct Lending<'scope, 'env: 'scope> {
    loans: Arc<Loans>,
    scope: PhantomData<&'scope mut &'scope ()>,
    env: PhantomData<&'env mut &'env ()>,
}

/// How many `Buffers` are not back yet.
#[derive(Debug, Default)]
struct Loans {
    out: Mutex<usize>,
    returned: Condvar,
}

/// Held by a `Buffers` over borrowed memory; says so when the memory is back.
#[derive(Debug)]
pub(super) struct Loan {
    loans: Arc<Loans>,
    /// Of the `Memory` this came from.
    taken: Option<Arc<AtomicBool>>,
}

/// Memory that one operation after the other may have: for calls that are repeated until they succeed.
#[derive(Debug)]
pub struct Memory<'a> {
    send: *const u8,
    recv: *mut u8,
    len: usize,
    /// Whether an operation has it now.
    taken: Arc<AtomicBool>,
    borrow: PhantomData<&'a mut [u8]>,
}

// SAFETY: it stands for slices of plain numbers, and gives them to one operation at a time.
unsafe impl Send for Memory<'_> {}
// SAFETY: as above; `taken` is atomic.
unsafe impl Sync for Memory<'_> {}

impl<'a> Memory<'a> {
    /// To read from `send` and receive into `recv`; the same address twice means in place.
    ///
    /// # Safety
    /// For as long as operations have it, the contract of `Buffers` must hold for both.
    pub unsafe fn new(send: *const u8, recv: *mut u8, len: usize) -> Memory<'a> {
        Memory { send, recv, len, taken: Arc::default(), borrow: PhantomData }
    }

    /// To read from `send` and receive into `recv`, which has the same length.
    pub fn of<T: Element>(send: &'a [T], recv: &'a mut [T]) -> Result<Memory<'a>, BuffersError> {
        if send.len() != recv.len() {
            return Err(BuffersError::Lengths);
        }
        // SAFETY: the borrows last for 'a, every bit pattern is a valid T, and `Lending::memory` borrows this
        // for as long as an operation has it.
        Ok(unsafe { Memory::new(send.as_ptr().cast(), recv.as_mut_ptr().cast(), size_of_val(send)) })
    }

    /// To be replaced by the result.
    pub fn in_place<T: Element>(data: &'a mut [T]) -> Memory<'a> {
        let (base, len) = (data.as_mut_ptr().cast::<u8>(), size_of_val(data));
        // SAFETY: as in `of`.
        unsafe { Memory::new(base, base, len) }
    }
}

/// Runs `f`, and returns (or unwinds) only when everything lent in it is back: when its operations have ended.
pub fn lend<'env, R>(f: impl for<'scope> FnOnce(&'scope Lending<'scope, 'env>) -> R) -> R {
    let lending = Lending { loans: Arc::default(), scope: PhantomData, env: PhantomData };
    let _all_back = AllBack { loans: lending.loans.clone(), pid: std::process::id() };
    f(&lending)
}

impl<'scope> Lending<'scope, '_> {
    /// Buffers over this memory. `OnLoan` while those of an earlier call are not back.
    pub fn memory(&'scope self, memory: &'scope Memory<'_>) -> Result<Buffers, BuffersError> {
        if memory.taken.swap(true, Ordering::Acquire) {
            return Err(BuffersError::OnLoan);
        }
        let loan = self.loan(Some(memory.taken.clone()));
        // SAFETY: the memory is borrowed for 'scope, nobody else has it now, and `lend` does not return before
        // the loan, and with it the `Buffers`, is dropped.
        unsafe { Buffers::new(memory.send, memory.recv, memory.len) }.map(|buffers| buffers.on_loan(loan))
    }

    /// Buffers that read `send` and receive into `recv`, which has the same length.
    pub fn buffers<T: Element>(
        &'scope self,
        send: &'scope [T],
        recv: &'scope mut [T],
    ) -> Result<Buffers, BuffersError> {
        let memory = Memory::of(send, recv)?;
        // SAFETY: both slices are borrowed for 'scope, and `lend` waits as above.
        unsafe { Buffers::new(memory.send, memory.recv, memory.len) }
            .map(|buffers| buffers.on_loan(self.loan(None)))
    }

    /// Buffers that replace `data` by the result.
    pub fn buffers_in_place<T: Element>(
        &'scope self,
        data: &'scope mut [T],
    ) -> Result<Buffers, BuffersError> {
        let memory = Memory::in_place(data);
        // SAFETY: as above.
        unsafe { Buffers::new(memory.send, memory.recv, memory.len) }
            .map(|buffers| buffers.on_loan(self.loan(None)))
    }

    /// As `buffers_in_place`, with error feedback: see `Buffers::with_feedback`.
    pub fn buffers_with_feedback<T: Element>(
        &'scope self,
        data: &'scope mut [T],
        residual: &'scope mut [T],
    ) -> Result<Buffers, BuffersError> {
        if data.len() != residual.len() {
            return Err(BuffersError::Lengths);
        }
        let residual = residual.as_mut_ptr().cast();
        // SAFETY: borrowed for 'scope like the data, and every bit pattern is a valid T.
        self.buffers_in_place(data).and_then(|buffers| unsafe { buffers.with_feedback(residual) })
    }

    fn loan(&self, taken: Option<Arc<AtomicBool>>) -> Loan {
        *self.loans.lock() += 1;
        Loan { loans: self.loans.clone(), taken }
    }
}

impl Loans {
    fn lock(&self) -> MutexGuard<'_, usize> {
        // A count cannot be left half changed.
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        if let Some(taken) = &self.taken {
            taken.store(false, Ordering::Release);
        }
        let mut out = self.loans.lock();
        *out -= 1;
        if *out == 0 {
            self.loans.returned.notify_all();
        }
    }
}

struct AllBack {
    loans: Arc<Loans>,
    pid: u32,
}

impl Drop for AllBack {
    fn drop(&mut self) {
        if std::process::id() != self.pid {
            // A forked child has its own copy of the memory, and no thread that could use it or give it back.
            return;
        }
        let mut out = self.loans.lock();
        while *out > 0 {
            out = self.loans.returned.wait(out).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn the_borrow_lasts_until_the_buffers_are_back() {
        let (send, mut recv) = (vec![1u32, 2, 3], vec![0u32; 3]);
        let written = Arc::new(AtomicBool::new(false));
        let done = written.clone();
        lend(|lending| {
            let mut buffers = lending.buffers(&send, &mut recv).unwrap();
            std::thread::spawn(move || {
                std::thread::yield_now();
                buffers.result_mut(0, 12).fill(1);
                done.store(true, Ordering::SeqCst);
                drop(buffers);
            });
        });
        assert!(written.load(Ordering::SeqCst));
        assert_eq!(recv, [0x0101_0101; 3]);
    }

    #[test]
    fn a_panic_waits_too() {
        let mut data = vec![0f64; 2];
        let written = Arc::new(AtomicBool::new(false));
        let done = written.clone();
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            lend(|lending| {
                let buffers = lending.buffers_in_place(&mut data).unwrap();
                std::thread::spawn(move || {
                    std::thread::yield_now();
                    done.store(true, Ordering::SeqCst);
                    drop(buffers);
                });
                panic!("planted");
            })
        }));
        assert!(caught.is_err() && written.load(Ordering::SeqCst));
    }

    #[test]
    fn a_forked_child_does_not_wait_for_what_only_its_parent_can_give_back() {
        let mut data = [0u8; 2];
        lend(|lending| {
            let _buffers = lending.buffers_in_place(&mut data).unwrap();
            drop(AllBack { loans: lending.loans.clone(), pid: std::process::id() + 1 });
        });
    }

    #[test]
    fn slices_of_different_lengths_are_no_buffers() {
        let mut recv = [0u8; 2];
        lend(|lending| {
            let result = lending.buffers(&[1u8; 3], &mut recv).map(|_| ());
            assert_eq!(result, Err(BuffersError::Lengths));
        });
    }

    #[test]
    fn a_residual_is_memory_of_its_own_and_as_long_as_the_data() {
        let (mut data, mut short) = ([0f32; 4], [0f32; 3]);
        lend(|lending| {
            let result = lending.buffers_with_feedback(&mut data, &mut short).map(|_| ());
            assert_eq!(result, Err(BuffersError::Lengths));
        });
        let base = data.as_mut_ptr().cast::<u8>();
        for (send, recv) in [(base, base), (base, base.wrapping_add(16))] {
            // SAFETY: nothing is read or written through these buffers.
            let result = unsafe { Buffers::new(send, recv, usize::MAX - 16) };
            assert_eq!(result.map(|_| ()), Err(BuffersError::Beyond));
        }
        for (residual, expected) in [
            (std::ptr::null_mut(), Err(BuffersError::Null)),
            (base.wrapping_add(12), Err(BuffersError::Residual)),
            (base.wrapping_add(16), Ok(())),
        ] {
            // SAFETY: nothing is read or written through these buffers.
            let result = unsafe { Buffers::new(base, base, 16).unwrap().with_feedback(residual) };
            assert_eq!(result.map(|_| ()), expected);
        }
    }

    #[test]
    fn memory_goes_to_one_operation_after_the_other() {
        let mut data = [1i32, 2];
        let memory = Memory::in_place(&mut data);
        lend(|lending| {
            let first = lending.memory(&memory).unwrap();
            assert_eq!(lending.memory(&memory).map(|_| ()), Err(BuffersError::OnLoan));
            drop(first);
            assert!(lending.memory(&memory).unwrap().in_place());
        });
    }
}
