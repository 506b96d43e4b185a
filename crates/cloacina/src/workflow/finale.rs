//! Final tasks and compensations: the workflow that runs them after an execution has ended (semantics Q).
//!
//! A definition lists them apart from its ordinary tasks. All of them are the tasks of the derived workflow `name~final`. An
//! execution of it skips the tasks that are not to run after the end that the first execution had.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::{Graph, ParameterSource, TaskDefinition, TaskKind, TriggerRule, WorkflowDefinition};
use crate::types::{Error, ErrorCode, ExecutionStatus, nearest};

/// The end of the name of a derived workflow.
pub(super) const SUFFIX: &str = "~final";

/// The ends of an execution after which a final task runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinalOn {
    /// After every end.
    #[default]
    Always,
    /// After a failure or a timeout of the execution.
    Failure,
    /// After a cancel.
    Cancelled,
    /// After completion.
    Success,
}

impl FinalOn {
    /// Whether the task runs after an end with this status.
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
        /// The ends after which it runs.
        on: FinalOn,
        /// The tasks whose completion it undoes, so that a retry runs them again.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        undoes: Vec<String>,
    },
    /// The compensation of the ordinary task with the same id.
    Compensation {
        /// Whether to run it also if the task failed, was lost, or was cancelled while it ran.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        failed: bool,
    },
}

/// Refuses final tasks that cannot work, before anything is stored.
pub(super) fn check(definition: &WorkflowDefinition) -> Result<(), Error> {
    let ids: HashSet<&str> = (definition.tasks.iter())
        .map(|task| task.id.as_str())
        .collect();
    for task in &definition.finals {
        if let Some((problem, hint)) = problem_of(task, &ids) {
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
                "task '{}' of workflow '{}' is a final task among the ordinary ones",
                task.id, definition.name
            ),
        )),
    }
}

fn problem_of(task: &TaskDefinition, ids: &HashSet<&str>) -> Option<(String, Option<String>)> {
    if matches!(task.kind, TaskKind::Engine | TaskKind::External) || task.wait_for.is_some() {
        return Some(("must be a function of this program".to_owned(), None));
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

/// Returns the workflow that runs the final tasks of another workflow. `graph`: the graph of the other workflow's ordinary
/// tasks.
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
            // Q3: a task is undone after everything that depends on it. A skipped compensation does not hold it up.
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
            // The clean-up runs after the compensations, even if they fail, because they may need what it removes.
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
                // The value is in the input of the execution of the final tasks.
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
