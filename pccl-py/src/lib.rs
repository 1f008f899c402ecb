//! `pccl._pccl`: the library as the Python sources in `python/pccl` need it. Addresses and numbers come in,
//! checked there; every wait lets other Python threads go on.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pccl_core::api::{self, Buffers, DType, Error, ErrorKind, OpDescriptor, ReduceOp, Result, Tag};
use pyo3::prelude::*;

pyo3::create_exception!(_pccl, Failure, pyo3::exceptions::PyException, "args: (result code, reason)");

const BETWEEN_ATTEMPTS: Duration = Duration::from_secs(1);

fn failure(error: Error) -> PyErr {
    Failure::new_err((error.kind.code(), error.reason))
}

fn invalid(reason: String) -> Error {
    Error::new(ErrorKind::InvalidArgument, reason)
}

#[pyclass(frozen)]
struct Communicator {
    /// `None` once destroyed. Calls under way hold a clone.
    inner: Mutex<Option<Arc<api::Communicator>>>,
}

impl Communicator {
    fn living(&self) -> Result<Arc<api::Communicator>> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.clone().ok_or_else(|| Error::new(ErrorKind::InvalidUsage, "this communicator was destroyed"))
    }

    /// Runs a call that may block, while other Python threads go on.
    fn blocking<T: Send>(
        &self,
        py: Python<'_>,
        call: impl FnOnce(&api::Communicator) -> Result<T> + Send,
    ) -> PyResult<T> {
        let living = self.living().map_err(failure)?;
        py.detach(move || call(&living)).map_err(failure)
    }
}

#[pymethods]
impl Communicator {
    #[new]
    fn new(address: &str, peer_group: u32, pool: u16) -> PyResult<Communicator> {
        let builder = api::Communicator::builder(address).group(peer_group).pool(pool);
        let inner = builder.build().map_err(failure)?;
        Ok(Communicator { inner: Mutex::new(Some(Arc::new(inner))) })
    }

    fn connect(&self, py: Python<'_>, attempts: u32) -> PyResult<()> {
        for left in (0..attempts.max(1)).rev() {
            let outcome = self.living().and_then(|living| py.detach(move || living.connect()));
            match outcome {
                Err(error) if left > 0 && error.kind == ErrorKind::MasterConnectionFailed => {
                    py.detach(|| std::thread::sleep(BETWEEN_ATTEMPTS));
                    py.check_signals()?;
                }
                outcome => return outcome.map_err(failure),
            }
        }
        Ok(())
    }

    fn get_attribute(&self, attribute: i32) -> PyResult<u32> {
        let living = self.living().map_err(failure)?;
        if !living.is_connected() {
            return Err(failure(Error::new(ErrorKind::InvalidUsage, "not connected: call connect first")));
        }
        match attribute {
            1 => Ok(living.world_size()),
            2 => Ok(living.group_world_size()),
            3 => Ok(living.num_groups()),
            4 => Ok(living.largest_group()),
            other => Err(failure(invalid(format!("{other} is no attribute")))),
        }
    }

    fn update_topology(&self, py: Python<'_>) -> PyResult<()> {
        self.blocking(py, api::Communicator::update_topology)
    }

    fn are_peers_pending(&self, py: Python<'_>) -> PyResult<bool> {
        self.blocking(py, api::Communicator::are_peers_pending)
    }

    /// The caller holds the objects whose memory this is, and nobody else touches it, until this returns.
    #[expect(clippy::too_many_arguments, reason = "plain numbers across the border to Python")]
    fn all_reduce(
        &self,
        py: Python<'_>,
        send: usize,
        recv: usize,
        count: u64,
        dtype: u8,
        op: u8,
        tag: u64,
    ) -> PyResult<(u32, u64, u64)> {
        self.blocking(py, move |comm| {
            let dtype = DType::from_code(dtype).ok_or_else(|| invalid(format!("{dtype} is no data type")))?;
            let op =
                ReduceOp::from_code(op).ok_or_else(|| invalid(format!("{op} is no reduce operation")))?;
            let descriptor = OpDescriptor::plain(count, dtype, op);
            let len = usize::try_from(descriptor.size_bytes()).map_err(|e| invalid(e.to_string()))?;
            // SAFETY: `_buffers.operands` took address and length from one contiguous object each, which it keeps
            // alive while this call lasts.
            let buffers = unsafe { Buffers::new(send as *const u8, recv as *mut u8, len) };
            let buffers = buffers.map_err(|e| invalid(e.to_string()))?;
            let info = comm.all_reduce_buffers(buffers, descriptor, Tag(tag))?.wait()?;
            Ok((info.group_world_size, info.tx_bytes, info.rx_bytes))
        })
    }

    fn destroy(&self, py: Python<'_>) -> PyResult<()> {
        let inner = {
            let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            if inner.as_ref().is_some_and(|inner| Arc::strong_count(inner) > 1) {
                let reason = "another thread is in a call of this communicator: wait for it first";
                return Err(failure(Error::new(ErrorKind::InvalidUsage, reason)));
            }
            inner.take()
        };
        py.detach(move || drop(inner));
        Ok(())
    }
}

impl Drop for Communicator {
    fn drop(&mut self) {
        let inner = self.inner.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        // Python drops it with the interpreter's lock held; leaving the run may take a moment.
        if inner.is_some() {
            Python::try_attach(|py| py.detach(move || drop(inner)));
        }
    }
}

#[pyclass(frozen)]
struct Master {
    inner: api::Master,
}

#[pymethods]
impl Master {
    #[new]
    fn new(listen_address: &str) -> PyResult<Master> {
        Ok(Master { inner: api::Master::builder(listen_address).build().map_err(failure)? })
    }

    fn run(&self) -> PyResult<()> {
        self.inner.run().map_err(failure)
    }

    fn address(&self) -> PyResult<String> {
        let not_running = || failure(Error::new(ErrorKind::InvalidUsage, "not running: call run first"));
        self.inner.address().map(|address| address.to_string()).ok_or_else(not_running)
    }

    /// Ends it and waits for that; nothing to do if it never ran.
    fn interrupt(&self, py: Python<'_>) -> PyResult<()> {
        if self.inner.address().is_none() {
            return Ok(());
        }
        py.detach(|| self.inner.interrupt().and_then(|()| self.inner.await_termination())).map_err(failure)
    }
}

#[pymodule]
fn _pccl(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("Failure", module.py().get_type::<Failure>())?;
    module.add_class::<Communicator>()?;
    module.add_class::<Master>()
}
