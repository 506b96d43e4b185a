//! Registers schedules, backfills them and replaces their options, without a runner.

use super::Inspector;
use super::cron_schedule::CronSchedule;
use super::schedules::switch;
use crate::engine::schedule;
use crate::runtime::{backfill_directly, schedule_rows};
use crate::types::{
    Audit, Error, ErrorCode, ExecutionId, ScheduleId, ScheduleRecord, TickOutcome, Timestamp,
};

/// Maximum number of due times in one backfill.
const MAX_BACKFILL: usize = 1_000;
/// Number of ticks that a backfill reads per query.
const TICKS: usize = 1_000;

/// A due time of a schedule in the range of a backfill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backfilled {
    /// The time at which the schedule was due.
    pub due_at: Timestamp,
    /// Whether the schedule had already fired for this time. The backfill then starts nothing for it.
    pub has_fired: bool,
    /// The execution that the backfill started; `None` in a dry run, and if the schedule had already fired for this time.
    pub execution: Option<ExecutionId>,
}

impl Inspector {
    /// F5: registers a schedule. If a schedule with the same workflow, expression, time zone and instance name exists,
    /// updates the options of that schedule and returns it. This neither enables nor disables the existing schedule.
    ///
    /// # Errors
    /// `ScheduleInvalid` for an invalid option; `WorkflowInputInvalid` if the workflow is defined in this process and the
    /// input does not have the declared type; `Database` or `Connection`.
    pub fn add_schedule(&self, new: &CronSchedule) -> Result<ScheduleRecord, Error> {
        Ok(self.put_schedule(new)?.0)
    }

    /// Creates a schedule like [`add_schedule`](Self::add_schedule). Also returns whether the schedule is new.
    ///
    /// # Errors
    /// See [`add_schedule`](Self::add_schedule).
    pub fn put_schedule(&self, new: &CronSchedule) -> Result<(ScheduleRecord, bool), Error> {
        let now = self.now();
        let id = ScheduleId::generate();
        let record = new.clone().into_options()?.record(id, now)?;
        let cron = schedule::cron_of(&record)?;
        let registered = schedule_rows::register(&*self.store, &record, |known| {
            schedule::registered_again(known, &record, &cron, now)
        })?;
        self.notify_runners();
        let is_new = registered.id == id;
        Ok((registered, is_new))
    }

    /// F3: starts a schedule's workflow for each due time from `from` to `to` (inclusive) for which the schedule has not
    /// fired. Each due time fires once, by its tick or by a backfill. The overlap rule and the schedule's start and end do
    /// not apply. The schedule's next tick does not change.
    ///
    /// `dry_run`: starts nothing, and only returns the due times.
    ///
    /// # Errors
    /// `ScheduleNotFound`; `WorkflowNotFound`; `WorkflowInvalid` if this release cannot run the workflow; `ScheduleInvalid`
    /// for a time range that ends in the future or before its start, or that has more than 1,000 due times; `Database` or
    /// `Connection`, in which case some executions may have been started.
    pub fn backfill(
        &self,
        id: ScheduleId,
        from: Timestamp,
        to: Timestamp,
        dry_run: bool,
    ) -> Result<Vec<Backfilled>, Error> {
        self.backfill_as(id, from, to, dry_run, &Audit::default())
    }

