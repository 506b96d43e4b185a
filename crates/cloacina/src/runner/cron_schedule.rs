//! Schedules for Rust programs: the options to register a schedule, and the views of stored schedules and their ticks.

use std::sync::Arc;
use std::time::Duration;

use super::definition::DEFINITIONS;
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
/// Since 1.0.
#[derive(Clone, Debug)]
pub struct CronSchedule {
    options: NewSchedule,
}

impl CronSchedule {
    /// Creates a schedule in UTC. It does not catch up on missed ticks, and its executions can overlap.
    ///
    /// The expression has 5 fields, or 6 fields of which the first is the seconds. The workflow does not have to be defined
    /// in this program.
    ///
    /// Since 1.0.
    pub fn new(workflow: impl AsRef<str>, expression: impl Into<String>) -> Self {
        Self {
            options: NewSchedule::new(workflow.as_ref(), expression, "UTC"),
        }
    }

    /// The IANA time zone of the expression. Since 1.0.
    pub fn timezone(mut self, timezone: impl Into<String>) -> Self {
        self.options.timezone = timezone.into();
        self
    }

    /// A name that distinguishes this schedule from others with the same workflow, expression and time zone. Since 1.0.
    pub fn instance_name(mut self, name: impl Into<String>) -> Self {
        self.options.instance = Some(name.into());
        self
    }

    /// The input of the schedule's executions. Each tick adds the keys `scheduled_time`, `schedule_id`, `schedule_timezone`
    /// and `schedule_expression` to this input. Since 1.0.
    pub fn input(mut self, input: Context) -> Self {
        self.options.input = Arc::unwrap_or_clone(input.into_values());
        self
    }

    /// How to handle ticks that were due while no runner was live (default: record them as missed). Since 1.0.
    pub const fn catchup(mut self, catchup: Catchup) -> Self {
        self.options.catchup = catchup;
        self
    }

    /// Maximum number of missed ticks that fire (default: the runner's setting). Since 1.0.
    pub const fn max_catchup(mut self, ticks: u32) -> Self {
        self.options.max_catchup = Some(ticks);
        self
    }

    /// How to handle a tick that is due before an earlier execution of the schedule has ended (default: fire it). Since 1.0.
    pub const fn overlap(mut self, overlap: Overlap) -> Self {
        self.options.overlap = overlap;
        self
    }

    /// The time before which no tick is due. Since 1.0.
    pub fn start_at(mut self, at: impl Into<Timestamp>) -> Self {
        self.options.start_at = Some(at.into());
        self
    }

    /// The time after which no tick is due. Since 1.0.
    pub fn end_at(mut self, at: impl Into<Timestamp>) -> Self {
        self.options.end_at = Some(at.into());
        self
    }

    /// Maximum random delay of a tick (default 0). A new delay is chosen for each tick. Since 1.0.
    pub fn jitter(mut self, jitter: Duration) -> Self {
        self.options.jitter = Micros::try_from(jitter.as_micros()).unwrap_or(Micros::MAX / 2);
        self
    }

    /// Whether a new schedule is enabled (default true). If the schedule already exists, registering it again does not enable
    /// or disable it. Since 1.0.
    pub const fn enabled(mut self, enabled: bool) -> Self {
        self.options.enabled = enabled;
        self
    }

    /// Returns the options of the schedule. Validates its input if the workflow is defined in this process and declares an
    /// input.
    pub(super) fn into_options(mut self) -> Result<NewSchedule, Error> {
        DEFINITIONS.validate_scheduled(&self.options.workflow, &mut self.options.input)?;
        Ok(self.options)
    }
}

/// A schedule as stored in the database.
///
/// Since 1.0.
#[derive(Clone, Debug)]
pub struct CronScheduleInfo {
    record: ScheduleRecord,
}

impl CronScheduleInfo {
    pub(super) const fn new(record: ScheduleRecord) -> Self {
        Self { record }
    }

    /// The schedule's id. Since 1.0.
    #[must_use]
    pub const fn id(&self) -> ScheduleId {
        self.record.id
    }

    /// The workflow that the schedule starts. Since 1.0.
    #[must_use]
    pub fn workflow_name(&self) -> &str {
        &self.record.workflow
    }

    /// The cron expression. Since 1.0.
    #[must_use]
    pub fn cron_expression(&self) -> &str {
        self.record.spec.expression.as_deref().unwrap_or_default()
    }

    /// The IANA time zone of the expression. Since 1.0.
    #[must_use]
    pub fn timezone(&self) -> &str {
        &self.record.spec.timezone
    }

    /// The name that distinguishes this schedule from others with the same workflow, expression and time zone; may be empty.
    /// Since 1.0.
    #[must_use]
    pub fn instance_name(&self) -> &str {
        &self.record.spec.instance
    }

    /// Whether the schedule is enabled. Since 1.0.
    #[must_use]
    pub const fn is_enabled(&self) -> bool {
        self.record.enabled
    }

    /// The catch-up rule. Since 1.0.
    #[must_use]
    pub const fn catchup(&self) -> Catchup {
        self.record.spec.catchup
    }

    /// The overlap rule. Since 1.0.
    #[must_use]
    pub const fn overlap(&self) -> Overlap {
        self.record.spec.overlap
    }

    /// The time of the next tick, without jitter; `None` if the schedule is disabled or no tick is left. Since 1.0.
    #[must_use]
    pub const fn next_run_at(&self) -> Option<Timestamp> {
        self.record.next_due
    }

    /// The due time of the last tick that fired; `None` if no tick has fired. Since 1.0.
    #[must_use]
    pub const fn last_run_at(&self) -> Option<Timestamp> {
        self.record.state.last_fired_at
    }

    /// The time at which the schedule was registered. Since 1.0.
    #[must_use]
    pub const fn created_at(&self) -> Timestamp {
        self.record.created_at
    }

    /// The time at which the schedule's options were last changed, or it was last enabled or disabled. Since 1.0.
    #[must_use]
    pub const fn updated_at(&self) -> Timestamp {
        self.record.updated_at
    }
}

/// One tick of a schedule, with its outcome.
///
/// Since 1.0.
#[derive(Clone, Debug)]
pub struct CronTick {
    /// The schedule.
    pub schedule: ScheduleId,
    /// The time at which the tick was due.
    pub scheduled_time: Timestamp,
    /// The outcome.
    pub outcome: TickOutcome,
    /// The execution that the tick started; `None` if it started none.
    pub execution: Option<ExecutionId>,
    /// The time at which a runner processed the tick.
    pub claimed_at: Timestamp,
    /// Details of the outcome, if there are any.
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

/// The number of ticks of all schedules since a time, by outcome.
///
/// Since 1.0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CronStats {
    /// Ticks that started an execution.
    pub fired: u64,
    /// Ticks that were due while no runner was live, and that the catch-up rule did not fire later.
    pub missed: u64,
    /// Ticks that started nothing because no program had stored the workflow.
    pub skipped: u64,
    /// Ticks that the overlap rule skipped.
    pub overlapped: u64,
    /// Ticks that wait for the end of an earlier execution.
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
/// Since 1.0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CronTime {
    /// The instant.
    pub at: Timestamp,
    /// The time zone's offset from UTC at that instant, in seconds.
    pub offset_seconds: i32,
}

/// Returns the next `count` times at which a cron expression fires after an instant.
///
/// # Errors
/// `ScheduleInvalid` for an invalid expression or time zone, or an expression that never fires.
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
/// Since 1.0.
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
