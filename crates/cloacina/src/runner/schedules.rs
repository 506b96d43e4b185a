//! Schedules and triggers as a database has them: read and changed without a runner.

use super::Inspector;
use crate::engine::schedule;
use crate::engine::{ScheduleDiagnosisInput, ScheduleReason, explain_schedule};
use crate::runtime::{run_schedule_directly, schedule_rows};
use crate::store::{ScheduleQuery, Store, StoredDefinition};
use crate::types::{
    DefinitionId, Error, ErrorCode, ExecutionId, Presence, ScheduleId, ScheduleKind,
    ScheduleRecord, TickOutcome, TickRecord, Timestamp,
};

/// What became of ticks since some time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TickCounts {
    /// They started an execution.
    pub fired: u64,
    /// Nobody was there, and the catch-up rule left them out.
    pub missed: u64,
    /// Their workflow was not known.
    pub skipped: u64,
    /// An execution was open.
    pub overlapped: u64,
    /// They wait for an execution's end.
    pub queued: u64,
    /// The trigger's function raised.
    pub failed: u64,
}

impl Inspector {
    /// A schedule.
    ///
    /// # Errors
    /// `ScheduleNotFound` for an unknown or a deleted one, or a database in trouble.
    pub fn schedule(&self, id: ScheduleId) -> Result<ScheduleRecord, Error> {
        schedule_rows::existing(&*self.store, ScheduleKind::Cron, id)
    }

    /// Schedules or triggers, oldest first, without deleted ones.
    ///
    /// # Errors
    /// When the database is in trouble.
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

    /// A trigger by its name.
    ///
    /// # Errors
    /// When the database is in trouble.
    pub fn trigger(&self, name: &str) -> Result<Option<ScheduleRecord>, Error> {
        Ok(self.store.schedule_of(ScheduleKind::Trigger, name)?)
    }

    /// Gives a schedule another expression or zone; its next tick is that of the new one.
    ///
    /// # Errors
    /// `ScheduleInvalid` or `ScheduleNotFound`, or a database in trouble.
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

    /// F6: switches a schedule on or off.
    ///
    /// # Errors
    /// `ScheduleNotFound`, or a database in trouble.
    pub fn set_schedule_enabled(
        &self,
        id: ScheduleId,
        enabled: bool,
    ) -> Result<ScheduleRecord, Error> {
        self.change_schedule(id, |known| schedule::switched(known, enabled, self.now()))
    }

    /// Deletes a schedule. Its history stays readable.
    ///
    /// # Errors
    /// `ScheduleNotFound`, or a database in trouble.
    pub fn delete_schedule(&self, id: ScheduleId) -> Result<ScheduleRecord, Error> {
        self.change_schedule(id, |known| Ok(schedule::deleted(known, self.now())))
    }

    /// Switches a trigger on or off, for all runners.
    ///
    /// # Errors
    /// `ScheduleNotFound`, or a database in trouble.
    pub fn set_trigger_enabled(&self, name: &str, enabled: bool) -> Result<ScheduleRecord, Error> {
        let find = |store: &dyn Store| {
            let found = store.schedule_of(ScheduleKind::Trigger, name)?;
            found.ok_or_else(|| {
                Error::new(
                    ErrorCode::ScheduleNotFound,
                    format!("there is no trigger '{name}'"),
                )
                .with_hint("a trigger is stored when a runner starts in a program that has it")
            })
        };
        let change = |known: &ScheduleRecord| schedule::switched(known, enabled, self.now());
        let changed = schedule_rows::change(&*self.store, find, change)?;
        self.tell_others();
        Ok(changed)
    }

    fn change_schedule(
        &self,
        id: ScheduleId,
        change: impl Fn(&ScheduleRecord) -> Result<ScheduleRecord, Error>,
    ) -> Result<ScheduleRecord, Error> {
        let find = |store: &dyn Store| schedule_rows::existing(store, ScheduleKind::Cron, id);
        let changed = schedule_rows::change(&*self.store, find, change)?;
        self.tell_others();
        Ok(changed)
    }

    fn tell_others(&self) {
        // It is written: that others hear of it late is no reason to say it was not.
        if let Err(error) = self.store.tell_others() {
            tracing::debug!(%error, "other runners notice the change late");
        }
    }

    /// Starts a schedule's workflow once, now, whatever its rules say; its next tick stays. A runner that has its tasks
    /// takes them up.
    ///
    /// # Errors
    /// `ScheduleNotFound`, `WorkflowNotFound`, or a database in trouble.
    pub fn run_schedule_now(&self, id: ScheduleId) -> Result<ExecutionId, Error> {
        run_schedule_directly(&*self.store, &*self.clock, id, |name| {
            let latest = self.latest(name)?;
            latest
                .map(|stored| Ok((stored.id, self.workflow(stored.id, Some(&stored.body))?)))
                .transpose()
        })
    }

    /// Whether a program has stored a definition of a workflow in this database.
    ///
    /// # Errors
    /// When the database is in trouble.
    pub fn is_workflow_stored(&self, workflow: &str) -> Result<bool, Error> {
        Ok(self.latest(workflow)?.is_some())
    }

    fn latest(&self, workflow: &str) -> Result<Option<StoredDefinition>, Error> {
        let versions = self.store.versions(DefinitionId(0))?;
        let mut of_name = versions.iter().filter(|known| known.workflow == workflow);
        match of_name.next_back() {
            Some(newest) => Ok(self.store.definition(newest.id)?),
            None => Ok(None),
        }
    }

    /// The history of a schedule or a trigger, newest first, also of a deleted one.
    ///
    /// # Errors
    /// `ScheduleNotFound` for an id that never was one, or a database in trouble.
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

    /// What became of the ticks of all schedules, or the polls of all triggers, since a time.
    ///
    /// # Errors
    /// When the database is in trouble.
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

    /// What a schedule or a trigger waits for, or why it fires no more: see [`explain_schedule`]. `None`: no such id.
    ///
    /// `own` are names of workflows of this process that the database may not have been told of yet.
    ///
    /// # Errors
    /// When the database is in trouble.
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
        let input = ScheduleDiagnosisInput {
            is_workflow_known: is_known,
            runners: &runners,
            now: self.now(),
        };
        Ok(Some(explain_schedule(&record, &input)))
    }
}
