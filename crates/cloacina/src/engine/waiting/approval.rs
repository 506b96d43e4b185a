//! Decisions about approvals (L11).

use super::record_of;
use crate::engine::{Changes, ControlError, Execution};
use crate::types::{Decision, FailureKind, HistoryKind, Ordinal, Timestamp};

/// The error of a decision about an approval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecideError {
    /// The approval has already been decided (L11).
    AlreadyDecided {
        /// The task.
        task: String,
        /// The earlier decision.
        decision: Box<Decision>,
    },
    /// The task does not wait for a decision.
    NotWaiting(ControlError),
}

impl Execution {
    /// L11: decides an open approval.
    ///
    /// # Errors
    /// Returns an error if the approval has already been decided, or if the task does not wait for a decision.
    pub fn decide(
        &mut self,
        ordinal: Ordinal,
        decision: Decision,
        now: Timestamp,
    ) -> Result<Changes, DecideError> {
        let definition = self.definition(ordinal);
        let (id, approval) = (definition.id.clone(), definition.approval.clone());
        let task = self.task(ordinal);
        let (Some(approval), Some(open)) = (approval, task.open_wait()) else {
            let earlier = task.wait.as_ref().and_then(|wait| wait.decision.clone());
            return Err(match earlier {
                Some(decision) => DecideError::AlreadyDecided {
                    task: id,
                    decision: Box::new(decision),
                },
                None => DecideError::NotWaiting(self.control_error(
                    &format!("does not wait for a decision about '{id}'"),
                    Some("list the open approvals with `waits`"),
                )),
            });
        };
        let open = open.clone();
        let mut changes = Changes::default();
        let data = serde_json::json!({
            "approved": decision.approved, "by": decision.by, "reason": decision.reason,
        });
        record_of(&mut changes, now, HistoryKind::Decided, ordinal, &data);
        let value = decision.result();
        let (approved, by, reason) = (
            decision.approved,
            decision.by.clone(),
            decision.reason.clone(),
        );
        self.change_wait(ordinal, |wait| wait.decision = Some(decision), &mut changes);
        if approved {
            self.change_wait(
                ordinal,
                |wait| {
                    wait.open = None;
                    wait.passed = true;
                },
                &mut changes,
            );
            self.proceed(ordinal, &open, value, false, now, &mut changes);
        } else {
            let by = by.map_or_else(String::new, |by| format!(" by {by}"));
            let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
            let text = format!("'{id}' was rejected{by}{reason}");
            self.end_unmet(
                ordinal,
                &open,
                approval.on_reject,
                FailureKind::Rejected,
                text,
                value,
                now,
                &mut changes,
            );
        }
        Ok(changes)
    }
}
