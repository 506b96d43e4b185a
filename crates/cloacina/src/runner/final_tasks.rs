//! Adds final tasks and compensations to the definitions of workflows in Rust (semantics Q).

use super::input_type::InputType;
use super::parameters;
use super::task::{Compensation, TaskNames, TaskRun};
use crate::types::Error;
use crate::workflow::{FinalRole, TaskDefinition, WorkflowDefinition};

/// Adds the compensations of a workflow's tasks to `definition`, and their functions to `functions`, each with the name of
/// its handler.
///
/// # Errors
/// `TaskInvalid` if a parameter has no default and names neither a task nor a field of the declared input.
pub(super) fn add_compensations(
    definition: &mut WorkflowDefinition,
    names: &[TaskNames],
    compensations: &[Option<Compensation>],
    input: Option<&InputType>,
    functions: &mut Vec<(String, TaskRun)>,
) -> Result<(), Error> {
    for (names_of_task, compensation) in names.iter().zip(compensations) {
        let Some(compensation) = compensation else {
            continue;
        };
        let id = names_of_task.id;
        let given = (compensation.definition)();
        let mut task = TaskDefinition {
            id: id.to_owned(),
            dependencies: Vec::new(),
            result: given.result.is_some().then(|| format!("{id}~undone")),
            role: Some(FinalRole::Compensation {
                failed: compensation.failed,
            }),
            ..given
        };
        let own = &compensation.names;
        parameters::resolve_compensation(definition, &mut task, own, names, input)?;
        definition.finals.push(task);
        functions.push((format!("{id}~final"), compensation.run));
    }
    Ok(())
}

/// Moves the final tasks from the list of ordinary tasks to the list of final tasks. If a parameter of a final task added
/// a dependency on an ordinary task, also removes this dependency. It is not needed, because all ordinary tasks have
/// ended when a final task runs.
pub(super) fn set_apart(definition: &mut WorkflowDefinition) {
    let tasks = std::mem::take(&mut definition.tasks);
    let is_final = |task: &TaskDefinition| matches!(task.role, Some(FinalRole::Final { .. }));
    let (mut finals, ordinary): (Vec<_>, Vec<_>) = tasks.into_iter().partition(is_final);
    for task in &mut finals {
        let taken: Vec<String> = (task.parameters.iter())
            .filter_map(|parameter| parameter.task.clone())
            .filter(|id| ordinary.iter().any(|task| task.id == *id))
            .collect();
        task.dependencies.retain(|id| !taken.contains(id));
    }
    finals.append(&mut definition.finals);
    definition.finals = finals;
    definition.tasks = ordinary;
}
