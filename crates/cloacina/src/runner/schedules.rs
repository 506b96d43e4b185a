//! Reads and changes schedules and triggers in a database, without a runner.

use std::sync::Arc;

use super::Inspector;
use crate::engine::schedule;
use crate::engine::{ScheduleDiagnosisInput, ScheduleReason, explain_schedule};
use crate::runtime::{run_schedule_directly, schedule_rows};
use crate::store::{ScheduleQuery, Store, StoredDefinition};
use crate::types::{
    DefinitionId, Error, ErrorCode, ExecutionId, Presence, ScheduleId, ScheduleKind,
    ScheduleRecord, TickOutcome, TickRecord, Timestamp,
};
use crate::workflow::Workflow;

/// Maximum number of waiting ends that `explain` counts.
const MAX_PENDING: usize = 1_000;

/// The number of ticks since a time, by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TickCounts {
    /// Ticks that started an execution.
    pub fired: u64,
    /// Ticks that were due while no runner was live and that the catch-up rule did not make up for.
    pub missed: u64,
    /// Ticks whose workflow no program had stored.
    pub skipped: u64,
    /// Ticks that the overlap rule skipped.
    pub overlapped: u64,
    /// Ticks that wait for the end of an execution.
    pub queued: u64,
    /// Polls whose trigger function raised.
    pub failed: u64,
}

impl Inspector {
    /// Returns a schedule.
    ///
    /// # Errors
    /// `ScheduleNotFound` for an unknown or deleted schedule; `Database` or `Connection`.
    pub fn schedule(&self, id: ScheduleId) -> Result<ScheduleRecord, Error> {
        schedule_rows::existing(&*self.store, ScheduleKind::Cron, id)
    }

    /// Returns schedules or triggers, oldest first, without deleted ones.
    ///
    /// `limit`: maximum number; `offset`: number of rows to leave out at the start.
    ///
    /// # Errors
    /// `Database` or `Connection` when the database fails or does not answer.
    pub fn schedules(
        &self,
        kind: ScheduleKind,
        enabled_only: bool,
        limit: usize,
        offset: usize,
    ) -> Result<Vec<ScheduleRecord>, Error> {
        let query = ScheduleQuery {
            kind,
            enabled_only,
            limit,
            offset,
        };
        Ok(self.store.schedules(&query)?)
    }

    /// Returns the trigger with a name.
    ///
    /// # Errors
    /// `Database` or `Connection` when the database fails or does not answer.
    pub fn trigger(&self, name: &str) -> Result<Option<ScheduleRecord>, Error> {
        Ok(self.store.schedule_of(ScheduleKind::Trigger, name)?)
    }

    /// Changes a schedule's expression or time zone; `None` leaves it unchanged. The next tick is recomputed.
    ///
    /// # Errors
    /// `ScheduleInvalid`; `ScheduleNotFound`; `Database` or `Connection`.
    pub fn update_schedule(
        &self,
        id: ScheduleId,
        expression: Option<&str>,
        timezone: Option<&str>,
    ) -> Result<ScheduleRecord, Error> {
        self.change_schedule(id, |known| {
            schedule::changed(known, expression, timezone, self.now())
        })
    }

    /// F6: enables or disables a schedule.
    ///
    /// # Errors
    /// `ScheduleNotFound`; `Database` or `Connection`.
    pub fn set_schedule_enabled(
        &self,
        id: ScheduleId,
        enabled: bool,
    ) -> Result<ScheduleRecord, Error> {
        self.change_schedule(id, |known| schedule::switched(known, enabled, self.now()))
    }

    /// Deletes a schedule. Its history can still be read.
    ///
    /// # Errors
    /// `ScheduleNotFound`; `Database` or `Connection`.
    pub fn delete_schedule(&self, id: ScheduleId) -> Result<ScheduleRecord, Error> {
        self.change_schedule(id, |known| Ok(schedule::deleted(known, self.now())))
    }

    /// Enables or disables a trigger, for all runners.
    ///
    /// # Errors
    /// `ScheduleNotFound`; `Database` or `Connection`.
    pub fn set_trigger_enabled(&self, name: &str, enabled: bool) -> Result<ScheduleRecord, Error> {
        let find = |store: &dyn Store| {
            let found = store.schedule_of(ScheduleKind::Trigger, name)?;
            found.ok_or_else(|| {
                Error::new(
                    ErrorCode::ScheduleNotFound,
                    format!("there is no trigger '{name}'"),
                )
                .with_hint("a trigger is stored when a program that defines it starts a runner")
            })
        };
        let change = |known: &ScheduleRecord| schedule::switched(known, enabled, self.now());
        let changed = schedule_rows::change(&*self.store, find, change)?;
        self.notify_runners();
        Ok(changed)
    }

