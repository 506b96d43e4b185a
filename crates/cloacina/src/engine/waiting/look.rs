//! The check of a waiting task: its signals, its timers, its timeout, and what happens to the task then (L3, L7–L9).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{next_look, record_of};
use crate::engine::control::seconds_text;
use crate::engine::{Changes, Execution};
use crate::types::{
    Context, Cursor, Delta, Failure, FailureKind, HistoryKind, Json, Leaf, OpenWait, Ordinal, Park,
    ParkKind, SignalRecord, Skip, SkipCause, StepKind, StepRecord, TaskRecord, TaskStatus,
    TaskWait, Timestamp, WaitEnd,
};

impl Execution {
    /// Whether no task of the execution runs or can be claimed, and at least one waits.
    #[must_use]
    pub fn only_waits(&self) -> bool {
        let mut waits = false;
        let is_map = |task: &TaskRecord| task.wait.as_ref().is_some_and(|wait| wait.map.is_some());
        self.record.tasks.iter().all(|task| {
            // The items of a map are claimed and run.
            let is_waiting = task.is_waiting() && !is_map(task);
            waits |= is_waiting;
            is_waiting || task.status == TaskStatus::Pending || task.status.is_terminal()
        }) && waits
    }

    /// The waiting tasks whose next check is due.
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

    /// The positions in its topics from which a waiting task takes signals.
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

    /// L3, L7, L9: checks the signals of a waiting task, which the caller has read from its topics, then its timers, then
    /// its timeout. Ends the wait if its condition holds or its time is over.
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
        let condition = match &open.park {
            Some(park) => Some(park.condition.clone()),
            None => self.definition(ordinal).wait_for.clone(),
        };
        let holds = condition
            .is_some_and(|condition| condition.holds(&mut open.leaves.iter().map(Leaf::holds)));
        if holds {
            self.end_wait(ordinal, &open, now, &mut changes);
        } else if open.deadline.is_some_and(|deadline| deadline <= now) {
            self.time_out_wait(ordinal, &open, now, &mut changes);
        } else {
            let next = next_look(&open);
            self.change_wait(ordinal, |wait| wait.open = Some(open), &mut changes);
            self.task_mut(ordinal).ready_at = Some(next);
        }
        changes
    }

    /// T5: ends a wait of a running function whose condition already holds. `None` if it does not.
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
        let value = value_of(&open, Some(park));
        let attempt = self.task(ordinal).attempt;
        let step = step_of(&open, park, attempt, &value, false, now);
        changes.flow.steps.recorded.push((ordinal, step));
        let task = self.task_mut(ordinal);
        task.rescues = 0;
        task.wait.get_or_insert_default();
        self.change_wait(ordinal, |wait| note_taken(wait, &open), &mut changes);
        Some(changes)
    }

    /// L9: the condition holds. A function runs; a node without one completes.
    fn end_wait(
        &mut self,
        ordinal: Ordinal,
        open: &OpenWait,
        now: Timestamp,
        changes: &mut Changes,
    ) {
        let value = value_of(open, open.park.as_ref());
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

    /// L8: the wait timed out.
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
        let text =
            format!("task '{id}' waited {seconds} for {names}, longer than its wait_timeout");
        self.end_without_value(
            ordinal,
            open,
            end,
            FailureKind::WaitTimeout,
            text,
            null(),
            now,
            changes,
        );
    }

    /// Ends a wait without a value, after a timeout or a rejection.
    #[expect(clippy::too_many_arguments, reason = "the parts of one end")]
    pub(super) fn end_without_value(
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

    /// Continues a task after its wait: a node without a function completes with the value, and a function runs.
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
                self.task(ordinal).attempt,
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

/// Notes the signals that the parts of a wait take, and the timers that have fired.
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

/// L3: notes the signals that a wait took, so that a later wait of the task begins after them.
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

/// The data of a wait that has ended.
fn value_of(open: &OpenWait, park: Option<&Park>) -> Json {
    let values = values_of(open);
    if open.leaves.len() == 1 {
        values.into_values().next().unwrap_or_else(null)
    } else if park.is_some_and(|park| park.kind == ParkKind::Sleep) {
        null()
    } else {
        object_of(&values)
    }
}

/// L3: the first matching signal after the cursors.
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

/// The step that records the end of a park.
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
            // The ends of children are recorded one by one.
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
