//! Diagnosis of an execution: finds the facts that explain its state, for example what keeps it from making progress.
//! `facts` defines them, and `runner/explain.rs` turns them into sentences.

mod facts;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::iter;

use super::{Execution, leaf_text, runs_text};
use crate::types::{ExecutionStatus, Leaf, Offer, Ordinal, RunnerId, TaskRecord, TaskStatus};
use crate::workflow::TaskKind;

pub use facts::{BusyTask, DiagnosisInput, Reason, RunningTask, SeenRunner};

/// Maximum number of tasks that are reported by name as waiting for dependencies.
const MAX_TASKS: usize = 20;
/// Maximum number of dependencies that are reported by name for each of these tasks.
const MAX_DEPENDENCIES: usize = 5;
/// Maximum number of keys with a lost write that are reported by name.
const MAX_KEYS: usize = 5;

/// Returns the reasons for the state of an execution: first the reasons that concern the whole execution, then the
/// reasons of each task, and last the signals that cannot cancel the execution. For an ended execution, returns its end
/// and its lost writes.
#[must_use]
pub fn explain(execution: &Execution, input: &DiagnosisInput<'_>) -> Vec<Reason> {
    let record = execution.record();
    if record.status.is_terminal() {
        return ended(execution);
    }
    if let Some(need) = execution.workflow().unknown_need() {
        return vec![Reason::NeedUnknown {
            workflow: execution.workflow().name().to_owned(),
            need: need.to_owned(),
        }];
    }
    let mut reasons = Vec::new();
    if let (count @ 1.., Some(parent)) = (execution.held_attempts().len(), &record.parent) {
        let first = parent.execution;
        reasons.push(Reason::AttemptsOpen { first, count });
    }
    if record.status == ExecutionStatus::Paused {
        reasons.push(Reason::Paused {
            since: record.paused_at,
        });
    } else if let (Some(timeout), Some(at)) = (record.timeout, record.deadline) {
        reasons.push(Reason::Deadline { timeout, at });
    }
    let delay = record
        .start_at
        .filter(|until| *until > input.now && record.status != ExecutionStatus::Paused);
    reasons.extend(delay.map(|until| Reason::Delay { until }));
    let mut tasks = Vec::new();
    let (mut lacks_handler, mut waiting) = (false, 0);
    for (ordinal, task) in (0..).zip(&record.tasks) {
        match task.status {
            // A map has no claim, even if its status is `Running`: runners claim its items.
            status if !status.is_terminal() && is_open_map(execution, ordinal, task) => {
                let (row, handler) = map(execution, ordinal, input);
                lacks_handler |= handler.is_some();
                tasks.extend(row.into_iter().chain(handler));
            }
            TaskStatus::Running => tasks.push(held(execution, ordinal, task, input)),
            TaskStatus::Waiting | TaskStatus::Ready | TaskStatus::Pending if task.is_waiting() => {
                tasks.extend(waits(execution, ordinal, input));
            }
            TaskStatus::Ready if task.runner.is_some() => {
                tasks.push(held(execution, ordinal, task, input));
            }
            TaskStatus::Ready if record.status != ExecutionStatus::Paused => {
                let is_delayed = delay.is_some() && task.ready_at == delay;
                if !is_delayed {
                    let reason = ready_task(execution, ordinal, task, input);
                    lacks_handler |= matches!(reason, Reason::NoHandler { .. });
                    tasks.push(reason);
                }
            }
            TaskStatus::Pending if record.status != ExecutionStatus::Paused => {
                waiting += 1;
                if waiting <= MAX_TASKS {
                    tasks.extend(dependencies(execution, ordinal));
                }
            }
            _ => {}
        }
    }
    if lacks_handler && !input.offers.iter().any(|offer| is_live(offer, input)) {
        let last = input
            .offers
            .iter()
            .map(|offer| SeenRunner::of_offer(offer, input))
            .max_by_key(|seen| seen.at);
        reasons.push(Reason::WorkflowUnknown {
            workflow: execution.workflow().name().to_owned(),
            last,
        });
    }
    reasons.extend(tasks);
    if waiting > MAX_TASKS {
        reasons.push(Reason::MoreTasks {
            count: waiting - MAX_TASKS,
        });
    }
    let (_, problems) = execution.cancel_rows();
    reasons.extend(
        problems
            .into_iter()
            .map(|problem| Reason::NotCancellable { problem: problem.0 }),
    );
    reasons
}

/// Returns the end of the execution, and the writes that are missing from its final context.
fn ended(execution: &Execution) -> Vec<Reason> {
    let record = execution.record();
    let error = record
        .error
        .as_ref()
        .map(|(task, failure)| (task.map(|task| id(execution, task)), failure.clone()));
    let ended = Reason::Ended {
        status: record.status,
        at: record.ended_at,
        error,
    };
    let lost = execution.lost_values().into_iter();
    let lost = lost
        .take(MAX_KEYS)
        .map(|(key, kept, lost)| Reason::LostWrite {
            key: key.to_string(),
            kept: id(execution, kept),
            lost: id(execution, lost),
        });
    iter::once(ended).chain(lost).collect()
}

