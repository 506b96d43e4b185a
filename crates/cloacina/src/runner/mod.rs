//! The public API: opens a database, registers workflows, and submits, follows and controls executions.

mod async_engine;
mod builder;
mod context;
mod cron_methods;
mod cron_schedule;
mod database_admin;
mod default_runner;
mod definition;
mod describe;
mod engine_handle;
mod explain;
mod exposition;
mod insight;
mod inspector;
mod inspector_changes;
mod listing;
mod open;
mod open_options;
mod schedules;
mod scheduling;
mod short_id;
mod static_check;
mod submission;
mod subscriptions;
mod task;
mod task_error;
mod tenant_group;
mod tenants;
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
pub use engine_handle::EngineHandle;
pub use inspector::{Access, Inspector, RunnerView};
pub use listing::{ListFilter, ListPage};
pub use open::{SchemaVersions, schema_versions};
pub use open_options::{Begin, OpenOptions};
pub use schedules::TickCounts;
pub use short_id::ShortId;
pub use static_check::StaticCheck;
pub use submission::{ExecutionFilter, ExecutionPage, Submission};
pub use task::{Task, TaskFuture, TaskHandle, TaskNames, TaskOutput, TaskRun};
pub use task_error::TaskError;
pub use workflow_handle::{WorkflowHandle, did_cancel};
pub use workflow_result::{ErrorInfo, ExecutionError, ExecutionEvent, TaskResult, WorkflowResult};
