//! The ticks of a schedule: which fire, are missed, overlap or wait, and when it is evaluated next (semantics F4–F6).
//!
//! See docs/explanation/decisions/052-missed-ticks.md

use super::cron::Cron;
use crate::types::{
    CatchingUp, Catchup, Context, Error, ErrorCode, ExecutionId, Json, Micros, Overlap, ScheduleId,
    ScheduleKind, ScheduleRecord, ScheduleSpec, ScheduleState, TickOutcome, Timestamp,
};

/// Grace period of a runner that was running when a tick was due, in microseconds: a tick at most this late still fires. An
/// older one counts as missed, because the machine slept, the clock was set, or the database was unavailable.
pub const MAX_LATENESS: Micros = 60_000_000;

/// Time for which a tick from before a runner's start is left to the peers that were running then, in microseconds. After that
/// any runner fires it.
pub const TAKEOVER_DELAY: Micros = 2_000_000;

/// Time between two evaluations of a schedule with queued ticks, in microseconds. It is also evaluated when an execution ends.
const QUEUE_INTERVAL: Micros = 5_000_000;

/// Maximum number of ticks of one evaluation. The next one continues from there, so that the size of a transaction does not
/// depend on the length of a downtime.
pub const MAX_TICKS: usize = 500;

/// Maximum number of missed ticks that are recorded one by one.
const MAX_RECORDED: u32 = 1_000;
/// Maximum number of ticks that wait for an execution.
const MAX_QUEUED: usize = 1_000;

/// Maximum number of bytes of a cron expression.
const MAX_EXPRESSION: usize = 250;
/// Maximum number of bytes of an instance name.
const MAX_INSTANCE: usize = 255;

/// A schedule to register.
#[derive(Clone, Debug)]
pub struct NewSchedule {
    /// The workflow to start, which need not be registered yet.
    pub workflow: String,
    /// The cron expression.
    pub expression: String,
    /// The IANA time zone.
    pub timezone: String,
    /// A name that distinguishes it from schedules with the same workflow, expression and zone.
    pub instance: Option<String>,
    /// The initial context of its executions.
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
    /// Whether it fires. Ignored for a schedule that is registered already.
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
    /// `ScheduleInvalid` for an invalid expression, zone or option.
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
            return refuse(format!(
                "a cron expression may have at most {MAX_EXPRESSION} characters"
            ));
        }
        if self
            .instance
            .as_ref()
            .is_some_and(|name| name.len() > MAX_INSTANCE)
        {
            return refuse(format!(
                "instance_name may have at most {MAX_INSTANCE} bytes"
            ));
        }
        if self.jitter < 0 {
            return refuse("the jitter must not be negative".to_owned());
        }
        if let (Some(start), Some(end)) = (self.start_at, self.end_at)
            && end <= start
        {
            return refuse(format!("end_at ({end}) must come after start_at ({start})"));
        }
        Ok(())
    }
}

/// F5: the identity of a schedule, by which a registration finds the stored one: a JSON array of strings.
fn identity(workflow: &str, spec: &ScheduleSpec) -> String {
    let expression = spec.expression.as_deref().unwrap_or_default();
    let parts = [workflow, expression, &spec.timezone, &spec.instance];
    // Serialising strings cannot fail.
    serde_json::to_string(&parts).unwrap_or_default()
}

/// F5: returns the known schedule with the options of a new registration. Its id, history, next tick and `enabled` stay.
/// `None`: the options are the same.
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

/// Returns the schedule with another expression or zone, and its new next tick.
///
/// # Errors
/// `ScheduleInvalid` for an expression or a zone that cannot be read.
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
                format!("a cron expression may have at most {MAX_EXPRESSION} characters"),
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

/// Returns the schedule enabled or disabled. F6: ticks that were due while it was disabled are not caught up.
///
/// # Errors
/// When its expression cannot be parsed.
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
        super::trigger::schedule_next(&mut record, now);
    } else {
        schedule_next(&mut record, &cron_of(known)?, now);
    }
    Ok(record)
}

/// Returns the schedule as deleted. It does not fire any more, and its history remains.
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

/// The parsed expression of a record.
///
/// # Errors
/// When it has no valid expression.
pub fn cron_of(record: &ScheduleRecord) -> Result<Cron, Error> {
    let expression = record.spec.expression.as_deref().unwrap_or_default();
    Cron::parse(expression, &record.spec.timezone)
}

/// Sets the first tick after `now`.
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

/// F6: the delay of a tick, which is the same for every runner.
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

/// The finalizer of splitmix64.
const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

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
    /// Maximum number of missed ticks that fire, for schedules that set none.
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

/// F4: decides a missed tick, or all missed ticks that are left once enough were recorded one by one. Returns the last one.
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

/// The due time under which a caller's run is recorded. It differs from those of all ticks and of the run before it.
#[must_use]
pub fn between_ticks(record: &ScheduleRecord, now: Timestamp) -> Timestamp {
    // Ticks are due at whole seconds, and this number of microseconds is odd.
    let at = Timestamp(now.0 | 1);
    if record.state.last_fired_at == Some(at) {
        at + 2
    } else {
        at
    }
}

/// Adds executions to the schedule's open ones, if its overlap rule depends on them.
pub fn note_started(record: &mut ScheduleRecord, started: &[ExecutionId]) {
    if record.spec.overlap != Overlap::Allow {
        record.state.open.extend_from_slice(started);
    }
}
