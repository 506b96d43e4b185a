//! Polls of triggers: their times and their effects (semantics G1).
//!
//! A trigger that is called after ends of executions is not polled; see [`after`].

use super::after;
use super::cron::Cron;
use crate::types::{
    After, Catchup, Context, Error, ErrorCode, Json, Micros, Overlap, ScheduleId, ScheduleKind,
    ScheduleRecord, ScheduleSpec, ScheduleState, TickOutcome, Timestamp,
};

/// A trigger to register.
#[derive(Clone, Debug)]
pub struct NewTrigger {
    /// Its name, which is the same in every program that has it.
    pub name: String,
    /// The workflow that it starts.
    pub workflow: String,
    /// Time between two polls, in microseconds.
    pub interval: Option<Micros>,
    /// The cron expression of its polls, instead of an interval.
    pub expression: Option<String>,
    /// The IANA time zone of the expression.
    pub timezone: String,
    /// Whether it fires while an execution that it started is open.
    pub allow_concurrent: bool,
    /// The ends of executions after which it is called, instead of an interval or an expression.
    pub after: Option<After>,
}

impl NewTrigger {
    /// Returns the record of a new trigger. Its first poll is due at once, or at the first time of its expression.
    ///
    /// # Errors
    /// `ScheduleInvalid` for an invalid name, expression, zone or interval.
    pub fn record(&self, id: ScheduleId, now: Timestamp) -> Result<ScheduleRecord, Error> {
        let refuse = |message: String| Err(Error::new(ErrorCode::ScheduleInvalid, message));
        if !(1..=255).contains(&self.name.len()) {
            return refuse("a trigger's name must have 1 to 255 bytes".to_owned());
        }
        match (&self.expression, self.interval, &self.after) {
            (Some(expression), None, None) => drop(Cron::parse(expression, &self.timezone)?),
            (None, Some(interval), None) if interval > 0 => {}
            (None, Some(_), None) => {
                return refuse(format!(
                    "trigger '{}': poll_interval must be greater than zero",
                    self.name
                ));
            }
            (None, None, Some(followed)) => after::check(&self.name, followed)?,
            _ => {
                return refuse(format!(
                    "trigger '{}' needs a poll interval, a cron expression, or a workflow whose ends it follows",
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
                // Each end fires once, so an open execution does not keep the trigger from firing.
                overlap: if self.allow_concurrent || self.after.is_some() {
                    Overlap::Allow
                } else {
                    Overlap::Skip
                },
                start_at: None,
                end_at: None,
                jitter: 0,
                after: self.after.clone(),
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

/// Returns the known trigger with the options of a new registration. `None`: the options are the same.
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

/// Ends a poll or its lease, and sets the time of the next poll.
pub fn schedule_next(record: &mut ScheduleRecord, now: Timestamp) {
    record.state.polled = false;
    record.next_due = next_poll(record, now);
    record.wake_at = record.next_due;
}

/// The time of the next poll. An interval counts from the start of the last poll, so that a slow function does not stretch it.
fn next_poll(record: &ScheduleRecord, now: Timestamp) -> Option<Timestamp> {
    if !record.enabled {
        return None;
    }
    if let Some(interval) = record.spec.interval {
        let next = record.last_due.map_or(now, |last| last + interval);
        // The time is not in the past, and not further ahead than the interval if the clock was set back.
        return Some(next.max(now).min(now + interval));
    }
    let expression = record.spec.expression.as_deref()?;
    Cron::parse(expression, &record.spec.timezone)
        .ok()?
        .next_after(now)
}

/// Returns the trigger with a lease for a poll. Other runners do not poll it until the lease ends.
#[must_use]
pub fn lease_taken(known: &ScheduleRecord, now: Timestamp, lease: Micros) -> ScheduleRecord {
    let mut record = known.clone();
    record.state.polled = true;
    record.last_due = Some(now);
    if record.spec.after.is_some() {
        // The ticks for the ends get consecutive times from here on, which must differ from the times of earlier calls.
        record.last_due = known.last_due.map(|last| last + 1).max(Some(now));
    }
    record.wake_at = Some(now + lease);
    record
}

/// Returns the trigger with its lease extended.
#[must_use]
pub fn lease_extended(known: &ScheduleRecord, now: Timestamp, lease: Micros) -> ScheduleRecord {
    ScheduleRecord {
        wake_at: Some(now + lease),
        ..known.clone()
    }
}

/// The outcome of a poll.
#[derive(Clone, Debug, PartialEq)]
pub enum PollOutcome {
    /// The function returned that the workflow is not to be started.
    Skip,
    /// The function returned the initial context of an execution to start.
    Fire(Context),
    /// The function returned the executions to start, each with its initial context and its key, and the state to keep (G3).
    /// Without executions it only keeps the state; without a state the earlier one stays.
    Many {
        /// The executions.
        fires: Vec<(Context, Option<String>)>,
        /// The state.
        state: Option<Json>,
    },
    /// The function raised this error.
    Failed(String),
    /// The outcomes of the calls for some ends, in the order of the ends (G4).
    Ends(Vec<Self>),
}

/// Returns the trigger after a poll, and the outcome to record in its history.
#[must_use]
pub fn after_poll(
    known: &ScheduleRecord,
    outcome: &PollOutcome,
    is_open: bool,
    now: Timestamp,
) -> (ScheduleRecord, Option<TickOutcome>) {
    let mut record = known.clone();
    record.state.last_error = None;
    let tick = match outcome {
        PollOutcome::Skip | PollOutcome::Ends(_) => None,
        PollOutcome::Many { fires, .. } if fires.is_empty() => None,
        PollOutcome::Fire(_) | PollOutcome::Many { .. }
            if is_open && record.spec.overlap != Overlap::Allow =>
        {
            Some(TickOutcome::Overlapped)
        }
        PollOutcome::Fire(_) | PollOutcome::Many { .. } => Some(TickOutcome::Fired),
        PollOutcome::Failed(error) => {
            record.state.last_error = Some(error.clone());
            Some(TickOutcome::Failed)
        }
    };
    // After an overlap, the next poll must find the same executions again, so the new state is not kept.
    if let PollOutcome::Many {
        state: Some(state), ..
    } = outcome
        && tick != Some(TickOutcome::Overlapped)
    {
        record.state.kept = Some(state.clone());
    }
    if tick == Some(TickOutcome::Fired) {
        record.state.last_fired_at = record.last_due;
    }
    schedule_next(&mut record, now);
    (record, tick)
}
