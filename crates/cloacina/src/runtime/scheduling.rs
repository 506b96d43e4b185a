//! Ticks of schedules and polls of triggers: sleeps until the next one is due, fires in the transaction of the step (semantics F, G).
//!
//! Every runner does this, and none leads. A schedule's row is changed only on top of the revision that was read, in the
//! transaction that submits the executions of its ticks: of two runners that see the same tick, one finds the row changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::assignment::{Poll, PollToken};
use super::coordinator::Coordinator;
use super::draft::Draft;
use super::submitting::{SubmitRequest, micros};
use super::{Message, Reply, process, schedule_rows};
use crate::engine::cron::Cron;
use crate::engine::schedule::{self, Situation, Verdict};
use crate::engine::trigger::{self, NewTrigger, PollOutcome};
use crate::store::{DueQuery, StoreError, TickWrite};
use crate::types::sync::Mutex;
use crate::types::{
    Context, Error, ErrorCode, ExecutionId, ExecutionStatus, Micros, Overlap, ScheduleId,
    ScheduleKind, ScheduleRecord, TickOutcome, Timestamp,
};

/// Schedules per step, and ticks: no transaction grows without bounds.
const SCHEDULES: usize = 200;
const TICKS: usize = 2_000;

/// While other runners write all the time, they are asked for new schedules so often.
const NEWS: Micros = 250_000;

/// A schedule that cannot be read is left alone for so long.
const BROKEN: Micros = 60_000_000;

/// Parsed expressions that are kept.
const EXPRESSIONS: usize = 20_000;

/// Executions that schedules remember as possibly open.
const MAX_OPEN: usize = 1_000;

#[derive(Default)]
pub(super) struct Scheduling {
    online_since: Timestamp,
    next_look: Timestamp,
    looked_at: Timestamp,
    expressions: FxHashMap<(String, String), Arc<Cron>>,
    /// Names of the triggers that this program has, with its numbers of their functions.
    handlers: BTreeMap<String, u64>,
    polls: FxHashMap<PollToken, Polling>,
    last_token: PollToken,
    /// Schedules whose queues may go on: an execution that they wait for has ended.
    ended: Arc<Mutex<Vec<ScheduleId>>>,
    awaited: FxHashSet<ExecutionId>,
    /// Schedules left to another runner or unreadable, and until when.
    left: FxHashMap<ScheduleId, Timestamp>,
}

/// A poll whose function runs.
struct Polling {
    record: ScheduleRecord,
    /// When the lease has to be extended.
    renew_at: Timestamp,
    /// Somebody changed the row: read it again.
    is_stale: bool,
}

/// A change of a schedule in the draft of a step.
pub(super) struct Scheduled {
    pub(super) record: ScheduleRecord,
    pub(super) expected: i64,
    pub(super) ticks: Vec<TickWrite>,
    purpose: Purpose,
}

enum Purpose {
    Tick,
    Take,
    Hold(PollToken),
    Polled(PollToken, PollOutcome),
    RunNow(ExecutionId, Timestamp, Reply<ExecutionId>),
}

impl Scheduling {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            online_since: now,
            ..Self::default()
        }
    }

    /// Schedules were changed by this process.
    pub(super) const fn look_now(&mut self) {
        self.next_look = Timestamp(0);
    }

    /// Other processes wrote something.
    pub(super) fn others_wrote(&mut self, now: Timestamp) {
        self.next_look = self.next_look.min((self.looked_at + NEWS).max(now));
    }

    pub(super) fn next_wake(&self, enabled: bool) -> Option<Timestamp> {
        if !self.ended.lock().is_empty() {
            return Some(Timestamp(0));
        }
        let look = (enabled || !self.handlers.is_empty()).then_some(self.next_look);
        let leases = self.polls.values().map(|poll| poll.renew_at);
        look.into_iter().chain(leases).min()
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

    fn is_polling(&self, id: ScheduleId) -> bool {
        self.polls.values().any(|poll| poll.record.id == id)
    }
}

impl Scheduled {
    /// The message that leads to the same change, should this one not have been written.
    pub(super) fn again(self) -> Option<Message> {
        match self.purpose {
            Purpose::Polled(token, outcome) => Some(Message::Polled { token, outcome }),
            Purpose::RunNow(_, give_up, reply) => Some(Message::RunNow {
                schedule: self.record.id,
                give_up,
                reply,
            }),
            _ => None,
        }
    }
}

