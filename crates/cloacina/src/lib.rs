//! cloacina: a durable workflow engine that lives inside the program that uses it.
//!
//! You write plain `async` functions, connect them to a DAG, and run it. There is no server and no broker: the state is in
//! an SQLite file, or in PostgreSQL if you change the URL, and an interrupted execution continues after its completed tasks.
//! Programs in Python (the package `cloaca`) can share the database, and a workflow can have tasks in both languages.
//!
//! # Quick start
//!
//! This is the example `quickstart`; run it with `cargo run --example quickstart`.
//!
#![cfg_attr(feature = "sqlite", doc = "```")]
#![cfg_attr(not(feature = "sqlite"), doc = "```ignore")]
#![doc = include_str!("../examples/quickstart.rs")]
//! ```
//!
//! # Typed tasks
//!
//! A task can also take values by name and return its result. This is the example `orders`.
//!
#![cfg_attr(feature = "sqlite", doc = "```")]
#![cfg_attr(not(feature = "sqlite"), doc = "```ignore")]
#![doc = include_str!("../examples/orders.rs")]
//! ```
//!
//! # Next steps
//!
//! - [`task`](macro@task) and [`workflow!`] define tasks and workflows; their pages list the options and trigger rules.
//! - [`DefaultRunner`] runs workflows. [`WorkflowHandle`] follows and controls one execution; [`WorkflowResult`] is its
//!   state and outcome.
//! - [`Context`] holds the values that tasks read and write; with a [`TaskError`] a task fails, retries or snoozes.
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
//! The items listed on this page are stable. The modules behind them are public only for the Python package and for tests;
//! they are hidden from this documentation and may change with any release.

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
    Backoff, Catchup, Condition, Error, ErrorCode, ExecutionId, ExecutionStatus, Json, JsonError,
    JsonShape, Overlap, RetryCondition, RetryPolicy, RunnerId, ScheduleId, TaskStatus, TickOutcome,
    Timestamp, WaitKind,
};

#[cfg(feature = "macros")]
pub use cloacina_macros::{task, workflow};

/// The items that the expansion of the macros uses.
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
