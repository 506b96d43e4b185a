//! Schedules and triggers, as programs register, change and read them.

use super::EngineHandle;
use super::engine_handle::{closed, settled};
use crate::engine::schedule::{self, NewSchedule};
use crate::engine::trigger::{NewTrigger, PollOutcome};
use crate::runtime::{Answer, Message, PollToken, schedule_rows};
use crate::store::ScheduleQuery;
use crate::types::{
    Error, ErrorCode, ExecutionId, ScheduleId, ScheduleKind, ScheduleRecord, TickOutcome,
    TickRecord, Timestamp,
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

impl EngineHandle {
    /// F5: registers a schedule. The same workflow, expression, zone and instance name give the same schedule again, with the
    /// new options; whether it is enabled stays as it is.
    ///
    /// # Errors
    /// `ScheduleInvalid` for what cannot be read or makes no sense, or a database in trouble.
    pub fn register_schedule(&self, new: &NewSchedule) -> Result<ScheduleRecord, Error> {
        self.check_open()?;
        let now = self.now();
        let record = new.record(ScheduleId::generate(), now)?;
        let cron = schedule::cron_of(&record)?;
        let registered = schedule_rows::register(&*self.store, &record, |known| {
            schedule::registered_again(known, &record, &cron, now)
        })?;
        self.report(Message::Rescheduled);
        Ok(registered)
    }

    /// Whether a program has stored a definition of a workflow in this database.
    ///
    /// # Errors
    /// When the database is in trouble.
    pub fn is_workflow_stored(&self, workflow: &str) -> Result<bool, Error> {
        let stored = self.store.definitions(crate::types::DefinitionId(0))?;
        Ok(stored.iter().any(|known| known.workflow == workflow))
    }

    /// A schedule.
    ///
    /// # Errors
    /// `ScheduleNotFound` for an unknown or a deleted one, or a database in trouble.
    pub fn schedule(&self, id: ScheduleId) -> Result<ScheduleRecord, Error> {
        schedule_rows::living(&*self.store, ScheduleKind::Cron, id)
    }

    /// Schedules, oldest first, without deleted ones.
    ///
    /// # Errors
    /// When the database is in trouble.
    pub fn schedules(
        &self,
        enabled_only: bool,
        limit: usize,
        offset: usize,
    ) -> Result<Vec<ScheduleRecord>, Error> {
        let query = ScheduleQuery {
            kind: ScheduleKind::Cron,
            enabled_only,
            limit,
            offset,
        };
        Ok(self.store.schedules(&query)?)
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
        let now = self.now();
        self.change_schedule(id, |known| {
            schedule::changed(known, expression, timezone, now)
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
        let now = self.now();
        self.change_schedule(id, |known| schedule::switched(known, enabled, now))
    }

    /// Deletes a schedule. Its history stays readable.
    ///
    /// # Errors
    /// `ScheduleNotFound`, or a database in trouble.
    pub fn delete_schedule(&self, id: ScheduleId) -> Result<ScheduleRecord, Error> {
        let now = self.now();
        self.change_schedule(id, |known| Ok(schedule::deleted(known, now)))
    }

    fn change_schedule(
        &self,
        id: ScheduleId,
        change: impl Fn(&ScheduleRecord) -> Result<ScheduleRecord, Error>,
    ) -> Result<ScheduleRecord, Error> {
        self.check_open()?;
        let find =
            |store: &dyn crate::store::Store| schedule_rows::living(store, ScheduleKind::Cron, id);
        let changed = schedule_rows::change(&*self.store, find, change)?;
        self.report(Message::Rescheduled);
        Ok(changed)
    }

    /// Starts a schedule's workflow once, now, whatever its rules say; its next tick stays.
    ///
    /// # Errors
    /// `ScheduleNotFound`, `WorkflowNotFound`, a database in trouble, or a closed runner.
    pub fn run_schedule_now(&self, id: ScheduleId) -> Result<ExecutionId, Error> {
        settled(&self.begin_run_schedule_now(id))
    }

    /// The beginning of [`run_schedule_now`](Self::run_schedule_now).
    pub fn begin_run_schedule_now(&self, id: ScheduleId) -> Answer<ExecutionId> {
        let give_up = self.give_up();
        self.ask(|reply| Message::RunNow {
            schedule: id,
            give_up,
            reply,
        })
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
            schedule_rows::living(&*self.store, ScheduleKind::Cron, id)?;
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

    /// G1: makes a trigger known, durably, with this program's number of its function. Its polls arrive in
    /// [`queues().polls()`](crate::runtime::WorkQueues::polls), and end by [`end_poll`](Self::end_poll).
    pub fn begin_register_trigger(&self, trigger: NewTrigger, handler: u64) -> Answer<ScheduleId> {
        self.ask(|reply| Message::RegisterTrigger {
            trigger,
            handler,
            reply,
        })
    }

    fn check_open(&self) -> Result<(), Error> {
        if self.is_closed() {
            Err(closed())
        } else {
            Ok(())
        }
    }

    /// Says how a poll ended.
    pub fn end_poll(&self, token: PollToken, outcome: PollOutcome) {
        self.report(Message::Polled { token, outcome });
    }

    /// A trigger by its name.
    ///
    /// # Errors
    /// When the database is in trouble.
    pub fn trigger(&self, name: &str) -> Result<Option<ScheduleRecord>, Error> {
        Ok(self.store.schedule_of(ScheduleKind::Trigger, name)?)
    }

    /// Triggers, oldest first.
    ///
    /// # Errors
    /// When the database is in trouble.
    pub fn triggers(
        &self,
        enabled_only: bool,
        limit: usize,
        offset: usize,
    ) -> Result<Vec<ScheduleRecord>, Error> {
        let query = ScheduleQuery {
            kind: ScheduleKind::Trigger,
            enabled_only,
            limit,
            offset,
        };
        Ok(self.store.schedules(&query)?)
    }

    /// Switches a trigger on or off, for all runners.
    ///
    /// # Errors
    /// `ScheduleNotFound`, or a database in trouble.
    pub fn set_trigger_enabled(&self, name: &str, enabled: bool) -> Result<ScheduleRecord, Error> {
        self.check_open()?;
        let now = self.now();
        let find = |store: &dyn crate::store::Store| {
            let found = store.schedule_of(ScheduleKind::Trigger, name)?;
            found.ok_or_else(|| {
                Error::new(
                    ErrorCode::ScheduleNotFound,
                    format!("there is no trigger '{name}'"),
                )
                .with_hint("a trigger is stored when a runner starts in a program that has it")
            })
        };
        let changed = schedule_rows::change(&*self.store, find, |known| {
            schedule::switched(known, enabled, now)
        })?;
        self.report(Message::Rescheduled);
        Ok(changed)
    }
}
