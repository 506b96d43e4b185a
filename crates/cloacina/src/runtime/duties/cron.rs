//! Fires the ticks of cron schedules (semantics F).
//!
//! Every runner does this, and there is no leader. The transaction that submits the executions of ticks also changes the
//! schedule's row, but only if the row still has the revision that was read. So if two runners see the same tick, only one of
//! them fires it.

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::duty::Duty;
use super::schedules::{UnknownWorkflows, by_hand, trim_open, unknown_workflow};
use crate::engine::cron::Cron;
use crate::engine::schedule::{self, Decision, ScheduleInputs};
use crate::runtime::batch::{Purpose, ScheduleChange};
use crate::runtime::refused_batch::RefusedBatch;
use crate::runtime::step::{Signal, Step};
use crate::runtime::{Message, Reply, schedule_rows};
use crate::store::{DueQuery, StoreError, TickWrite};
use crate::types::sync::Mutex;
use crate::types::{
    Error, ExecutionId, Micros, Monotonic, Overlap, ScheduleId, ScheduleKind, ScheduleRecord,
    TickOutcome, Timestamp,
};

/// Maximum number of schedules that one turn evaluates.
const SCHEDULES: usize = 200;
/// Number of ticks after which a turn evaluates no further schedule. It limits the size of the turn's transaction.
const TICKS: usize = 2_000;
/// Minimum time, in microseconds, between two queries for new schedules while other runners keep writing.
pub(super) const RECHECK_INTERVAL: Micros = 250_000;
/// How long, in microseconds, a schedule that cannot be read or written is skipped.
pub(super) const BROKEN_PAUSE: Micros = 60_000_000;
/// Maximum number of parsed expressions that are cached.
const EXPRESSIONS: usize = 20_000;
/// Number of executions in `awaited` above which the set is cleared. An execution may then be subscribed to a second time.
const MAX_AWAITED: usize = 1_000;

/// The duty that fires cron schedules.
pub(in crate::runtime) struct CronDuty {
    online_since: Timestamp,
    next: Monotonic,
    queried_at: Monotonic,
    expressions: FxHashMap<(String, String), Arc<Cron>>,
    /// Schedules whose queued ticks can fire now, because an execution for which they waited has ended.
    ended: Arc<Mutex<Vec<ScheduleId>>>,
    /// Executions with a subscription that adds their schedule to `ended`.
    awaited: FxHashSet<ExecutionId>,
    /// Schedules that are skipped until a given time, because they are left to another runner, or cannot be read or
    /// written.
    skipped_until: FxHashMap<ScheduleId, Monotonic>,
    unknown: UnknownWorkflows,
    /// Maximum number of schedules to change in one turn. It is reduced after the database has refused a batch.
    batch: usize,
}

impl CronDuty {
    pub(in crate::runtime) fn new(now: Timestamp) -> Self {
        Self {
            online_since: now,
            next: Monotonic::default(),
            queried_at: Monotonic::default(),
            expressions: FxHashMap::default(),
            ended: Arc::default(),
            awaited: FxHashSet::default(),
            skipped_until: FxHashMap::default(),
            unknown: UnknownWorkflows::default(),
            batch: SCHEDULES,
        }
    }

    /// After a refused batch, changes fewer schedules in one turn. If the batch contained only one schedule, skips this
    /// schedule for a while.
    pub(in crate::runtime) fn note_refused(&mut self, step: &Step, refused: &RefusedBatch) {
        if let ([id], true) = (refused.schedules.as_slice(), refused.is_single()) {
            tracing::error!(schedule_id = %id, "the database refuses a change of schedule {id}, which is skipped for a minute");
            self.skipped_until
                .insert(*id, step.monotonic + BROKEN_PAUSE);
        }
        if !refused.schedules.is_empty() {
            self.batch = (refused.schedules.len() / 2).max(1);
        }
    }

    /// The time of the next query for due schedules.
    fn next_query(&self, step: &Step) -> Monotonic {
        if !step.config.enable_cron {
            return Monotonic::NEVER;
        }
        let changed = step.signals.is_raised(Signal::CronChanged);
        let maybe_changed = step.signals.is_raised(Signal::CronMaybeChanged);
        let sooner = [
            changed.then_some(step.monotonic),
            maybe_changed.then_some(self.queried_at + RECHECK_INTERVAL),
            self.skipped_until.values().min().copied(),
        ];
        sooner.into_iter().flatten().fold(self.next, Monotonic::min)
    }

