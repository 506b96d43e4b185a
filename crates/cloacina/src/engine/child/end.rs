//! The end of a child: the note to the parent, and the effect of the end on the parent's node (M3, M5).

use std::sync::Arc;

use crate::engine::output::output;
use crate::engine::waiting::record_of;
use crate::engine::{Changes, Execution, NEVER, retry_delay, should_retry};
use crate::types::{
    ChildEnd, Delta, ExecutionStatus, Failure, FailureKind, HistoryKind, Json, Micros, Note,
    Ordinal, Post, TaskStatus, Timestamp,
};

impl Execution {
    /// M3, M5: applies the end of a child of a node or of a task's function. `random` in 0..1 selects the delay of a
    /// node's retry within its jitter. If the end does not belong to the task's current wait, nothing changes.
    pub fn child_ended(&mut self, end: ChildEnd, now: Timestamp, random: f64) -> Changes {
        let mut changes = Changes::default();
        let ordinal = end.task;
        if ordinal as usize >= self.record.tasks.len() {
            return changes;
        }
        if let Some(changes) = self.run_ended(&end, now) {
            return changes;
        }
        let is_expected = self.task(ordinal).is_waiting()
            && self
                .node_child(ordinal)
                .is_some_and(|child| child.id == end.child && child.end.is_none());
        if !is_expected {
            return changes;
        }
        let error = end.error.as_ref();
        let data = serde_json::json!({
            "child": end.child,
            "status": end.status.name(),
            "error": error.map(|error| serde_json::json!({ "type": error.kind, "message": error.message })),
        });
        record_of(&mut changes, now, HistoryKind::ChildEnded, ordinal, &data);
        // If a retry ran the same child again, the node may have no counted attempt. The failed attempt then counts as the
        // first attempt.
        let attempt = self.counted_attempts(ordinal).max(1);
        let delay = (end.status != ExecutionStatus::Completed)
            .then(|| self.delay_after_child(ordinal, &end, attempt, random))
            .flatten();
        self.change_child(ordinal, &mut changes, |child| {
            child.status = Some(end.status);
            child.end = Some(Box::new(end));
            child.retry_delay = delay;
        });
        // In a paused execution, the node is checked when the execution is resumed.
        if self.task(ordinal).status == TaskStatus::Ready {
            self.check_child(ordinal, now, &mut changes);
        }
        changes
    }

    /// Checks a waiting node: requests the start of a child if the node has none, and applies the end of its child if
    /// the child has ended. While the child is open, the node keeps waiting.
    pub(in crate::engine) fn check_child(
        &mut self,
        ordinal: Ordinal,
        now: Timestamp,
        changes: &mut Changes,
    ) {
        let Some(child) = self.node_child(ordinal) else {
            changes.flow.starts.insert(ordinal);
            self.start_by_waiting(now, changes);
            return;
        };
        let delay = child.retry_delay;
        let Some(end) = child.end.clone() else {
            self.task_mut(ordinal).ready_at = Some(NEVER);
            changes.touch(ordinal);
            return;
        };
        changes.touch(ordinal);
        if end.status == ExecutionStatus::Completed {
            self.change_wait(
                ordinal,
                |wait| {
                    wait.open = None;
                    if let Some(child) = &mut wait.child {
                        child.end = None;
                    }
                },
                changes,
            );
            let key = self.definition(ordinal).result_key().to_owned();
            let mut delta = Delta::default();
            let value = end.output.unwrap_or_else(|| Json::from_encoder("null"));
            delta.set.insert(key.into(), value);
            self.task_mut(ordinal).ready_at = None;
            return self.complete(ordinal, Arc::new(delta), now, changes);
        }
        let failure = self.child_failure(ordinal, &end);
        if let Some(delay) = delay {
            // M5: the next attempt of the node starts a new child.
            self.change_wait(ordinal, |wait| wait.child = None, changes);
            let data = serde_json::json!({
                "error": { "type": failure.kind, "message": failure.message },
                "delay_us": delay,
                "started_at": self.task(ordinal).started_at,
            });
            record_of(changes, now, HistoryKind::TaskRetrying, ordinal, &data);
            let task = self.task_mut(ordinal);
            task.error = Some(failure);
            task.started_at = None;
            task.ready_at = Some(now + delay);
            if delay <= 0 {
                changes.flow.starts.insert(ordinal);
            }
            return;
        }
        self.change_wait(
            ordinal,
            |wait| {
                wait.open = None;
                if let Some(child) = &mut wait.child {
                    child.end = None;
                }
            },
            changes,
        );
        self.task_mut(ordinal).ready_at = None;
        self.fail_task(ordinal, failure, now, changes);
    }

    /// M5: returns the failure of a node whose child ended without completing.
    pub(super) fn child_failure(&self, ordinal: Ordinal, end: &ChildEnd) -> Failure {
        let spec = self.definition(ordinal).child.as_ref();
        let workflow = spec.map_or("", |spec| &spec.workflow);
        Failure::engine(FailureKind::ChildFailed, end.message(workflow))
    }

    /// M5: the delay before the next child is started, or `None` if the child's failure is not retried. `attempt`: the
    /// number of children so far that count towards `max_attempts`. The retry policy sees the type of the child's own error
    /// as a base type of `ChildFailedError`, so `retry_on` and `never_on` can name either type.
    pub(super) fn delay_after_child(
        &self,
        ordinal: Ordinal,
        end: &ChildEnd,
        attempt: u32,
        random: f64,
    ) -> Option<Micros> {
        let mut failure = self.child_failure(ordinal, end);
        (failure.lineage).extend(end.error.as_ref().map(|error| error.kind.clone()));
        let policy = &self.definition(ordinal).retry;
        should_retry(policy, &failure, attempt).then(|| retry_delay(policy, attempt, random))
    }

    /// M3: if this execution is a child, sends its parent a note which says that this execution has ended. An execution
    /// of final tasks sends no note to the first execution.
    pub(in crate::engine) fn tell_parent(&self, changes: &mut Changes) {
        let Some(link) = self
            .record
            .parent
            .as_ref()
            .filter(|link| link.finale.is_none())
        else {
            return;
        };
        let status = self.record.status;
        let end = ChildEnd {
            child: self.record.id,
            task: link.task,
            item: link.map_item(),
            number: link.item.filter(|_| link.key.is_some()),
            status,
            output: (status == ExecutionStatus::Completed)
                .then(|| output(&self.workflow, &self.record)),
            error: (self.record.error.as_ref()).map(|(_, failure)| Failure {
                traceback: None,
                ..failure.clone()
            }),
        };
        changes.flow.posts.push(Post {
            target: link.execution,
            note: Note::ChildEnded(Box::new(end)),
        });
    }
}