impl Coordinator {
    /// Puts into the draft what is due.
    pub(super) fn fire_due(&mut self, draft: &mut Draft, now: Timestamp) -> Result<(), StoreError> {
        if self.stopping.is_some() {
            return Ok(());
        }
        self.hold_polls(draft, now);
        let scheduling = &mut self.scheduling;
        // A clock that was set back must not make ticks of the time to come look like those of another age.
        scheduling.online_since = scheduling.online_since.min(now);
        let mut due = Vec::new();
        let ended = std::mem::take(&mut *scheduling.ended.lock());
        for id in ended {
            due.extend(self.store.schedule(id)?.filter(|record| record.enabled));
        }
        let query = DueQuery {
            cron: self.config.enable_cron,
            triggers: self.scheduling.handlers.keys().cloned().collect(),
            limit: SCHEDULES,
        };
        let mut is_full = false;
        let looks = now >= self.scheduling.next_look && (query.cron || !query.triggers.is_empty());
        if looks {
            let found = self.store.due_schedules(&query, now)?;
            self.scheduling.looked_at = now;
            is_full = found.due.len() >= SCHEDULES;
            self.scheduling.next_look = if is_full {
                now
            } else {
                found.next.unwrap_or(Timestamp(i64::MAX))
            };
            self.scheduling.left.retain(|_, until| *until > now);
            due.extend(found.due);
        }
        if due.is_empty() {
            return Ok(());
        }
        due.retain(|record| !self.scheduling.left.contains_key(&record.id));
        let mut seen = FxHashSet::default();
        due.retain(|record| seen.insert(record.id) && !draft.has_schedule(record.id));
        let before = draft.schedules.len();
        let looked = self.look_at(due, draft, now);
        if is_full && draft.schedules.len() == before {
            // All of them are left alone for now: asking again at once would find the same.
            self.scheduling.next_look = now + NEWS;
        }
        if looked.is_err() {
            self.scheduling.look_now();
        }
        if let Some(until) = self.scheduling.left.values().min() {
            self.scheduling.next_look = self.scheduling.next_look.min(*until);
        }
        looked
    }

    fn look_at(
        &mut self,
        due: Vec<ScheduleRecord>,
        draft: &mut Draft,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let open = self.still_open(&due)?;
        let mut others_since = None;
        let mut count = 0;
        for mut record in due {
            if count >= TICKS {
                self.scheduling.look_now();
                break;
            }
            record.state.open.retain(|id| open.contains(id));
            if record.kind == ScheduleKind::Trigger {
                self.take_poll(&record, draft, now);
                continue;
            }
            self.learn(&record.workflow)?;
            let cron = match self.scheduling.cron(&record) {
                Ok(cron) => cron,
                Err(error) => {
                    tracing::error!(schedule_id = %record.id, %error, "a stored schedule cannot be read and does not fire");
                    self.scheduling.left.insert(record.id, now + BROKEN);
                    continue;
                }
            };
            let online_since = self.scheduling.online_since;
            if record.next_due.is_some_and(|due| due < online_since) && others_since.is_none() {
                others_since = Some(self.others_since(now)?);
            }
            let situation = Situation {
                now,
                online_since,
                others_since: others_since.flatten(),
                is_open: !record.state.open.is_empty(),
                max_catchup: self.config.max_catchup,
            };
            match schedule::look(&record, &cron, situation) {
                Verdict::Leave(until) => {
                    self.scheduling.left.insert(record.id, until);
                }
                Verdict::Change(changed, ticks) => {
                    count += ticks.len();
                    self.draft_ticks(*changed, ticks, draft, now);
                }
            }
        }
        Ok(())
    }

    /// Which of the executions that the schedules remember have not ended.
    fn still_open(&self, due: &[ScheduleRecord]) -> Result<FxHashSet<ExecutionId>, StoreError> {
        let mut ids: Vec<ExecutionId> = due
            .iter()
            .flat_map(|record| record.state.open.iter().copied())
            .collect();
        if ids.is_empty() {
            return Ok(FxHashSet::default());
        }
        ids.sort_unstable();
        ids.dedup();
        let open = self.store.statuses(&ids)?.into_iter();
        Ok(open
            .filter(|(_, status)| !ExecutionStatus::is_terminal(*status))
            .map(|(id, _)| id)
            .collect())
    }

    /// Since when another live runner has been there.
    fn others_since(&self, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        let host = process::host();
        let rows = self.store.runners()?;
        let others = rows.iter().filter(|row| {
            let vanished = row.host == host && process::is_dead(row.pid, row.pid_started);
            row.id != self.runner && row.lease_until >= now && !vanished
        });
        Ok(others.map(|row| row.started_at).min())
    }

