//! A workflow's definition: the data stored once per version, and `Workflow`, its validated form.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Graph, TriggerRule, fingerprint, queue, validate};
use crate::types::{Error, ErrorCode, Json, Micros, Ordinal, RetryPolicy};

/// The kind of worker that executes a task. It decides which queue the task waits in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskKind {
    /// A function that occupies a worker thread.
    #[default]
    Sync,
    /// A coroutine or future.
    Async,
    /// A task whose handler is in another program.
    External,
}

/// One task of a workflow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TaskDefinition {
    /// The task's short id, unique in the workflow.
    pub id: String,
    /// Ids of the tasks that must have ended before it starts, as declared.
    #[serde(default)]
    pub dependencies: Vec<String>,
    /// The condition under which it starts.
    #[serde(default)]
    pub rule: TriggerRule,
    /// The retry policy.
    #[serde(default)]
    pub retry: RetryPolicy,
    /// Maximum duration of one attempt, in microseconds; `None` means the runner's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Micros>,
    /// Overrides the priority of the execution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i16>,
    /// Overrides the runner's limit on what one attempt may write to the context, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_context_bytes: Option<u64>,
    /// The kind of worker that executes it.
    #[serde(default)]
    pub kind: TaskKind,
    /// A hash of the function's code.
    #[serde(default)]
    pub fingerprint: String,
}

/// A workflow as data.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WorkflowDefinition {
    /// The workflow's name.
    pub name: String,
    /// First part of the full task names.
    #[serde(default = "default_tenant")]
    pub tenant: String,
    /// Second part of the full task names.
    #[serde(default = "default_package")]
    pub package: String,
    /// A description for users.
    #[serde(default)]
    pub description: String,
    /// Tags, which listings can filter by.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// The tasks in declaration order.
    pub tasks: Vec<TaskDefinition>,
}

impl WorkflowDefinition {
    /// Replaces full names of the workflow's own tasks in dependencies and rules by short ids.
    fn shorten_names(&mut self) {
        let prefix = format!("{}::{}::{}::", self.tenant, self.package, self.name);
        let shorten = |name: &mut String| {
            if let Some(short) = name.strip_prefix(&prefix) {
                *name = short.to_owned();
            }
        };
        for task in &mut self.tasks {
            task.dependencies.iter_mut().for_each(shorten);
            task.rule.rename_tasks(&shorten);
        }
    }
}

fn default_tenant() -> String {
    "public".to_owned()
}

fn default_package() -> String {
    "embedded".to_owned()
}

/// A valid workflow: its definition, version and graph.
#[derive(Debug)]
pub struct Workflow {
    definition: WorkflowDefinition,
    version: String,
    graph: Graph,
    queues: Vec<i64>,
    stored: Json,
}

impl Workflow {
    /// Validates a definition (semantics A1, A2) and builds its graph.
    ///
    /// # Errors
    /// `WorkflowInvalid` or `TaskInvalid` for the first rule that the definition breaks. The message names the task.
    pub fn new(mut definition: WorkflowDefinition) -> Result<Self, Error> {
        validate::check_rule_depths(&definition)?;
        definition.shorten_names();
        validate::check(&definition)?;
        let graph = Graph::build(&definition)?;
        let version = fingerprint::version(&definition);
        let stored = Json::encode(&definition).map_err(|error| {
            Error::new(
                ErrorCode::WorkflowInvalid,
                format!("workflow '{}' cannot be stored: {error}", definition.name),
            )
        })?;
        let queues = queue::numbers(&definition.name, &definition.tasks);
        Ok(Self {
            definition,
            version,
            graph,
            queues,
            stored,
        })
    }

    /// The definition.
    #[must_use]
    pub const fn definition(&self) -> &WorkflowDefinition {
        &self.definition
    }

    /// The workflow's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.definition.name
    }

    /// The version: sixteen hex characters that change with everything that affects what the workflow does (semantics A4).
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The graph: dependencies, topological order and levels.
    #[must_use]
    pub const fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The task with an ordinal.
    #[must_use]
    pub fn task(&self, ordinal: Ordinal) -> &TaskDefinition {
        &self.definition.tasks[ordinal as usize]
    }

    /// The number of the queue that a task waits in while it is ready.
    #[must_use]
    pub fn queue(&self, ordinal: Ordinal) -> i64 {
        self.queues[ordinal as usize]
    }

    /// Number of tasks.
    #[must_use]
    pub fn len(&self) -> usize {
        self.definition.tasks.len()
    }

    /// Always `false`: `new` refuses an empty workflow.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.definition.tasks.is_empty()
    }

    /// The ordinal of a task, by its short or its full id.
    #[must_use]
    pub fn ordinal(&self, id: &str) -> Option<Ordinal> {
        self.graph.ordinal(id).or_else(|| {
            let prefix = self.full_name("");
            id.strip_prefix(prefix.as_str())
                .and_then(|short| self.graph.ordinal(short))
        })
    }

    /// The full name of a task: `tenant::package::workflow::task`.
    #[must_use]
    pub fn full_name(&self, task: &str) -> String {
        let WorkflowDefinition {
            tenant,
            package,
            name,
            ..
        } = &self.definition;
        format!("{tenant}::{package}::{name}::{task}")
    }

    /// The JSON text that is stored in the database.
    #[must_use]
    pub const fn stored(&self) -> &Json {
        &self.stored
    }
}

impl PartialEq for Workflow {
    fn eq(&self, other: &Self) -> bool {
        self.definition == other.definition
    }
}
