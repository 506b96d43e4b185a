//! The check of a waiting task: takes signals, fires timers, applies the timeout, and continues the task (L3, L7–L9).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{next_check, record_of};
use crate::engine::control::seconds_text;
use crate::engine::{Changes, Execution};
use crate::types::{
    Condition, Context, Cursor, Delta, Failure, FailureKind, HistoryKind, Json, Leaf, OpenWait,
    Ordinal, Park, ParkKind, SignalRecord, Skip, SkipCause, StepKind, StepRecord, TaskRecord,
    TaskStatus, TaskWait, Timestamp, WaitEnd,
};

impl Execution {
    /// Whether at least one task of the execution waits, and no task is running or can be claimed.
    #[must_use]
    pub fn only_waits(&self) -> bool {
        let mut waits = false;
        let is_map = |task: &TaskRecord| task.wait.as_ref().is_some_and(|wait| wait.map.is_some());
        self.record.tasks.iter().all(|task| {
            // A map also waits, but its items can be claimed and run.
            let is_waiting = task.is_waiting() && !is_map(task);
            waits |= is_waiting;
            is_waiting || task.status == TaskStatus::Pending || task.status.is_terminal()
        }) && waits
    }

    /// The waiting tasks that are due for a check.
    #[must_use]
    pub fn due_waits(&self, now: Timestamp) -> Vec<Ordinal> {
        let is_due = |task: &TaskRecord| {
            task.status == TaskStatus::Ready
                && task.is_waiting()
                && task.ready_at.is_none_or(|at| at <= now)
        };
        (0..)
            .zip(&self.record.tasks)
            .filter(|(_, task)| is_due(task))
            .map(|(ordinal, _)| ordinal)
            .collect()
    }

    /// The positions in topics after which a waiting task takes signals.
    #[must_use]
    pub fn open_cursors(&self, ordinal: Ordinal) -> Vec<&Cursor> {
        let leaves = self.task(ordinal).open_wait().map(|open| &open.leaves);
        leaves
            .into_iter()
            .flatten()
            .filter_map(|leaf| match leaf {
                Leaf::Signal {
                    cursors,
                    taken: None,
                    ..
                } => Some(cursors),
                _ => None,
            })
            .flatten()
            .collect()
    }

    /// Checks a waiting task. If the task waits for a condition (L3, L7, L9), checks the signals, then the timers, then the
    /// timeout, and ends the wait if the condition holds or the timeout has passed. If the task waits for children,
    /// requests the next start, or ends the wait after the last child has ended. If the task is a map, requests the
    /// expansion. `found`: the signals that the caller has read from the task's topics.
    pub fn look(&mut self, ordinal: Ordinal, found: &[SignalRecord], now: Timestamp) -> Changes {
        let mut changes = Changes::default();
        if self.task(ordinal).status != TaskStatus::Ready {
            return changes;
        }
        if self.definition(ordinal).child.is_some() && !self.starts_children(ordinal) {
            self.check_child(ordinal, now, &mut changes);
            return changes;
        }
        if self.open_runs(ordinal).is_some() {
            self.check_runs(ordinal, now, &mut changes);
            return changes;
        }
        if self.definition(ordinal).over.is_some() {
            changes.flow.expands.insert(ordinal);
            changes.touch(ordinal);
            return changes;
        }
        let Some(open) = self.task(ordinal).open_wait() else {
            return changes;
        };
        let mut open = open.clone();
        check_leaves(&mut open.leaves, ordinal, found, now, &mut changes);
        let holds = self
            .condition_of(ordinal, &open)
            .is_some_and(|condition| condition.holds(&mut open.leaves.iter().map(Leaf::holds)));
        if holds {
            self.end_wait(ordinal, &open, now, &mut changes);
        } else if open.deadline.is_some_and(|deadline| deadline <= now) {
            self.time_out_wait(ordinal, &open, now, &mut changes);
        } else {
            let next = next_check(&open);
            self.change_wait(ordinal, |wait| wait.open = Some(open), &mut changes);
            self.task_mut(ordinal).ready_at = Some(next);
        }
        changes
    }

    /// T5: ends a wait of a running function if the wait's condition already holds. Returns `None` if the condition does not
    /// hold.
    pub fn end_wait_now(
        &mut self,
        ordinal: Ordinal,
        park: &Park,
        mut leaves: Vec<Leaf>,
        found: &[SignalRecord],
        now: Timestamp,
    ) -> Option<Changes> {
        let mut changes = Changes::default();
        check_leaves(&mut leaves, ordinal, found, now, &mut changes);
        let mut parts = leaves.iter().map(Leaf::holds);
        if !park.condition.holds(&mut parts) {
            return None;
        }
        let open = OpenWait {
            since: now,
            deadline: None,
            leaves,
            park: None,
            title: None,
        };
        let value = value_of(&open, Some(&park.condition));
        let attempt = self.task(ordinal).attempt;
        let step = step_of(&open, park, attempt, &value, false, now);
        changes.flow.steps.recorded.push((ordinal, step));
        let task = self.task_mut(ordinal);
        task.rescues = 0;
        task.wait.get_or_insert_default();
        self.change_wait(ordinal, |wait| note_taken(wait, &open), &mut changes);
        Some(changes)
    }