    fn cron(&mut self, record: &ScheduleRecord) -> Result<Arc<Cron>, Error> {
        let expression = record.spec.expression.clone().unwrap_or_default();
        let key = (expression, record.spec.timezone.clone());
        if let Some(known) = self.expressions.get(&key) {
            return Ok(Arc::clone(known));
        }
        let cron = Arc::new(schedule::cron_of(record)?);
        if self.expressions.len() >= EXPRESSIONS {
            self.expressions.clear();
        }
        self.expressions.insert(key, Arc::clone(&cron));
        Ok(cron)
    }

    /// Reads the schedules to evaluate now.
    fn due(&mut self, step: &Step) -> Result<Vec<ScheduleRecord>, StoreError> {
        let mut due = Vec::new();
        let ended = std::mem::take(&mut *self.ended.lock());
        for (read, id) in ended.iter().enumerate() {
            match step.store.schedule(*id) {
                Ok(found) => due.extend(found.filter(|record| record.enabled)),
                Err(error) => {
                    self.ended.lock().extend(&ended[read..]);
                    return Err(error);
                }
            }
        }
        if step.config.enable_cron && step.monotonic >= self.next {
            self.skipped_until
                .retain(|_, until| *until > step.monotonic);
            // The query also returns skipped schedules, so the limit is raised by their number.
            let query = DueQuery {
                cron: true,
                triggers: Vec::new(),
                ends: false,
                limit: self.batch + self.skipped_until.len(),
            };
            let mut found = step.store.due_schedules(&query, step.now)?;
            self.queried_at = step.monotonic;
            for (id, reason) in found.unreadable {
                self.skipped_until.entry(id).or_insert_with(|| {
                    tracing::error!(schedule_id = %id, "cannot read schedule {id}, which does not fire: {reason}");
                    step.monotonic + BROKEN_PAUSE
                });
            }
            found
                .due
                .retain(|record| !self.skipped_until.contains_key(&record.id));
            self.next = match found.next {
                _ if found.due.len() >= self.batch => step.monotonic,
                Some(next) => step.instant_of(next),
                None => Monotonic::NEVER,
            };
            found.due.truncate(self.batch);
            due.extend(found.due);
        }
        let mut seen = FxHashSet::default();
        due.retain(|record| {
            !self.skipped_until.contains_key(&record.id)
                && seen.insert(record.id)
                && !step.batch.has_schedule(record.id)
        });
        Ok(due)
    }

    fn fire(&mut self, step: &mut Step, due: Vec<ScheduleRecord>) -> Result<(), StoreError> {
        let mut others_since = None;
        let mut count = 0;
        for record in due {
            if count >= TICKS {
                self.next = step.monotonic;
                break;
            }
            step.read_latest(&record.workflow)?;
            let cron = match self.cron(&record) {
                Ok(cron) => cron,
                Err(error) => {
                    tracing::error!(schedule_id = %record.id, %error, "cannot read a stored schedule, which does not fire");
                    self.skipped_until
                        .insert(record.id, step.monotonic + BROKEN_PAUSE);
                    continue;
                }
            };
            let is_older = record.next_due.is_some_and(|due| due < self.online_since);
            if is_older && others_since.is_none() {
                others_since = Some(peers_since(step)?);
            }
            let inputs = ScheduleInputs {
                now: step.now,
                online_since: self.online_since,
                others_since: others_since.flatten(),
                is_open: !record.state.open.is_empty(),
                max_catchup: step.config.max_catchup,
            };
            match schedule::evaluate(&record, &cron, inputs) {
                Decision::Leave(until) => {
                    self.skipped_until.insert(record.id, step.instant_of(until));
                }
                Decision::Change(changed, ticks) => {
                    count += ticks.len();
                    self.fire_ticks(step, *changed, ticks);
                }
            }
        }
        Ok(())
    }

    fn fire_ticks(
        &mut self,
        step: &mut Step,
        mut record: ScheduleRecord,
        ticks: Vec<schedule::Tick>,
    ) {
        let mut writes = Vec::with_capacity(ticks.len());
        let mut started = Vec::new();
        // Work is claimed in the order of ids. Ids from the same millisecond are in random order, so they are sorted here.
        let mut ids: Vec<ExecutionId> = ticks.iter().map(|_| step.fresh_execution()).collect();
        ids.sort_unstable();
        for (tick, id) in ticks.into_iter().zip(ids) {
            let mut write = TickWrite {
                due_at: tick.due_at,
                outcome: tick.outcome,
                execution: None,
                detail: tick.detail,
            };
            if tick.outcome == TickOutcome::Fired {
                let input = schedule::input(&record, tick.due_at);
                write.execution = step.start_scheduled(id, &record, input, None);
                let missing = self.unknown.note(&record, write.execution.is_some());
                started.extend(write.execution);
                if missing.is_some() {
                    write.outcome = TickOutcome::Skipped;
                    write.detail = missing;
                }
            }
            writes.push(write);
        }
        schedule::note_started(&mut record, &started);
        trim_open(&mut record);
        if let Some(wake_at) = record.wake_at {
            self.next = self.next.min(step.instant_of(wake_at));
        }
        let change = ScheduleChange::new(record, writes, Purpose::Tick);
        step.batch.schedules.push(change);
    }

