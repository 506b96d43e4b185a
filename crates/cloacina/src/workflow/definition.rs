//! A workflow's definition: the data that is stored once per version, and the validated `Workflow` around it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Graph, TriggerRule, fingerprint, queue, validate};
use crate::types::{Error, ErrorCode, Json, Micros, Ordinal, RetryPolicy};

/// Who executes a task: what decides which queue its claims come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskKind {
    /// A function that occupies a worker thread.
    #[default]
    Sync,
    /// A coroutine or future.
    Async,
    /// A task whose handler another program has.
    External,
}

/// One task of a workflow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TaskDefinition {
    /// Its short id, unique in the workflow.
    pub id: String,
    /// Ids of the tasks that must end first, as declared.
    #[serde(default)]
    pub dependencies: Vec<String>,
    /// The condition to start.
    #[serde(default)]
    pub rule: TriggerRule,
    /// When and how often it is tried again.
    #[serde(default)]
    pub retry: RetryPolicy,
    /// Limit of one attempt in microseconds; none means the runner's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Micros>,
    /// Overrides the execution's priority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i16>,
    /// Overrides the runner's limit of one delta in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_context_bytes: Option<u64>,
    /// Who executes it.
    #[serde(default)]
    pub kind: TaskKind,
    /// A hash of its code.
    #[serde(default)]
    pub fingerprint: String,
}

/// A workflow as data.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WorkflowDefinition {
    /// Its name.
    pub name: String,
    /// First part of the full task names.
    #[serde(default = "default_tenant")]
    pub tenant: String,
    /// Second part of the full task names.
    #[serde(default = "default_package")]
    pub package: String,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// For people and filters.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// Its tasks in declaration order.
    pub tasks: Vec<TaskDefinition>,
}

impl WorkflowDefinition {
    /// Writes the full names of its own tasks, where dependencies and rules have them, as short ids.
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
    /// Validates a definition (semantics A1, A2).
    ///
    /// # Errors
    /// The first rule that the definition breaks, with the culprit and a hint.
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

    /// The data.
    #[must_use]
    pub const fn definition(&self) -> &WorkflowDefinition {
        &self.definition
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.definition.name
    }

    /// Sixteen hex characters over all that changes what the workflow does (semantics A4).
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Dependencies, order and levels.
    #[must_use]
    pub const fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The task of an ordinal.
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

    /// Never true: an empty workflow is refused.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.definition.tasks.is_empty()
    }

    /// The ordinal of a task's short or full id.
    #[must_use]
    pub fn ordinal(&self, id: &str) -> Option<Ordinal> {
        self.graph.ordinal(id).or_else(|| {
            let prefix = self.full_name("");
            id.strip_prefix(prefix.as_str())
                .and_then(|short| self.graph.ordinal(short))
        })
    }

    /// `tenant::package::workflow::task`.
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

    /// The JSON text that the databases keep.
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