fn id(execution: &Execution, task: Ordinal) -> String {
    execution.workflow().task(task).id.clone()
}

fn is_live(offer: &Offer, input: &DiagnosisInput<'_>) -> bool {
    input
        .runners
        .iter()
        .any(|runner| runner.id == offer.runner && runner.is_alive(input.now))
}

fn dependencies(execution: &Execution, task: Ordinal) -> Option<Reason> {
    let open: Vec<Ordinal> = execution
        .workflow()
        .graph()
        .dependencies(task)
        .iter()
        .copied()
        .filter(|other| !execution.task(*other).status.is_terminal())
        .collect();
    (!open.is_empty()).then(|| Reason::Dependencies {
        task: id(execution, task),
        more: open.len().saturating_sub(MAX_DEPENDENCIES),
        open: open
            .iter()
            .take(MAX_DEPENDENCIES)
            .map(|other| (id(execution, *other), execution.task(*other).status))
            .collect(),
    })
}

fn is_open_map(execution: &Execution, ordinal: Ordinal, task: &TaskRecord) -> bool {
    let is_begun = task.is_waiting() || task.status == TaskStatus::Running;
    is_begun && task.runner.is_none() && execution.workflow().task(ordinal).over.is_some()
}

/// K12: returns the counts of a map and, if no runner can run its items, the reason for this.
fn map(
    execution: &Execution,
    ordinal: Ordinal,
    input: &DiagnosisInput<'_>,
) -> (Option<Reason>, Option<Reason>) {
    let task = id(execution, ordinal);
    let row = input.maps.iter().find(|row| row.task == ordinal);
    let Some(row) = row else {
        // The map starts children, or waits for a condition before it reads its list.
        let is_child = execution.workflow().task(ordinal).child.is_some();
        let open = execution.task(ordinal).open_wait();
        if open.is_some_and(|open| is_child || !open.leaves.is_empty()) {
            return (waits(execution, ordinal, input), None);
        }
        // A delayed execution has a separate reason for the delay.
        let is_delayed = (execution.record().start_at).is_some_and(|at| at > input.now);
        return (
            (!is_delayed).then_some(Reason::Map { task, row: None }),
            None,
        );
    };
    let wants_runner = row.running == 0 && row.room() > 0 && row.claimable() + row.waiting() > 0;
    let is_child = execution.workflow().task(ordinal).child.is_some();
    let is_stuck = wants_runner && !is_child && !has_live_handler(execution, ordinal, input);
    let handler = is_stuck.then(|| no_handler(execution, ordinal, input));
    let row = Some(Box::new(row.clone()));
    (Some(Reason::Map { task, row }), handler)
}

fn waits(execution: &Execution, task: Ordinal, input: &DiagnosisInput<'_>) -> Option<Reason> {
    let record = execution.task(task);
    let open = record.open_wait()?;
    if execution.workflow().task(task).child.is_some() && execution.node_child(task).is_none() {
        // M5: the child of the node failed, and the next child starts after the delay of the retry policy.
        let retry = retry(execution, task, record, input);
        if record.error.is_some() && retry.is_some() {
            return retry;
        }
    }
    let missing = open.leaves.iter().filter(|leaf| !leaf.holds());
    let mut what: Vec<String> = missing.clone().map(leaf_text).collect();
    if let Some(spec) = &execution.workflow().task(task).child {
        // M7: the reason names the child, or its workflow if no child has been started.
        what.push(match execution.node_child(task) {
            Some(child) => format!("child {} of workflow '{}'", child.id, spec.workflow),
            None if execution.has_open_map(task) => {
                format!("children of workflow '{}', one per item", spec.workflow)
            }
            None => format!("workflow '{}', but no child could be started yet: the workflow is not defined in this database, or no runner has checked for it since it was defined", spec.workflow),
        });
    } else if let Some(runs) = open.park.as_ref().and_then(runs_text) {
        what.push(runs);
    } else if open.leaves.is_empty() {
        what.push("an approval".to_owned());
    }
    let signals = missing.filter_map(|leaf| match leaf {
        Leaf::Signal { name, cursors, .. } => {
            let topics = cursors.iter().map(|cursor| cursor.topic.clone());
            Some((name.clone(), topics.collect()))
        }
        Leaf::Timer { .. } => None,
    });
    Some(Reason::Waiting {
        task: id(execution, task),
        what,
        signals: signals.collect(),
        since: open.since,
        deadline: open.deadline,
        others: Vec::new(),
    })
}