    /// Applies the effects of a schedule's change if the change was written (`applied`). If another writer prevented
    /// the write, decides again.
    pub(in crate::runtime) fn apply_result(
        &mut self,
        step: &mut Step,
        change: ScheduleChange,
        applied: bool,
    ) {
        if !applied {
            self.next = step.monotonic;
            step.retry.extend(change.into_message());
            return;
        }
        self.await_ends(step, &change.record);
        if let Purpose::RunNow(execution, _, reply) = change.purpose {
            reply(Ok(execution));
        }
        self.batch = (self.batch * 2).min(SCHEDULES);
    }

    /// Subscribes to the executions that a schedule's queued ticks wait for. When one of them ends, the schedule is evaluated.
    fn await_ends(&mut self, step: &Step, record: &ScheduleRecord) {
        if record.spec.overlap != Overlap::Queue || record.state.queued.is_empty() {
            return;
        }
        for id in record.state.open.iter().copied() {
            if !self.awaited.insert(id) {
                continue;
            }
            let (ended, schedule) = (Arc::clone(&self.ended), record.id);
            step.subscriptions
                .subscribe(id, move |_| ended.lock().push(schedule));
            if step.subscriptions.recent(id).is_some() {
                self.ended.lock().push(schedule);
            }
        }
        if self.awaited.len() > MAX_AWAITED {
            self.awaited.clear();
        }
    }
}

impl Duty for CronDuty {
    const ACTION: &'static str = "fire schedules";

    fn next_wake(&self, step: &Step) -> Monotonic {
        if step.is_stopping {
            return Monotonic::NEVER;
        }
        if !self.ended.lock().is_empty() {
            return step.monotonic;
        }
        self.next_query(step)
    }

    fn run(&mut self, step: &mut Step) -> Result<(), StoreError> {
        self.next = self.next_query(step);
        step.signals.take(Signal::CronChanged);
        step.signals.take(Signal::CronMaybeChanged);
        // If the clock was set back, future ticks must not count as due before this runner started.
        self.online_since = self.online_since.min(step.now);
        let mut due = self.due(step)?;
        let before = step.batch.schedules.len();
        let is_full = due.len() >= self.batch;
        let fired = match step.forget_ended(&mut due) {
            Ok(()) => self.fire(step, due),
            Err(error) => Err(error),
        };
        if fired.is_err() {
            self.next = step.monotonic;
        } else if is_full && step.batch.schedules.len() == before {
            // All due schedules are skipped for now, and an immediate query would return the same schedules.
            self.next = step.monotonic + RECHECK_INTERVAL;
        }
        fired
    }
}

/// Starts a schedule's workflow once, immediately and regardless of the schedule's rules.
pub(in crate::runtime) fn run_now(
    step: &mut Step,
    id: ScheduleId,
    give_up: Monotonic,
    reply: Reply<ExecutionId>,
) {
    if step.batch.has_schedule(id) {
        return step.retry.push(Message::RunNow {
            schedule: id,
            give_up,
            reply,
        });
    }
    let record = match schedule_rows::existing(&*step.store, ScheduleKind::Cron, id) {
        Ok(record) => record,
        Err(error) => return reply(Err(error)),
    };
    if let Err(error) = step.read_latest(&record.workflow) {
        return reply(Err(error.into()));
    }
    let due_at = schedule::between_ticks(&record, step.now);
    let fresh = step.fresh_execution();
    let input = schedule::input(&record, due_at);
    let Some(execution) = step.start_scheduled(fresh, &record, input, None) else {
        return reply(Err(unknown_workflow(&record.workflow)));
    };
    let purpose = Purpose::RunNow(execution, give_up, reply);
    let change = by_hand(record, execution, due_at, purpose);
    step.batch.schedules.push(change);
}

/// Returns the start time of the live peer that has been running longest. Returns `None` if there is no live peer.
fn peers_since(step: &mut Step) -> Result<Option<Timestamp>, StoreError> {
    let rows = step.store.runners()?;
    let (now, monotonic, runner) = (step.now, step.monotonic, step.runner);
    let peers = &mut step.peers;
    peers.observe(&rows, monotonic);
    let live = rows
        .iter()
        .filter(|row| row.id != runner && peers.death(row, now, monotonic).is_none());
    Ok(live.map(|row| row.started_at).min())
}
