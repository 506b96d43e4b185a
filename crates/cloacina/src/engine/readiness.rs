//! Readiness: starts or skips tasks whose dependencies have ended, and ends executions without open tasks (semantics C1–C3).
//!
//! See docs/explanation/decisions/022-rules-and-skips.md

use super::rule::{RuleInput, evaluate, skip_cause};
use super::{Changes, Execution};
use crate::types::{
    ExecutionStatus, Failure, FailureKind, Ordinal, Skip, SkipCause, TaskStatus, Timestamp,
};
use crate::workflow::{Operator, TriggerRule};

impl Execution {
    /// Applies the rules of the candidates whose dependencies have ended, and begins the aligned maps among the
    /// candidates that can begin before their sources end. If a candidate ends, its dependents become candidates too.
    /// Ends the execution when no task is open.
    pub(super) fn propagate(
        &mut self,
        candidates: Vec<Ordinal>,
        now: Timestamp,
        changes: &mut Changes,
    ) {
        let mut worklist = candidates;
        while let Some(ordinal) = worklist.pop() {
            let is_ready =
                self.open_dependencies[ordinal as usize] == 0 || self.may_follow(ordinal);
            if self.task(ordinal).status != TaskStatus::Pending || !is_ready {
                continue;
            }
            if self.record.status == ExecutionStatus::Paused || !self.held_attempts().is_empty() {
                continue; // the rule is applied after the resume, or after the end of the last held attempt
            }
            if self.open_dependencies[ordinal as usize] > 0 {
                self.register_map(ordinal, now, changes);
            } else {
                self.apply_rule(ordinal, now, changes);
            }
            if self.task(ordinal).status.is_terminal() {
                self.close_dependency(ordinal, &mut worklist);
            } else if self.has_open_map(ordinal) {
                worklist.extend(self.followers(ordinal));
            }
        }
        if self.open_tasks == 0 && !self.record.status.is_terminal() {
            self.end(now, changes);
        }
    }

    /// Propagates the end of a task to its dependents.
    pub(super) fn propagate_end(&mut self, ended: Ordinal, now: Timestamp, changes: &mut Changes) {
        let mut worklist = Vec::new();
        self.close_dependency(ended, &mut worklist);
        worklist.reverse();
        self.propagate(worklist, now, changes);
    }

    fn close_dependency(&mut self, ended: Ordinal, worklist: &mut Vec<Ordinal>) {
        self.open_tasks -= 1;
        for dependent in self.workflow.graph().dependents(ended) {
            let open = &mut self.open_dependencies[*dependent as usize];
            *open -= 1;
            // If one dependency is still open, it may be the source of an aligned map, which can begin before its source ends.
            if *open == 0 || (*open == 1 && self.workflow.source_of(*dependent).is_some()) {
                worklist.push(*dependent);
            }
        }
    }

    /// C1: makes a task ready if its rule holds, skips the task if not, and fails the task if the rule cannot be evaluated.
    fn apply_rule(&mut self, ordinal: Ordinal, now: Timestamp, changes: &mut Changes) {
        let rule = &self.workflow.task(ordinal).rule;
        let view = rule
            .reads_context()
            .then(|| self.views.view(&self.workflow, &self.record, ordinal));
        let input = RuleInput {
            workflow: &self.workflow,
            record: &self.record,
            task: ordinal,
            view: view.as_deref(),
        };
        let holds = evaluate(rule, &input);
        let skip = match &holds {
            Ok(false) => Some(skip_cause(rule, &input)),
            _ => None,
        };
        changes.touch(ordinal);
        if holds == Ok(true) && self.register_declared(ordinal, now, changes) {
            return;
        }
        let start_at = self.record.start_at.filter(|at| *at > now);
        let task = self.task_mut(ordinal);
        match holds {
            Ok(true) => {
                task.status = TaskStatus::Ready;
                task.ready_at = start_at;
                changes.ready.push(ordinal);
            }
            Ok(false) => {
                task.status = TaskStatus::Skipped;
                task.ended_at = Some(now);
                task.skip = skip;
            }
            Err(problem) => {
                task.status = TaskStatus::Failed;
                task.ended_at = Some(now);
                task.error = Some(Failure::engine(FailureKind::Rule, problem));
                changes.ended_tasks.push(ordinal);
            }
        }
    }

