//! A peer of a run.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pccl_core::api::{
    self, Buffers, Condition, DType, OpDescriptor, Quantization, ReduceOp, Result, SyncStrategy, Tag,
    TensorKey,
};
use pccl_core::limits::MAX_POOL_CONNECTIONS;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::failure::{failure, invalid, usage};
use crate::kept::Kept;
use crate::wait::{blocking, blocking_unless};
use crate::work::Work;

/// How often the thread that destroys a communicator looks whether the others have left their calls.
const BETWEEN_LOOKS: Duration = Duration::from_millis(2);

#[pyclass(frozen)]
pub struct Communicator {
    /// `None` once destroyed. Calls under way hold a clone.
    inner: Mutex<Option<Arc<Living>>>,
}

struct Living {
    comm: api::Communicator,
    /// It is being destroyed: whoever waits in a call gives up.
    leaving: AtomicBool,
}

thread_local! {
    /// Calls of communicators that this thread is in: more than one if a signal's handler makes another one.
    static CALLS: Cell<usize> = const { Cell::new(0) };
}

/// One of `CALLS`.
struct InCall;

impl InCall {
    fn new() -> InCall {
        CALLS.set(CALLS.get() + 1);
        InCall
    }
}

impl Drop for InCall {
    fn drop(&mut self) {
        CALLS.set(CALLS.get() - 1);
    }
}

/// Leaves the run. Those who wait in calls give up first, or they would keep this peer a member for as long as they wait.
fn leave(mut living: Arc<Living>) {
    living.leaving.store(true, Ordering::Release);
    if CALLS.get() > 0 {
        // A signal's handler has destroyed what this very thread waits in. The last of those calls ends it.
        return;
    }
    loop {
        match Arc::try_unwrap(living) {
            Ok(last) => return drop(last),
            // Then the last of those calls ends it.
            Err(_) if api::has_given_up() => return,
            Err(shared) => living = shared,
        }
        std::thread::sleep(BETWEEN_LOOKS);
    }
}

/// Where the bytes are and what is to become of them: addresses of what is sent and received, elements, type,
/// operation, tag, kind of quantization and its type, address of the residual (0: none). `_reduction.py` checked them.
type Operation = (usize, usize, u64, u8, u8, u64, u8, u8, usize);
/// Name, address, elements, type, may differ.
type StateTensor = (String, usize, u64, u8, bool);
/// Result code, reason, revision, bytes sent and received.
type SyncOutcome = (i32, String, u64, u64, u64);

impl Communicator {
    fn living(&self) -> Result<Arc<Living>> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.clone().ok_or_else(|| usage("this communicator was destroyed"))
    }

    fn blocking<T: Send>(
        &self,
        py: Python<'_>,
        call: impl FnOnce(&api::Communicator) -> Result<T> + Send,
    ) -> PyResult<T> {
        let living = self.living().map_err(failure)?;
        let watched = Arc::downgrade(&living);
        let is_left = move || watched.upgrade().is_none_or(|living| living.leaving.load(Ordering::Acquire));
        let lent = living.clone();
        let outcome = blocking_unless(py, is_left, move || {
            let _in_call = InCall::new();
            call(&lent.comm)
        });
        // The last one ends the communicator, and waits for that: not while the wait is one that gives up.
        py.detach(move || drop(living));
        outcome
    }

    fn started(&self, operation: Operation, kept: &Kept) -> PyResult<api::Work> {
        let (descriptor, tag) = descriptor(operation).map_err(failure)?;
        let buffers = buffers(operation, descriptor, kept).map_err(|e| PyValueError::new_err(e.reason))?;
        self.living()
            .and_then(|living| living.comm.all_reduce_buffers(buffers, descriptor, tag))
            .map_err(failure)
    }
}

#[pymethods]
impl Communicator {
    #[new]
    fn new(address: &str, peer_group: u32, pool: u32) -> PyResult<Communicator> {
        // Who asks for more than there can be gets what there can be.
        let pool = u16::try_from(pool).unwrap_or(u16::MAX).min(MAX_POOL_CONNECTIONS);
        api::log_to_stderr();
        let builder = api::Communicator::builder(address).group(peer_group).pool(pool);
        let inner = builder.build().map_err(failure)?;
        let living = Living { comm: inner, leaving: AtomicBool::new(false) };
        Ok(Communicator { inner: Mutex::new(Some(Arc::new(living))) })
    }

