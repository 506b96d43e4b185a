//! Registers and changes schedules and triggers through a runner.

use super::EngineHandle;
use super::open_options::wait_for;
use crate::engine::schedule::{self, NewSchedule};
use crate::engine::trigger::{NewTrigger, PollOutcome};
use crate::runtime::{Answer, Message, PollToken, schedule_rows};
use crate::types::{Error, ExecutionId, ScheduleId, ScheduleRecord};

impl EngineHandle {
    /// F5: registers a schedule. Registering the same workflow, expression, time zone and instance name again returns the same
    /// schedule and updates its options; it stays enabled or disabled as it was.
    ///
    /// # Errors
    /// `ScheduleInvalid` for an invalid option; `Database` or `Connection`; `RunnerClosed`.
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

    /// See [`Inspector::update_schedule`](super::Inspector::update_schedule).
    ///
    /// # Errors
    /// The errors of that method, and `RunnerClosed`.
    pub fn update_schedule(
        &self,
        id: ScheduleId,
        expression: Option<&str>,
        timezone: Option<&str>,
    ) -> Result<ScheduleRecord, Error> {
        self.reschedule(|| self.inspector().update_schedule(id, expression, timezone))
    }

    /// See [`Inspector::set_schedule_enabled`](super::Inspector::set_schedule_enabled).
    ///
    /// # Errors
    /// The errors of that method, and `RunnerClosed`.
    pub fn set_schedule_enabled(
        &self,
        id: ScheduleId,
        enabled: bool,
    ) -> Result<ScheduleRecord, Error> {
        self.reschedule(|| self.inspector().set_schedule_enabled(id, enabled))
    }

    /// See [`Inspector::delete_schedule`](super::Inspector::delete_schedule).
    ///
    /// # Errors
    /// The errors of that method, and `RunnerClosed`.
    pub fn delete_schedule(&self, id: ScheduleId) -> Result<ScheduleRecord, Error> {
        self.reschedule(|| self.inspector().delete_schedule(id))
    }

    /// Starts a schedule's workflow once, now, regardless of its catch-up and overlap rules. The next tick is unchanged.
    ///
    /// # Errors
    /// `ScheduleNotFound`; `WorkflowNotFound`; `Database` or `Connection`; `RunnerClosed`.
    pub fn run_schedule_now(&self, id: ScheduleId) -> Result<ExecutionId, Error> {
        wait_for(&self.begin_run_schedule_now(id))
    }

    /// Starts [`run_schedule_now`](Self::run_schedule_now) and returns its pending answer.
    pub fn begin_run_schedule_now(&self, id: ScheduleId) -> Answer<ExecutionId> {
        let give_up = self.give_up();
        self.ask(|reply| Message::RunNow {
            schedule: id,
            give_up,
            reply,
        })
    }

    /// G1: begins to register a trigger, and returns the pending answer. `handler` is the number by which this program
    /// identifies the trigger's function. Polls arrive in [`queues().polls()`](crate::runtime::WorkQueues::polls);
    /// report their outcomes with [`end_poll`](Self::end_poll).
    pub fn begin_register_trigger(&self, trigger: NewTrigger, handler: u64) -> Answer<ScheduleId> {
        self.ask(|reply| Message::RegisterTrigger {
            trigger,
            handler: Some(handler),
            reply,
        })
    }

    /// G4: starts to register a trigger without a function, which fires after each end that it follows, and returns the
    /// pending answer.
    pub fn begin_register_follower(&self, trigger: NewTrigger) -> Answer<ScheduleId> {
        self.ask(|reply| Message::RegisterTrigger {
            trigger,
            handler: None,
            reply,
        })
    }

    /// Reports the outcome of a poll.
    pub fn end_poll(&self, token: PollToken, outcome: PollOutcome) {
        self.report(Message::Polled { token, outcome });
    }

    /// See [`Inspector::set_trigger_enabled`](super::Inspector::set_trigger_enabled).
    ///
    /// # Errors
    /// The errors of that method, and `RunnerClosed`.
    pub fn set_trigger_enabled(&self, name: &str, enabled: bool) -> Result<ScheduleRecord, Error> {
        self.reschedule(|| self.inspector().set_trigger_enabled(name, enabled))
    }

    /// Makes a change and notifies the coordinator at once.
    fn reschedule<T>(&self, change: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        self.check_open()?;
        let changed = change()?;
        self.report(Message::Rescheduled);
        Ok(changed)
    }

    fn check_open(&self) -> Result<(), Error> {
        if self.is_closed() {
            Err(Error::runner_closed())
        } else {
            Ok(())
        }
    }
}
