//! `pccl._pccl`: the library as the Python sources in `python/pccl` need it. Addresses and numbers come in,
//! checked there; every wait lets other Python threads go on, and ends when a signal's handler raises.

mod command;
mod communicator;
mod dlpack;
mod failure;
mod kept;
mod master;
mod wait;
mod work;

use pyo3::prelude::*;

#[pymodule]
fn _pccl(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("Failure", module.py().get_type::<failure::Failure>())?;
    module.add_class::<communicator::Communicator>()?;
    module.add_class::<master::Master>()?;
    module.add_class::<work::Work>()?;
    module.add_function(wrap_pyfunction!(command::command, module)?)?;
    module.add_function(wrap_pyfunction!(dlpack::dlpack, module)?)?;
    module.add_function(wrap_pyfunction!(wait::pause, module)?)
}
