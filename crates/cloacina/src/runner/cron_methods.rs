//! The methods of [`DefaultRunner`] for schedules.

use super::DefaultRunner;
use super::cron_schedule::{CronSchedule, CronScheduleInfo, CronStats, CronTick};
use crate::runtime::Message;
use crate::types::{Error, ExecutionId, ScheduleId, ScheduleKind, Timestamp};

impl DefaultRunner {
    /// Registers a schedule that starts a workflow at the times of a cron expression, with the default options of
    /// [`CronSchedule`]. Returns the schedule's id.
    ///
    /// Every runner on the database can fire the schedule; each tick fires once. A program can register the same workflow,
    /// expression and time zone again, for example at each start. Each call returns the id of the same schedule.
    ///
    /// # Errors
    /// The errors of [`add_cron_schedule`](Self::add_cron_schedule).
    ///
    /// # Examples
    ///
    #[cfg_attr(feature = "sqlite", doc = "```")]
    #[cfg_attr(not(feature = "sqlite"), doc = "```ignore")]
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), cloacina::Error> {
    /// # let runner = cloacina::DefaultRunner::new(":memory:").await?;
    /// let id = runner.register_cron_workflow("etl", "30 2 * * *", "Europe/Berlin").await?;
    /// let again = runner.register_cron_workflow("etl", "30 2 * * *", "Europe/Berlin").await?;
    /// assert_eq!(id, again);
    /// # runner.shutdown().await
    /// # }
    /// ```
    ///
    /// Since 1.0.
    pub async fn register_cron_workflow(
        &self,
        workflow: impl AsRef<str>,
        expression: impl Into<String>,
        timezone: impl Into<String>,
    ) -> Result<ScheduleId, Error> {
        let schedule = CronSchedule::new(workflow, expression).timezone(timezone);
        self.add_cron_schedule(schedule).await
    }

    /// Registers a schedule and returns its id. If a schedule with the same workflow, expression, time zone and instance
    /// name exists, updates the options of that schedule and returns its id. This neither enables nor disables the existing
    /// schedule.
    ///
    /// # Errors
    /// `ScheduleInvalid` for an invalid expression, time zone or option, or an expression that never fires;
    /// `WorkflowInputInvalid` if the workflow is defined in this process and the input does not have the type that its
    /// `input:` declares; `Database` or `Connection`; `RunnerClosed`.
    ///
    /// Since 1.0.
    pub async fn add_cron_schedule(&self, schedule: CronSchedule) -> Result<ScheduleId, Error> {
        let options = schedule.into_options()?;
        let record = self
            .engine()
            .read(move |engine| engine.register_schedule(&options))
            .await?;
        Ok(record.id)
    }

    /// Returns the schedules, oldest first. `enabled_only` leaves out disabled schedules.
    ///
    /// # Errors
    /// `Database` or `Connection` when the database fails or does not answer.
    ///
    /// Since 1.0.
    pub async fn list_cron_schedules(
        &self,
        enabled_only: bool,
    ) -> Result<Vec<CronScheduleInfo>, Error> {
        let no_limit = usize::try_from(i64::MAX).unwrap_or(usize::MAX);
        let records = self
            .engine()
            .read(move |engine| {
                engine
                    .inspector()
                    .schedules(ScheduleKind::Cron, enabled_only, no_limit, 0)
            })
            .await?;
        Ok(records.into_iter().map(CronScheduleInfo::new).collect())
    }

    /// Returns a schedule.
    ///
    /// # Errors
    /// `ScheduleNotFound`; `Database` or `Connection`.
    ///
    /// Since 1.0.
    pub async fn get_cron_schedule(&self, id: ScheduleId) -> Result<CronScheduleInfo, Error> {
        let record = self
            .engine()
            .read(move |engine| engine.inspector().schedule(id))
            .await?;
        Ok(CronScheduleInfo::new(record))
    }

    /// Changes a schedule's expression, its time zone, or both; `None` leaves a value unchanged. The next tick is recomputed.
    ///
    /// # Errors
    /// `ScheduleNotFound`; `ScheduleInvalid` for an invalid expression or time zone, or if another schedule with the same
    /// workflow and instance name has this expression and time zone; `Database` or `Connection`; `RunnerClosed`.
    ///
    /// Since 1.0.
    pub async fn update_cron_schedule(
        &self,
        id: ScheduleId,
        expression: Option<&str>,
        timezone: Option<&str>,
    ) -> Result<CronScheduleInfo, Error> {
        let expression = expression.map(str::to_owned);
        let timezone = timezone.map(str::to_owned);
        let update = move |engine: &super::EngineHandle| {
            engine.update_schedule(id, expression.as_deref(), timezone.as_deref())
        };
        Ok(CronScheduleInfo::new(self.engine().read(update).await?))
    }

    /// Enables or disables a schedule. Ticks that are due while the schedule is disabled never fire.
    ///
    /// # Errors
    /// `ScheduleNotFound`; `Database` or `Connection`; `RunnerClosed`.
    ///
    /// Since 1.0.
    pub async fn set_cron_schedule_enabled(
        &self,
        id: ScheduleId,
        enabled: bool,
    ) -> Result<CronScheduleInfo, Error> {
        let record = self
            .engine()
            .read(move |engine| engine.set_schedule_enabled(id, enabled))
            .await?;
        Ok(CronScheduleInfo::new(record))
    }

    /// Deletes a schedule. The history of its ticks can be read until it is pruned.
    ///
    /// # Errors
    /// `ScheduleNotFound`; `Database` or `Connection`; `RunnerClosed`.
    ///
    /// Since 1.0.
    pub async fn delete_cron_schedule(&self, id: ScheduleId) -> Result<(), Error> {
        self.engine()
            .read(move |engine| engine.delete_schedule(id).map(drop))
            .await
    }

    /// Starts a schedule's workflow once, immediately. The schedule's catch-up and overlap rules do not apply, and its next
    /// tick does not change.
    ///
    /// # Errors
    /// `ScheduleNotFound`; `WorkflowNotFound` when no program has stored a definition of the workflow; `Database` or
    /// `Connection`; `RunnerClosed`.
    ///
    /// Since 1.0.
    pub async fn run_cron_schedule_now(&self, id: ScheduleId) -> Result<ExecutionId, Error> {
        let give_up = self.engine().handle().give_up();
        self.engine()
            .ask(|reply| Message::RunNow {
                schedule: id,
                give_up,
                reply,
            })
            .await
    }

    /// Explains what a schedule waits for, or why it no longer fires. Returns one sentence for each reason.
    ///
    /// # Errors
    /// `ScheduleNotFound` when no schedule, not even a deleted one, has the id; `Database` or `Connection`.
    ///
    /// Since 1.0.
    pub async fn explain_cron_schedule(&self, id: ScheduleId) -> Result<Vec<String>, Error> {
        self.engine()
            .read(move |engine| {
                let own: Vec<String> = engine.own_handlers.lock().keys().cloned().collect();
                let inspector = engine.inspector();
                match inspector.explain_schedule(id, &own)? {
                    Some(reasons) => {
                        let now = engine.now();
                        Ok(reasons.iter().map(|reason| reason.sentence(now)).collect())
                    }
                    None => inspector.schedule(id).map(|_| Vec::new()),
                }
            })
            .await
    }

    /// Returns the last ticks of a schedule with their outcomes, newest first. This works for deleted schedules too.
    ///
    /// `limit`: maximum number of ticks; `offset`: number of newest ticks to leave out.
    ///
    /// # Errors
    /// `ScheduleNotFound` when no schedule, not even a deleted one, has the id; `Database` or `Connection`.
    ///
    /// Since 1.0.
    pub async fn get_cron_execution_history(
        &self,
        id: ScheduleId,
        limit: usize,
        offset: usize,
    ) -> Result<Vec<CronTick>, Error> {
        let ticks = self
            .engine()
            .read(move |engine| engine.inspector().schedule_history(id, limit, offset))
            .await?;
        Ok(ticks.into_iter().map(CronTick::new).collect())
    }

    /// Counts the ticks of all schedules since the given time, by outcome.
    ///
    /// # Errors
    /// `Database` or `Connection` when the database fails or does not answer.
    ///
    /// Since 1.0.
    pub async fn get_cron_execution_stats(
        &self,
        since: impl Into<Timestamp>,
    ) -> Result<CronStats, Error> {
        let since = since.into();
        let counts = self
            .engine()
            .read(move |engine| engine.inspector().count_ticks(ScheduleKind::Cron, since))
            .await?;
        Ok(CronStats::new(counts))
    }
}
