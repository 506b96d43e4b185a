//! The evaluation of a schedule: decides about due ticks, missed ticks and overlapping ticks (semantics F4, F6).

use super::{jitter_of, next_tick, wake};
use crate::engine::cron::Cron;
use crate::types::{
    CatchingUp, Catchup, Micros, Overlap, ScheduleRecord, ScheduleState, TickOutcome, Timestamp,
};

/// Maximum lateness, in microseconds, with which a tick still counts as on time, if this runner was running when the tick
/// was due. A later tick counts as missed. Ticks are late after the machine slept, the clock was set forward, or the
/// database did not answer.
pub const MAX_LATENESS: Micros = 60_000_000;

/// Time after a tick's due time, in microseconds, during which a runner that started later leaves the tick to peers that were
/// running at the due time. Afterwards, any runner fires the tick.
pub const TAKEOVER_DELAY: Micros = 2_000_000;

/// Maximum number of ticks that one evaluation decides. The next evaluation continues with the following tick, so that the size
/// of a transaction does not depend on the length of a downtime.
pub const MAX_TICKS: usize = 500;

/// Number of missed ticks that are recorded one by one. Further missed ticks are recorded together.
const MAX_RECORDED: u32 = 1_000;
/// Maximum number of a schedule's ticks that wait for an execution to end.
const MAX_QUEUED: usize = 1_000;

/// The data that an evaluation reads in addition to the schedule's record.
#[derive(Clone, Copy, Debug)]
pub struct ScheduleInputs {
    /// The current time.
    pub now: Timestamp,
    /// The time since which this runner fires ticks.
    pub online_since: Timestamp,
    /// The start time of the live peer that has been running longest.
    pub others_since: Option<Timestamp>,
    /// Whether an execution of the schedule is open.
    pub is_open: bool,
    /// Maximum number of missed ticks that fire, for schedules that do not set `max_catchup`.
    pub max_catchup: u32,
}

/// A due tick and the decision about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tick {
    /// The time at which the tick was due.
    pub due_at: Timestamp,
    /// The outcome.
    pub outcome: TickOutcome,
    /// A sentence that explains the outcome.
    pub detail: Option<String>,
}

/// The result of a schedule's evaluation.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// This runner leaves the schedule to its peers until this time.
    Leave(Timestamp),
    /// The schedule's new record, and at most [`MAX_TICKS`] ticks in order. The caller starts an execution for each tick that
    /// fired. If more ticks are due, the record is immediately due for its next evaluation.
    Change(Box<ScheduleRecord>, Vec<Tick>),
}

/// F4, F6: decides for each due tick of a schedule whether it fires, is missed, overlaps or waits.
#[must_use]
pub fn evaluate(known: &ScheduleRecord, cron: &Cron, inputs: ScheduleInputs) -> Decision {
    let now = inputs.now;
    let mut record = known.clone();
    let mut ticks = Ticks {
        is_open: inputs.is_open,
        overlap: known.spec.overlap,
        list: Vec::new(),
    };
    if !ticks.is_open && !record.state.queued.is_empty() {
        let due = record.state.queued.remove(0);
        ticks.push(due, TickOutcome::Fired);
    }
    let is_due = |record: &ScheduleRecord, due: Timestamp| due + jitter_of(record, due) <= now;
    let mut on_time_since = None;
    while ticks.list.len() < MAX_TICKS
        && let Some(due) = record.next_due.filter(|due| is_due(&record, *due))
    {
        if record.state.catching_up.is_none() {
            let on_time_since = match on_time_since {
                Some(known) => known,
                None => match earliest_on_time(&record, due, inputs) {
                    Ok(found) => *on_time_since.insert(found),
                    Err(until) => return Decision::Leave(until),
                },
            };
            let missed = CatchingUp {
                until: on_time_since,
                ticks: 0,
            };
            record.state.catching_up = (due < on_time_since).then_some(missed);
        }
        let last = if record.state.catching_up.is_some() {
            catch_up(&mut record, cron, due, inputs.max_catchup, &mut ticks)
        } else {
            ticks.fire(&mut record.state, due);
            due
        };
        record.last_due = Some(last);
        record.next_due = next_tick(&record, cron, last);
        let next = record.next_due;
        let goes_on = |catching_up: &CatchingUp| next.is_some_and(|next| next < catching_up.until);
        record.state.catching_up = record.state.catching_up.filter(goes_on);
    }
    wake(&mut record, now);
    if let Some(last) = ticks
        .list
        .iter()
        .rfind(|tick| tick.outcome == TickOutcome::Fired)
    {
        record.state.last_fired_at = record.state.last_fired_at.max(Some(last.due_at));
    }
    Decision::Change(Box::new(record), ticks.list)
}

