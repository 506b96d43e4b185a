//! cloacina: a durable workflow engine that runs inside your program.
//!
//! You write plain `async` functions, connect them into a directed acyclic graph, and run it. No server and no broker
//! is needed: the state is in an SQLite file, or in PostgreSQL if you change the URL. An interrupted execution
//! continues after its completed tasks. Python programs (with the package `cloaca`) can use the same database, and a
//! workflow can have tasks in both languages.
//!
//! # Quick start
//!
//! Run this example with `cargo run --example quickstart`.
//!
#![cfg_attr(feature = "sqlite", doc = "```")]
#![cfg_attr(not(feature = "sqlite"), doc = "```ignore")]
#![doc = include_str!("../examples/quickstart.rs")]
//! ```
//!
//! # Typed tasks
//!
//! A task can also receive values by the names of its parameters, and return its result. Run this example with
//! `cargo run --example orders`.
//!
#![cfg_attr(feature = "sqlite", doc = "```")]
#![cfg_attr(not(feature = "sqlite"), doc = "```ignore")]
#![doc = include_str!("../examples/orders.rs")]
//! ```
//!
//! # Next steps
//!
//! - [`task`](macro@task) and [`workflow!`] define tasks and workflows; their pages list the options and trigger rules.
//! - [`DefaultRunner`] runs workflows. [`WorkflowHandle`] follows and controls one execution; [`WorkflowResult`] holds the
//!   state and outcome of an execution.
//! - [`Context`] holds the values that tasks read and write. A task returns a [`TaskError`] to fail, retry or snooze.
//! - [`DefaultRunner::register_cron_workflow`] starts a workflow at the times of a cron expression; [`CronSchedule`] has
//!   more options.
//! - [`DefaultRunner::tenant`] serves many customers from one PostgreSQL database; [`DatabaseAdmin`] creates their schemas.
//! - [`DefaultRunner::register_external`] runs a task of a workflow that another program, in Rust or Python, defines.
//!
//! # Features
//!
//! - `sqlite` (default): databases in SQLite files and in memory. SQLite is compiled in.
//! - `postgres` (default): PostgreSQL, without libpq or OpenSSL.
//! - `macros` (default): [`task`](macro@task) and [`workflow!`].
//!
//! # Stability
//!
//! The items listed on this page are stable. The crate's modules are public only for the Python package and for tests. They
//! are hidden from this documentation and may change with any release.

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
    ChildRun, ConfigBuilder, Context, DefaultRunner, DefaultRunnerBuilder, ErrorInfo,
    ExecutionError, ExecutionEvent, ExecutionFilter, ExecutionPage, MapItem, MapPage, MapResult,
    Signal, Submission, Task, TaskError, TaskHandle, TaskResult, Wait, WaitFilter, WaitPage,
    Workflow, WorkflowHandle, WorkflowResult,
};
pub use runner::{
    CronSchedule, CronScheduleInfo, CronStats, CronTick, CronTime, StartAfter, cron_preview,
};
pub use runner::{DatabaseAdmin, Tenant, TenantConfig, TenantCredentials};
pub use runtime::RunnerConfig as DefaultRunnerConfig;
pub use types::{
    Backoff, Catchup, Condition, Decided, Error, ErrorCode, ExecutionId, ExecutionStatus, Json,
    JsonError, JsonShape, Overlap, RetryCondition, RetryPolicy, RunnerId, ScheduleId, TaskStatus,
    TickOutcome, Timestamp, WaitKind,
};

#[cfg(feature = "macros")]
pub use cloacina_macros::{task, workflow};

/// The items that expanded macros use.
#[doc(hidden)]
#[cfg(feature = "macros")]
pub mod macro_support {
    pub use crate::runner::{
        Compensation, Context, InputType, OfDecoded, OfResult, ParameterName, ReturnType,
        StaticCheck, TakenType, Task, TaskFuture, TaskHandle, TaskNames, TaskOutput, TaskRun,
        Unknown, ValueOutput, define, parameter, resource, schema_of,
    };
    pub use crate::types::{
        Approval, Backoff, ChildSpec, Condition, Json, MapSpec, ParentEnd, RetryCondition,
        RetryPolicy, Since, Tolerance, WaitEnd,
    };
    pub use crate::workflow::{
        FinalOn, FinalRole, Operator, Output, TaskDefinition, TaskKind, TriggerRule,
        WorkflowDefinition,
    };
}
