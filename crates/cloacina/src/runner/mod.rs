//! The public facade: open a database, register workflows, submit, follow, control.

mod builder;
mod context;
mod cron_methods;
mod cron_schedule;
mod database_admin;
mod default_runner;
mod definition;
mod describe;
mod engine_handle;
mod exposition;
mod family;
mod history;
mod insight;
mod inspector;
mod opening;
mod outline;
mod schedules;
mod scheduling;
mod submission;
mod task;
mod task_error;
mod workflow_handle;
mod workflow_result;

pub use builder::{ConfigBuilder, DefaultRunnerBuilder};
pub use context::Context;
pub use cron_schedule::{
    CronSchedule, CronScheduleInfo, CronStats, CronTick, CronTime, cron_preview,
};
pub use database_admin::{DatabaseAdmin, Tenant, TenantConfig, TenantCredentials};
pub use default_runner::DefaultRunner;
pub use definition::{Workflow, define};
pub use describe::{to_dot, to_mermaid};
pub use engine_handle::{EngineHandle, ListFilter, OpenOptions, Page};
pub use history::history_of;
pub use inspector::{Access, Inspector, RunnerView};
pub use opening::{SchemaVersions, schema_versions};
pub use outline::WorkflowOutline;
pub use schedules::TickCounts;
pub use submission::{ExecutionFilter, ExecutionPage, Submission};
pub use task::{Task, TaskFuture, TaskHandle, TaskOutline, TaskOutput, TaskRun};
pub use task_error::TaskError;
pub use workflow_handle::WorkflowHandle;
pub use workflow_result::{ErrorInfo, ExecutionError, ExecutionEvent, TaskResult, WorkflowResult};
