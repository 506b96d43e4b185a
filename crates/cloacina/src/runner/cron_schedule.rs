//! Schedules for programs in Rust: what they register, and what they get back.

use std::sync::Arc;
use std::time::Duration;

use super::{Context, TickCounts};
use crate::engine::cron::Cron;
use crate::engine::schedule::NewSchedule;
use crate::types::{
    Catchup, Error, ExecutionId, Micros, Overlap, ScheduleId, ScheduleRecord, TickOutcome,
    TickRecord, Timestamp,
};

/// A schedule to register with [`DefaultRunner::add_cron_schedule`](super::DefaultRunner::add_cron_schedule).
///
/// # Examples
///
/// ```
/// use cloacina::{Catchup, CronSchedule, Overlap};
///
/// let nightly = CronSchedule::new("etl", "30 2 * * *")
///     .timezone("Europe/Berlin")
///     .catchup(Catchup::Latest)
///     .overlap(Overlap::Skip);
/// # let _ = nightly;
/// ```
///
/// Since 0.1.
#[derive(Clone, Debug)]
pub struct CronSchedule {
    inner: NewSchedule,
}

impl CronSchedule {
    /// A schedule in UTC that does not catch up and allows overlaps.
    ///
    /// The expression has 5 fields, or 6 with seconds first. The workflow need not be known yet: a program elsewhere may
    /// have it. Since 0.1.
    pub fn new(workflow: impl AsRef<str>, expression: impl Into<String>) -> Self {
        Self {
            inner: NewSchedule::new(workflow.as_ref(), expression, "UTC"),
        }
    }

    /// The IANA time zone of the expression. Since 0.1.
    pub fn timezone(mut self, timezone: impl Into<String>) -> Self {
        self.inner.timezone = timezone.into();
        self
    }

    /// Tells it from others with the same workflow, expression and zone. Since 0.1.
    pub fn instance_name(mut self, name: impl Into<String>) -> Self {
        self.inner.instance = Some(name.into());
        self
    }

    /// What its executions start from, beside `scheduled_time`, `schedule_id`, `schedule_timezone` and
    /// `schedule_expression`. Since 0.1.
    pub fn input(mut self, input: Context) -> Self {
        self.inner.input = Arc::unwrap_or_clone(input.into_values());
        self
    }

    /// What becomes of ticks that were due while no runner was there (default: recorded as missed). Since 0.1.
    pub const fn catchup(mut self, catchup: Catchup) -> Self {
        self.inner.catchup = catchup;
        self
    }

    /// How many missed ticks fire at most (default: the runner's setting). Since 0.1.
    pub const fn max_catchup(mut self, ticks: u32) -> Self {
        self.inner.max_catchup = Some(ticks);
        self
    }

    /// What becomes of a tick while an execution of the schedule is open (default: it fires). Since 0.1.
    pub const fn overlap(mut self, overlap: Overlap) -> Self {
        self.inner.overlap = overlap;
        self
    }

    /// No tick before. Since 0.1.
    pub fn start_at(mut self, at: impl Into<Timestamp>) -> Self {
        self.inner.start_at = Some(at.into());
        self
    }

    /// No tick after. Since 0.1.
    pub fn end_at(mut self, at: impl Into<Timestamp>) -> Self {
        self.inner.end_at = Some(at.into());
        self
    }

    /// Ticks fire up to so much later, each by another amount. Since 0.1.
    pub fn jitter(mut self, jitter: Duration) -> Self {
        self.inner.jitter = Micros::try_from(jitter.as_micros()).unwrap_or(Micros::MAX / 2);
        self
    }

    /// Whether a new schedule fires (default true). One that is registered already stays as it is. Since 0.1.
    pub const fn enabled(mut self, enabled: bool) -> Self {
        self.inner.enabled = enabled;
        self
    }

    pub(super) const fn inner(&self) -> &NewSchedule {
        &self.inner
    }
}

/// A schedule as the database has it.
///
/// Since 0.1.
#[derive(Clone, Debug)]
pub struct CronScheduleInfo {
    record: ScheduleRecord,
}

impl CronScheduleInfo {
    pub(super) const fn new(record: ScheduleRecord) -> Self {
        Self { record }
    }

    /// Its id. Since 0.1.
    #[must_use]
    pub const fn id(&self) -> ScheduleId {
        self.record.id
    }

    /// The workflow that it starts. Since 0.1.
    #[must_use]
    pub fn workflow_name(&self) -> &str {
        &self.record.workflow
    }

