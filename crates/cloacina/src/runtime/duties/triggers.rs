//! Polls the triggers whose functions this program has (semantics G1), and calls the triggers that follow a workflow
//! (G4).
//!
//! One runner at a time polls a trigger, under a short lease that the trigger's row contains. A write requires that the row
//! still has the revision that was read. So if another runner has taken a trigger over, the earlier poll changes nothing.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use super::cron::{BROKEN_PAUSE, RECHECK_INTERVAL};
use super::duty::Duty;
use super::schedules::UnknownWorkflows;
use crate::engine::schedule;
use crate::engine::trigger::{self, NewTrigger, PollOutcome};
use crate::runtime::assignment::{Poll, PollToken};
use crate::runtime::batch::{Purpose, ScheduleChange};
use crate::runtime::refused_batch::RefusedBatch;
use crate::runtime::step::{Signal, Step};
use crate::runtime::{Message, Reply, schedule_rows};
use crate::store::{DueQuery, StoreError, TickWrite};
use crate::types::{
    Context, Error, ErrorCode, Monotonic, PendingEnd, ScheduleId, ScheduleRecord, TickOutcome,
};

/// Maximum number of polled triggers whose leases one turn takes, and of triggers that follow a workflow.
const TRIGGERS: usize = 200;

/// A poll whose function is running.
struct RunningPoll {
    record: ScheduleRecord,
    /// The ended executions for which the trigger's function is called.
    ends: Vec<PendingEnd>,
    /// The time at which the lease must be extended.
    renew_at: Monotonic,
    /// Whether another writer has changed the trigger's row, so that the row must be read again.
    is_stale: bool,
}

/// The duty that polls triggers.
#[derive(Default)]
pub(in crate::runtime) struct TriggerDuty {
    next: Monotonic,
    queried_at: Monotonic,
    /// The program's number for the function of each trigger, by trigger name. `None`: the trigger has no function and fires
    /// for each ended execution.
    handlers: BTreeMap<String, Option<u64>>,
    /// Whether at least one of these triggers follows a workflow: it is called when executions of that workflow end.
    has_ends: bool,
    polls: FxHashMap<PollToken, RunningPoll>,
    last_token: PollToken,
    /// Triggers that cannot be read or written, each with the time until which it is skipped.
    skipped_until: FxHashMap<ScheduleId, Monotonic>,
    unknown: UnknownWorkflows,
}

impl TriggerDuty {
    /// Stores a trigger and registers its function.
    pub(in crate::runtime) fn register(
        &mut self,
        step: &mut Step,
        new: NewTrigger,
        handler: Option<u64>,
        reply: Reply<ScheduleId>,
    ) {
        if handler.is_none() && new.after.is_none() {
            let message = format!("trigger '{}' is polled, so it needs a function", new.name);
            return reply(Err(Error::new(ErrorCode::ScheduleInvalid, message)));
        }
        let id = ScheduleId::generate();
        let registered = new.record(id, step.now).and_then(|record| {
            schedule_rows::register(&*step.store, &record, |known| {
                trigger::registered_again(known, &record, step.now)
            })
        });
        reply(registered.map(|record: ScheduleRecord| {
            if let Some(after) = new.after {
                self.has_ends = true;
                step.followed.insert(after.workflow);
            }
            self.handlers.insert(new.name, handler);
            self.next = step.monotonic;
            record.id
        }));
    }

    /// Decides what happens after a poll has ended.
    ///
    /// # Errors
    /// Returns an error if the database does not answer. The message goes to the retry queue.
    pub(in crate::runtime) fn end_poll(
        &mut self,
        step: &mut Step,
        token: PollToken,
        outcome: PollOutcome,
    ) -> Result<(), StoreError> {
        let ready = match self.polls.get(&token) {
            None => return Ok(()),
            Some(poll) if step.batch.has_schedule(poll.record.id) => Ok(None),
            Some(_) => self.record_of(step, token),
        };
        match ready {
            Ok(Some(record)) => {
                self.decide(step, token, &record, outcome);
                Ok(())
            }
            // Another runner has taken over the trigger, or this turn has already changed it.
            Ok(None) => {
                if self.polls.contains_key(&token) {
                    step.retry.push(Message::Polled { token, outcome });
                }
                Ok(())
            }
            Err(error @ StoreError::Unavailable(_)) => {
                step.retry.push(Message::Polled { token, outcome });
                Err(error)
            }
            Err(error) => {
                tracing::error!(%error, "cannot read a trigger; the result of its poll is dropped");
                self.polls.remove(&token);
                Ok(())
            }
        }
    }

