//! The end of a child: the note to its parent, and what the node does with it (M3, M5).

use std::sync::Arc;

use crate::engine::output::output;
use crate::engine::waiting::record_of;
use crate::engine::{Changes, Execution, NEVER, retry_delay, should_retry};
use crate::types::{
    ChildEnd, Delta, ExecutionStatus, Failure, FailureKind, HistoryKind, Json, Note, Ordinal, Post,
    TaskStatus, Timestamp,
};

impl Execution {
    /// M3, M5: a child of a node has ended. `random` in 0..1 selects the delay of a retry within its jitter. An end that does
    /// not match the node's present wait changes nothing.
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
        let delay = (end.status != ExecutionStatus::Completed)
            .then(|| self.child_failure(ordinal, &end))
            .and_then(|failure| {
                let policy = &self.definition(ordinal).retry;
                // A child that was retried in place did not add an attempt.
                let attempt = self.counted_attempts(ordinal).max(1);
                should_retry(policy, &failure, attempt)
                    .then(|| retry_delay(policy, attempt, random))
            });
        self.change_child(ordinal, &mut changes, |child| {
            child.status = Some(end.status);
            child.end = Some(Box::new(end));
            child.retry_delay = delay;
        });
        // In a paused execution the node continues after the resume.
        if self.task(ordinal).status == TaskStatus::Ready {
            self.check_child(ordinal, now, &mut changes);
        }
        changes
    }

    /// Checks a waiting node: handles the end of its child, or has the child started.
    pub(in crate::engine) fn check_child(
        &mut self,
        ordinal: Ordinal,
        now: Timestamp,
        changes: &mut Changes,
    ) {
        let Some(child) = self.node_child(ordinal) else {
            changes.flow.starts.insert(ordinal);
            self.start_by_waiting(now);
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
            // M5: each attempt of the node is a new child.
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

    /// M5: the failure of a node whose child did not complete.
    pub(super) fn child_failure(&self, ordinal: Ordinal, end: &ChildEnd) -> Failure {
        let spec = self.definition(ordinal).child.as_ref();
        let workflow = spec.map_or("", |spec| &spec.workflow);
        Failure::engine(FailureKind::ChildFailed, end.message(workflow))
    }

    /// M3: sends the end of the execution to its parent.
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
