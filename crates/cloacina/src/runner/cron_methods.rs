//! What a [`DefaultRunner`] does with schedules.

use super::DefaultRunner;
use super::cron_schedule::{CronSchedule, CronScheduleInfo, CronStats, CronTick};
use crate::runtime::Message;
use crate::types::{Error, ExecutionId, ScheduleId, ScheduleKind, Timestamp};

impl DefaultRunner {
    /// Starts a workflow at the times of a cron expression, with the defaults of [`CronSchedule`]; the schedule's id.
    ///
    /// Every runner on the database fires it, and each tick once. Registering the same workflow, expression and zone
    /// again, e.g. at every start of a program, gives the same schedule.
    ///
    /// # Errors
    /// As for [`add_cron_schedule`](Self::add_cron_schedule).
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
    /// Since 0.1.
    pub async fn register_cron_workflow(
        &self,
        workflow: impl AsRef<str>,
        expression: impl Into<String>,
        timezone: impl Into<String>,
    ) -> Result<ScheduleId, Error> {
        let schedule = CronSchedule::new(workflow, expression).timezone(timezone);
        self.add_cron_schedule(schedule).await
    }

    /// Registers a schedule; its id. The same workflow, expression, zone and instance name give the same schedule again,
    /// with these options; whether it is enabled stays as it is.
    ///
    /// # Errors
    /// `ScheduleInvalid` for an expression, a zone or an option that cannot be read, or an expression that never fires;
    /// a database in trouble; `RunnerClosed`.
    ///
    /// Since 0.1.
    pub async fn add_cron_schedule(&self, schedule: CronSchedule) -> Result<ScheduleId, Error> {
        let record = self
            .engine()
            .read(move |engine| engine.register_schedule(schedule.inner()))
            .await?;
        Ok(record.id)
    }

    /// The schedules, oldest first.
    ///
    /// # Errors
    /// When the database is in trouble.
    ///
    /// Since 0.1.
    pub async fn list_cron_schedules(
        &self,
        enabled_only: bool,
    ) -> Result<Vec<CronScheduleInfo>, Error> {
        // More rows than any database holds.
        let all = usize::try_from(i64::MAX).unwrap_or(usize::MAX);
        let records = self
            .engine()
            .read(move |engine| {
                engine
                    .inspector()
                    .schedules(ScheduleKind::Cron, enabled_only, all, 0)
            })
            .await?;
        Ok(records.into_iter().map(CronScheduleInfo::new).collect())
    }

    /// A schedule.
    ///
    /// # Errors
    /// `ScheduleNotFound`, or a database in trouble.
    ///
    /// Since 0.1.
    pub async fn get_cron_schedule(&self, id: ScheduleId) -> Result<CronScheduleInfo, Error> {
        let record = self
            .engine()
            .read(move |engine| engine.inspector().schedule(id))
            .await?;
        Ok(CronScheduleInfo::new(record))
    }

    /// Gives a schedule another expression or zone. Its next tick is that of the new one.
    ///
    /// # Errors
    /// `ScheduleNotFound`; `ScheduleInvalid` for what cannot be read, or when another schedule has it already; a
    /// database in trouble; `RunnerClosed`.
    ///
    /// Since 0.1.
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

    /// Switches a schedule on or off. What was due while it was off is not caught up.
    ///
    /// # Errors
    /// `ScheduleNotFound`, a database in trouble, or `RunnerClosed`.
    ///
    /// Since 0.1.
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

    /// Deletes a schedule. Its history stays readable until it is pruned.
    ///
    /// # Errors
    /// `ScheduleNotFound`, a database in trouble, or `RunnerClosed`.
    ///
    /// Since 0.1.
    pub async fn delete_cron_schedule(&self, id: ScheduleId) -> Result<(), Error> {
        self.engine()
            .read(move |engine| engine.delete_schedule(id).map(drop))
            .await
    }

    /// Starts a schedule's workflow once, now, whatever its rules say; its next tick stays.
    ///
    /// # Errors
    /// `ScheduleNotFound`; `WorkflowNotFound`, when no program has stored a definition of its workflow; a database in
    /// trouble; `RunnerClosed`.
    ///
    /// Since 0.1.
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

    /// What a schedule waits for, or why it fires no more: plain sentences, one for each reason.
    ///
    /// # Errors
    /// `ScheduleNotFound` for an id that never was one, or a database in trouble.
    ///
    /// Since 0.1.
    pub async fn explain_cron_schedule(&self, id: ScheduleId) -> Result<Vec<String>, Error> {
        self.engine()
            .read(move |engine| {
                let own: Vec<String> = engine.own.lock().keys().cloned().collect();
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

    /// What became of the last ticks of a schedule, newest first; also of a deleted one.
    ///
    /// # Errors
    /// `ScheduleNotFound` for an id that never was one, or a database in trouble.
    ///
    /// Since 0.1.
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

    /// What became of the ticks of all schedules since a time.
    ///
    /// # Errors
    /// When the database is in trouble.
    ///
    /// Since 0.1.
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
