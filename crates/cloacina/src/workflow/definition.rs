//! A workflow's definition (the data that is stored once per version), and `Workflow`, the validated form of a definition.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    FinalRole, Graph, Output, Parameter, TriggerRule, finale, fingerprint, needs, queue, validate,
    validate_children, validate_maps, validate_values, validate_waits,
};
use crate::types::{
    Approval, ChildSpec, Condition, Error, ErrorCode, Json, MapSpec, Micros, Ordinal, RetryPolicy,
    WaitEnd,
};

/// The kind of worker that runs a task. It decides in which queue the task waits.
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
    /// A node without a function: a wait, an approval or a child. Any runner completes it.
    Engine,
}

/// One task of a workflow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TaskDefinition {
    /// The task's short id, unique in the workflow.
    pub id: String,
    /// The declared dependencies: the ids of the tasks that must end before this task starts.
    #[serde(default)]
    pub dependencies: Vec<String>,
    /// The condition under which the task starts.
    #[serde(default)]
    pub rule: TriggerRule,
    /// The retry policy.
    #[serde(default)]
    pub retry: RetryPolicy,
    /// Maximum duration of one attempt, in microseconds; `None` means the runner's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Micros>,
    /// The priority of the task; `None` means the priority of the execution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i16>,
    /// Maximum number of bytes that one attempt can write to the context; `None` means the runner's setting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_context_bytes: Option<u64>,
    /// The kind of worker that runs the task.
    #[serde(default)]
    pub kind: TaskKind,
    /// A hash of the function's code.
    #[serde(default)]
    pub fingerprint: String,
    /// The context key under which the function's return value is stored (J3). `None`: the function writes the context
    /// itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// The resolved parameters of a typed task (J1).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<Parameter>,
    /// The condition that the task waits for, after its dependencies have ended and its trigger rule holds (semantics L).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_for: Option<Condition>,
    /// Maximum time that the task waits for this condition or for its approval, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_timeout: Option<Micros>,
    /// The action of the task when the wait times out.
    #[serde(default, skip_serializing_if = "WaitEnd::is_fail")]
    pub on_timeout: WaitEnd,
    /// The options of the approval that the node waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,
    /// The workflow that the node runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub child: Option<ChildSpec>,
    /// The role of a final task or a compensation. The role decides when the task runs. `None`: an ordinary task (semantics Q).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<FinalRole>,
    /// The options of a mapped task, which runs once per element of a list (semantics K).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over: Option<MapSpec>,
}

/// The definition of a workflow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WorkflowDefinition {
    /// The workflow's name.
    pub name: String,
    /// The first part of the full task names.
    #[serde(default = "default_tenant")]
    pub tenant: String,
    /// The second part of the full task names.
    #[serde(default = "default_package")]
    pub package: String,
    /// A description for users.
    #[serde(default)]
    pub description: String,
    /// The tags, by which a list of executions can be filtered.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// The tasks in declaration order.
    pub tasks: Vec<TaskDefinition>,
    /// The JSON schema of the input (J5).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Json>,
    /// The keys of the values that form the output (J8). `None`: the output is the final context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Output>,
    /// The mechanisms, such as waits or maps, that a release must have in order to run the workflow.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<String>,
    /// The signals that cancel an execution.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cancel_on: Vec<Condition>,
    /// The final tasks and the compensations, which run after an execution has ended (semantics Q). A compensation has the id
    /// of the task that it undoes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub finals: Vec<TaskDefinition>,
    /// Set in a derived workflow: the name of the workflow whose final tasks it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub final_of: Option<String>,
}

