//! The Python module `cloaca._core`: it converts values, maps errors and hands tasks over. No policy lives here.

mod context;
mod decoding;
mod encoding;
mod errors;
mod execution;
mod gate;
mod handover;
mod insight;
mod inspector;
mod logs;
mod poll;
mod port;
mod request;
mod runner;
mod schedules;
mod settings;
mod supervision;
mod tenants;
mod testing;
mod waiting;
mod work;
mod workflow;

use cloacina::types::{self, Clock, SystemClock};
use pyo3::prelude::*;

/// The time in microseconds since the Unix epoch.
#[pyfunction]
fn now_us() -> i64 {
    SystemClock.now().0
}

/// The known word nearest to what was typed, when it is near enough to be meant.
#[pyfunction]
#[expect(
    clippy::needless_pass_by_value,
    reason = "arguments of Python come as values"
)]
fn nearest(typed: &str, known: Vec<String>) -> Option<String> {
    types::nearest(typed, known.iter().map(String::as_str)).map(str::to_owned)
}

#[pymodule(gil_used = false)]
mod _core {
    use pyo3::prelude::*;
    use pyo3::types::PyTuple;

    #[pymodule_export]
    use super::{
        context::Context,
        encoding::set_encoder,
        errors::set_exceptions,
        execution::Execution,
        gate::after_fork_child,
        inspector::{Inspector, schema_state},
        nearest, now_us,
        poll::Poll,
        port::Port,
        runner::Runner,
        schedules::Schedules,
        schedules::cron_preview,
        tenants::DatabaseAdmin,
        tenants::check_tenant,
        testing::{Bench, BenchRunner},
        work::Work,
        workflow::Workflow,
    };

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("Outcome", module.py().get_type::<PyTuple>())?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
