//! Views of workflow definitions and statistics.

use std::collections::BTreeMap;

use cloacina::ExecutionStatus;
use cloacina::runner::ListedExecution;
use cloacina::workflow::{TaskDefinition, TaskKind, Workflow};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{raw, time};
use crate::problem::Problem;

/// A workflow, as one version defines it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WorkflowSummary {
    /// The name.
    name: String,
    /// The version; in a list, the newest version.
    version: String,
    /// The description.
    description: String,
    /// The tags.
    tags: BTreeMap<String, String>,
    /// The number of tasks.
    tasks: usize,
    /// The number of stored versions.
    versions: usize,
}

impl WorkflowSummary {
    pub(crate) fn new(workflow: &Workflow, versions: usize) -> Self {
        let definition = workflow.definition();
        Self {
            name: workflow.name().to_owned(),
            version: workflow.version().to_owned(),
            description: definition.description.clone(),
            tags: definition.tags.clone(),
            tasks: workflow.len(),
            versions,
        }
    }
}

/// A task of a definition.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DefinedTask {
    /// The id.
    id: String,
    /// The tasks that must end before this task can start.
    dependencies: Vec<String>,
    /// How the task is executed: sync, async, external or engine.
    kind: &'static str,
    /// The maximum number of attempts.
    max_attempts: u32,
    /// The maximum duration of an attempt, in microseconds.
    timeout_us: Option<i64>,
    /// The task's own priority; null if the priority of the execution applies.
    priority: Option<i16>,
    /// A hash of the function's code.
    fingerprint: String,
}

impl DefinedTask {
    fn new(task: &TaskDefinition) -> Self {
        Self {
            id: task.id.clone(),
            dependencies: task.dependencies.clone(),
            kind: match task.kind {
                TaskKind::Sync => "sync",
                TaskKind::Async => "async",
                TaskKind::External => "external",
                TaskKind::Engine => "engine",
            },
            max_attempts: task.retry.max_attempts,
            timeout_us: task.timeout,
            priority: task.priority,
            fingerprint: task.fingerprint.clone(),
        }
    }
}

/// A version of a workflow.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WorkflowView {
    #[serde(flatten)]
    summary: WorkflowSummary,
    /// The stored versions, oldest first.
    all_versions: Vec<String>,
    /// The tasks, in the order of their declaration.
    defined_tasks: Vec<DefinedTask>,
    /// The JSON schema of the input; null if the workflow declares none.
    #[schema(value_type = Option<serde_json::Value>)]
    input_schema: Option<Box<RawValue>>,
}

impl WorkflowView {
    pub(crate) fn new(workflow: &Workflow, all_versions: Vec<String>) -> Result<Self, Problem> {
        let tasks = workflow.definition().tasks.iter();
        let schema = workflow.definition().input.as_ref();
        Ok(Self {
            summary: WorkflowSummary::new(workflow, all_versions.len()),
            all_versions,
            defined_tasks: tasks.map(DefinedTask::new).collect(),
            input_schema: schema
                .map(|schema| raw(schema.as_str().to_owned()))
                .transpose()?,
        })
    }
}

/// Statistics of the last executions of a workflow.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WorkflowStats)]
pub(crate) struct StatsView {
    /// The number of executions that the statistics cover.
    executions: usize,
    /// The number of these executions in each state.
    states: BTreeMap<String, usize>,
    /// The durations of the completed executions; null if none has completed.
    duration: Option<DurationsView>,
    /// The share of failed executions among the ended executions, from 0 to 1; null if no execution has ended.
    failure_rate: Option<f64>,
    /// When the oldest of these executions was submitted.
    #[schema(format = DateTime)]
    since: Option<String>,
    /// The executions, newest first.
    runs: Vec<RunView>,
}

/// The distribution of durations, in microseconds.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Durations)]
#[expect(
    clippy::struct_field_names,
    reason = "the API names the unit of each duration"
)]
struct DurationsView {
    /// The shortest duration.
    min_us: i64,
    /// The median: half of the executions took at most this long.
    median_us: i64,
    /// The 95th percentile: 95 % of the executions took at most this long.
    p95_us: i64,
    /// The longest duration.
    max_us: i64,
}

/// An execution that the statistics of a workflow cover.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Run)]
struct RunView {
    /// The id of the execution.
    id: String,
    /// The state of the execution.
    status: String,
    /// When the execution was submitted.
    #[schema(format = DateTime)]
    created_at: String,
    /// The time from the start of the first task to the end of the execution, in microseconds.
    duration_us: Option<i64>,
}

impl StatsView {
    /// Computes the statistics of the given executions. The newest execution must come first.
    pub(crate) fn new(items: &[ListedExecution]) -> Self {
        let duration = |item: &ListedExecution| Some(item.ended_at?.since(item.started_at?));
        let count =
            |status: ExecutionStatus| items.iter().filter(|item| item.status == status).count();
        let states = ExecutionStatus::ALL
            .iter()
            .map(|status| (status.name().to_owned(), count(*status)));
        let completed = items
            .iter()
            .filter(|item| item.status == ExecutionStatus::Completed);
        let mut durations: Vec<i64> = completed.filter_map(duration).collect();
        durations.sort_unstable();
        let ended = items
            .iter()
            .filter(|item| item.status.is_terminal())
            .count();
        #[expect(
            clippy::cast_precision_loss,
            reason = "there are at most 200 executions"
        )]
        let rate = count(ExecutionStatus::Failed) as f64 / ended.max(1) as f64;
        Self {
            executions: items.len(),
            states: states.filter(|(_, count)| *count > 0).collect(),
            duration: DurationsView::of(&durations),
            failure_rate: (ended > 0).then_some(rate),
            since: items.last().map(|item| time(item.created_at)),
            runs: items
                .iter()
                .map(|item| RunView {
                    id: item.id.to_string(),
                    status: item.status.name().to_owned(),
                    created_at: time(item.created_at),
                    duration_us: duration(item),
                })
                .collect(),
        }
    }
}

impl DurationsView {
    /// Returns the distribution of durations, which must be in ascending order; `None` if there are no durations.
    fn of(durations: &[i64]) -> Option<Self> {
        let (first, last) = (durations.first()?, durations.last()?);
        // Computes percentiles by the nearest-rank method.
        let at = |percent: usize| {
            let rank = (durations.len() * percent).div_ceil(100).max(1);
            durations.get(rank - 1).copied().unwrap_or(*last)
        };
        Some(Self {
            min_us: *first,
            median_us: at(50),
            p95_us: at(95),
            max_us: *last,
        })
    }
}