impl WorkflowDefinition {
    /// Replaces the full names of the workflow's tasks with their short ids, wherever a task refers to another task.
    fn shorten_names(&mut self) {
        let prefix = format!("{}::{}::{}::", self.tenant, self.package, self.name);
        let shorten = |name: &mut String| {
            if let Some(short) = name.strip_prefix(&prefix) {
                *name = short.to_owned();
            }
        };
        for task in self.tasks.iter_mut().chain(&mut self.finals) {
            if let Some(FinalRole::Final { undoes, .. }) = &mut task.role {
                undoes.iter_mut().for_each(shorten);
            }
            task.dependencies.iter_mut().for_each(shorten);
            task.rule.rename_tasks(&shorten);
            let parameters = task.parameters.iter_mut();
            parameters
                .filter_map(|parameter| parameter.task.as_mut())
                .for_each(shorten);
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
    /// The aligned maps, as pairs of the source and the aligned map. A map comes after its source.
    alignments: Vec<(Ordinal, Ordinal)>,
    stored: Json,
    finals: Option<Arc<Workflow>>,
}

impl Workflow {
    /// Validates a definition (semantics A1, A2, J6) and builds its graph. Does not check whether this release has the
    /// mechanisms that the workflow needs: see [`check_needs`](Self::check_needs).
    ///
    /// # Errors
    /// Returns `WorkflowInvalid` or `TaskInvalid` for the first rule that the definition breaks. The message names the
    /// workflow, and the task at fault if there is one.
    pub fn new(mut definition: WorkflowDefinition) -> Result<Self, Error> {
        validate::check_rule_depths(&definition)?;
        definition.shorten_names();
        needs::complete(&mut definition);
        validate::check(&definition)?;
        validate_values::check(&definition)?;
        validate_waits::check(&definition)?;
        validate_children::check(&definition)?;
        finale::check(&definition)?;
        validate_maps::check(&definition)?;
        let graph = Graph::build(&definition)?;
        let finals = if definition.finals.is_empty() {
            None
        } else {
            Some(Arc::new(Self::new(finale::derive(&definition, &graph))?))
        };
        let version = fingerprint::version(&definition);
        let stored = Json::encode(&definition).map_err(|error| {
            Error::new(
                ErrorCode::WorkflowInvalid,
                format!("workflow '{}' cannot be stored: {error}", definition.name),
            )
        })?;
        let queues = queue::numbers(&definition.name, &definition.tasks);
        let alignments = validate_maps::alignments(&definition, &graph);
        Ok(Self {
            definition,
            version,
            graph,
            queues,
            alignments,
            stored,
            finals,
        })
    }

    /// Returns the definition.
    #[must_use]
    pub const fn definition(&self) -> &WorkflowDefinition {
        &self.definition
    }

    /// Returns the derived workflow that runs the final tasks and compensations, if the workflow has any (semantics Q).
    #[must_use]
    pub const fn finals(&self) -> Option<&Arc<Self>> {
        self.finals.as_ref()
    }

    /// Returns the workflow's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.definition.name
    }

    /// Returns the version: sixteen hex characters, a hash of everything that affects what the workflow does (semantics A4).
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Returns the first mechanism that the workflow needs and this release does not have.
    #[must_use]
    pub fn unknown_need(&self) -> Option<&str> {
        needs::first_unknown(&self.definition)
    }

    /// Checks that this release has every mechanism that the workflow needs (semantics E5).
    ///
    /// # Errors
    /// Returns `WorkflowInvalid` for the first mechanism that this release does not have.
    pub fn check_needs(&self) -> Result<(), Error> {
        match self.unknown_need() {
            None => Ok(()),
            Some(need) => Err(needs::unsupported(self.name(), need)),
        }
    }

    /// Returns the graph: dependencies, topological order and levels.
    #[must_use]
    pub const fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Returns the task that has this ordinal.
    #[must_use]
    pub fn task(&self, ordinal: Ordinal) -> &TaskDefinition {
        &self.definition.tasks[ordinal as usize]
    }

    /// Returns the number of the queue in which a task waits while it is ready.
    #[must_use]
    pub fn queue(&self, ordinal: Ordinal) -> i64 {
        self.queues[ordinal as usize]
    }

    /// Returns the source of an aligned map. An item of an aligned map starts when the source's item with the same index has
    /// completed (semantics K). `None`: the map is not aligned.
    #[must_use]
    pub fn source_of(&self, map: Ordinal) -> Option<Ordinal> {
        let mut pairs = self.alignments.iter();
        pairs
            .find(|(_, follower)| *follower == map)
            .map(|(source, _)| *source)
    }

    /// Returns the maps that are aligned with a map, directly or through other maps, as pairs of the source and the aligned
    /// map. A map comes after its source.
    #[must_use]
    pub fn aligned_with(&self, map: Ordinal) -> Vec<(Ordinal, Ordinal)> {
        let mut found: Vec<(Ordinal, Ordinal)> = Vec::new();
        for (source, follower) in &self.alignments {
            if *source == map || found.iter().any(|(_, known)| known == source) {
                found.push((*source, *follower));
            }
        }
        found
    }

    /// Returns the number of tasks.
    #[must_use]
    pub fn len(&self) -> usize {
        self.definition.tasks.len()
    }

    /// Returns `false`, because [`new`](Self::new) refuses an empty workflow.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.definition.tasks.is_empty()
    }

    /// Returns the ordinal of a task. `id`: its short id or its full name.
    #[must_use]
    pub fn ordinal(&self, id: &str) -> Option<Ordinal> {
        self.graph.ordinal(id).or_else(|| {
            let prefix = self.full_name("");
            id.strip_prefix(prefix.as_str())
                .and_then(|short| self.graph.ordinal(short))
        })
    }

    /// Returns the full name of a task: `tenant::package::workflow::task`.
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

    /// Returns the JSON text that is stored in the database.
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