    /// Backfills a schedule like [`backfill`](Self::backfill), and records in the histories of the executions who started
    /// them, and why.
    ///
    /// # Errors
    /// See [`backfill`](Self::backfill).
    pub fn backfill_as(
        &self,
        id: ScheduleId,
        from: Timestamp,
        to: Timestamp,
        dry_run: bool,
        audit: &Audit,
    ) -> Result<Vec<Backfilled>, Error> {
        let invalid = |message: String| Error::new(ErrorCode::ScheduleInvalid, message);
        let record = self.schedule(id)?;
        if to > self.now() || to < from {
            let (from, to) = (from.to_rfc3339(), to.to_rfc3339());
            let message = format!("cannot backfill schedule {id} from {from} to {to}");
            return Err(invalid(message)
                .with_hint("the range must not end before its start or in the future"));
        }
        let cron = schedule::cron_of(&record)?;
        let (mut due, mut after) = (Vec::new(), from - 1);
        while let Some(next) = cron.next_after(after).filter(|next| *next <= to) {
            if due.len() == MAX_BACKFILL {
                let message = format!(
                    "cannot backfill schedule {id}: it is due more than {MAX_BACKFILL} times in the range"
                );
                return Err(invalid(message).with_hint("backfill several shorter ranges"));
            }
            due.push(next);
            after = next;
        }
        let fired = self.fired_since(id, from)?;
        let missing: Vec<Timestamp> = (due.iter().copied())
            .filter(|due| fired.binary_search(due).is_err())
            .collect();
        let started = if dry_run {
            Vec::new()
        } else {
            let (store, clock) = (&*self.store, &*self.clock);
            let started = backfill_directly(store, clock, id, &missing, audit, |name| {
                self.latest_workflow(name)
            })?;
            self.notify_own_runner();
            started
        };
        let view = |due_at: Timestamp| {
            let own = started.iter().find(|(at, _)| *at == due_at);
            Backfilled {
                due_at,
                has_fired: if dry_run {
                    fired.binary_search(&due_at).is_ok()
                } else {
                    own.is_none()
                },
                execution: own.map(|(_, execution)| *execution),
            }
        };
        Ok(due.into_iter().map(view).collect())
    }

    /// Returns the due times since `from` for which a schedule has fired, oldest first.
    fn fired_since(&self, id: ScheduleId, from: Timestamp) -> Result<Vec<Timestamp>, Error> {
        let mut fired = Vec::new();
        for page in 0.. {
            let ticks = self.store.ticks(id, TICKS, page * TICKS)?;
            let is_last =
                ticks.len() < TICKS || ticks.last().is_some_and(|tick| tick.due_at < from);
            let of_range = ticks.iter().filter(|tick| tick.due_at >= from);
            let of_range = of_range.filter(|tick| tick.outcome == TickOutcome::Fired);
            fired.extend(of_range.map(|tick| tick.due_at));
            if is_last {
                break;
            }
        }
        fired.sort_unstable();
        Ok(fired)
    }

    /// Replaces the options of a schedule. `change` receives the stored options and returns the new options. Ticks that were
    /// due before this call are not caught up.
    ///
    /// # Errors
    /// The errors of `change`; `ScheduleInvalid` for an invalid option, or if another schedule has the same workflow,
    /// expression, time zone and name; `ScheduleNotFound`; `Database` or `Connection`.
    pub fn replace_schedule(
        &self,
        id: ScheduleId,
        change: impl Fn(&ScheduleRecord) -> Result<CronSchedule, Error>,
    ) -> Result<ScheduleRecord, Error> {
        self.replace_schedule_as(id, None, change)
    }

    /// Replaces the options of a schedule like [`replace_schedule`](Self::replace_schedule). `switched_by`: the caller and the
    /// reason, if the change enables or disables the schedule; they are recorded in the schedule's state.
    ///
    /// # Errors
    /// See [`replace_schedule`](Self::replace_schedule).
    pub fn replace_schedule_as(
        &self,
        id: ScheduleId,
        switched_by: Option<&Audit>,
        change: impl Fn(&ScheduleRecord) -> Result<CronSchedule, Error>,
    ) -> Result<ScheduleRecord, Error> {
        self.change_schedule(id, |known| {
            let now = self.now();
            let mut record = schedule::replaced(known, &change(known)?.into_options()?, now)?;
            if let Some(audit) = switched_by {
                record.state.switched = Some(switch(audit, now));
            }
            Ok(record)
        })
    }
}
