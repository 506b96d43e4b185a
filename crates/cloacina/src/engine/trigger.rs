//! Polls of triggers: when the next one is due, and what one leads to (semantics G1).

use super::cron::Cron;
use crate::types::{
    Catchup, Context, Error, ErrorCode, Micros, Overlap, ScheduleId, ScheduleKind, ScheduleRecord,
    ScheduleSpec, ScheduleState, TickOutcome, Timestamp,
};

/// What a program registers.
#[derive(Clone, Debug)]
pub struct NewTrigger {
    /// Its name, the same in every program that has it.
    pub name: String,
    /// The workflow that it starts.
    pub workflow: String,
    /// Time between two polls, in microseconds.
    pub interval: Option<Micros>,
    /// Polls at the times of a cron expression instead.
    pub expression: Option<String>,
    /// The IANA time zone of the expression.
    pub timezone: String,
    /// Whether it fires while an execution that it started is open.
    pub allow_concurrent: bool,
}

impl NewTrigger {
    /// The record of a trigger that is new; its first poll is due at once, or at the first time of its expression.
    ///
    /// # Errors
    /// `ScheduleInvalid` for a name, an expression, a zone or an interval that makes no sense.
    pub fn record(&self, id: ScheduleId, now: Timestamp) -> Result<ScheduleRecord, Error> {
        let refuse = |message: String| Err(Error::new(ErrorCode::ScheduleInvalid, message));
        if !(1..=255).contains(&self.name.len()) {
            return refuse("a trigger's name must have 1 to 255 bytes".to_owned());
        }
        match (&self.expression, self.interval) {
            (Some(expression), None) => drop(Cron::parse(expression, &self.timezone)?),
            (None, Some(interval)) if interval > 0 => {}
            (None, Some(_)) => {
                return refuse(format!(
                    "trigger '{}': poll_interval must be greater than zero",
                    self.name
                ));
            }
            _ => {
                return refuse(format!(
                    "trigger '{}' needs either a poll interval or a cron expression",
                    self.name
                ));
            }
        }
        let mut record = ScheduleRecord {
            id,
            kind: ScheduleKind::Trigger,
            identity: self.name.clone(),
            workflow: self.workflow.clone(),
            enabled: true,
            revision: 1,
            spec: ScheduleSpec {
                expression: self.expression.clone(),
                timezone: self.timezone.clone(),
                interval: self.interval,
                instance: String::new(),
                input: Context::new(),
                catchup: Catchup::Skip,
                max_catchup: None,
                overlap: if self.allow_concurrent {
                    Overlap::Allow
                } else {
                    Overlap::Skip
                },
                start_at: None,
                end_at: None,
                jitter: 0,
            },
            state: ScheduleState::default(),
            next_due: None,
            wake_at: None,
            last_due: None,
            created_at: now,
            updated_at: now,
            deleted_at: None,
        };
        schedule_next(&mut record, now);
        Ok(record)
    }
}

/// A trigger that is registered again, by another start or another program. `None`: nothing differs.
#[must_use]
pub fn registered_again(
    known: &ScheduleRecord,
    new: &ScheduleRecord,
    now: Timestamp,
) -> Option<ScheduleRecord> {
    if known.spec == new.spec && known.workflow == new.workflow {
        return None;
    }
    let mut record = ScheduleRecord {
        spec: new.spec.clone(),
        workflow: new.workflow.clone(),
        updated_at: now,
        ..known.clone()
    };
    if !record.state.polled {
        schedule_next(&mut record, now);
    }
    Some(record)
}

/// Sets the next poll of a trigger that nobody polls.
pub fn schedule_next(record: &mut ScheduleRecord, now: Timestamp) {
    record.state.polled = false;
    record.next_due = next_poll(record, now);
    record.wake_at = record.next_due;
}

/// The next poll after one that began at `last_due`: by the interval from that begin, so that a slow function does not stretch it.
fn next_poll(record: &ScheduleRecord, now: Timestamp) -> Option<Timestamp> {
    if !record.enabled {
        return None;
    }
    if let Some(interval) = record.spec.interval {
        let next = record.last_due.map_or(now, |last| last + interval);
        // Neither behind now, nor further ahead than the interval should the clock have been set back.
        return Some(next.max(now).min(now + interval));
    }
    let expression = record.spec.expression.as_deref()?;
    Cron::parse(expression, &record.spec.timezone)
        .ok()?
        .next_after(now)
}

/// The trigger taken for a poll: others leave it alone until the lease ends.
#[must_use]
pub fn lease_taken(known: &ScheduleRecord, now: Timestamp, lease: Micros) -> ScheduleRecord {
    let mut record = known.clone();
    record.state.polled = true;
    record.last_due = Some(now);
    record.wake_at = Some(now + lease);
    record
}

/// The same with a longer lease.
#[must_use]
pub fn lease_extended(known: &ScheduleRecord, now: Timestamp, lease: Micros) -> ScheduleRecord {
    ScheduleRecord {
        wake_at: Some(now + lease),
        ..known.clone()
    }
}

/// What a trigger's function said.
#[derive(Clone, Debug, PartialEq)]
pub enum PollOutcome {
    /// Nothing happened.
    Skip,
    /// Start the workflow from this context.
    Fire(Context),
    /// It raised.
    Failed(String),
}

/// The trigger after a poll, and what goes into its history.
#[must_use]
pub fn polled(
    known: &ScheduleRecord,
    outcome: &PollOutcome,
    is_open: bool,
    now: Timestamp,
) -> (ScheduleRecord, Option<TickOutcome>) {
    let mut record = known.clone();
    record.state.last_error = None;
    let tick = match outcome {
        PollOutcome::Skip => None,
        PollOutcome::Fire(_) if is_open && record.spec.overlap != Overlap::Allow => {
            Some(TickOutcome::Overlapped)
        }
        PollOutcome::Fire(_) => Some(TickOutcome::Fired),
        PollOutcome::Failed(error) => {
            record.state.last_error = Some(error.clone());
            Some(TickOutcome::Failed)
        }
    };
    if tick == Some(TickOutcome::Fired) {
        record.state.last_fired_at = record.last_due;
    }
    schedule_next(&mut record, now);
    (record, tick)
}
