//! Checks the kind and the revision of a schedule before a request changes, deletes, runs or backfills the schedule.

use std::cell::Cell;

use cloacina::types::{ScheduleKind, ScheduleRecord};
use cloacina::{Error, ErrorCode};

use super::control::wanted_revisions;
use crate::call::Call;
use crate::problem::Problem;

impl Call<'_> {
    /// Returns the schedule that the path names. Refuses the id of a trigger. `action` is the past participle for the
    /// message, for example `changed` in "a trigger cannot be changed".
    pub(super) fn cron_schedule(&self, action: &str) -> Result<ScheduleRecord, Problem> {
        let id = self.schedule_id()?;
        let record = self.inspector.schedule_or_trigger(id)?;
        if record.kind == ScheduleKind::Cron {
            return Ok(record);
        }
        let name = &record.identity;
        let message = format!("{id} is the trigger '{name}': a trigger cannot be {action}");
        Err(Error::new(ErrorCode::ScheduleInvalid, message)
            .with_hint("a program defines its triggers; this API can enable and disable them")
            .into())
    }
}

/// Compares the revision of a schedule with the header If-Match.
pub(super) struct RevisionGuard {
    /// The revisions that the header names; `None` if any revision is allowed.
    wanted: Option<Vec<i64>>,
    /// Whether `check` has refused the schedule.
    is_mismatch: Cell<bool>,
}

impl RevisionGuard {
    pub(super) fn of(call: &Call<'_>) -> Self {
        Self {
            wanted: wanted_revisions(call.headers),
            is_mismatch: Cell::new(false),
        }
    }

    /// Refuses a schedule that does not have one of the wanted revisions.
    pub(super) fn check(&self, known: &ScheduleRecord) -> Result<(), Error> {
        let wanted = self.wanted.as_ref();
        if wanted.is_none_or(|wanted| wanted.contains(&known.revision)) {
            return Ok(());
        }
        self.is_mismatch.set(true);
        Err(Error::new(
            ErrorCode::ScheduleInvalid,
            format!(
                "schedule {} has revision {}, which If-Match does not name",
                known.id, known.revision
            ),
        ))
    }

    /// Converts the error of a change to a problem.
    pub(super) fn problem(&self, error: Error) -> Problem {
        self.mismatch(&error).unwrap_or_else(|| error.into())
    }

    /// If `check` has refused the schedule, converts the error of the change to the problem `revision_mismatch`. Otherwise
    /// returns `None`.
    pub(super) fn mismatch(&self, error: &Error) -> Option<Problem> {
        self.is_mismatch.get().then(|| {
            Problem::new("revision_mismatch", &error.message).hint("read the schedule again")
        })
    }
}
