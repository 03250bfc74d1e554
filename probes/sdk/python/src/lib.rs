//! The native half of the Python package `perfwatch`.
//!
//! Nothing here raises into a server: what an argument cannot mean is told once through `logging` and then ignored.
//!
//! `argument` reads what Python passes; `server`, `request`, `histogram` are a class each; `current` is the request of a
//! thread or task; `fork` knows in which process a server was used; `told` is the log.

mod argument;
mod current;
mod fork;
mod histogram;
mod request;
mod server;
mod told;

use pyo3::prelude::*;

/// The native half of `perfwatch`; import that.
#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    fork::watch(module.py())?;
    module.add_class::<server::Server>()?;
    module.add_class::<request::Request>()?;
    module.add_class::<request::StageScope>()?;
    module.add_class::<current::StageOfCurrent>()?;
    module.add_class::<histogram::Histogram>()?;
    module.add_class::<histogram::Timer>()?;
    module.add_function(wrap_pyfunction!(current::current, module)?)?;
    module.add_function(wrap_pyfunction!(told::tell, module)?)?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))
}
