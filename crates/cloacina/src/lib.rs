//! cloacina: a durable workflow engine that lives inside the program that uses it.
//!
//! You write plain `async` functions, join them into a DAG, and run it. There is no server and no broker: the state is in
//! an SQLite file, or in PostgreSQL by a change of the URL, and a run that was interrupted continues from its finished
//! tasks. Programs in Python (the package `cloaca`) share the database, and one workflow may hold tasks of both languages.
//!
//! # Quick start
//!
//! This is the example `quickstart`: `cargo run --example quickstart`.
//!
#![cfg_attr(feature = "sqlite", doc = "```")]
#![cfg_attr(not(feature = "sqlite"), doc = "```ignore")]
#![doc = include_str!("../examples/quickstart.rs")]
//! ```
//!
//! # Where to go on
//!
//! - [`task`](macro@task) and [`workflow!`] define; their options and rules are there.
//! - [`DefaultRunner`] runs; [`WorkflowHandle`] follows and controls one execution; [`WorkflowResult`] tells how it went.
//! - [`Context`] is what tasks read and write; [`TaskError`] is how they fail, retry and snooze.
//! - [`DefaultRunner::register_cron_workflow`] starts a workflow at the times of a cron expression; [`CronSchedule`] has
//!   more options.
//! - [`DefaultRunner::tenant`] serves many customers from one PostgreSQL database; [`DatabaseAdmin`] makes their schemas.
//! - [`DefaultRunner::register_external`] runs a task of a workflow that another program defines, in Rust or in Python.
//!
//! # Features
//!
//! - `sqlite` (default): databases in SQLite files and in memory. SQLite is compiled in.
//! - `postgres` (default): PostgreSQL, without libpq or OpenSSL.
//! - `macros` (default): [`task`](macro@task) and [`workflow!`].
//!
//! # What is stable
//!
//! What is listed on this page. The modules behind it are reachable for the Python package and for tests; they are hidden
//! from these pages and may change with any release.

#![deny(missing_docs)]

#[doc(hidden)]
pub mod engine;
#[doc(hidden)]
pub mod runner;
#[doc(hidden)]
pub mod runtime;
#[doc(hidden)]
pub mod store;
#[doc(hidden)]
pub mod types;
#[doc(hidden)]
pub mod workflow;

pub use runner::{
    ConfigBuilder, Context, DefaultRunner, DefaultRunnerBuilder, ErrorInfo, ExecutionError,
    ExecutionEvent, ExecutionFilter, ExecutionPage, Submission, Task, TaskError, TaskHandle,
    TaskResult, Workflow, WorkflowHandle, WorkflowResult,
};
pub use runner::{CronSchedule, CronScheduleInfo, CronStats, CronTick, CronTime, cron_preview};
pub use runner::{DatabaseAdmin, Tenant, TenantConfig, TenantCredentials};
pub use runtime::RunnerConfig as DefaultRunnerConfig;
pub use types::{
    Catchup, Error, ErrorCode, ExecutionId, ExecutionStatus, Json, JsonError, JsonShape, Overlap,
    RunnerId, ScheduleId, TaskStatus, TickOutcome, Timestamp,
};

#[cfg(feature = "macros")]
pub use cloacina_macros::{task, workflow};

/// What the macros expand to.
#[doc(hidden)]
#[cfg(feature = "macros")]
pub mod macro_support {
    pub use crate::runner::{
        Context, Task, TaskFuture, TaskHandle, TaskOutline, TaskOutput, TaskRun, WorkflowOutline,
        define,
    };
    pub use crate::types::{Backoff, Json, RetryCondition, RetryPolicy};
    pub use crate::workflow::{
        Operator, TaskDefinition, TaskKind, TriggerRule, WorkflowDefinition,
    };
}
