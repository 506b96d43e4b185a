//! Validates waits, approvals and the signals that cancel an execution (semantics L).

use std::collections::BTreeSet;

use super::{TaskDefinition, TaskKind, WorkflowDefinition};
use crate::types::{Condition, Error, ErrorCode};

/// Maximum nesting depth of `any_of` and `all_of` in a condition.
const MAX_DEPTH: usize = 16;
/// Maximum number of signals and timers in a condition.
const MAX_LEAVES: usize = 64;
/// Maximum length of a signal's name, in bytes.
const MAX_NAME: usize = 255;

/// Refuses invalid waits and approvals.
pub(super) fn check(definition: &WorkflowDefinition) -> Result<(), Error> {
    for task in &definition.tasks {
        if let Some(problem) = problem_of(task) {
            return Err(Error::new(
                ErrorCode::TaskInvalid,
                format!(
                    "task '{}' of workflow '{}' has {problem}",
                    task.id, definition.name
                ),
            ));
        }
    }
    for condition in &definition.cancel_on {
        let problem = match condition {
            Condition::Signal { .. } => condition_problem(condition),
            _ => Some("a condition that is not a signal".to_owned()),
        };
        if let Some(problem) = problem {
            return Err(Error::new(
                ErrorCode::WorkflowInvalid,
                format!("cancel_on of workflow '{}' has {problem}", definition.name),
            )
            .with_hint("cancel_on takes a signal, e.g. cancel_on(signal(\"order.cancelled\", key=\"order_id\"))"));
        }
    }
    Ok(())
}

fn problem_of(task: &TaskDefinition) -> Option<String> {
    let waits = task.wait_for.is_some() || task.approval.is_some();
    if task.kind == TaskKind::Engine && !waits && task.child.is_none() {
        return Some("neither a function nor anything to wait for".to_owned());
    }
    if task.approval.is_some() && task.kind != TaskKind::Engine {
        return Some(
            "both an approval and a function; use a separate node for the approval".to_owned(),
        );
    }
    if task.approval.is_some() && task.wait_for.is_some() {
        return Some("an approval and wait_for".to_owned());
    }
    if task.wait_timeout.is_some() && !waits {
        return Some("wait_timeout without wait_for".to_owned());
    }
    if !task.on_timeout.is_fail() && !waits {
        return Some("on_timeout without wait_for".to_owned());
    }
    if let Some(timeout) = task.wait_timeout.filter(|timeout| *timeout <= 0) {
        return Some(format!(
            "a wait_timeout that is not greater than zero: {timeout} µs"
        ));
    }
    task.wait_for.as_ref().and_then(condition_problem)
}

/// Returns the problem of an invalid condition; `None` if the condition is valid. The text can follow "has" in a message.
#[must_use]
pub fn condition_problem(condition: &Condition) -> Option<String> {
    if condition.leaves().len() > MAX_LEAVES {
        return Some(format!("a condition of more than {MAX_LEAVES} parts"));
    }
    problem_at(condition, 0)
}

/// Returns the problem of a part of a condition; `None` if the part is valid. `depth`: the number of conditions around
/// the part.
fn problem_at(condition: &Condition, depth: usize) -> Option<String> {
    if depth > MAX_DEPTH {
        return Some(format!("a condition nested deeper than {MAX_DEPTH} levels"));
    }
    match condition {
        Condition::Signal {
            name,
            key,
            key_value,
            ..
        } => {
            if key.is_some() && key_value.is_some() {
                return Some(format!(
                    "a signal '{name}' with both a key and a path to a key"
                ));
            }
            if key.as_deref() == Some("") {
                return Some(format!("a signal '{name}' with an empty path as key"));
            }
            name_problem("signal name", name)
        }
        Condition::Delay { duration } if *duration < 0 => Some("a negative delay".to_owned()),
        Condition::Delay { .. } => None,
        Condition::Until { at, path } => match (at, path.as_deref()) {
            (None, None | Some("")) => Some("an until() without a time".to_owned()),
            (Some(_), Some(_)) => {
                Some("an until() with both a time and a path to a time".to_owned())
            }
            _ => None,
        },
        Condition::AnyOf { conditions } | Condition::AllOf { conditions } => {
            if conditions.is_empty() {
                return Some("a condition any_of or all_of without conditions".to_owned());
            }
            conditions
                .iter()
                .find_map(|condition| problem_at(condition, depth + 1))
                .or_else(|| repetition(condition))
        }
    }
}

/// Returns the problem of an `any_of` that contains a part twice, or of an `all_of` with two signals of the same name.
/// The result of a wait has the data of one signal for each name, so the data of the second signal would be lost.
fn repetition(condition: &Condition) -> Option<String> {
    match condition {
        Condition::AnyOf { conditions } => {
            let mut parts = conditions.iter().enumerate();
            let (_, twice) = parts.find(|(index, part)| conditions[..*index].contains(part))?;
            let what = match twice {
                Condition::Signal { name, .. } => format!("signal '{name}'"),
                _ => "the same condition".to_owned(),
            };
            Some(format!(
                "an any_of with {what} twice; leave one of them out"
            ))
        }
        Condition::AllOf { conditions } => {
            let mut seen = BTreeSet::new();
            let mut names = conditions.iter().map(signal_names);
            let name = names.find_map(|names| {
                let twice = names.iter().find(|name| seen.contains(*name)).copied();
                seen.extend(names);
                twice
            })?;
            Some(format!(
                "an all_of with two signals named '{name}', but the result of a wait has the data of one signal for each name; \
                 give the signals different names, or wait twice"
            ))
        }
        _ => None,
    }
}

fn signal_names(condition: &Condition) -> BTreeSet<&str> {
    let leaves = condition.leaves().into_iter();
    leaves
        .filter_map(|leaf| match leaf {
            Condition::Signal { name, .. } => Some(name.as_str()),
            _ => None,
        })
        .collect()
}

/// Returns the problem of an invalid name; `None` if the name is valid. `what`: the kind of name, such as "signal name". The
/// text can follow "has" in a message.
#[must_use]
pub fn name_problem(what: &str, name: &str) -> Option<String> {
    let fits = (1..=MAX_NAME).contains(&name.len()) && !name.chars().any(char::is_control);
    if fits {
        return None;
    }
    let shown: String = name.chars().take(80).collect();
    Some(format!(
        "an invalid {what} '{}': it must have 1 to {MAX_NAME} bytes and no control characters",
        shown.escape_default()
    ))
}
