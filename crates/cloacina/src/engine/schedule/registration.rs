//! The record of a schedule: how it is registered, changed, enabled and deleted (semantics F5, F6).

use super::{cron_of, schedule_next};
use crate::engine::cron::Cron;
use crate::engine::trigger;
use crate::types::{
    Catchup, Context, Error, ErrorCode, Micros, Overlap, ScheduleId, ScheduleKind, ScheduleRecord,
    ScheduleSpec, ScheduleState, Timestamp,
};

/// Maximum number of bytes of a cron expression.
const MAX_EXPRESSION: usize = 250;
/// Maximum number of bytes of an instance name.
const MAX_INSTANCE: usize = 255;

/// The data of a schedule to register.
#[derive(Clone, Debug)]
pub struct NewSchedule {
    /// The workflow that the schedule starts. The workflow need not be defined yet.
    pub workflow: String,
    /// The cron expression.
    pub expression: String,
    /// The IANA time zone.
    pub timezone: String,
    /// A name that distinguishes the schedule from others with the same workflow, expression and zone.
    pub instance: Option<String>,
    /// The initial context of the executions that the schedule starts.
    pub input: Context,
    /// The catch-up rule.
    pub catchup: Catchup,
    /// Maximum number of missed ticks that fire. `None`: the runner's setting.
    pub max_catchup: Option<u32>,
    /// The overlap rule.
    pub overlap: Overlap,
    /// The time before which no tick is due.
    pub start_at: Option<Timestamp>,
    /// The time after which no tick is due.
    pub end_at: Option<Timestamp>,
    /// Maximum delay of a tick, in microseconds.
    pub jitter: Micros,
    /// Whether the schedule is enabled. Ignored when a known schedule is registered again.
    pub enabled: bool,
}

impl NewSchedule {
    /// Returns a schedule with the defaults: no catch-up, overlap allowed, enabled.
    pub fn new(
        workflow: impl Into<String>,
        expression: impl Into<String>,
        timezone: impl Into<String>,
    ) -> Self {
        Self {
            workflow: workflow.into(),
            expression: expression.into(),
            timezone: timezone.into(),
            instance: None,
            input: Context::new(),
            catchup: Catchup::Skip,
            max_catchup: None,
            overlap: Overlap::Allow,
            start_at: None,
            end_at: None,
            jitter: 0,
            enabled: true,
        }
    }

    /// Returns the record of a new schedule.
    ///
    /// # Errors
    /// Returns `ScheduleInvalid` if the expression, the zone or an option is not valid.
    pub fn record(&self, id: ScheduleId, now: Timestamp) -> Result<ScheduleRecord, Error> {
        let expression = self.expression.trim();
        let cron = Cron::parse(expression, &self.timezone)?;
        self.check()?;
        let spec = ScheduleSpec {
            expression: Some(expression.to_owned()),
            timezone: self.timezone.clone(),
            interval: None,
            instance: self.instance.clone().unwrap_or_default(),
            input: self.input.clone(),
            catchup: self.catchup,
            max_catchup: self.max_catchup,
            overlap: self.overlap,
            start_at: self.start_at,
            end_at: self.end_at,
            jitter: self.jitter,
            after: None,
        };
        let mut record = ScheduleRecord {
            id,
            kind: ScheduleKind::Cron,
            identity: identity(&self.workflow, &spec),
            workflow: self.workflow.clone(),
            enabled: self.enabled,
            revision: 1,
            spec,
            state: ScheduleState::default(),
            next_due: None,
            wake_at: None,
            last_due: None,
            created_at: now,
            updated_at: now,
            deleted_at: None,
        };
        schedule_next(&mut record, &cron, now);
        Ok(record)
    }

    fn check(&self) -> Result<(), Error> {
        let refuse = |message: String| Err(Error::new(ErrorCode::ScheduleInvalid, message));
        let is_name = |text: &str| {
            let known =
                |character: char| character.is_ascii_alphanumeric() || "_.-".contains(character);
            (1..=255).contains(&text.len()) && text.chars().all(known)
        };
        if !is_name(&self.workflow) {
            let shown: String = self.workflow.chars().take(80).collect();
            return refuse(format!(
                "'{shown}' cannot be the name of a workflow: use 1 to 255 characters of A-Z a-z 0-9 _ . -"
            ));
        }
        if self.expression.len() > MAX_EXPRESSION {
            return refuse(too_long(
                "the cron expression",
                &self.expression,
                MAX_EXPRESSION,
            ));
        }
        if let Some(name) = &self.instance
            && name.len() > MAX_INSTANCE
        {
            return refuse(too_long("instance_name", name, MAX_INSTANCE));
        }
        if self.jitter < 0 {
            let jitter = self.jitter;
            return refuse(format!(
                "the jitter must not be negative, but is {jitter} µs"
            ));
        }
        if let (Some(start), Some(end)) = (self.start_at, self.end_at)
            && end <= start
        {
            return refuse(format!("end_at ({end}) must come after start_at ({start})"));
        }
        Ok(())
    }
}

