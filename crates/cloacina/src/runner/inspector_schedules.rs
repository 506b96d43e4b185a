//! Registers schedules and replaces their options, without a runner.

use super::Inspector;
use super::cron_schedule::CronSchedule;
use crate::engine::schedule;
use crate::runtime::{backfill_directly, schedule_rows};
use crate::types::{
    Error, ErrorCode, ExecutionId, ScheduleId, ScheduleRecord, TickOutcome, Timestamp,
};

/// Maximum number of due times of one backfill.
const MAX_BACKFILL: usize = 1_000;
/// Number of ticks that a backfill reads at a time.
const TICKS: usize = 1_000;

/// A due time of a backfill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backfilled {
    /// The time at which the schedule was due.
    pub due_at: Timestamp,
    /// Whether the schedule had fired for this time before, so that the backfill leaves it out.
    pub has_fired: bool,
    /// The execution that the backfill started; `None` in a dry run, and for a time that had fired before.
    pub execution: Option<ExecutionId>,
}

impl Inspector {
    /// F5: registers a schedule. Registering the same workflow, expression, time zone and instance name again returns the
    /// same schedule and updates its options; it stays enabled or disabled as it was.
    ///
    /// # Errors
    /// `ScheduleInvalid` for an invalid option; `WorkflowInputInvalid` for an input that the workflow does not take, if it is
    /// defined in this process; `Database` or `Connection`.
    pub fn add_schedule(&self, new: &CronSchedule) -> Result<ScheduleRecord, Error> {
        let now = self.now();
        let record = new
            .clone()
            .into_options()?
            .record(ScheduleId::generate(), now)?;
        let cron = schedule::cron_of(&record)?;
        let registered = schedule_rows::register(&*self.store, &record, |known| {
            schedule::registered_again(known, &record, &cron, now)
        })?;
        self.notify_runners();
        Ok(registered)
    }

    /// F3: starts a schedule's workflow for each due time from `from` to `to` (inclusive) that has not fired. Each due time fires
    /// once, by its tick or by a backfill. The overlap rule and the schedule's start and end do not apply, and its next tick does
    /// not change.
    ///
    /// `dry_run`: only says what would be started.
    ///
    /// # Errors
    /// `ScheduleNotFound`; `WorkflowNotFound`; `ScheduleInvalid` for a time range that ends in the future or before its start,
    /// or has more than 1,000 due times; `Database` or `Connection`, after which a part may have been started.
    pub fn backfill(
        &self,
        id: ScheduleId,
        from: Timestamp,
        to: Timestamp,
        dry_run: bool,
    ) -> Result<Vec<Backfilled>, Error> {
        let invalid = |message: String| Error::new(ErrorCode::ScheduleInvalid, message);
        let record = self.schedule(id)?;
        if to > self.now() || to < from {
            let (from, to) = (from.to_rfc3339(), to.to_rfc3339());
            let message = format!("cannot backfill schedule {id} from {from} to {to}");
            return Err(invalid(message)
                .with_hint("the range must end after its start, and not in the future"));
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
            backfill_directly(&*self.store, &*self.clock, id, &missing, |name| {
                self.latest_workflow(name)
            })?
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

    /// The due times since `from` for which a schedule has fired, oldest first.
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

    /// Replaces the options of a schedule by the result of `change`, which gets the stored ones. Does not catch up on ticks that
    /// were due before.
    ///
    /// # Errors
    /// An error of `change`; `ScheduleInvalid` for an invalid option, or if another schedule has the same workflow,
    /// expression, time zone and name; `ScheduleNotFound`; `Database` or `Connection`.
    pub fn replace_schedule(
        &self,
        id: ScheduleId,
        change: impl Fn(&ScheduleRecord) -> Result<CronSchedule, Error>,
    ) -> Result<ScheduleRecord, Error> {
        self.change_schedule(id, |known| {
            schedule::replaced(known, &change(known)?.into_options()?, self.now())
        })
    }
}
