//! Polls of triggers: when they are due, and what their outcome changes (semantics G1).
//!
//! A trigger that follows another workflow is not polled: see [`after`].

use super::after;
use super::cron::Cron;
use crate::types::{
    After, Catchup, Context, Error, ErrorCode, Json, Micros, Overlap, ScheduleId, ScheduleKind,
    ScheduleRecord, ScheduleSpec, ScheduleState, TickOutcome, Timestamp,
};

/// The data of a trigger to register.
#[derive(Clone, Debug)]
pub struct NewTrigger {
    /// The trigger's name. Every program with this trigger uses the same name.
    pub name: String,
    /// The workflow that the trigger starts.
    pub workflow: String,
    /// Time between two polls, in microseconds.
    pub interval: Option<Micros>,
    /// The cron expression of the polls, instead of an interval.
    pub expression: Option<String>,
    /// The IANA time zone of the expression.
    pub timezone: String,
    /// Whether the trigger can fire while an execution that it started is open.
    pub allow_concurrent: bool,
    /// The workflow that the trigger follows, instead of an interval or an expression.
    pub after: Option<After>,
}

impl NewTrigger {
    /// Returns the record of a new trigger. The first poll is due immediately, or at the first time of the cron expression.
    /// A trigger that follows a workflow has no polls.
    ///
    /// # Errors
    /// Returns `ScheduleInvalid` if the name, the interval, the expression, the zone or the followed workflow is not valid.
    /// Also returns `ScheduleInvalid` unless exactly one of interval, expression and followed workflow is given.
    pub fn record(&self, id: ScheduleId, now: Timestamp) -> Result<ScheduleRecord, Error> {
        let refuse = |message: String| Err(Error::new(ErrorCode::ScheduleInvalid, message));
        if !(1..=255).contains(&self.name.len()) {
            let bytes = self.name.len();
            return refuse(format!(
                "the name of a trigger has {bytes} bytes, but it must have 1 to 255"
            ));
        }
        match (&self.expression, self.interval, &self.after) {
            (Some(expression), None, None) => drop(Cron::parse(expression, &self.timezone)?),
            (None, Some(interval), None) if interval > 0 => {}
            (None, Some(interval), None) => {
                return refuse(format!(
                    "trigger '{}': poll_interval must be greater than zero, not {interval} µs",
                    self.name
                ));
            }
            (None, None, Some(followed)) => after::check(&self.name, followed)?,
            _ => {
                return refuse(format!(
                    "trigger '{}' needs exactly one of a poll interval, a cron expression and a workflow that it follows",
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
                // A trigger that follows a workflow fires once for each ended execution, even if an execution that the
                // trigger started is open.
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

/// Returns a known trigger with the options of a new registration, or `None` if no option has changed.
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

/// Ends a poll and its lease, and sets the time of the next poll.
pub fn schedule_next(record: &mut ScheduleRecord, now: Timestamp) {
    record.state.polled = false;
    record.next_due = next_poll(record, now);
    record.wake_at = record.next_due;
}

/// The time of the next poll. An interval counts from the start of the last poll, so that a slow function does not lengthen it.
fn next_poll(record: &ScheduleRecord, now: Timestamp) -> Option<Timestamp> {
    if !record.enabled {
        return None;
    }
    if let Some(interval) = record.spec.interval {
        let next = record.last_due.map_or(now, |last| last + interval);
        // The next poll is never in the past, and at most one interval ahead, even if the clock was set back.
        return Some(next.max(now).min(now + interval));
    }
    let expression = record.spec.expression.as_deref()?;
    Cron::parse(expression, &record.spec.timezone)
        .ok()?
        .next_after(now)
}

/// Returns the trigger with a lease for a poll. Until the lease ends, other runners do not poll the trigger.
#[must_use]
pub fn lease_taken(known: &ScheduleRecord, now: Timestamp, lease: Micros) -> ScheduleRecord {
    let mut record = known.clone();
    record.state.polled = true;
    record.last_due = Some(now);
    if record.spec.after.is_some() {
        // The ticks for ended executions get consecutive times, starting with `last_due`, which must therefore be later than
        // the times of earlier ticks.
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
    /// The function decided that no execution is to be started.
    Skip,
    /// The function returned the initial context of an execution to start.
    Fire(Context),
    /// The function returned the executions to start, each with its initial context and its key, and the state to store for
    /// the next poll (G3). The list can be empty: then only the state is stored. Without a state, the stored state remains.
    Many {
        /// The executions.
        fires: Vec<(Context, Option<String>)>,
        /// The state to store.
        state: Option<Json>,
    },
    /// The function raised this error.
    Failed(String),
    /// The outcomes of the calls for several ended executions, in the order of the executions (G4).
    Ends(Vec<Self>),
}

/// Returns the trigger after a poll, and the outcome to record in the trigger's history; `None` if the history gets no
/// entry. `is_open`: whether an execution that the trigger started is open.
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
    // An overlap drops the executions of this poll. The next poll must find them again, so the new state is dropped too.
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