    fn draft_ticks(
        &mut self,
        mut record: ScheduleRecord,
        ticks: Vec<schedule::Tick>,
        draft: &mut Draft,
        now: Timestamp,
    ) {
        let mut writes = Vec::with_capacity(ticks.len());
        let mut started = Vec::new();
        // The older tick has the smaller id, although all are made in one millisecond: work is claimed in the order of ids.
        let mut ids: Vec<ExecutionId> = ticks.iter().map(|_| self.fresh_execution(now)).collect();
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
                write.execution = self.start_execution(id, &record, input, draft, now);
                if let Some(id) = write.execution {
                    started.push(id);
                } else {
                    write.outcome = TickOutcome::Skipped;
                    write.detail = Some(unknown(&record.workflow));
                }
            }
            writes.push(write);
        }
        schedule::note_started(&mut record, &started);
        trim_open(&mut record);
        let wake_at = record.wake_at.unwrap_or(Timestamp(i64::MAX));
        self.scheduling.next_look = self.scheduling.next_look.min(wake_at);
        draft
            .schedules
            .push(scheduled(record, writes, Purpose::Tick));
    }

    /// Looks for a workflow that this runner does not know among those that others have stored.
    fn learn(&mut self, workflow: &str) -> Result<(), StoreError> {
        match self.registry.latest(workflow) {
            Some(_) => Ok(()),
            None => self.read_definitions(),
        }
    }

    /// Drafts an execution of the schedule's workflow; `None`: nobody has stored its definition.
    fn start_execution(
        &mut self,
        id: ExecutionId,
        record: &ScheduleRecord,
        input: Context,
        draft: &mut Draft,
        now: Timestamp,
    ) -> Option<ExecutionId> {
        let request = SubmitRequest {
            id,
            workflow: record.workflow.clone(),
            input: Arc::new(input),
            key: None,
            priority: 0,
            start_at: None,
            timeout: None,
            trace: None,
        };
        self.draft_execution(request, draft, now).then_some(id)
    }

    fn fresh_execution(&mut self, now: Timestamp) -> ExecutionId {
        let mut bits = [0; 10];
        self.random.fill(&mut bits);
        ExecutionId::from_parts(now, bits)
    }

    /// Fires a schedule once, now, whatever its rules say.
    pub(super) fn run_now(
        &mut self,
        id: ScheduleId,
        give_up: Timestamp,
        reply: Reply<ExecutionId>,
        draft: &mut Draft,
        now: Timestamp,
    ) {
        if draft.has_schedule(id) {
            return self.again.push(Message::RunNow {
                schedule: id,
                give_up,
                reply,
            });
        }
        let record = match schedule_rows::living(&*self.store, ScheduleKind::Cron, id) {
            Ok(record) => record,
            Err(error) => return reply(Err(error)),
        };
        if let Err(error) = self.learn(&record.workflow) {
            return reply(Err(error.into()));
        }
        let due_at = schedule::between_ticks(&record, now);
        let fresh = self.fresh_execution(now);
        let input = schedule::input(&record, due_at);
        let Some(execution) = self.start_execution(fresh, &record, input, draft, now) else {
            return reply(Err(unknown_workflow(&record.workflow)));
        };
        let mut change = by_hand(record, execution, due_at);
        change.purpose = Purpose::RunNow(execution, give_up, reply);
        draft.schedules.push(change);
    }

    pub(super) fn register_trigger(
        &mut self,
        new: NewTrigger,
        handler: u64,
        reply: Reply<ScheduleId>,
        now: Timestamp,
    ) {
        let registered = new.record(ScheduleId::generate(), now).and_then(|record| {
            schedule_rows::register(&*self.store, &record, |known| {
                trigger::registered_again(known, &record, now)
            })
        });
        match registered {
            Ok(record) => {
                self.scheduling.handlers.insert(new.name, handler);
                self.scheduling.look_now();
                reply(Ok(record.id));
            }
            Err(error) => reply(Err(error)),
        }
    }

    /// Takes a trigger's lease, to poll it once that is durable.
    fn take_poll(&mut self, record: &ScheduleRecord, draft: &mut Draft, now: Timestamp) {
        if self.scheduling.is_polling(record.id) {
            return;
        }
        let lease = micros(self.config.lease_ttl);
        let taken = trigger::taken(record, now, lease);
        draft
            .schedules
            .push(scheduled(taken, Vec::new(), Purpose::Take));
    }

    /// Extends the leases of polls whose functions still run.
    fn hold_polls(&mut self, draft: &mut Draft, now: Timestamp) {
        let lease = micros(self.config.lease_ttl);
        let mut tokens: Vec<PollToken> = Vec::new();
        for (token, poll) in &mut self.scheduling.polls {
            if poll.renew_at <= now {
                poll.renew_at = now + lease / 2;
                tokens.push(*token);
            }
        }
        for token in tokens {
            let Some(poll) = self
                .scheduling
                .polls
                .get(&token)
                .filter(|poll| !poll.is_stale && !draft.has_schedule(poll.record.id))
            else {
                continue;
            };
            let held = trigger::held(&poll.record, now, lease);
            draft
                .schedules
                .push(scheduled(held, Vec::new(), Purpose::Hold(token)));
        }
    }

    /// G1: a trigger's function has ended.
    pub(super) fn polled(
        &mut self,
        token: PollToken,
        outcome: PollOutcome,
        draft: &mut Draft,
        now: Timestamp,
    ) {
        match self.decide_poll(token, outcome, draft, now) {
            Ok(()) => {}
            Err((error, outcome)) => {
                self.again.push(Message::Polled { token, outcome });
                self.trouble = Some(error);
            }
        }
    }

    fn decide_poll(
        &mut self,
        token: PollToken,
        outcome: PollOutcome,
        draft: &mut Draft,
        now: Timestamp,
    ) -> Result<(), (StoreError, PollOutcome)> {
        let Some(poll) = self.scheduling.polls.get_mut(&token) else {
            return Ok(());
        };
        if draft.has_schedule(poll.record.id) {
            self.again.push(Message::Polled { token, outcome });
            return Ok(());
        }
        if poll.is_stale {
            let id = poll.record.id;
            let found = match self.store.schedule(id) {
                Ok(found) => found,
                Err(error) => return Err((error, outcome)),
            };
            let Some(poll) = self.scheduling.polls.get_mut(&token) else {
                return Ok(());
            };
            let is_ours = |record: &ScheduleRecord| {
                record.state.polled
                    && record.last_due == poll.record.last_due
                    && record.deleted_at.is_none()
            };
            if let Some(record) = found.filter(is_ours) {
                poll.record = record;
                poll.is_stale = false;
            } else {
                tracing::info!(trigger = %poll.record.identity, "the result of a poll is dropped: the trigger was changed, or another runner took it over");
                self.scheduling.polls.remove(&token);
                self.scheduling.look_now();
                return Ok(());
            }
        }
        let Some(poll) = self.scheduling.polls.get(&token) else {
            return Ok(());
        };
        let mut record = poll.record.clone();
        if let Err(error) = self.learn(&record.workflow) {
            return Err((error, outcome));
        }
        let open = match self.still_open(std::slice::from_ref(&record)) {
            Ok(open) => open,
            Err(error) => return Err((error, outcome)),
        };
        record.state.open.retain(|id| open.contains(id));
        if let PollOutcome::Failed(error) = &outcome {
            tracing::debug!(trigger = %record.identity, "the function of a trigger raised: {error}");
        }
        let polled_at = record.last_due.unwrap_or(now);
        let (mut record, tick) =
            trigger::polled(&record, &outcome, !record.state.open.is_empty(), now);
        let mut ticks = Vec::new();
        if let Some(result) = tick {
            let mut write = TickWrite {
                due_at: polled_at,
                outcome: result,
                execution: None,
                detail: record.state.last_error.clone(),
            };
            if let (TickOutcome::Fired, PollOutcome::Fire(context)) = (result, &outcome) {
                let id = self.fresh_execution(now);
                write.execution = self.start_execution(id, &record, context.clone(), draft, now);
                if let Some(id) = write.execution {
                    schedule::note_started(&mut record, &[id]);
                } else {
                    write.outcome = TickOutcome::Skipped;
                    write.detail = Some(unknown(&record.workflow));
                }
            }
            ticks.push(write);
        }
        let mut change = scheduled(record, ticks, Purpose::Polled(token, outcome));
        change.expected = self
            .scheduling
            .polls
            .get(&token)
            .map_or(change.expected, |poll| poll.record.revision);
        draft.schedules.push(change);
        Ok(())
    }

    /// What follows a commit: answers, polls to hand over, and another look where somebody else was faster.
    pub(super) fn settle_schedules(
        &mut self,
        schedules: Vec<Scheduled>,
        applied: &[bool],
        now: Timestamp,
    ) {
        for (change, applied) in schedules.into_iter().zip(applied) {
            if *applied {
                self.settle_schedule(change, now);
                continue;
            }
            self.scheduling.look_now();
            match change.purpose {
                Purpose::Tick | Purpose::Take => {}
                Purpose::Hold(token) | Purpose::Polled(token, _) => {
                    if let Some(poll) = self.scheduling.polls.get_mut(&token) {
                        poll.is_stale = true;
                    }
                    self.again.extend(change.again());
                }
                Purpose::RunNow(..) => self.again.extend(change.again()),
            }
        }
    }

    fn settle_schedule(&mut self, change: Scheduled, now: Timestamp) {
        let record = change.record;
        match change.purpose {
            Purpose::Tick => self.await_queue(&record),
            Purpose::Take => self.begin_poll(record, now),
            Purpose::Hold(token) => {
                if let Some(poll) = self.scheduling.polls.get_mut(&token) {
                    poll.record = record;
                }
            }
            Purpose::Polled(token, _) => {
                self.scheduling.polls.remove(&token);
                let wake_at = record.wake_at.unwrap_or(Timestamp(i64::MAX));
                self.scheduling.next_look = self.scheduling.next_look.min(wake_at);
            }
            Purpose::RunNow(execution, _, reply) => {
                self.await_queue(&record);
                reply(Ok(execution));
            }
        }
    }

    fn begin_poll(&mut self, record: ScheduleRecord, now: Timestamp) {
        let Some(handler) = self.scheduling.handlers.get(&record.identity).copied() else {
            return;
        };
        self.scheduling.last_token += 1;
        let token = self.scheduling.last_token;
        let name = record.identity.clone();
        let polling = Polling {
            renew_at: now + micros(self.config.lease_ttl) / 2,
            record,
            is_stale: false,
        };
        self.scheduling.polls.insert(token, polling);
        self.queues.polls().push(Poll {
            token,
            name,
            handler,
        });
    }

    /// Has a schedule with waiting ticks looked at when an execution that they wait for ends.
    fn await_queue(&mut self, record: &ScheduleRecord) {
        if record.spec.overlap != Overlap::Queue || record.state.queued.is_empty() {
            return;
        }
        for id in record.state.open.iter().copied() {
            if !self.scheduling.awaited.insert(id) {
                continue;
            }
            let (ended, schedule) = (Arc::clone(&self.scheduling.ended), record.id);
            self.waiters
                .subscribe(id, move |_| ended.lock().push(schedule));
            if self.waiters.recent(id).is_some() {
                self.scheduling.ended.lock().push(schedule);
            }
        }
        if self.scheduling.awaited.len() > MAX_OPEN {
            self.scheduling.awaited.clear();
        }
    }

    /// Lets other runners poll at once what this one will not end.
    pub(super) fn give_up_polls(&mut self, now: Timestamp) {
        for (_, poll) in std::mem::take(&mut self.scheduling.polls) {
            let mut record = poll.record.clone();
            trigger::aim(&mut record, now);
            record.revision += 1;
            if let Err(error) = self.store.put_schedule(&record, Some(poll.record.revision)) {
                tracing::debug!(trigger = %record.identity, %error, "the trigger is free when its lease ends");
            }
        }
    }
}

