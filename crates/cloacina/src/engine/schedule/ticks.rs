//! The evaluation of a schedule: its due ticks, the missed ones, and those that overlap (semantics F4, F6).

use super::{jitter_of, next_tick, wake};
use crate::engine::cron::Cron;
use crate::types::{
    CatchingUp, Catchup, Micros, Overlap, ScheduleRecord, ScheduleState, TickOutcome, Timestamp,
};

/// Grace period of a runner that was running when a tick was due, in microseconds: a tick at most this late still fires. An
/// older one counts as missed, because the machine slept, the clock was set, or the database was unavailable.
pub const MAX_LATENESS: Micros = 60_000_000;

/// Time for which a tick from before a runner's start is left to the peers that were running then, in microseconds. After that
/// any runner fires it.
pub const TAKEOVER_DELAY: Micros = 2_000_000;

/// Maximum number of ticks of one evaluation. The next evaluation continues from there, so that the size of a transaction does
/// not depend on the length of a downtime.
pub const MAX_TICKS: usize = 500;

/// Maximum number of missed ticks that are recorded one by one.
const MAX_RECORDED: u32 = 1_000;
/// Maximum number of ticks that wait for an execution to end.
const MAX_QUEUED: usize = 1_000;

/// The inputs of a schedule's evaluation besides its record.
#[derive(Clone, Copy, Debug)]
pub struct ScheduleInputs {
    /// The current time.
    pub now: Timestamp,
    /// The time since which this runner fires ticks.
    pub online_since: Timestamp,
    /// The start of the live peer that has been running longest.
    pub others_since: Option<Timestamp>,
    /// Whether an execution of the schedule is open.
    pub is_open: bool,
    /// Maximum number of missed ticks that fire, for schedules that do not set `max_catchup`.
    pub max_catchup: u32,
}

/// A tick with its outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tick {
    /// The time at which it was due.
    pub due_at: Timestamp,
    /// The outcome.
    pub outcome: TickOutcome,
    /// A sentence about the outcome.
    pub detail: Option<String>,
}

/// The result of a schedule's evaluation.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// This runner leaves the schedule to another one until this time.
    Leave(Timestamp),
    /// The schedule's new record, and at most [`MAX_TICKS`] ticks in order. The caller starts executions for those that fired.
    /// If more ticks are due, the record is due again at once.
    Change(Box<ScheduleRecord>, Vec<Tick>),
}

/// F4, F6: decides which due ticks of a schedule fire, are missed, overlap or wait.
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
    let mut present = None;
    while ticks.list.len() < MAX_TICKS
        && let Some(due) = record.next_due.filter(|due| is_due(&record, *due))
    {
        if record.state.catching_up.is_none() {
            let present = match present {
                Some(known) => known,
                None => match present_since(&record, due, inputs) {
                    Ok(found) => *present.insert(found),
                    Err(until) => return Decision::Leave(until),
                },
            };
            let missed = CatchingUp {
                until: present,
                ticks: 0,
            };
            record.state.catching_up = (due < present).then_some(missed);
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

/// Returns the time from which ticks count as on time. `Err`: the first tick is left to another runner until this time.
fn present_since(
    record: &ScheduleRecord,
    first: Timestamp,
    inputs: ScheduleInputs,
) -> Result<Timestamp, Timestamp> {
    let oldest = inputs.now - MAX_LATENESS - record.spec.jitter;
    // Ticks before this time were due before this runner started, or too long ago.
    let present = inputs.online_since.max(oldest);
    let others_were_there = inputs.others_since.is_some_and(|since| since <= first);
    if first >= present || first < oldest || !others_were_there {
        return Ok(present);
    }
    if inputs.now < first + TAKEOVER_DELAY {
        return Err(first + TAKEOVER_DELAY);
    }
    Ok(first)
}

/// F4: decides one missed tick; or, once [`MAX_RECORDED`] or more were recorded one by one, all that are left at once. Returns
/// the last tick that was decided.
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

/// The ticks of one evaluation.
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

    /// Fires a tick if the overlap rule allows it.
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
