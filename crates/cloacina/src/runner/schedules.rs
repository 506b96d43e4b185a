//! Reads and changes schedules and triggers in a database, without a runner.

use std::sync::Arc;

use super::Inspector;
use crate::engine::schedule;
use crate::engine::{ScheduleDiagnosisInput, ScheduleReason, explain_schedule};
use crate::runtime::{run_schedule_directly, schedule_rows};
use crate::store::{ScheduleQuery, Store, StoredDefinition};
use crate::types::{
    Audit, DefinitionId, Error, ErrorCode, ExecutionId, Presence, ScheduleId, ScheduleKind,
    ScheduleRecord, Switch, TickOutcome, TickRecord, Timestamp,
};
use crate::workflow::Workflow;

/// Maximum count of ended executions that a trigger has not processed yet. `explain` stops counting at this number.
const MAX_PENDING: usize = 1_000;

/// The number of ticks since a time, by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TickCounts {
    /// Ticks that started an execution.
    pub fired: u64,
    /// Ticks that were due while no runner was live, and that the catch-up rule did not fire later.
    pub missed: u64,
    /// Ticks that started nothing because no program had stored the workflow, or because an execution already had the key with
    /// which a trigger fired.
    pub skipped: u64,
    /// Ticks that the overlap rule skipped.
    pub overlapped: u64,
    /// Ticks that wait for the end of an earlier execution.
    pub queued: u64,
    /// Polls in which the trigger's function raised an exception.
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

    /// Returns a schedule or a trigger.
    ///
    /// # Errors
    /// `ScheduleNotFound` for an unknown id, or for a deleted schedule or trigger; `Database` or `Connection`.
    pub fn schedule_or_trigger(&self, id: ScheduleId) -> Result<ScheduleRecord, Error> {
        existing_of_any_kind(&*self.store, id)
    }

    /// Returns schedules or triggers, oldest first. Deleted schedules and triggers are left out.
    ///
    /// `limit`: maximum number of rows; `offset`: number of rows to leave out at the start.
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
            after: None,
            descending: false,
        };
        Ok(self.store.schedules(&query)?)
    }

    /// Returns at most `limit` schedules or triggers, oldest first, or newest first if `descending`. The list continues after
    /// the schedule or trigger `after`, which may have been deleted; `None`: it starts at the first row.
    ///
    /// # Errors
    /// `Database` or `Connection` when the database fails or does not answer.
    pub fn schedules_from(
        &self,
        kind: ScheduleKind,
        enabled_only: bool,
        after: Option<ScheduleId>,
        descending: bool,
        limit: usize,
    ) -> Result<Vec<ScheduleRecord>, Error> {
        let query = ScheduleQuery {
            kind,
            enabled_only,
            limit,
            offset: 0,
            after,
            descending,
        };
        Ok(self.store.schedules(&query)?)
    }

    /// Returns the trigger that has this name, or `None` if there is none.
    ///
    /// # Errors
    /// `Database` or `Connection` when the database fails or does not answer.
    pub fn trigger(&self, name: &str) -> Result<Option<ScheduleRecord>, Error> {
        Ok(self.store.schedule_of(ScheduleKind::Trigger, name)?)
    }

    /// Changes a schedule's expression, its time zone, or both; `None` leaves a value unchanged. The next tick is recomputed.
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

    /// Enables or disables a schedule or a trigger, for all runners, and records in its state who did so, and why.
    ///
    /// `check` receives the stored schedule or trigger. If it returns an error, nothing changes.
    ///
    /// # Errors
    /// The errors of `check`; `ScheduleNotFound`; `Database` or `Connection`.
    pub fn set_schedule_enabled_as(
        &self,
        id: ScheduleId,
        enabled: bool,
        audit: &Audit,
        check: impl Fn(&ScheduleRecord) -> Result<(), Error>,
    ) -> Result<ScheduleRecord, Error> {
        let find = |store: &dyn Store| existing_of_any_kind(store, id);
        let change = |known: &ScheduleRecord| {
            check(known)?;
            let now = self.now();
            let mut record = schedule::switched(known, enabled, now)?;
            record.state.switched = Some(switch(audit, now));
            Ok(record)
        };
        let changed = schedule_rows::change(&*self.store, find, change)?;
        self.notify_runners();
        Ok(changed)
    }

    /// Deletes a schedule. The history of its ticks can still be read.
    ///
    /// # Errors
    /// `ScheduleNotFound`; `Database` or `Connection`.
    pub fn delete_schedule(&self, id: ScheduleId) -> Result<ScheduleRecord, Error> {
        self.delete_schedule_if(id, |_| Ok(()))
    }

    /// Deletes a schedule like [`delete_schedule`](Self::delete_schedule). `check` receives the stored schedule. If it returns
    /// an error, the schedule is not deleted.
    ///
    /// # Errors
    /// The errors of `check`; `ScheduleNotFound`; `Database` or `Connection`.
    pub fn delete_schedule_if(
        &self,
        id: ScheduleId,
        check: impl Fn(&ScheduleRecord) -> Result<(), Error>,
    ) -> Result<ScheduleRecord, Error> {
        self.change_schedule(id, |known| {
            check(known)?;
            Ok(schedule::deleted(known, self.now()))
        })
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
                .with_hint("start a runner in the program that defines the trigger, so that the trigger is stored")
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

    /// Starts a schedule's workflow once, immediately. The schedule's catch-up and overlap rules do not apply, and its next
    /// tick does not change. The execution runs as soon as a runner has handlers for its tasks.
    ///
    /// # Errors
    /// `ScheduleNotFound`; `WorkflowNotFound`; `WorkflowInvalid` if this release cannot run the workflow; `Database` or
    /// `Connection`.
    pub fn run_schedule_now(&self, id: ScheduleId) -> Result<ExecutionId, Error> {
        self.run_schedule_now_as(id, &Audit::default())
    }

    /// Starts a schedule's workflow like [`run_schedule_now`](Self::run_schedule_now), and records in the history of the
    /// execution who started it, and why.
    ///
    /// # Errors
    /// See [`run_schedule_now`](Self::run_schedule_now).
    pub fn run_schedule_now_as(&self, id: ScheduleId, audit: &Audit) -> Result<ExecutionId, Error> {
        let started = run_schedule_directly(&*self.store, &*self.clock, id, audit, |name| {
            self.latest_workflow(name)
        })?;
        self.notify_own_runner();
        Ok(started)
    }

    /// Returns the latest stored version of a workflow, if the workflow is stored.
    pub(super) fn latest_workflow(
        &self,
        name: &str,
    ) -> Result<Option<(DefinitionId, Arc<Workflow>)>, Error> {
        let latest = self.latest(name)?;
        latest
            .map(|stored| Ok((stored.id, self.workflow(stored.id, Some(&stored.body))?)))
            .transpose()
    }

    /// Returns whether a program has stored a definition of a workflow in this database.
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

    /// Returns the history of a schedule or a trigger, newest first. This works for deleted schedules and triggers too.
    ///
    /// `limit`: maximum number of ticks; `offset`: number of newest ticks to leave out.
    ///
    /// # Errors
    /// `ScheduleNotFound` when no schedule or trigger, not even a deleted one, has the id; `Database` or `Connection`.
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

    /// Returns at most `limit` ticks of a schedule or a trigger that were due before the given time, newest first. If
    /// `ascending`, returns ticks that were due after this time, oldest first. This works for deleted schedules and triggers
    /// too.
    ///
    /// # Errors
    /// `ScheduleNotFound` when no schedule or trigger, not even a deleted one, has the id; `Database` or `Connection`.
    pub fn schedule_history_from(
        &self,
        id: ScheduleId,
        from: Timestamp,
        ascending: bool,
        limit: usize,
    ) -> Result<Vec<TickRecord>, Error> {
        let ticks = self.store.ticks_from(id, from, ascending, limit)?;
        if ticks.is_empty() && self.store.schedule(id)?.is_none() {
            schedule_rows::existing(&*self.store, ScheduleKind::Cron, id)?;
        }
        Ok(ticks)
    }

    /// Counts the ticks of all schedules, or the polls of all triggers, since the given time, by outcome.
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

    /// Returns the reasons why a schedule or a trigger waits or no longer fires: see [`explain_schedule`]. `None` if no
    /// schedule or trigger has the id.
    ///
    /// `own`: the names of this process's workflows. They may not be stored in the database yet.
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

/// Returns the record of who enabled or disabled a schedule or a trigger, when and why.
pub(super) fn switch(audit: &Audit, now: Timestamp) -> Switch {
    Switch {
        at: now,
        by: audit.actor.clone(),
        note: audit.note.clone(),
    }
}

/// Returns a schedule or a trigger that is not deleted.
fn existing_of_any_kind(store: &dyn Store, id: ScheduleId) -> Result<ScheduleRecord, Error> {
    let known = store.schedule(id)?;
    let kind = known.map_or(ScheduleKind::Cron, |record| record.kind);
    schedule_rows::existing(store, kind, id)
}