    /// The cron expression. Since 0.1.
    #[must_use]
    pub fn cron_expression(&self) -> &str {
        self.record.spec.expression.as_deref().unwrap_or_default()
    }

    /// The IANA time zone of the expression. Since 0.1.
    #[must_use]
    pub fn timezone(&self) -> &str {
        &self.record.spec.timezone
    }

    /// What tells it from others of the same workflow, expression and zone; empty for nothing. Since 0.1.
    #[must_use]
    pub fn instance_name(&self) -> &str {
        &self.record.spec.instance
    }

    /// Whether it fires. Since 0.1.
    #[must_use]
    pub const fn is_enabled(&self) -> bool {
        self.record.enabled
    }

    /// Its catch-up rule. Since 0.1.
    #[must_use]
    pub const fn catchup(&self) -> Catchup {
        self.record.spec.catchup
    }

    /// Its overlap rule. Since 0.1.
    #[must_use]
    pub const fn overlap(&self) -> Overlap {
        self.record.spec.overlap
    }

    /// Its next tick, jitter not counted. Since 0.1.
    #[must_use]
    pub const fn next_run_at(&self) -> Option<Timestamp> {
        self.record.next_due
    }

    /// Its last tick that fired. Since 0.1.
    #[must_use]
    pub const fn last_run_at(&self) -> Option<Timestamp> {
        self.record.state.last_fired_at
    }

    /// When it was registered. Since 0.1.
    #[must_use]
    pub const fn created_at(&self) -> Timestamp {
        self.record.created_at
    }

    /// When what it is to do changed last. Since 0.1.
    #[must_use]
    pub const fn updated_at(&self) -> Timestamp {
        self.record.updated_at
    }
}

/// What became of one tick of a schedule.
///
/// Since 0.1.
#[derive(Clone, Debug)]
pub struct CronTick {
    /// The schedule.
    pub schedule: ScheduleId,
    /// When it was due.
    pub scheduled_time: Timestamp,
    /// What became of it.
    pub outcome: TickOutcome,
    /// The execution that it started.
    pub execution: Option<ExecutionId>,
    /// When a runner dealt with it.
    pub claimed_at: Timestamp,
    /// More: why it was skipped.
    pub detail: Option<String>,
}

impl CronTick {
    pub(super) fn new(record: TickRecord) -> Self {
        Self {
            schedule: record.schedule,
            scheduled_time: record.due_at,
            outcome: record.outcome,
            execution: record.execution,
            claimed_at: record.created_at,
            detail: record.detail,
        }
    }
}

/// How many ticks of all schedules started an execution since some time.
///
/// Since 0.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CronStats {
    /// Ticks that started an execution.
    pub fired: u64,
    /// Ticks that were due while nobody was there, and that the catch-up rule left out.
    pub missed: u64,
    /// Ticks whose workflow was not known.
    pub skipped: u64,
    /// Ticks that the overlap rule left out.
    pub overlapped: u64,
    /// Ticks that wait for an execution's end.
    pub queued: u64,
}

impl CronStats {
    pub(super) const fn new(counts: TickCounts) -> Self {
        Self {
            fired: counts.fired,
            missed: counts.missed,
            skipped: counts.skipped,
            overlapped: counts.overlapped,
            queued: counts.queued,
        }
    }
}

/// A fire time of a cron expression.
///
/// Since 0.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CronTime {
    /// The instant.
    pub at: Timestamp,
    /// The zone's offset from UTC at it, in seconds.
    pub offset_seconds: i32,
}

/// The next `count` times at which a cron expression fires after an instant.
///
/// # Errors
/// `ScheduleInvalid` for an expression or a zone that cannot be read, or an expression that never fires.
///
/// # Examples
///
/// ```
/// use cloacina::{Timestamp, cron_preview};
///
/// let times = cron_preview("*/15 * * * *", "UTC", 2, Timestamp(0))?;
/// assert_eq!(times[1].at, Timestamp(30 * 60 * 1_000_000));
/// # Ok::<(), cloacina::Error>(())
/// ```
///
/// Since 0.1.
pub fn cron_preview(
    expression: &str,
    timezone: &str,
    count: usize,
    after: impl Into<Timestamp>,
) -> Result<Vec<CronTime>, Error> {
    let cron = Cron::parse(expression.trim(), timezone)?;
    let times = cron.preview(after.into(), count).into_iter();
    Ok(times
        .map(|time| CronTime {
            at: time.at,
            offset_seconds: time.offset_seconds,
        })
        .collect())
}