    fn connect(&self, py: Python<'_>) -> PyResult<()> {
        self.blocking(py, api::Communicator::connect)
    }

    fn get_attribute(&self, attribute: i32) -> PyResult<u32> {
        let living = self.living().map_err(failure)?;
        match attribute {
            1 => Ok(living.comm.world_size()),
            2 => Ok(living.comm.group_world_size()),
            3 => Ok(living.comm.num_groups()),
            4 => Ok(living.comm.largest_group()),
            other => Err(failure(invalid(format!("{other} is no attribute")))),
        }
    }

    fn is_connected(&self) -> bool {
        self.living().is_ok_and(|living| living.comm.is_connected())
    }

    fn rank(&self) -> PyResult<u16> {
        Ok(self.living().map_err(failure)?.comm.rank())
    }

    fn peers_pending(&self) -> PyResult<u32> {
        Ok(self.living().map_err(failure)?.comm.peers_pending())
    }

    /// Changes with membership and order.
    fn epoch(&self) -> PyResult<u64> {
        Ok(self.living().map_err(failure)?.comm.epoch().0)
    }

    fn update_topology(&self, py: Python<'_>) -> PyResult<()> {
        self.blocking(py, api::Communicator::update_topology)
    }

    fn are_peers_pending(&self, py: Python<'_>) -> PyResult<bool> {
        self.blocking(py, api::Communicator::are_peers_pending)
    }

    fn optimize_topology(&self, py: Python<'_>) -> PyResult<()> {
        self.blocking(py, api::Communicator::optimize_topology)
    }

    /// `owner` holds the memory, and is kept until the library has let go of it. On an interrupted wait that may be later.
    fn all_reduce(
        &self,
        py: Python<'_>,
        operation: Operation,
        owner: Py<PyAny>,
    ) -> PyResult<(u32, u64, u64)> {
        let kept = Kept::new(owner);
        let work = self.started(operation, &kept)?;
        let info = blocking(py, || work.wait())?;
        kept.release(py);
        Ok((info.group_world_size, info.tx_bytes, info.rx_bytes))
    }

    fn all_reduce_async(&self, operation: Operation, owner: Py<PyAny>) -> PyResult<Work> {
        let kept = Kept::new(owner);
        Ok(Work::new(self.started(operation, &kept)?, kept))
    }

    fn all_reduce_multiple_with_retry(
        &self,
        py: Python<'_>,
        operations: Vec<Operation>,
        max_in_flight: usize,
        owner: Py<PyAny>,
    ) -> PyResult<(u32, u64, u64)> {
        let kept = Kept::new(owner);
        let described = operations.iter().map(|operation| descriptor(*operation)).collect::<Result<Vec<_>>>();
        let described = described.map_err(failure)?;
        for (operation, (descriptor, _)) in operations.iter().zip(&described) {
            // Before anything is started.
            buffers(*operation, *descriptor, &kept).map_err(|e| PyValueError::new_err(e.reason))?;
        }
        let keeps = kept.clone();
        let info = self.blocking(py, move |comm| {
            let buffers = |index: usize| buffers(operations[index], described[index].0, &keeps);
            comm.all_reduce_buffers_with_retry(&described, max_in_flight, buffers)
        })?;
        kept.release(py);
        Ok((info.group_world_size, info.tx_bytes, info.rx_bytes))
    }

