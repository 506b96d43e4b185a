//! The ticks of a cron schedule: which of them fire, are missed, overlap or wait, and when the schedule is evaluated
//! next (semantics F4–F6).
//!
//! `registration` makes and changes the record of a schedule. `ticks` evaluates the schedule.
//!
//! See docs/explanation/decisions/052-missed-ticks.md

mod registration;
mod ticks;

use super::cron::Cron;
use crate::types::{Context, Error, ExecutionId, Json, Micros, Overlap, ScheduleRecord, Timestamp};

pub use registration::{NewSchedule, changed, deleted, registered_again, replaced, switched};
pub use ticks::{
    Decision, MAX_LATENESS, MAX_TICKS, ScheduleInputs, TAKEOVER_DELAY, Tick, evaluate,
};

/// Time, in microseconds, between two evaluations of a schedule with waiting ticks. The end of an execution also
/// causes an evaluation.
const QUEUE_INTERVAL: Micros = 5_000_000;

/// Parses the cron expression of a schedule's record.
///
/// # Errors
/// Returns an error if the record has no valid expression, or no valid time zone.
pub fn cron_of(record: &ScheduleRecord) -> Result<Cron, Error> {
    let expression = record.spec.expression.as_deref().unwrap_or_default();
    Cron::parse(expression, &record.spec.timezone)
}

/// Sets the schedule's next tick to the first tick after `now`.
fn schedule_next(record: &mut ScheduleRecord, cron: &Cron, now: Timestamp) {
    let from = match record.spec.start_at {
        Some(start) if start > now => start - 1,
        _ => now,
    };
    record.next_due = next_tick(record, cron, from);
    record.state.catching_up = None;
    wake(record, now);
}

fn next_tick(record: &ScheduleRecord, cron: &Cron, after: Timestamp) -> Option<Timestamp> {
    let end = record.spec.end_at;
    let next = cron.next_after(after).filter(|_| record.enabled)?;
    end.is_none_or(|end| next <= end).then_some(next)
}

/// Sets the time of the schedule's next evaluation.
fn wake(record: &mut ScheduleRecord, now: Timestamp) {
    let tick = record.next_due.map(|due| due + jitter_of(record, due));
    let queue = (record.enabled && !record.state.queued.is_empty()).then_some(now + QUEUE_INTERVAL);
    record.wake_at = tick.into_iter().chain(queue).min();
}

/// F6: the random delay of a tick. It is derived from the schedule and the due time, so that all runners agree on it.
fn jitter_of(record: &ScheduleRecord, due: Timestamp) -> Micros {
    let span = record.spec.jitter;
    if span <= 0 {
        return 0;
    }
    let id = record.id.uuid().as_u128();
    let low = u64::try_from(id & u128::from(u64::MAX)).unwrap_or_default();
    let mixed = mix(mix(low).wrapping_add(due.0.cast_unsigned()));
    i64::try_from(mixed % (span.unsigned_abs() + 1)).unwrap_or_default()
}

/// Mixes the bits of a number (the finalizer of splitmix64).
const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

/// The keys that [`input`] adds, each with an example value.
pub const EXAMPLES_OF_ADDED: [(&str, &str); 4] = [
    ("scheduled_time", "2026-01-01T00:00:00Z"),
    ("schedule_id", "00000000-0000-7000-8000-000000000000"),
    ("schedule_timezone", "UTC"),
    ("schedule_expression", "@hourly"),
];

/// F6: the initial context of a tick's execution.
#[must_use]
pub fn input(record: &ScheduleRecord, due: Timestamp) -> Context {
    let mut input = record.spec.input.clone();
    let text = |value: &str| Json::encode(value).unwrap_or_else(|_| Json::from_encoder("null"));
    input.set("scheduled_time", text(&due.to_rfc3339()));
    input.set("schedule_id", text(&record.id.to_string()));
    input.set("schedule_timezone", text(&record.spec.timezone));
    let expression = record.spec.expression.as_deref().unwrap_or_default();
    input.set("schedule_expression", text(expression));
    input
}

/// The due time to record for a run that a caller requested. No tick and no earlier run of this kind has the same due time.
#[must_use]
pub fn between_ticks(record: &ScheduleRecord, now: Timestamp) -> Timestamp {
    // Ticks are due at whole seconds, so an odd number of microseconds cannot be the due time of a tick.
    let at = Timestamp(now.0 | 1);
    match record.state.last_fired_at {
        // The clock may have been set back, or may not have advanced since the last run.
        Some(last) if last >= at => Timestamp((last.0 + 1) | 1),
        _ => at,
    }
}

/// Adds new executions to the schedule's list of open executions, if its overlap rule depends on this list.
pub fn note_started(record: &mut ScheduleRecord, started: &[ExecutionId]) {
    if record.spec.overlap != Overlap::Allow {
        record.state.open.extend_from_slice(started);
    }
}
