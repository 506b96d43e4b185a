//! Changes of a wait that its own check does not cause: a new due time, a pause, the end of the task, a retry (L6, L13).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{next_check, record_of};
use crate::engine::child::kept_child;
use crate::engine::{Changes, ControlError, Execution};
use crate::types::{
    ExecutionStatus, HistoryKind, Leaf, Micros, Ordinal, Pause, TaskMap, TaskStatus, TaskWait,
    Timestamp,
};

impl Execution {
    /// Moves the due time of a task's timers, retry or snooze to `at`. If the execution is paused, the resume moves
    /// the due time by the part of the pause that follows this call, except for an `until`, which is an absolute
    /// time.
    ///
    /// # Errors
    /// Returns an error if the task has no such due time.
    pub fn reschedule(
        &mut self,
        ordinal: Ordinal,
        at: Timestamp,
        now: Timestamp,
    ) -> Result<Changes, ControlError> {
        let id = self.definition(ordinal).id.clone();
        let refuse = |execution: &Self| {
            Err(execution.control_error(
                &format!("has no timer or retry delay to move for task '{id}'"),
                None,
            ))
        };
        let task = self.task(ordinal);
        let is_open = matches!(task.status, TaskStatus::Ready | TaskStatus::Pending);
        if !is_open || (task.ready_at.is_none() && !task.is_waiting()) {
            return refuse(self);
        }
        let mut changes = Changes::default();
        // `resume` adds the whole length of the pause, so the part that has already passed is subtracted here.
        let past = self.past_pause(now);
        if let Some(open) = task.open_wait() {
            let mut open = open.clone();
            let past = past.min(now.since(open.since)).max(0);
            let mut moved = false;
            for leaf in &mut open.leaves {
                if let Leaf::Timer {
                    at: due,
                    fired: false,
                    shifts,
                } = leaf
                {
                    *due = if *shifts { at - past } else { at };
                    moved = true;
                }
            }
            if !moved {
                return refuse(self);
            }
            let next = next_check(&open);
            self.change_wait(ordinal, |wait| wait.open = Some(open), &mut changes);
            self.task_mut(ordinal).ready_at = Some(next);
        } else {
            let is_paused = self.record.status == ExecutionStatus::Paused;
            let due = at - past;
            self.task_mut(ordinal).ready_at = Some(due).filter(|due| is_paused || *due > now);
            changes.touch(ordinal);
            if !is_paused {
                changes.ready.push(ordinal);
            }
        }
        let data = serde_json::json!({ "at": at.to_rfc3339() });
        record_of(&mut changes, now, HistoryKind::Rescheduled, ordinal, &data);
        Ok(changes)
    }

    /// The time since the execution was paused, in microseconds. 0 if the execution is not paused.
    fn past_pause(&self, now: Timestamp) -> Micros {
        let since = self.record.paused_at;
        since.map_or(0, |since| now.since(since).max(0))
    }

    /// L6: resumes a wait after a pause. The wait's timeout and delays move by the part of the pause during which the
    /// wait was open. The wait is due for a check, because a signal may have arrived during the pause.
    pub(in crate::engine) fn resume_wait(
        &mut self,
        ordinal: Ordinal,
        pause: Pause,
        now: Timestamp,
        changes: &mut Changes,
    ) {
        let held = pause.held;
        if self.definition(ordinal).child.is_some() && !self.starts_children(ordinal) {
            return self.resume_child(ordinal, held, now, changes);
        }
        if self.open_runs(ordinal).is_some() {
            return self.resume_runs(ordinal, now, changes);
        }
        if self.definition(ordinal).over.is_some() {
            return self.resume_map(ordinal, pause, now, changes);
        }
        self.change_wait(
            ordinal,
            |wait| {
                let Some(open) = &mut wait.open else { return };
                let held = held.min(now.since(open.since)).max(0);
                open.deadline = open.deadline.map(|deadline| deadline + held);
                for leaf in &mut open.leaves {
                    if let Leaf::Timer {
                        at, shifts: true, ..
                    } = leaf
                    {
                        *at = *at + held;
                    }
                }
            },
            changes,
        );
        let task = self.task_mut(ordinal);
        task.status = TaskStatus::Ready;
        task.ready_at = Some(now);
    }

    /// Closes the open wait of a task when the execution is cancelled or times out.
    pub(in crate::engine) fn close_wait(&mut self, ordinal: Ordinal, changes: &mut Changes) {
        let is_open = |wait: &Arc<TaskWait>| wait.open.is_some();
        if self.task(ordinal).wait.as_ref().is_some_and(is_open) {
            self.leave_child(ordinal, changes);
            self.close_map(ordinal, changes);
            self.change_wait(ordinal, |wait| wait.open = None, changes);
        }
    }

    /// L13: returns the wait data that a task keeps when it runs again. The task always keeps its positions in topics, and
    /// keeps the data of signals only if its wait has ended and it does not wait again.
    pub(in crate::engine) fn wait_kept(
        &self,
        ordinal: Ordinal,
        waits_again: bool,
    ) -> Option<Arc<TaskWait>> {
        let wait = self.task(ordinal).wait.as_ref()?;
        if wait.passed && !waits_again {
            return Some(Arc::new(TaskWait {
                has_run: false,
                begun: None,
                ..(**wait).clone()
            }));
        }
        Some(Arc::new(TaskWait {
            taken: wait.taken.clone(),
            child: kept_child(wait, waits_again),
            generation: wait.generation,
            failed: if waits_again {
                BTreeMap::new()
            } else {
                wait.failed.clone()
            },
            map: wait.map.map(|map| TaskMap {
                width: map.width.filter(|_| !waits_again),
                ..map
            }),
            compensated: wait.compensated,
            finals_before: wait.finals_before,
            ..TaskWait::default()
        }))
    }
}