/// Returns the earliest due time at which a tick counts as on time. Returns `Err(until)` if the first tick is left to a peer
/// until `until`.
fn earliest_on_time(
    record: &ScheduleRecord,
    first: Timestamp,
    inputs: ScheduleInputs,
) -> Result<Timestamp, Timestamp> {
    let oldest = inputs.now - MAX_LATENESS - record.spec.jitter;
    // Ticks before `on_time_since` were due before this runner started, or exceed the maximum lateness.
    let on_time_since = inputs.online_since.max(oldest);
    let others_were_there = inputs.others_since.is_some_and(|since| since <= first);
    if first >= on_time_since || first < oldest || !others_were_there {
        return Ok(on_time_since);
    }
    if inputs.now < first + TAKEOVER_DELAY {
        return Err(first + TAKEOVER_DELAY);
    }
    Ok(first)
}

/// F4: decides one missed tick. After [`MAX_RECORDED`] missed ticks (or the number that may fire, if larger), decides all
/// remaining missed ticks together. Returns the last tick that was decided.
fn catch_up(
    record: &mut ScheduleRecord,
    cron: &Cron,
    due: Timestamp,
    max_catchup: u32,
    ticks: &mut Ticks,
) -> Timestamp {
    let Some(CatchingUp { until, ticks: done }) = record.state.catching_up else {
        return due;
    };
    let firing = match record.spec.catchup {
        Catchup::All => record.spec.max_catchup.unwrap_or(max_catchup),
        Catchup::Skip | Catchup::Latest => 0,
    };
    let last = if done < MAX_RECORDED.max(firing) {
        due
    } else {
        let end = record.spec.end_at.unwrap_or(until);
        cron.last_between(due, end.min(until - 1)).unwrap_or(due)
    };
    let fires = match record.spec.catchup {
        Catchup::Skip => false,
        Catchup::Latest => next_tick(record, cron, last).is_none_or(|next| next >= until),
        Catchup::All => done < firing,
    };
    record.state.catching_up = Some(CatchingUp {
        until,
        ticks: done.saturating_add(1),
    });
    if fires {
        ticks.fire(&mut record.state, last);
    } else {
        ticks.push(last, TickOutcome::Missed);
    }
    if last > due
        && let (Some(tick), Some(before)) = (ticks.list.last_mut(), record.last_due)
    {
        tick.detail = Some(format!(
            "the ticks between {before} and this one were missed too"
        ));
    }
    last
}

/// The ticks that one evaluation has decided.
struct Ticks {
    is_open: bool,
    overlap: Overlap,
    list: Vec<Tick>,
}

impl Ticks {
    fn push(&mut self, due_at: Timestamp, outcome: TickOutcome) {
        self.is_open |= outcome == TickOutcome::Fired && self.overlap != Overlap::Allow;
        self.list.push(Tick {
            due_at,
            outcome,
            detail: None,
        });
    }

    /// Fires a tick if the overlap rule allows it. Otherwise records the tick as overlapped or queued.
    fn fire(&mut self, state: &mut ScheduleState, due: Timestamp) {
        let waits = self.is_open || !state.queued.is_empty();
        let outcome = match self.overlap {
            Overlap::Skip if self.is_open => TickOutcome::Overlapped,
            Overlap::Queue if waits && state.queued.len() >= MAX_QUEUED => TickOutcome::Overlapped,
            Overlap::Queue if waits => {
                state.queued.push(due);
                TickOutcome::Queued
            }
            _ => TickOutcome::Fired,
        };
        self.push(due, outcome);
    }
}
