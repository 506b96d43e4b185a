//! Validates a definition before it is stored (semantics A1, A2).

use std::collections::HashSet;

use super::{TaskDefinition, TriggerRule, WorkflowDefinition};
use crate::types::{Backoff, Error, ErrorCode, nearest};

/// Maximum value of `max_attempts`. A greater value is certainly a mistake.
const MAX_ATTEMPTS: u32 = 1_000_000;

/// Maximum nesting depth of `all_of`, `any_of` and `none_of`. Without this limit, it would be possible to store a
/// definition that cannot be decoded: each level of a rule takes three levels of JSON, and `serde_json` decodes at most
/// 127 levels.
const MAX_RULE_DEPTH: usize = 32;

/// Refuses rules that are nested too deeply. This check is not recursive and runs first, because the recursive functions on
/// such a rule could overflow the stack.
pub(super) fn check_rule_depths(definition: &WorkflowDefinition) -> Result<(), Error> {
    let mut tasks = definition.tasks.iter().chain(&definition.finals);
    let deep = tasks.find(|task| {
        let mut level = vec![&task.rule];
        for _ in 0..=MAX_RULE_DEPTH {
            level = level
                .into_iter()
                .flat_map(TriggerRule::conditions)
                .collect();
        }
        !level.is_empty()
    });
    deep.map_or(Ok(()), |TaskDefinition { id, .. }| {
        let name = &definition.name;
        let message = format!(
            "task '{id}' of workflow '{name}' has a trigger rule nested deeper than {MAX_RULE_DEPTH} levels"
        );
        Err(Error::new(ErrorCode::TaskInvalid, message))
    })
}

pub(super) fn check(definition: &WorkflowDefinition) -> Result<(), Error> {
    let name = &definition.name;
    let suffix = match &definition.final_of {
        Some(_) => super::finale::SUFFIX,
        None => "",
    };
    check_name("workflow name", name.strip_suffix(suffix).unwrap_or(name))?;
    check_name("tenant", &definition.tenant)?;
    check_name("package", &definition.package)?;
    if definition.tasks.is_empty() {
        return Err(Error::new(
            ErrorCode::WorkflowInvalid,
            format!("Workflow cannot be empty: '{name}' has no task"),
        )
        .with_hint("add a function with @task inside the builder, or builder.add_task(...)"));
    }
    let mut ids = HashSet::with_capacity(definition.tasks.len());
    for task in &definition.tasks {
        check_task_id(name, &task.id)?;
        if !ids.insert(task.id.as_str()) {
            return Err(Error::new(
                ErrorCode::WorkflowInvalid,
                format!("workflow '{name}' has two tasks with the id '{}'", task.id),
            )
            .with_hint("give one of them another id=..."));
        }
    }
    definition
        .tasks
        .iter()
        .try_for_each(|task| check_task(name, task, &ids))
}

fn check_name(what: &str, name: &str) -> Result<(), Error> {
    let fits = (1..=255).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    if fits {
        return Ok(());
    }
    let shown: String = name.chars().take(80).collect();
    Err(Error::new(
        ErrorCode::WorkflowInvalid,
        format!("invalid {what} '{shown}'"),
    )
    .with_hint("use 1 to 255 of the characters A-Z a-z 0-9 _ . -"))
}

fn check_task_id(workflow: &str, id: &str) -> Result<(), Error> {
    let fits = (1..=255).contains(&id.len())
        && id.trim() == id
        && !id.contains("::")
        && !id.chars().any(char::is_control);
    if fits {
        return Ok(());
    }
    let shown: String = id.chars().take(80).collect();
    Err(Error::new(ErrorCode::TaskInvalid, format!("invalid task id '{shown}' in workflow '{workflow}'"))
        .with_hint("use 1 to 255 bytes without control characters, '::' or outer spaces; an id defaults to the function's name"))
}

fn check_task(workflow: &str, task: &TaskDefinition, ids: &HashSet<&str>) -> Result<(), Error> {
    let id = &task.id;
    for dependency in &task.dependencies {
        if dependency == id {
            return Err(Error::new(
                ErrorCode::WorkflowInvalid,
                format!("workflow '{workflow}' has a cycle: {id} -> {id}"),
            )
            .with_hint("a task cannot depend on itself"));
        }
        check_known(workflow, id, "depends on unknown task", dependency, ids)?;
    }
    for named in task.rule.named_tasks() {
        check_known(
            workflow,
            id,
            "has a trigger rule that names unknown task",
            named,
            ids,
        )?;
    }
    let mut empty_group = false;
    task.rule.walk(&mut |rule| {
        if let TriggerRule::AllOf { conditions }
        | TriggerRule::AnyOf { conditions }
        | TriggerRule::NoneOf { conditions } = rule
        {
            empty_group |= conditions.is_empty();
        }
    });
    let problem = if empty_group {
        Some("a trigger rule all_of, any_of or none_of without conditions".to_owned())
    } else if let Some(timeout) = task.timeout.filter(|timeout| *timeout <= 0) {
        Some(format!(
            "a timeout that is not greater than zero: {timeout} µs"
        ))
    } else if task.max_context_bytes == Some(0) {
        Some("max_context_bytes=0; it must be at least 1".to_owned())
    } else {
        check_retry(task)
    };
    match problem {
        None => Ok(()),
        Some(problem) => Err(Error::new(
            ErrorCode::TaskInvalid,
            format!("task '{id}' of workflow '{workflow}' has {problem}"),
        )),
    }
}

fn check_retry(task: &TaskDefinition) -> Option<String> {
    let retry = &task.retry;
    if !(1..=MAX_ATTEMPTS).contains(&retry.max_attempts) {
        return Some(format!(
            "max_attempts {}; it must be from 1 to {MAX_ATTEMPTS}",
            retry.max_attempts
        ));
    }
    if retry.initial_delay < 0 || retry.max_delay < 0 {
        return Some(format!(
            "a negative retry delay: initial_delay is {} µs, and max_delay is {} µs",
            retry.initial_delay, retry.max_delay
        ));
    }
    let factors = match retry.backoff {
        Backoff::Fixed => [1.0, 1.0],
        Backoff::Linear { multiplier } => [multiplier, 1.0],
        Backoff::Exponential { base, multiplier } => [multiplier, base],
    };
    let wrong = (factors.iter()).find(|factor| !factor.is_finite() || **factor < 0.0)?;
    Some(format!(
        "a backoff factor that is negative or not finite: {wrong}"
    ))
}

fn check_known(
    workflow: &str,
    id: &str,
    what: &str,
    other: &str,
    ids: &HashSet<&str>,
) -> Result<(), Error> {
    if ids.contains(other) {
        return Ok(());
    }
    let error = Error::new(
        ErrorCode::WorkflowInvalid,
        format!("task '{id}' of workflow '{workflow}' {what} '{other}'"),
    );
    Err(match nearest(other, ids.iter().copied()) {
        Some(near) => error.with_hint(format!("did you mean '{near}'?")),
        None => {
            error.with_hint("define it in the same workflow, or add it with builder.add_task(...)")
        }
    })
}