fn too_long(what: &str, value: &str, max: usize) -> String {
    format!(
        "{what} has {} bytes, more than the maximum of {max}",
        value.len()
    )
}

/// F5: the identity of a schedule, by which a registration finds the stored schedule. The identity is a JSON array of strings.
fn identity(workflow: &str, spec: &ScheduleSpec) -> String {
    let expression = spec.expression.as_deref().unwrap_or_default();
    let parts = [workflow, expression, &spec.timezone, &spec.instance];
    // Serialising strings cannot fail.
    serde_json::to_string(&parts).unwrap_or_default()
}

/// F5: returns a known schedule with the options of a new registration. The schedule keeps its id, its history and `enabled`.
/// It also keeps its next tick, unless the start, the end or the jitter has changed. Returns `None` if no option has changed.
#[must_use]
pub fn registered_again(
    known: &ScheduleRecord,
    new: &ScheduleRecord,
    cron: &Cron,
    now: Timestamp,
) -> Option<ScheduleRecord> {
    if known.spec == new.spec {
        return None;
    }
    let window = |spec: &ScheduleSpec| (spec.start_at, spec.end_at, spec.jitter);
    let moved = window(&known.spec) != window(&new.spec);
    let mut record = ScheduleRecord {
        spec: new.spec.clone(),
        updated_at: now,
        ..known.clone()
    };
    if moved && record.enabled {
        schedule_next(&mut record, cron, now);
    }
    Some(record)
}

/// Returns the schedule with the given expression and time zone, and with the next tick that follows from them. `None` leaves a
/// value unchanged.
///
/// # Errors
/// Returns `ScheduleInvalid` if the expression or the zone is not valid.
pub fn changed(
    known: &ScheduleRecord,
    expression: Option<&str>,
    timezone: Option<&str>,
    now: Timestamp,
) -> Result<ScheduleRecord, Error> {
    let mut record = known.clone();
    if let Some(expression) = expression {
        let expression = expression.trim();
        if expression.len() > MAX_EXPRESSION {
            return Err(Error::new(
                ErrorCode::ScheduleInvalid,
                too_long("the cron expression", expression, MAX_EXPRESSION),
            ));
        }
        record.spec.expression = Some(expression.to_owned());
    }
    if let Some(timezone) = timezone {
        timezone.clone_into(&mut record.spec.timezone);
    }
    let cron = cron_of(&record)?;
    record.identity = identity(&record.workflow, &record.spec);
    record.updated_at = now;
    schedule_next(&mut record, &cron, now);
    Ok(record)
}

/// Returns the schedule with the options of `new`, and with the next tick that follows from them. The schedule keeps its
/// id, its state and its history.
///
/// # Errors
/// Returns `ScheduleInvalid` if the expression, the zone or an option is not valid.
pub fn replaced(
    known: &ScheduleRecord,
    new: &NewSchedule,
    now: Timestamp,
) -> Result<ScheduleRecord, Error> {
    Ok(ScheduleRecord {
        revision: known.revision,
        state: known.state.clone(),
        last_due: known.last_due,
        created_at: known.created_at,
        ..new.record(known.id, now)?
    })
}

/// Returns the record of a schedule or trigger after it was enabled or disabled. If it was enabled, the record
/// contains the time of the next tick or poll.
/// Ticks that were due while the schedule was disabled never fire (F6).
///
/// # Errors
/// Returns an error if the schedule's expression cannot be parsed.
pub fn switched(
    known: &ScheduleRecord,
    enabled: bool,
    now: Timestamp,
) -> Result<ScheduleRecord, Error> {
    let mut record = ScheduleRecord {
        enabled,
        updated_at: now,
        ..known.clone()
    };
    if known.kind == ScheduleKind::Trigger {
        trigger::schedule_next(&mut record, now);
    } else {
        schedule_next(&mut record, &cron_of(known)?, now);
    }
    Ok(record)
}

/// Returns the schedule, marked as deleted. A deleted schedule no longer fires, and its history remains.
#[must_use]
pub fn deleted(known: &ScheduleRecord, now: Timestamp) -> ScheduleRecord {
    ScheduleRecord {
        enabled: false,
        next_due: None,
        wake_at: None,
        updated_at: now,
        deleted_at: Some(now),
        ..known.clone()
    }
}
