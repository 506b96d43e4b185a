//! The Python module `cloaca._core`: it converts values, maps errors and passes tasks to Python. It makes no decisions.

mod blocked_waits;
mod call;
mod comparing;
mod content;
mod context;
mod context_arguments;
mod decoding;
mod encoding;
mod errors;
mod event_classes;
mod events;
mod execution;
mod failure_limit;
mod inspector;
mod listing;
mod log_record;
mod logs;
mod loop_waker;
mod outcome;
mod parts;
mod poll;
mod process_guard;
mod reads;
mod record;
mod records;
mod reports;
mod requests;
mod rerun;
mod retry;
mod runner;
mod schedule_dict;
mod schedules;
mod settings;
mod signals;
mod steps;
mod tenants;
mod testing;
mod waiting;
mod web;
mod work;
mod worker;
mod workflow;

use cloacina::types::{self, Clock, SystemClock};
use pyo3::prelude::*;

/// Returns the time in microseconds since the Unix epoch.
#[pyfunction]
fn now_us() -> i64 {
    SystemClock.now().0
}

/// Returns the known word that is most similar to a typed word, or `None` if no word is similar.
#[pyfunction]
#[expect(
    clippy::needless_pass_by_value,
    reason = "PyO3 passes arguments by value"
)]
fn nearest(typed: &str, known: Vec<String>) -> Option<String> {
    types::nearest(typed, known.iter().map(String::as_str)).map(str::to_owned)
}

#[pymodule(gil_used = false)]
mod _core {
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::{
        context::Context,
        encoding::encode_plain,
        encoding::set_encoder,
        errors::set_exceptions,
        event_classes::{
            ExecutionEnded, InterruptWorker, LogRecord, LoopWanted, SuperviseTimeout, WorkerWanted,
        },
        execution::{Execution, Failure, TaskRecord},
        inspector::{Inspector, schema_state},
        listing::ListFilter,
        loop_waker::{AnsweredStep, AnsweredSubmission, EndedSubscription, LoopWaker},
        nearest, now_us,
        outcome::Outcome,
        poll::Poll,
        process_guard::after_fork_child,
        reads::Reads,
        records::{
            BenchLoad, DatabaseHealth, EventRecord, ExecutionPage, FireTime, LogLineRecord,
            ProgressRecord, ProgressReport, RunnerRecord, SchemaState, StoredWorkflow, Submitted,
            TenantCredentials, TenantRecord, TickCounts, TickRecord, WorkLoad,
        },
        requests::{SubmitRequest, TaskHandler},
        rerun::RerunRequest,
        retry::{retry_delay_us, should_retry},
        runner::Runner,
        schedules::{Schedules, cron_preview},
        signals::{SentSignal, WaitPage, WaitRecord},
        steps::StepLog,
        tenants::{DatabaseAdmin, check_tenant},
        testing::{Bench, BenchRunner},
        web::{WebAccess, WebExchange, WebLog, WebOptions, WebServer, WebService},
        work::Work,
        worker::CancelNotice,
        workflow::Workflow,
    };

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        // Python's format for a pre-release is "1.0.0a1".
        let version = env!("CARGO_PKG_VERSION")
            .replace("-alpha.", "a")
            .replace("-beta.", "b")
            .replace("-rc.", "rc");
        module.add("__version__", version)
    }
}