    /// C3: ends the execution as failed if at least one failure was not handled, otherwise as completed.
    fn end(&mut self, now: Timestamp, changes: &mut Changes) {
        let blamed = self.first_unhandled_failure();
        let status = if blamed.is_some() {
            ExecutionStatus::Failed
        } else {
            ExecutionStatus::Completed
        };
        self.record.error = blamed.and_then(|task| {
            self.task(task)
                .error
                .clone()
                .map(|failure| (Some(task), failure))
        });
        self.close(status, now, changes);
    }

    /// The first task whose failure no completed task handled (C3, C4).
    fn first_unhandled_failure(&self) -> Option<Ordinal> {
        let failed = (0..)
            .zip(&self.record.tasks)
            .filter(|(_, task)| task.status == TaskStatus::Failed);
        failed
            .filter(|(ordinal, _)| !self.is_handled(*ordinal))
            .min_by_key(|(ordinal, task)| (task.ended_at, *ordinal))
            .map(|(ordinal, _)| ordinal)
    }

    /// C3: whether a completed dependent handles the failure. A dependent handles it if its rule names the failed task
    /// or requires a failure of a dependency.
    fn is_handled(&self, failed: Ordinal) -> bool {
        let id = self.definition(failed).id.as_str();
        self.workflow
            .graph()
            .dependents(failed)
            .iter()
            .any(|dependent| {
                let rule = &self.definition(*dependent).rule;
                self.task(*dependent).status == TaskStatus::Completed
                    && (rule.named_tasks().contains(&id) || rule.asks_for_failure())
            })
    }
}

/// Returns the cause and the sentence that are stored with a skipped task.
pub(super) fn skip_reason(rule: &TriggerRule, cause: SkipCause, blockers: &[&str]) -> Skip {
    let names = blockers.join("', '");
    let reason = match cause {
        SkipCause::Failure if blockers.len() > 1 => {
            format!("dependencies '{names}' failed or were skipped because of a failure")
        }
        SkipCause::Failure => {
            format!("dependency '{names}' failed or was skipped because of a failure")
        }
        SkipCause::Rule => format!("its trigger rule {} did not hold", rule_text(rule)),
        SkipCause::Ended => "the execution timed out".to_owned(),
    };
    Skip { cause, reason }
}

/// Returns a rule in the notation that users write.
pub(super) fn rule_text(rule: &TriggerRule) -> String {
    let group = |name: &str, conditions: &[TriggerRule]| {
        let parts: Vec<String> = conditions.iter().map(rule_text).collect();
        format!("{name}({})", parts.join(", "))
    };
    match rule {
        TriggerRule::AllSuccess => "all_success".to_owned(),
        TriggerRule::AllFailed => "all_failed".to_owned(),
        TriggerRule::AllDone => "all_done".to_owned(),
        TriggerRule::OneSuccess => "one_success".to_owned(),
        TriggerRule::OneFailed => "one_failed".to_owned(),
        TriggerRule::NoneFailed => "none_failed".to_owned(),
        TriggerRule::Always => "always".to_owned(),
        TriggerRule::TaskSuccess { task } => format!("task_success('{task}')"),
        TriggerRule::TaskFailed { task } => format!("task_failed('{task}')"),
        TriggerRule::TaskSkipped { task } => format!("task_skipped('{task}')"),
        TriggerRule::ContextValue {
            key,
            operator,
            value,
        } => match operator {
            Operator::Exists | Operator::NotExists => {
                format!("context_value('{key}', '{}')", operator.symbol())
            }
            _ => format!("context_value('{key}', '{}', {value})", operator.symbol()),
        },
        TriggerRule::AllOf { conditions } => group("all_of", conditions),
        TriggerRule::AnyOf { conditions } => group("any_of", conditions),
        TriggerRule::NoneOf { conditions } => group("none_of", conditions),
    }
}