    pub(super) fn change_schedule(
        &self,
        id: ScheduleId,
        change: impl Fn(&ScheduleRecord) -> Result<ScheduleRecord, Error>,
    ) -> Result<ScheduleRecord, Error> {
        let find = |store: &dyn Store| schedule_rows::existing(store, ScheduleKind::Cron, id);
        let changed = schedule_rows::change(&*self.store, find, change)?;
        self.notify_runners();
        Ok(changed)
    }

    pub(super) fn notify_runners(&self) {
        // The change is committed. Without the notification the runners find it at their next poll, so this is not an error.
        if let Err(error) = self.store.notify_peers() {
            tracing::debug!(%error, "cannot notify the other runners of a change to a schedule");
        }
    }

    /// Starts a schedule's workflow once, now, regardless of its catch-up and overlap rules. The next tick is unchanged. The
    /// execution runs as soon as a runner has handlers for its tasks.
    ///
    /// # Errors
    /// `ScheduleNotFound`; `WorkflowNotFound`; `Database` or `Connection`.
    pub fn run_schedule_now(&self, id: ScheduleId) -> Result<ExecutionId, Error> {
        run_schedule_directly(&*self.store, &*self.clock, id, |name| {
            self.latest_workflow(name)
        })
    }

    /// The latest stored version of a workflow, if there is one.
    pub(super) fn latest_workflow(
        &self,
        name: &str,
    ) -> Result<Option<(DefinitionId, Arc<Workflow>)>, Error> {
        let latest = self.latest(name)?;
        latest
            .map(|stored| Ok((stored.id, self.workflow(stored.id, Some(&stored.body))?)))
            .transpose()
    }

    /// Whether a program has stored a definition of a workflow in this database.
    ///
    /// # Errors
    /// `Database` or `Connection` when the database fails or does not answer.
    pub fn is_workflow_stored(&self, workflow: &str) -> Result<bool, Error> {
        Ok(self.latest(workflow)?.is_some())
    }

    pub(super) fn latest(&self, workflow: &str) -> Result<Option<StoredDefinition>, Error> {
        let versions = self.store.versions(DefinitionId(0))?;
        let mut of_name = versions.iter().filter(|known| known.workflow == workflow);
        match of_name.next_back() {
            Some(newest) => Ok(self.store.definition(newest.id)?),
            None => Ok(None),
        }
    }

    /// Returns the history of a schedule or a trigger, newest first. It may be a deleted one.
    ///
    /// `limit`: maximum number of ticks; `offset`: number of newest ticks to leave out.
    ///
    /// # Errors
    /// `ScheduleNotFound` when no schedule ever had the id; `Database` or `Connection`.
    pub fn schedule_history(
        &self,
        id: ScheduleId,
        limit: usize,
        offset: usize,
    ) -> Result<Vec<TickRecord>, Error> {
        let ticks = self.store.ticks(id, limit, offset)?;
        if ticks.is_empty() && self.store.schedule(id)?.is_none() {
            schedule_rows::existing(&*self.store, ScheduleKind::Cron, id)?;
        }
        Ok(ticks)
    }

    /// Counts the ticks of all schedules, or the polls of all triggers, since a time, by outcome.
    ///
    /// # Errors
    /// `Database` or `Connection` when the database fails or does not answer.
    pub fn count_ticks(&self, kind: ScheduleKind, since: Timestamp) -> Result<TickCounts, Error> {
        let mut counts = TickCounts::default();
        for (outcome, count) in self.store.count_ticks(kind, since)? {
            *match outcome {
                TickOutcome::Fired => &mut counts.fired,
                TickOutcome::Missed => &mut counts.missed,
                TickOutcome::Skipped => &mut counts.skipped,
                TickOutcome::Overlapped => &mut counts.overlapped,
                TickOutcome::Queued => &mut counts.queued,
                TickOutcome::Failed => &mut counts.failed,
            } += count;
        }
        Ok(counts)
    }

    /// Returns the reasons why a schedule or a trigger waits or no longer fires: see [`explain_schedule`]. `None` when nothing
    /// has the id.
    ///
    /// `own`: names of this process's workflows, which may not be stored in the database yet.
    ///
    /// # Errors
    /// `Database` or `Connection` when the database fails or does not answer.
    pub fn explain_schedule(
        &self,
        id: ScheduleId,
        own: &[String],
    ) -> Result<Option<Vec<ScheduleReason>>, Error> {
        let Some(record) = self.store.schedule(id)? else {
            return Ok(None);
        };
        let is_known =
            own.contains(&record.workflow) || self.is_workflow_stored(&record.workflow)?;
        let runners: Vec<Presence> = self
            .runners()?
            .into_iter()
            .map(|view| view.presence)
            .collect();
        let pending = match record.spec.after {
            Some(_) => {
                let ends = (self.store).pending_ends(id, Timestamp(i64::MAX), MAX_PENDING)?;
                ends.len()
            }
            None => 0,
        };
        let input = ScheduleDiagnosisInput {
            pending,
            is_workflow_known: is_known,
            runners: &runners,
            now: self.now(),
        };
        Ok(Some(explain_schedule(&record, &input)))
    }
}