    /// Result code, reason, revision, bytes sent and received; and what has become of each tensor.
    fn synchronize(
        &self,
        py: Python<'_>,
        revision: u64,
        strategy: u8,
        is_broken: bool,
        tensors: Vec<StateTensor>,
        owner: Py<PyAny>,
    ) -> PyResult<(SyncOutcome, Vec<&'static str>)> {
        let kept = Kept::new(owner);
        let strategy = SyncStrategy::from_code(strategy)
            .ok_or_else(|| failure(invalid(format!("{strategy} is no strategy"))))?;
        let tensors =
            tensors.into_iter().map(|tensor| state_tensor(tensor, &kept)).collect::<Result<Vec<_>>>();
        let tensors = tensors.map_err(failure)?;
        let (outcome, conditions) = self
            .blocking(py, move |comm| Ok(comm.synchronize_buffers(revision, strategy, is_broken, tensors)))?;
        kept.release(py);
        let outcome = match outcome {
            Ok(info) => (0, String::new(), info.revision, info.tx_bytes, info.rx_bytes),
            Err(error) => (error.kind.code(), error.reason, revision, 0, 0),
        };
        Ok((outcome, conditions.into_iter().map(named).collect()))
    }

    /// On an interrupted wait it goes on leaving by itself.
    fn destroy(&self, py: Python<'_>) -> PyResult<()> {
        let living = self.inner.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(living) = living else { return Ok(()) };
        blocking(py, move || {
            leave(living);
            Ok(())
        })
    }
}

impl Drop for Communicator {
    fn drop(&mut self) {
        let living = self.inner.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        // Python drops it with the interpreter's lock held; leaving the run may take a moment.
        if let Some(living) = living {
            Python::try_attach(|py| py.detach(move || leave(living)));
        }
    }
}

fn dtype_of(code: u8) -> Result<DType> {
    DType::from_code(code).ok_or_else(|| invalid(format!("{code} is no data type")))
}

fn descriptor(operation: Operation) -> Result<(OpDescriptor, Tag)> {
    let (_, _, count, dtype, op, tag, algorithm, quantized, _) = operation;
    let op = ReduceOp::from_code(op).ok_or_else(|| invalid(format!("{op} is no reduce operation")))?;
    let quantization = Quantization::from_codes(algorithm, DType::from_code(quantized))
        .ok_or_else(|| invalid(format!("{algorithm} to {quantized} is no quantization")))?;
    Ok((OpDescriptor { quantization, ..OpDescriptor::plain(count, dtype_of(dtype)?, op) }, Tag(tag)))
}

fn buffers(operation: Operation, descriptor: OpDescriptor, kept: &Kept) -> Result<Buffers> {
    let (send, recv, .., residual) = operation;
    let len = usize::try_from(descriptor.size_bytes()).map_err(|e| invalid(e.to_string()))?;
    // SAFETY: `_reduction.py` has these from `_places.py`, which took address and length from one contiguous object each;
    // `kept` holds those until these buffers are dropped, and the documentation tells the program to leave them alone
    // until then.
    let buffers = unsafe { Buffers::new(send as *const u8, recv as *mut u8, len) };
    let buffers = match residual {
        0 => buffers,
        // SAFETY: as above.
        _ => buffers.and_then(|buffers| unsafe { buffers.with_feedback(residual as *mut u8) }),
    };
    Ok(buffers.map_err(|e| invalid(e.to_string()))?.keeping(kept.clone()))
}

fn state_tensor(
    (name, address, count, dtype, may_differ): StateTensor,
    kept: &Kept,
) -> Result<(TensorKey, Buffers)> {
    let dtype = dtype_of(dtype)?;
    let len = usize::try_from(count).ok().and_then(|count| count.checked_mul(dtype.size_bytes()));
    let len = len.ok_or_else(|| invalid(format!("{name:?}: {count} elements are too many")))?;
    // An empty tensor may lie nowhere.
    let at = if len == 0 { std::ptr::dangling_mut::<u8>() } else { address as *mut u8 };
    // SAFETY: as in `buffers`, where `_state.py` has the address of an object. Of a `TensorInfo` made from an address alone
    // the program vouches for the memory: its documentation says so.
    let buffers = unsafe { Buffers::new(at, at, len) }.map_err(|e| invalid(format!("{name:?}: {e}")))?;
    Ok((TensorKey { name, dtype, count, may_differ }, buffers.keeping(kept.clone())))
}

fn named(condition: Condition) -> &'static str {
    match condition {
        Condition::Kept => "kept",
        Condition::Elected => "elected",
        Condition::Mixed => "mixed",
    }
}
