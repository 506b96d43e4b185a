//! Views of schedules, triggers and their ticks.

use cloacina::runner::CronTime;
use cloacina::types::{ScheduleRecord, TickRecord};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{context, due, time};
use crate::problem::Problem;

/// A schedule, or a trigger.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Schedule)]
pub(crate) struct ScheduleView {
    /// The id.
    id: String,
    /// The kind: cron for a schedule, trigger for a trigger.
    kind: &'static str,
    /// The workflow that the schedule or trigger starts.
    workflow: String,
    /// The name of a trigger, or the name that distinguishes a schedule from others with the same workflow, expression and
    /// time zone.
    name: Option<String>,
    /// The cron expression.
    cron: Option<String>,
    /// The time zone of the expression.
    timezone: String,
    /// The time between a trigger's polls, in microseconds.
    interval_us: Option<i64>,
    /// The input of the executions that the schedule starts; null without the permission `view_payloads`.
    #[schema(value_type = Option<serde_json::Value>)]
    input: Option<Box<RawValue>>,
    /// The missed ticks that fire later: skip (none), latest or all. A tick is missed if it was due while no runner was live.
    catchup: &'static str,
    /// The maximum number of missed ticks that fire.
    max_catchup: Option<u32>,
    /// The effect of a tick while an earlier execution of the schedule is open: allow (start anyway), skip or queue.
    overlap: &'static str,
    /// No tick is due before this time.
    #[schema(format = DateTime)]
    start_at: Option<String>,
    /// No tick is due after this time.
    #[schema(format = DateTime)]
    end_at: Option<String>,
    /// The maximum random delay of a tick, in microseconds.
    jitter_us: i64,
    /// Whether the schedule or trigger fires.
    enabled: bool,
    /// When and by whom the schedule or trigger was last enabled or disabled through this API, and why; null if never.
    switched: Option<SwitchView>,
    /// The revision, which grows with every change.
    revision: i64,
    /// The time of the next tick or poll.
    #[schema(format = DateTime)]
    next_at: Option<String>,
    /// When a tick or poll last fired.
    #[schema(format = DateTime)]
    last_fired_at: Option<String>,
    /// The error that a trigger's function raised at the last poll.
    last_error: Option<String>,
    /// When the schedule or trigger was registered.
    #[schema(format = DateTime)]
    created_at: String,
    /// When the settings of the schedule or trigger last changed.
    #[schema(format = DateTime)]
    updated_at: String,
    /// A problem of a schedule that this request created: the database has no such workflow. Otherwise null.
    pub(crate) warning: Option<String>,
}

/// The last time that a schedule was enabled or disabled.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Switch)]
struct SwitchView {
    /// The time.
    #[schema(format = DateTime)]
    at: String,
    /// The name of the person or program.
    by: Option<String>,
    /// The reason.
    note: Option<String>,
}

impl ScheduleView {
    pub(crate) fn new(record: ScheduleRecord, with_input: bool) -> Result<Self, Problem> {
        let (spec, state) = (record.spec, record.state);
        let is_trigger = spec.interval.is_some() || record.kind.name() == "trigger";
        let name = if is_trigger {
            record.identity
        } else {
            spec.instance
        };
        Ok(Self {
            id: record.id.to_string(),
            kind: record.kind.name(),
            workflow: record.workflow,
            name: Some(name).filter(|name| !name.is_empty()),
            cron: spec.expression,
            timezone: spec.timezone,
            interval_us: spec.interval,
            input: with_input.then(|| context(&spec.input)).transpose()?,
            catchup: spec.catchup.name(),
            max_catchup: spec.max_catchup,
            overlap: spec.overlap.name(),
            start_at: spec.start_at.map(time),
            end_at: spec.end_at.map(time),
            jitter_us: spec.jitter,
            enabled: record.enabled,
            switched: state.switched.map(|switch| SwitchView {
                at: time(switch.at),
                by: switch.by,
                note: switch.note,
            }),
            revision: record.revision,
            next_at: due(record.next_due),
            last_fired_at: state.last_fired_at.map(time),
            last_error: state.last_error,
            created_at: time(record.created_at),
            updated_at: time(record.updated_at),
            warning: None,
        })
    }
}

/// A tick of a schedule, or a poll of a trigger.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Tick)]
pub(crate) struct TickView {
    /// The id of the schedule or trigger.
    schedule: String,
    /// When the tick was due.
    #[schema(format = DateTime)]
    due_at: String,
    /// The outcome: fired, missed, skipped, overlapped, queued or failed.
    outcome: &'static str,
    /// The execution that the tick started.
    execution: Option<String>,
    /// When this outcome was recorded.
    #[schema(format = DateTime)]
    updated_at: String,
    /// The reason, or the error of a trigger's function.
    detail: Option<String>,
}

impl TickView {
    pub(crate) fn new(tick: TickRecord) -> Self {
        Self {
            schedule: tick.schedule.to_string(),
            due_at: time(tick.due_at),
            outcome: tick.outcome.name(),
            execution: tick.execution.map(|execution| execution.to_string()),
            updated_at: time(tick.updated_at),
            detail: tick.detail,
        }
    }
}

/// A time at which a schedule or a cron expression fires.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Firing)]
pub(crate) struct FiringView {
    /// The time.
    #[schema(format = DateTime)]
    at: String,
    /// The offset of the time zone from UTC at that time, in seconds.
    offset_seconds: i32,
    /// The schedule that fires; null in a preview.
    schedule: Option<String>,
    /// The workflow that the schedule starts; null in a preview.
    workflow: Option<String>,
}

impl FiringView {
    pub(crate) fn new(at: &CronTime, of: Option<&ScheduleRecord>) -> Self {
        Self {
            at: time(at.at),
            offset_seconds: at.offset_seconds,
            schedule: of.map(|record| record.id.to_string()),
            workflow: of.map(|record| record.workflow.clone()),
        }
    }
}

/// The execution that was started on request for a schedule.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RunNow {
    /// The id of the execution.
    pub(crate) id: String,
}
