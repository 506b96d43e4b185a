//! Derives the workflow that runs the final tasks and compensations after an execution has ended (semantics Q).
//!
//! A definition lists final tasks and compensations separately from its ordinary tasks. The final tasks and compensations
//! are the tasks of the derived workflow `name~final`. An execution of the derived workflow skips the tasks that do not
//! apply to the final state of the execution that has ended.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::{
    Graph, Parameter, ParameterSource, TaskDefinition, TaskKind, TriggerRule, WorkflowDefinition,
};
use crate::types::{Error, ErrorCode, ExecutionStatus, nearest};

/// The suffix of the name of a derived workflow.
pub(super) const SUFFIX: &str = "~final";
/// The input key under which final tasks find the error of the execution that has ended (`null` if it has no error).
pub const ERROR_KEY: &str = "error";

/// Whether a workflow with this name is a derived workflow. Programs cannot define workflows with such names.
#[must_use]
pub fn is_derived(name: &str) -> bool {
    name.ends_with(SUFFIX)
}

/// The final states of an execution after which a final task runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinalOn {
    /// The task runs after every end.
    #[default]
    Always,
    /// The task runs after a failure or a timeout of the execution.
    Failure,
    /// The task runs after a cancel.
    Cancelled,
    /// The task runs after completion.
    Success,
}

impl FinalOn {
    /// Returns whether the task runs after an end in this state.
    #[must_use]
    pub const fn matches(self, status: ExecutionStatus) -> bool {
        match self {
            Self::Always => true,
            Self::Failure => matches!(status, ExecutionStatus::Failed),
            Self::Cancelled => matches!(status, ExecutionStatus::Cancelled),
            Self::Success => matches!(status, ExecutionStatus::Completed),
        }
    }
}

/// The purpose of a task of the derived workflow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinalRole {
    /// A final task.
    Final {
        /// The final states of the execution after which the task runs.
        on: FinalOn,
        /// The ordinary tasks whose effects this task undoes. If this task completed, a retry of the ended execution
        /// runs those ordinary tasks again (Q5).
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        undoes: Vec<String>,
    },
    /// The compensation of the ordinary task with the same id.
    Compensation {
        /// Whether the compensation also runs if the ordinary task failed, was lost, or was cancelled while it ran.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        failed: bool,
    },
}

/// Refuses invalid final tasks and compensations.
pub(super) fn check(definition: &WorkflowDefinition) -> Result<(), Error> {
    let ids: HashSet<&str> = (definition.tasks.iter())
        .map(|task| task.id.as_str())
        .collect();
    for task in &definition.finals {
        if let Some((problem, hint)) = problem_of(definition, task, &ids) {
            let (id, name) = (&task.id, &definition.name);
            let message = format!("final task '{id}' of workflow '{name}' {problem}");
            let error = Error::new(ErrorCode::TaskInvalid, message);
            return Err(match hint {
                Some(hint) => error.with_hint(hint),
                None => error,
            });
        }
    }
    let misplaced = (definition.tasks.iter()).find(|task| task.role.is_some());
    match misplaced.filter(|_| definition.final_of.is_none()) {
        None => Ok(()),
        Some(task) => Err(Error::new(
            ErrorCode::TaskInvalid,
            format!(
                "task '{}' of workflow '{}' is a final task, but is listed among the ordinary tasks",
                task.id, definition.name
            ),
        )),
    }
}

/// Returns which kind of part of the workflow is named `error`; `None` if no part has this name.
fn error_key(definition: &WorkflowDefinition) -> Option<&'static str> {
    if definition.tasks.iter().any(|task| task.id == ERROR_KEY) {
        Some("a task")
    } else if (definition.tasks.iter()).any(|task| task.result.as_deref() == Some(ERROR_KEY)) {
        Some("an output")
    } else {
        (super::validate_values::input_fields(definition).contains(ERROR_KEY))
            .then_some("a field of the input")
    }
}

