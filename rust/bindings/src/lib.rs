//! The extension module `ferrows._core`: a thin layer of pyo3 over `ferrows-core`.

mod batch;
mod broadcast;
mod clock;
mod connection;
mod convert;
mod direct;
mod head;
mod inbox;
mod panics;
mod payload;
mod queue;
mod receive;
mod slots;
mod stream;

use pyo3::prelude::*;

/// RFC 6455 framing, RFC 7692 compression, and the hot half of a `Websocket`.
#[pymodule]
mod _core {
    #[pymodule_export]
    use crate::broadcast::broadcast;
    #[pymodule_export]
    use crate::connection::{Connection, apply_mask};
    #[pymodule_export]
    use crate::head::{Head, HeadReader};
    #[pymodule_export]
    use crate::receive::{Receive, Sent};
    #[pymodule_export]
    use crate::stream::MessageStream;

    #[cfg(feature = "panic-injection")]
    #[pymodule_export]
    use crate::panics::_panic_at;

    use super::{Bound, PyModule, PyModuleMethods, PyResult};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        crate::slots::install(module.py())?;
        module.add("OPEN", ferrows_core::State::Open as u8)?;
        module.add("CLOSING", ferrows_core::State::Closing as u8)?;
        module.add("CLOSED", ferrows_core::State::Closed as u8)
    }
}
