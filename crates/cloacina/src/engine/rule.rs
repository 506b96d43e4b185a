//! Evaluates the trigger rule of a task whose dependencies have all ended (semantics C2).

use super::readiness::{rule_text, skip_reason};
use super::{compare, path};
use crate::types::{Context, ExecutionRecord, Ordinal, Skip, SkipCause, TaskStatus};
use crate::workflow::{Operator, TriggerRule, Workflow};

/// The input for the evaluation of a trigger rule.
#[derive(Clone, Copy, Debug)]
pub struct RuleInput<'a> {
    /// The workflow.
    pub workflow: &'a Workflow,
    /// The execution.
    pub record: &'a ExecutionRecord,
    /// The task to which the rule belongs.
    pub task: Ordinal,
    /// The context that the task would see. Only `context_value` needs it.
    pub view: Option<&'a Context>,
}

/// Whether a rule holds.
///
/// # Errors
/// Returns a sentence if `context_value` compares values that cannot be compared. The sentence becomes the task's error.
pub fn evaluate(rule: &TriggerRule, input: &RuleInput) -> Result<bool, String> {
    let mut statuses = input
        .workflow
        .graph()
        .dependencies(input.task)
        .iter()
        .map(|task| &input.record.tasks[*task as usize]);
    let named = |task: &str, wanted: TaskStatus| {
        let ordinal = input.workflow.graph().ordinal(task);
        ordinal.is_some_and(|ordinal| input.record.tasks[ordinal as usize].status == wanted)
    };
    Ok(match rule {
        TriggerRule::AllSuccess => statuses.all(|task| task.status == TaskStatus::Completed),
        TriggerRule::AllFailed => statuses.all(|task| task.status == TaskStatus::Failed),
        TriggerRule::AllDone | TriggerRule::Always => true,
        TriggerRule::OneSuccess => statuses.any(|task| task.status == TaskStatus::Completed),
        TriggerRule::OneFailed => statuses.any(|task| task.status == TaskStatus::Failed),
        TriggerRule::NoneFailed => !statuses.any(|task| {
            task.status == TaskStatus::Failed
                || task
                    .skip
                    .as_ref()
                    .is_some_and(|skip| skip.cause == SkipCause::Failure)
        }),
        TriggerRule::TaskSuccess { task } => named(task, TaskStatus::Completed),
        TriggerRule::TaskFailed { task } => named(task, TaskStatus::Failed),
        TriggerRule::TaskSkipped { task } => named(task, TaskStatus::Skipped),
        TriggerRule::ContextValue {
            key,
            operator,
            value,
        } => {
            let found = input.view.and_then(|view| path::lookup(view, key));
            compare(found.as_deref(), *operator, value).map_err(|problem| {
                format!(
                    "trigger rule {} cannot be evaluated: {problem}",
                    rule_text(rule)
                )
            })?
        }
        TriggerRule::AllOf { conditions } => all_hold(conditions, input)?,
        TriggerRule::AnyOf { conditions } => any_holds(conditions, input)?,
        TriggerRule::NoneOf { conditions } => !any_holds(conditions, input)?,
    })
}

fn all_hold(conditions: &[TriggerRule], input: &RuleInput) -> Result<bool, String> {
    for condition in conditions {
        if !evaluate(condition, input)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn any_holds(conditions: &[TriggerRule], input: &RuleInput) -> Result<bool, String> {
    for condition in conditions {
        if evaluate(condition, input)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// C1: returns the cause and the reason of a skip. The cause is `Failure` if a dependency failed or was skipped because
/// of a failure, and the rule is `all_success`, `one_success` or `none_failed`. Otherwise the cause is `Rule`.
pub(super) fn skip_cause(rule: &TriggerRule, input: &RuleInput) -> Skip {
    let blockers: Vec<&str> = input
        .workflow
        .graph()
        .dependencies(input.task)
        .iter()
        .filter(|task| {
            let record = &input.record.tasks[**task as usize];
            record.status == TaskStatus::Failed
                || record
                    .skip
                    .as_ref()
                    .is_some_and(|skip| skip.cause == SkipCause::Failure)
        })
        .map(|task| input.workflow.task(*task).id.as_str())
        .collect();
    let wants_success = matches!(
        rule,
        TriggerRule::AllSuccess | TriggerRule::OneSuccess | TriggerRule::NoneFailed
    );
    let cause = if wants_success && !blockers.is_empty() {
        SkipCause::Failure
    } else {
        SkipCause::Rule
    };
    let mut skip = skip_reason(rule, cause, &blockers[..blockers.len().min(3)]);
    if let (SkipCause::Rule, Some(view)) = (cause, input.view) {
        for key in compared_keys(rule) {
            if path::lookup(view, key).is_none() {
                skip.reason = format!("{}: {}", skip.reason, path::missing(view, key));
                break;
            }
        }
    }
    skip
}

/// The keys whose values a rule compares. If such a key is missing, the reason for the skip names the key, because it
/// is probably misspelled.
fn compared_keys(rule: &TriggerRule) -> Vec<&str> {
    match rule {
        TriggerRule::ContextValue { key, operator, .. }
            if !matches!(operator, Operator::Exists | Operator::NotExists) =>
        {
            vec![key]
        }
        TriggerRule::AllOf { conditions }
        | TriggerRule::AnyOf { conditions }
        | TriggerRule::NoneOf { conditions } => conditions.iter().flat_map(compared_keys).collect(),
        _ => Vec::new(),
    }
}