/// Returns the reason which says when a task that is due later runs again.
fn retry(
    execution: &Execution,
    ordinal: Ordinal,
    task: &TaskRecord,
    input: &DiagnosisInput<'_>,
) -> Option<Reason> {
    let until = task.ready_at.filter(|until| *until > input.now)?;
    let (name, counted) = (
        id(execution, ordinal),
        task.attempt.saturating_sub(task.uncounted),
    );
    // A snooze does not count as an attempt.
    if counted == 0 {
        return Some(Reason::Timer { task: name, until });
    }
    Some(Reason::Retry {
        task: name,
        attempt: counted + 1,
        max_attempts: execution.workflow().task(ordinal).retry.max_attempts,
        until,
        error: task.error.clone(),
    })
}

fn ready_task(
    execution: &Execution,
    ordinal: Ordinal,
    task: &TaskRecord,
    input: &DiagnosisInput<'_>,
) -> Reason {
    if let Some(reason) = retry(execution, ordinal, task, input) {
        return reason;
    }
    let name = id(execution, ordinal);
    let mut live = input
        .offers
        .iter()
        .filter(|offer| offer.tasks.contains(&name) && is_live(offer, input));
    if let Some(first) = live.next() {
        let runners = 1 + live.count();
        return Reason::Queued {
            task: name,
            runners,
            runner: SeenRunner::of_offer(first, input),
            busy: busy_with(execution, ordinal, first.runner, input),
        };
    }
    no_handler(execution, ordinal, input)
}

/// Returns the reason which says that no live runner has a handler for a ready task.
fn no_handler(execution: &Execution, ordinal: Ordinal, input: &DiagnosisInput<'_>) -> Reason {
    let task = id(execution, ordinal);
    let offers = (input.offers.iter()).filter(|offer| offer.tasks.contains(&task));
    let last = offers
        .map(|offer| SeenRunner::of_offer(offer, input))
        .max_by_key(|seen| seen.at);
    Reason::NoHandler {
        workflow: execution.workflow().name().to_owned(),
        task,
        last,
    }
}

fn has_live_handler(execution: &Execution, ordinal: Ordinal, input: &DiagnosisInput<'_>) -> bool {
    let task = &execution.workflow().task(ordinal).id;
    let mut offers = input.offers.iter();
    offers.any(|offer| offer.tasks.contains(task) && is_live(offer, input))
}

fn held(
    execution: &Execution,
    ordinal: Ordinal,
    task: &TaskRecord,
    input: &DiagnosisInput<'_>,
) -> Reason {
    let name = id(execution, ordinal);
    let is_claimed_only = task.status == TaskStatus::Ready;
    let attempt = task.attempt + u32::from(is_claimed_only);
    let rescuer = input
        .runners
        .iter()
        .any(|runner| Some(runner.id) != task.runner && runner.is_alive(input.now));
    let holder = input
        .runners
        .iter()
        .find(|runner| Some(runner.id) == task.runner);
    match holder {
        Some(runner) if is_claimed_only && runner.is_alive(input.now) => Reason::Claimed {
            task: name,
            runner: SeenRunner::of_presence(runner),
            until: runner.lease_until,
            busy: busy_with(execution, ordinal, runner.id, input),
        },
        Some(runner) if runner.is_alive(input.now) => Reason::HeldByLive {
            task: name,
            attempt,
            runner: SeenRunner::of_presence(runner),
            since: task.started_at,
            until: runner.lease_until,
        },
        Some(runner) => Reason::HeldByDead {
            task: name,
            attempt,
            runner: SeenRunner::of_presence(runner),
            until: runner.lease_until,
            rescuer,
        },
        None => Reason::HeldByGone {
            task: name,
            attempt,
            runner: task.runner.unwrap_or(RunnerId::from_bytes([0; 16])),
            rescuer,
        },
    }
}

/// Returns the tasks that occupy a runner's workers, the most frequent first. Counts only workers of the kind that the task
/// `waiting` needs.
fn busy_with(
    execution: &Execution,
    waiting: Ordinal,
    runner: RunnerId,
    input: &DiagnosisInput<'_>,
) -> Vec<BusyTask> {
    let (kind, own) = (
        execution.workflow().task(waiting).kind,
        execution.workflow().name(),
    );
    // Only the program that has the handler of an external task knows which kind of worker the task needs.
    let occupies = |other: TaskKind| kind == other || [kind, other].contains(&TaskKind::External);
    let running = input.running.iter();
    let running = running.filter(|running| running.runner == runner && occupies(running.kind));
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for running in running {
        *counts
            .entry((running.workflow.as_str(), running.task.as_str()))
            .or_default() += 1;
    }
    let mut busy: Vec<BusyTask> = counts
        .into_iter()
        .map(|((workflow, task), workers)| BusyTask {
            workflow: (workflow != own).then(|| workflow.to_owned()),
            task: task.to_owned(),
            workers,
        })
        .collect();
    busy.sort_by_key(|task| Reverse(task.workers));
    busy
}