fn problem_of(
    definition: &WorkflowDefinition,
    task: &TaskDefinition,
    ids: &HashSet<&str>,
) -> Option<(String, Option<String>)> {
    if matches!(task.kind, TaskKind::Engine | TaskKind::External) {
        let problem = "is a node or an external task, and not a function of this program";
        return Some((problem.to_owned(), None));
    }
    if task.wait_for.is_some() {
        let hint = "call handle.wait(...) in its function".to_owned();
        let problem = "has wait_for=, which a final task cannot have".to_owned();
        return Some((problem, Some(hint)));
    }
    if task.over.is_some() {
        let hint = match task.role {
            Some(FinalRole::Compensation { .. }) => {
                "leave over= out: the compensation receives the list of the map's results"
            }
            _ => "loop in its function, with handle.step(...) for each element",
        };
        let problem = "has over=, which a final task cannot have".to_owned();
        return Some((problem, Some(hint.to_owned())));
    }
    // Q2: under the key `error`, the input of the final tasks has the error of the execution. They therefore cannot
    // read the result of a task, or the field of the input, that is named `error`.
    let mut keys = task.parameters.iter().map(Parameter::key);
    if let Some(what) = error_key(definition).filter(|_| keys.any(|key| key == ERROR_KEY)) {
        let problem = format!(
            "takes '{ERROR_KEY}', which is the error of the execution, but the workflow also has {what} of this name"
        );
        let hint = format!("rename the other '{ERROR_KEY}'");
        return Some((problem, Some(hint)));
    }
    match &task.role {
        None => Some(("does not say when it runs".to_owned(), None)),
        Some(FinalRole::Compensation { .. }) => (!ids.contains(task.id.as_str())).then(|| {
            (
                "compensates a task that the workflow does not have".to_owned(),
                None,
            )
        }),
        Some(FinalRole::Final { undoes, .. }) => {
            if ids.contains(task.id.as_str()) {
                return Some(("has the id of another task".to_owned(), None));
            }
            let ordinary = task
                .dependencies
                .iter()
                .find(|id| ids.contains(id.as_str()));
            if let Some(id) = ordinary {
                let hint = "a final task starts after all ordinary tasks have ended; remove the dependency";
                return Some((
                    format!("depends on the ordinary task '{id}'"),
                    Some(hint.to_owned()),
                ));
            }
            let unknown = undoes.iter().find(|id| !ids.contains(id.as_str()))?;
            let near = nearest(unknown, ids.iter().copied());
            Some((
                format!("undoes unknown task '{unknown}'"),
                near.map(|near| format!("did you mean '{near}'?")),
            ))
        }
    }
}

/// Returns the derived workflow, which runs the final tasks in `definition`. `graph`: the graph of the ordinary tasks in
/// `definition`.
pub(super) fn derive(definition: &WorkflowDefinition, graph: &Graph) -> WorkflowDefinition {
    let is_compensation =
        |task: &&TaskDefinition| matches!(task.role, Some(FinalRole::Compensation { .. }));
    let compensations: Vec<&str> = (definition.finals.iter().filter(is_compensation))
        .map(|task| task.id.as_str())
        .collect();
    let finals: HashSet<&str> = (definition.finals.iter())
        .filter(|task| !is_compensation(task))
        .map(|task| task.id.as_str())
        .collect();
    let tasks = definition.finals.iter().map(|task| {
        let mut task = task.clone();
        if is_compensation(&&task) {
            // Q3: a task is undone only after all tasks that depend on it have been undone. A skipped compensation does not
            // delay this.
            let of_task = graph.ordinal(&task.id);
            let after = |id: &&&str| {
                let later = graph.ordinal(id);
                (of_task.zip(later)).is_some_and(|(task, later)| graph.is_ancestor(task, later))
            };
            let after = compensations.iter().filter(after);
            task.dependencies = after.map(|id| (*id).to_owned()).collect();
            task.rule = TriggerRule::NoneFailed;
        } else if task.dependencies.is_empty()
            && matches!(task.rule, TriggerRule::NoneFailed | TriggerRule::AllSuccess)
        {
            // A final task without dependencies and without a rule runs after the compensations, because final tasks often
            // remove data that compensations may still need. The final task runs even if compensations fail.
            task.dependencies = compensations.iter().map(|id| (*id).to_owned()).collect();
            task.rule = TriggerRule::Always;
        }
        let is_final = !matches!(task.role, Some(FinalRole::Compensation { .. }));
        for parameter in &mut task.parameters {
            let of_final = |id: &String| is_final && finals.contains(id.as_str());
            let stays = matches!(
                parameter.source,
                ParameterSource::Resource | ParameterSource::Handle
            ) || parameter.task.as_ref().is_some_and(of_final);
            if !stays {
                // The execution of the final tasks gets the parameter's value as part of its input.
                parameter.key = Some(parameter.key().to_owned());
                parameter.source = ParameterSource::Context;
                parameter.task = None;
            }
        }
        task
    });
    WorkflowDefinition {
        name: format!("{}{SUFFIX}", definition.name),
        tenant: definition.tenant.clone(),
        package: definition.package.clone(),
        description: format!("Final tasks of {}", definition.name),
        tags: definition.tags.clone(),
        tasks: tasks.collect(),
        final_of: Some(definition.name.clone()),
        ..WorkflowDefinition::default()
    }
}