    /// Returns the trigger's current record, after reading its workflow and its open executions. Returns `None` if the
    /// trigger was deleted, or if another runner has taken it over.
    fn record_of(
        &mut self,
        step: &mut Step,
        token: PollToken,
    ) -> Result<Option<ScheduleRecord>, StoreError> {
        let Some(poll) = self.polls.get_mut(&token) else {
            return Ok(None);
        };
        if poll.is_stale {
            let found = step.store.schedule(poll.record.id)?;
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
                self.polls.remove(&token);
                self.next = step.monotonic;
                return Ok(None);
            }
        }
        let mut records = [poll.record.clone()];
        step.read_latest(&records[0].workflow)?;
        step.forget_ended(&mut records)?;
        let [record] = records;
        Ok(Some(record))
    }

    fn decide(
        &mut self,
        step: &mut Step,
        token: PollToken,
        record: &ScheduleRecord,
        outcome: PollOutcome,
    ) {
        if let PollOutcome::Ends(outcomes) = outcome {
            return self.decide_ends(step, token, record.clone(), outcomes);
        }
        if let PollOutcome::Failed(error) = &outcome {
            tracing::debug!(trigger = %record.identity, "the function of a trigger raised an error: {error}");
        }
        let polled_at = record.last_due.unwrap_or(step.now);
        let kept = record.state.kept.clone();
        let (mut record, tick) =
            trigger::after_poll(record, &outcome, !record.state.open.is_empty(), step.now);
        let fires = match &outcome {
            PollOutcome::Fire(context) => vec![(context.clone(), None)],
            PollOutcome::Many { fires, .. } => fires.clone(),
            PollOutcome::Skip | PollOutcome::Failed(_) | PollOutcome::Ends(_) => Vec::new(),
        };
        let mut ticks = Vec::new();
        if tick == Some(TickOutcome::Fired) {
            // Each execution has its own tick. The times of the ticks are one microsecond apart.
            let mut keys: Vec<String> = Vec::new();
            for (place, (context, key)) in (0..).zip(fires) {
                let mut write = TickWrite {
                    due_at: polled_at + place,
                    outcome: TickOutcome::Fired,
                    execution: None,
                    detail: None,
                };
                if key.as_ref().is_some_and(|key| keys.contains(key)) {
                    write.outcome = TickOutcome::Skipped;
                    write.detail = Some("the trigger has already fired with this key".to_owned());
                    ticks.push(write);
                    continue;
                }
                keys.extend(key.clone());
                self.fire(step, &mut record, &mut write, context, key);
                if write.execution.is_none() {
                    // The trigger's workflow is not known. The next poll must receive the earlier state again.
                    record.state.kept.clone_from(&kept);
                }
                ticks.push(write);
            }
        } else if let Some(outcome) = tick {
            ticks.push(TickWrite {
                due_at: polled_at,
                outcome,
                execution: None,
                detail: record.state.last_error.clone(),
            });
        }
        let change = ScheduleChange::new(record, ticks, Purpose::Polled(token, outcome));
        self.push(step, token, change);
    }

    /// Adds to the batch the change that ends a poll. The change is written only if the trigger's row still has the
    /// revision that was written with the poll's lease.
    pub(super) fn push(&self, step: &mut Step, token: PollToken, mut change: ScheduleChange) {
        if let Some(poll) = self.polls.get(&token) {
            change.expected = poll.record.revision;
        }
        step.batch.schedules.push(change);
    }

    /// The ended executions for which a poll calls the function.
    pub(super) fn ends_of(&self, token: PollToken) -> Vec<PendingEnd> {
        let poll = self.polls.get(&token);
        poll.map(|poll| poll.ends.clone()).unwrap_or_default()
    }

    /// Starts one execution of a trigger that fires. If nothing is started, notes the reason in the tick.
    pub(super) fn fire(
        &mut self,
        step: &mut Step,
        record: &mut ScheduleRecord,
        write: &mut TickWrite,
        context: Context,
        key: Option<String>,
    ) {
        if let Some(known) = key
            .as_ref()
            .and_then(|key| step.execution_of(&record.workflow, key))
        {
            write.outcome = TickOutcome::Skipped;
            write.execution = Some(known);
            write.detail = Some("an execution already has this key".to_owned());
            return;
        }
        let id = step.fresh_execution();
        write.execution = step.start_scheduled(id, record, context, key);
        let missing = self.unknown.note(record, write.execution.is_some());
        if let Some(id) = write.execution {
            schedule::note_started(record, &[id]);
        } else {
            write.outcome = TickOutcome::Skipped;
            write.detail = missing;
        }
    }

    /// Extends the leases of running polls.
    fn extend_leases(&mut self, step: &mut Step) {
        let lease = step.lease();
        for (token, poll) in &mut self.polls {
            if poll.renew_at > step.monotonic {
                continue;
            }
            poll.renew_at = step.monotonic + lease / 2;
            if !poll.is_stale && !step.batch.has_schedule(poll.record.id) {
                let held = trigger::lease_extended(&poll.record, step.now, lease);
                let purpose = Purpose::ExtendLease(*token);
                let change = ScheduleChange::new(held, Vec::new(), purpose);
                step.batch.schedules.push(change);
            }
        }
    }

    /// Takes the leases of due triggers. A trigger is polled after its lease is durable.
    fn take_leases(&mut self, step: &mut Step) -> Result<(), StoreError> {
        let query = DueQuery {
            cron: false,
            triggers: self.handlers.keys().cloned().collect(),
            ends: self.has_ends,
            limit: TRIGGERS,
        };
        let mut found = step.store.due_schedules(&query, step.now)?;
        self.queried_at = step.monotonic;
        self.next = match found.next {
            _ if found.due.len() >= TRIGGERS => step.monotonic + RECHECK_INTERVAL,
            Some(next) => step.instant_of(next),
            None => Monotonic::NEVER,
        };
        self.skipped_until
            .retain(|_, until| *until > step.monotonic);
        for (id, reason) in std::mem::take(&mut found.unreadable) {
            if self
                .skipped_until
                .insert(id, step.monotonic + BROKEN_PAUSE)
                .is_none()
            {
                tracing::error!(schedule_id = %id, "cannot read trigger {id}, which is not polled: {reason}");
            }
        }
        found
            .due
            .retain(|record| !self.skipped_until.contains_key(&record.id));
        if let Err(error) = step.forget_ended(&mut found.due) {
            self.next = step.monotonic;
            return Err(error);
        }
        for record in found.due {
            let is_polling = self.polls.values().any(|poll| poll.record.id == record.id);
            if !is_polling && !step.batch.has_schedule(record.id) {
                let taken = trigger::lease_taken(&record, step.now, step.lease());
                let change = ScheduleChange::new(taken, Vec::new(), Purpose::TakeLease);
                step.batch.schedules.push(change);
            }
        }
        Ok(())
    }

    /// Applies the effects of a trigger's change if the change was written (`applied`). If another writer prevented
    /// the write, decides again.
    pub(in crate::runtime) fn apply_result(
        &mut self,
        step: &mut Step,
        change: ScheduleChange,
        applied: bool,
    ) {
        if !applied {
            self.next = step.monotonic;
            if let Purpose::ExtendLease(token) | Purpose::Polled(token, _) = change.purpose
                && let Some(poll) = self.polls.get_mut(&token)
            {
                poll.is_stale = true;
            }
            step.retry.extend(change.into_message());
            return;
        }
        match change.purpose {
            Purpose::TakeLease => self.begin(step, change.record),
            Purpose::ExtendLease(token) => {
                if let Some(poll) = self.polls.get_mut(&token) {
                    poll.record = change.record;
                }
            }
            Purpose::Polled(token, _) => {
                self.polls.remove(&token);
                if let Some(wake_at) = change.record.wake_at {
                    self.next = self.next.min(step.instant_of(wake_at));
                }
                if change.record.spec.after.is_some() {
                    // More executions may have ended during the poll.
                    self.next = step.monotonic;
                }
            }
            Purpose::Tick | Purpose::RunNow(..) => {}
        }
    }

    fn begin(&mut self, step: &mut Step, record: ScheduleRecord) {
        let Some(handler) = self.handlers.get(&record.identity).copied() else {
            return;
        };
        self.last_token += 1;
        let token = self.last_token;
        let (name, state) = (record.identity.clone(), record.state.kept.clone());
        let ends = record.spec.after.as_ref().map(|_| {
            step.ends_of(&record).unwrap_or_else(|error| {
                tracing::warn!(trigger = %record.identity, %error, "cannot read the ended executions for which a trigger must be called");
                if error.is_of_item() {
                    self.skipped_until
                        .insert(record.id, step.monotonic + BROKEN_PAUSE);
                }
                Vec::new()
            })
        });
        let polling = RunningPoll {
            renew_at: step.monotonic + step.lease() / 2,
            ends: ends.clone().unwrap_or_default(),
            record,
            is_stale: false,
        };
        self.polls.insert(token, polling);
        let at_once = match (&ends, handler) {
            (Some(ends), _) if ends.is_empty() => Some(Vec::new()),
            (Some(ends), None) => Some(step.inputs_of(ends)),
            (None, None) => Some(Vec::new()),
            (_, Some(_)) => None,
        };
        match (at_once, handler) {
            (None, Some(handler)) => step.capacity.queues().polls().push(Poll {
                token,
                name,
                state,
                handler,
                ends,
            }),
            (outcomes, _) => step.retry.push(Message::Polled {
                token,
                outcome: PollOutcome::Ends(outcomes.unwrap_or_default()),
            }),
        }
    }

    /// After a refused batch that contained only one trigger, skips this trigger for a while.
    pub(in crate::runtime) fn note_refused(&mut self, step: &Step, refused: &RefusedBatch) {
        if let ([id], true) = (refused.schedules.as_slice(), refused.is_single()) {
            self.skipped_until
                .insert(*id, step.monotonic + BROKEN_PAUSE);
            self.polls.retain(|_, poll| poll.record.id != *id);
        }
    }

    /// Gives up the leases of running polls, so that other runners can poll these triggers before the leases end.
    pub(in crate::runtime) fn return_leases(&mut self, step: &Step) {
        for (_, poll) in std::mem::take(&mut self.polls) {
            let mut record = poll.record.clone();
            trigger::schedule_next(&mut record, step.now);
            record.revision += 1;
            if let Err(error) = step.store.put_schedule(&record, Some(poll.record.revision)) {
                tracing::debug!(trigger = %record.identity, %error, "cannot return the lease of a trigger; other runners poll it when the lease ends");
            }
        }
    }
}

impl Duty for TriggerDuty {
    const ACTION: &'static str = "poll triggers";

    fn next_wake(&self, step: &Step) -> Monotonic {
        if step.is_stopping || self.handlers.is_empty() {
            return Monotonic::NEVER;
        }
        let changed = step.signals.is_raised(Signal::TriggersChanged);
        let maybe_changed = step.signals.is_raised(Signal::TriggersMaybeChanged);
        let sooner = [
            changed.then_some(step.monotonic),
            maybe_changed.then_some(self.queried_at + RECHECK_INTERVAL),
            self.polls.values().map(|poll| poll.renew_at).min(),
        ];
        sooner.into_iter().flatten().fold(self.next, Monotonic::min)
    }

    fn run(&mut self, step: &mut Step) -> Result<(), StoreError> {
        let changed = step.signals.take(Signal::TriggersChanged);
        let maybe_changed = step.signals.take(Signal::TriggersMaybeChanged);
        self.extend_leases(step);
        if changed || maybe_changed || self.next <= step.monotonic {
            // If the query fails, the duty stays due.
            self.next = step.monotonic;
            self.take_leases(step)?;
        }
        Ok(())
    }
}