    /// The condition of an open wait, from the call in the task's function or from the task's definition.
    fn condition_of<'a>(&'a self, ordinal: Ordinal, open: &'a OpenWait) -> Option<&'a Condition> {
        match &open.park {
            Some(park) => Some(&park.condition),
            None => self.definition(ordinal).wait_for.as_ref(),
        }
    }

    /// L9: ends a wait whose condition holds. A task with a function becomes ready to run, and a node without a function
    /// completes.
    fn end_wait(
        &mut self,
        ordinal: Ordinal,
        open: &OpenWait,
        now: Timestamp,
        changes: &mut Changes,
    ) {
        let value = value_of(open, self.condition_of(ordinal, open));
        let is_declared = open.park.is_none();
        self.change_wait(
            ordinal,
            |wait| {
                wait.open = None;
                note_taken(wait, open);
                if is_declared {
                    wait.values = values_of(open);
                    wait.passed = true;
                }
            },
            changes,
        );
        self.proceed(ordinal, open, value, false, now, changes);
    }

    /// L8: ends a wait whose timeout has passed.
    fn time_out_wait(
        &mut self,
        ordinal: Ordinal,
        open: &OpenWait,
        now: Timestamp,
        changes: &mut Changes,
    ) {
        let data = serde_json::json!({
            "for": self.names_of(ordinal, open),
            "deadline": open.deadline.map(Timestamp::to_rfc3339),
            "step": open.park.as_ref().map(|park| &park.key),
        });
        record_of(changes, now, HistoryKind::WaitTimedOut, ordinal, &data);
        let end = self.definition(ordinal).on_timeout;
        let id = self.definition(ordinal).id.clone();
        let names = self.names_of(ordinal, open).join(", ");
        let seconds = open.deadline.map_or_else(String::new, |deadline| {
            seconds_text(deadline.since(open.since))
        });
        if open.park.is_some() {
            self.change_wait(ordinal, |wait| wait.open = None, changes);
            return self.proceed(ordinal, open, null(), true, now, changes);
        }
        let text = format!("task '{id}' waited {seconds} for {names}: its wait_timeout has passed");
        let value = match values_of(open) {
            none if none.is_empty() => null(),
            _ => value_of(open, self.condition_of(ordinal, open)),
        };
        self.end_unmet(
            ordinal,
            open,
            end,
            FailureKind::WaitTimeout,
            text,
            value,
            now,
            changes,
        );
    }

    /// Ends a wait whose condition does not hold, after a timeout or after a rejection. L9: if the task continues, it keeps the
    /// signals that have arrived.
    #[expect(clippy::too_many_arguments, reason = "they describe one end of a wait")]
    pub(super) fn end_unmet(
        &mut self,
        ordinal: Ordinal,
        open: &OpenWait,
        end: WaitEnd,
        kind: FailureKind,
        text: String,
        value: Json,
        now: Timestamp,
        changes: &mut Changes,
    ) {
        let continues = end == WaitEnd::Continue;
        self.change_wait(
            ordinal,
            |wait| {
                wait.open = None;
                wait.passed = continues;
                wait.values.clear();
                if continues {
                    note_taken(wait, open);
                    wait.values = values_of(open);
                }
            },
            changes,
        );
        match end {
            WaitEnd::Fail => self.fail_task(ordinal, Failure::engine(kind, text), now, changes),
            WaitEnd::Skip => {
                let task = self.task_mut(ordinal);
                task.status = TaskStatus::Skipped;
                task.ready_at = None;
                task.ended_at = Some(now);
                task.skip = Some(Skip {
                    cause: SkipCause::Rule,
                    reason: text,
                });
                self.propagate_end(ordinal, now, changes);
            }
            WaitEnd::Continue => self.proceed(ordinal, open, value, false, now, changes),
        }
    }

