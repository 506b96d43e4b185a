//! Registers and changes schedules and triggers through a runner.

use super::EngineHandle;
use super::open_options::wait_for;
use crate::engine::schedule::{self, NewSchedule};
use crate::engine::trigger::{NewTrigger, PollOutcome};
use crate::runtime::{Answer, Message, PollToken, schedule_rows};
use crate::types::{Error, ExecutionId, ScheduleId, ScheduleRecord};

impl EngineHandle {
    /// F5: registers a schedule. If a schedule with the same workflow, expression, time zone and instance name exists,
    /// updates the options of that schedule and returns it. This neither enables nor disables the existing schedule.
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

    /// Changes a schedule's expression or time zone: see [`Inspector::update_schedule`](super::Inspector::update_schedule).
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

    /// Enables or disables a schedule: see [`Inspector::set_schedule_enabled`](super::Inspector::set_schedule_enabled).
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

    /// Deletes a schedule: see [`Inspector::delete_schedule`](super::Inspector::delete_schedule).
    ///
    /// # Errors
    /// The errors of that method, and `RunnerClosed`.
    pub fn delete_schedule(&self, id: ScheduleId) -> Result<ScheduleRecord, Error> {
        self.reschedule(|| self.inspector().delete_schedule(id))
    }

    /// Starts a schedule's workflow once, immediately. The schedule's catch-up and overlap rules do not apply, and its next
    /// tick does not change.
    ///
    /// # Errors
    /// `ScheduleNotFound`; `WorkflowNotFound`; `Database` or `Connection`; `RunnerClosed`.
    pub fn run_schedule_now(&self, id: ScheduleId) -> Result<ExecutionId, Error> {
        wait_for(&self.begin_run_schedule_now(id))
    }

    /// Starts [`run_schedule_now`](Self::run_schedule_now) and returns the pending answer.
    pub fn begin_run_schedule_now(&self, id: ScheduleId) -> Answer<ExecutionId> {
        let give_up = self.give_up();
        self.ask(|reply| Message::RunNow {
            schedule: id,
            give_up,
            reply,
        })
    }

    /// G1: starts to register a trigger, and returns the pending answer. `handler` is a number with which this program
    /// identifies the trigger's function. Polls of the trigger arrive in
    /// [`queues().polls()`](crate::runtime::WorkQueues::polls). Report the outcome of each poll with
    /// [`end_poll`](Self::end_poll).
    pub fn begin_register_trigger(&self, trigger: NewTrigger, handler: u64) -> Answer<ScheduleId> {
        self.ask(|reply| Message::RegisterTrigger {
            trigger,
            handler: Some(handler),
            reply,
        })
    }

    /// G4: starts to register a trigger without a function, and returns the pending answer. The trigger fires at the end of
    /// each execution of the workflow that it follows.
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

    /// Enables or disables a trigger: see [`Inspector::set_trigger_enabled`](super::Inspector::set_trigger_enabled).
    ///
    /// # Errors
    /// The errors of that method, and `RunnerClosed`.
    pub fn set_trigger_enabled(&self, name: &str, enabled: bool) -> Result<ScheduleRecord, Error> {
        self.reschedule(|| self.inspector().set_trigger_enabled(name, enabled))
    }

    /// Calls `change`, which changes a schedule or a trigger, and then notifies this runner's coordinator.
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