fn scheduled(mut record: ScheduleRecord, ticks: Vec<TickWrite>, purpose: Purpose) -> Scheduled {
    let expected = record.revision;
    record.revision += 1;
    Scheduled {
        record,
        expected,
        ticks,
        purpose,
    }
}

/// The change of a schedule whose workflow is started by hand.
pub(super) fn by_hand(
    mut record: ScheduleRecord,
    execution: ExecutionId,
    due_at: Timestamp,
) -> Scheduled {
    schedule::note_started(&mut record, &[execution]);
    trim_open(&mut record);
    record.state.last_fired_at = record.state.last_fired_at.max(Some(due_at));
    let ticks = vec![TickWrite {
        due_at,
        outcome: TickOutcome::Fired,
        execution: Some(execution),
        detail: Some("run by hand".to_owned()),
    }];
    scheduled(record, ticks, Purpose::Tick)
}

fn trim_open(record: &mut ScheduleRecord) {
    let surplus = record.state.open.len().saturating_sub(MAX_OPEN);
    record.state.open.drain(..surplus);
}

pub(super) fn unknown_workflow(name: &str) -> Error {
    Error::new(ErrorCode::WorkflowNotFound, unknown(name))
        .with_hint("run a program that defines it on this database")
}

fn unknown(workflow: &str) -> String {
    format!(
        "workflow '{workflow}' is not known: no program has stored its definition in this database"
    )
}