    /// Continues a task after its wait. A node without a function completes with the value, and any other task can be
    /// claimed. If the function of the task waited, a step records the value or the timeout (`timed_out`).
    pub(super) fn proceed(
        &mut self,
        ordinal: Ordinal,
        open: &OpenWait,
        value: Json,
        timed_out: bool,
        now: Timestamp,
        changes: &mut Changes,
    ) {
        if let Some(park) = &open.park {
            let step = step_of(
                open,
                park,
                self.attempt_that_parked(ordinal),
                &value,
                timed_out,
                now,
            );
            changes.flow.steps.recorded.push((ordinal, step));
        } else if self.definition(ordinal).is_node() {
            let key = self.definition(ordinal).result_key().to_owned();
            let mut delta = Delta::default();
            delta.set.insert(key.into(), value);
            self.task_mut(ordinal).ready_at = None;
            return self.complete(ordinal, Arc::new(delta), now, changes);
        }
        let start_at = self.record.start_at.filter(|at| *at > now);
        self.task_mut(ordinal).ready_at = start_at;
        changes.ready.push(ordinal);
    }
}

/// For each part of a wait's condition, records which signal the part takes, or that its timer has fired.
fn check_leaves(
    leaves: &mut [Leaf],
    ordinal: Ordinal,
    found: &[SignalRecord],
    now: Timestamp,
    changes: &mut Changes,
) {
    for leaf in leaves {
        match leaf {
            Leaf::Signal {
                name,
                key,
                cursors,
                taken: taken @ None,
            } => {
                *taken = first_of(cursors, found).cloned();
                if let Some(signal) = taken {
                    let data = serde_json::json!({
                        "name": name, "key": key, "seq": signal.seq, "sender": signal.sender,
                    });
                    record_of(changes, now, HistoryKind::Signalled, ordinal, &data);
                }
            }
            Leaf::Timer { at, fired, .. } => *fired |= *at <= now,
            Leaf::Signal { .. } => {}
        }
    }
}

/// L3: notes the signals that a wait took, so that a later wait of the task takes only later signals.
fn note_taken(wait: &mut TaskWait, open: &OpenWait) {
    for leaf in &open.leaves {
        if let Leaf::Signal {
            taken: Some(signal),
            ..
        } = leaf
        {
            let taken = wait.taken.entry(signal.topic.clone()).or_default();
            *taken = (*taken).max(signal.seq);
        }
    }
}

/// L9: the value of a wait that has ended. For `any_of` and `all_of`, the value maps the names of the signals to their
/// data. For a single signal, the value is the data of the signal. For a timer, the value is null.
fn value_of(open: &OpenWait, condition: Option<&Condition>) -> Json {
    let values = values_of(open);
    match condition {
        Some(Condition::AnyOf { .. } | Condition::AllOf { .. }) => object_of(&values),
        _ => values.into_values().next().unwrap_or_else(null),
    }
}

/// L3: returns the first signal that matches one of the cursors.
fn first_of<'a>(cursors: &[Cursor], found: &'a [SignalRecord]) -> Option<&'a SignalRecord> {
    let fits = |signal: &&SignalRecord| {
        cursors.iter().any(|cursor| {
            cursor.topic == signal.topic
                && signal.seq > cursor.after
                && cursor.since.is_none_or(|since| signal.sent_at >= since)
        })
    };
    found.iter().filter(fits).min_by_key(|signal| signal.seq)
}

fn values_of(open: &OpenWait) -> BTreeMap<String, Json> {
    let taken = open.leaves.iter().filter_map(|leaf| match leaf {
        Leaf::Signal {
            name,
            taken: Some(signal),
            ..
        } => Some((name.clone(), signal.data.clone())),
        _ => None,
    });
    taken.collect()
}

fn object_of(values: &BTreeMap<String, Json>) -> Json {
    let mut out = Context::new();
    for (name, value) in values {
        out.set(name.as_str(), value.clone());
    }
    Json::from_encoder(out.to_json())
}

impl Execution {
    /// The number of the attempt whose function exited in order to wait. The next attempt gets this number again.
    pub(in crate::engine) fn attempt_that_parked(&self, ordinal: Ordinal) -> u32 {
        self.task(ordinal).attempt + 1
    }
}

/// The step that records the end of a wait inside a task's function.
fn step_of(
    open: &OpenWait,
    park: &Park,
    attempt: u32,
    value: &Json,
    timed_out: bool,
    now: Timestamp,
) -> StepRecord {
    let value = match park.kind {
        ParkKind::Sleep => null(),
        ParkKind::Wait if timed_out => Json::from_encoder(r#"{"timed_out":true}"#),
        ParkKind::Wait | ParkKind::Run | ParkKind::Start => {
            Json::from_encoder(format!(r#"{{"value":{value}}}"#))
        }
    };
    StepRecord {
        key: park.key.clone(),
        position: park.position,
        kind: match park.kind {
            ParkKind::Sleep => StepKind::Sleep,
            ParkKind::Wait => StepKind::Wait,
            // If a call runs several children, each child's end has its own step, of another kind.
            ParkKind::Run | ParkKind::Start => StepKind::Run,
        },
        attempt,
        started_at: open.since,
        ended_at: now,
        value,
    }
}

fn null() -> Json {
    Json::from_encoder("null")
}
