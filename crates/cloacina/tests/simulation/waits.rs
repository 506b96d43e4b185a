//! Simulates waits, signals and timers, and checks which signals a waiting task gets (semantics L).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use cloacina::runtime::Message;
use cloacina::store::{Batch, Committed, FlowWrites, Store, StoreError, WaitQuery, WaitWrite};
use cloacina::types::{
    Condition, Cursor, Error, ExecutionId, ExecutionRecord, ExecutionStatus, HistoryEvent, InboxId,
    Json, Leaf, Micros, Monotonic, NewSignal, OpenWait, Ordinal, RunnerId, Sent, SignalRecord,
    Since, TaskRecord, TaskStatus, Timestamp, Topic, WaitEnd, WaitKind,
};
use cloacina::workflow::{TaskDefinition, TaskKind, Workflow};
use fastrand::Rng;

use super::approvals;
use super::conditions::{self, TakenSignal};
use super::observed::{Mutant, ObservedStore, copy_advance, copy_schedule, copy_submit};
use super::oracle::{Coverage, Oracle, TaskKey};
use super::scenario::SECOND;
use super::timeline::Event;
use super::world::World;

/// The name of most signals. There are only a few topics, so signals and waits often match.
const NAME: &str = "go";
/// The name of the signals with the key `b`. It differs from `NAME`, because an `all_of` must not wait for one name twice.
const OTHER_NAME: &str = "on";
/// The name of the signals that cancel executions.
const STOP: &str = "stop";

/// The plan of a signal that a caller sends.
pub struct SendPlan {
    pub at: Micros,
    pub runner: usize,
    /// Whether the signal cancels executions.
    pub stops: bool,
    pub key: Option<&'static str>,
    /// Selects the execution that gets the signal: `to % n` is its index among the `n` acknowledged executions. `None` if the
    /// signal is not sent to one execution.
    pub to: Option<usize>,
    pub id: Option<&'static str>,
}

pub fn key(rng: &mut Rng) -> Option<&'static str> {
    [None, Some("a"), Some("b")][rng.usize(0..3)]
}

/// Returns the name of the signals with this key.
pub fn name_of(key: Option<&str>) -> &'static str {
    if key == Some("b") { OTHER_NAME } else { NAME }
}

/// Adds waits to a workflow: some tasks wait before they run, some become nodes that only wait, and some become approvals. Each
/// wait has a timeout, so every execution ends. A signal can cancel the workflow's executions.
pub fn with_waits(rng: &mut Rng, workflow: &Workflow) -> Workflow {
    let mut definition = workflow.definition().clone();
    for task in &mut definition.tasks {
        if rng.u8(0..3) > 0 {
            continue;
        }
        if rng.u8(0..4) == 0 {
            *task = approvals::approval(rng, task);
            continue;
        }
        task.wait_for = Some(conditions::random(rng));
        task.wait_timeout = Some(conditions::timeout(rng));
        task.on_timeout = [WaitEnd::Fail, WaitEnd::Skip, WaitEnd::Continue][rng.usize(0..3)];
        if rng.u8(0..4) == 0 {
            *task = TaskDefinition {
                id: task.id.clone(),
                dependencies: task.dependencies.clone(),
                rule: task.rule.clone(),
                wait_for: task.wait_for.clone(),
                wait_timeout: task.wait_timeout,
                on_timeout: task.on_timeout,
                kind: TaskKind::Engine,
                ..TaskDefinition::default()
            };
        }
    }
    if rng.u8(0..3) == 0 {
        definition.cancel_on = vec![Condition::signal(STOP, key(rng))];
    }
    Workflow::new(definition).expect("waits are valid")
}

pub fn sends(rng: &mut Rng, heals_at: Micros) -> Vec<SendPlan> {
    (0..rng.usize(1..12))
        .map(|_| SendPlan {
            at: rng.i64(0..heals_at + 10 * SECOND),
            runner: rng.usize(..),
            stops: rng.u8(0..8) == 0,
            key: key(rng),
            to: (rng.u8(0..4) == 0).then(|| rng.usize(..)),
            id: [None, None, Some("one"), Some("two")][rng.usize(0..4)],
        })
        .collect()
}

/// The stored signals, and the signals that tasks took.
#[derive(Default)]
pub struct Signals {
    stored: Vec<SignalRecord>,
    ids: HashMap<String, i64>,
    /// The sequence number of the newest signal that each task took from each topic.
    taken: HashMap<TaskKey, BTreeMap<Topic, i64>>,
    /// The executions that a stored signal must cancel, with the time of the signal.
    stopped: BTreeMap<ExecutionId, Timestamp>,
}

fn matches(cursor: &Cursor, signal: &SignalRecord) -> bool {
    cursor.topic == signal.topic
        && signal.seq > cursor.after
        && cursor.since.is_none_or(|since| signal.sent_at >= since)
}

/// Returns the cursors of those parts of an open wait that have no signal yet.
fn cursors(open: &OpenWait) -> impl Iterator<Item = &Cursor> {
    open.leaves.iter().flat_map(|leaf| match leaf {
        Leaf::Signal {
            cursors,
            taken: None,
            ..
        } => cursors.as_slice(),
        _ => &[],
    })
}

impl Signals {
    /// Returns the first stored signal that a wait may take (L3).
    fn first(&self, open: &OpenWait) -> Option<&SignalRecord> {
        let fits = |signal: &&SignalRecord| cursors(open).any(|cursor| matches(cursor, signal));
        self.stored
            .iter()
            .filter(fits)
            .min_by_key(|signal| signal.seq)
    }

    /// Returns the first stored signal that a part of a wait may take.
    pub(super) fn first_for(&self, leaf: &Leaf) -> Option<&SignalRecord> {
        let Leaf::Signal { cursors, .. } = leaf else {
            return None;
        };
        let fits = |signal: &&SignalRecord| cursors.iter().any(|cursor| matches(cursor, signal));
        let stored = self.stored.iter().filter(fits);
        stored.min_by_key(|signal| signal.seq)
    }

    fn newest(&self, topic: &Topic) -> i64 {
        let of_topic = self.stored.iter().filter(|signal| signal.topic == *topic);
        of_topic.map(|signal| signal.seq).max().unwrap_or(0)
    }
}

impl Oracle {
    /// L5: checks that a task is due if it waits for a signal that is already stored. Returns the violation, if any.
    pub fn check_due(&self, record: &ExecutionRecord, now: Timestamp) -> Option<String> {
        if record.status == ExecutionStatus::Paused {
            return None; // the waits are evaluated when the execution is resumed
        }
        (0..)
            .zip(&record.tasks)
            .find_map(|(ordinal, task): (Ordinal, _)| {
                let open = task
                    .open_wait()
                    .filter(|_| task.status == TaskStatus::Ready)?;
                let signal = self.signals.first(open)?;
                let is_due = task.ready_at.is_none_or(|at| at <= now + self.skew);
                (!is_due).then(|| {
                format!(
                    "task {ordinal} of {} waits for the stored signal {}, but is due only at {:?}",
                    record.id, signal.seq, task.ready_at
                )
            })
            })
    }

    /// Checks the beginning and the end of a task's wait. Returns whether the wait ended by its timeout or by a decision, not by
    /// its condition.
    pub fn check_wait(
        &mut self,
        workflow: &Workflow,
        after: &ExecutionRecord,
        ordinal: Ordinal,
        old: &TaskRecord,
        history: &[HistoryEvent],
        now: Timestamp,
    ) -> bool {
        let id = after.id;
        let task = &after.tasks[ordinal as usize];
        let events = || history.iter().filter(|event| event.task == Some(ordinal));
        let has = |kind: &str| events().any(|event| event.kind == kind);
        let decided = self.check_decided(workflow, id, ordinal, old, history);
        let timed_out = has("wait_timed_out");
        let taken: Vec<TakenSignal> = events()
            .filter(|event| event.kind == "signalled")
            .filter_map(TakenSignal::of)
            .collect();
        if old.open_wait().is_none() {
            self.check_ended_at_once(workflow, after, ordinal, &taken, now);
        }
        if let Some(open) = old.open_wait() {
            let condition = Self::condition_of(workflow, ordinal, old);
            let taken = self.check_taken(id, ordinal, open, &taken);
            let passes = |task: &TaskRecord| task.wait.as_ref().is_some_and(|wait| wait.passed);
            let has_ended = if open.park.is_some() {
                // A cancelled task does not run again.
                task.open_wait().is_none() && !task.status.is_terminal()
            } else {
                passes(task) && !passes(old)
            };
            if timed_out {
                self.cover(Coverage::WaitTimedOut);
                let approval = workflow.task(ordinal).approval.is_some();
                let condition = condition.filter(|_| !approval || open.park.is_some());
                self.check_not_held(id, ordinal, condition.as_ref(), open, now);
            } else if has_ended && !decided {
                self.check_held(id, ordinal, condition.as_ref(), open, &taken, now);
            }
            // L9: a task that continues after its timeout keeps the signals that its wait has taken.
            let continues = workflow.task(ordinal).on_timeout == WaitEnd::Continue;
            let keeps = timed_out && open.park.is_none() && continues;
            if keeps || (has_ended && !timed_out && !decided) {
                for (leaf, seq) in open.leaves.iter().zip(taken) {
                    self.note_taken((id, ordinal), leaf, seq);
                }
            }
            if !has("waiting") {
                let is_resumed = history.iter().any(|event| event.kind == "resumed");
                self.check_kept(after, ordinal, old, is_resumed);
            }
        }
        if let Some(open) = task.open_wait()
            && has("waiting")
        {
            self.cover(Coverage::Waited);
            self.check_cursors(workflow, after, ordinal, open);
        }
        timed_out || decided
    }

    /// Notes the signal that one part of an ended wait took.
    pub(super) fn note_taken(&mut self, task: TaskKey, leaf: &Leaf, seq: Option<i64>) {
        let Some(seq) = seq else { return };
        let stored = self.signals.stored.iter();
        let mut topics = stored.filter(|signal| signal.seq == seq);
        let topic = topics.next().map(|signal| signal.topic.clone());
        if let (Some(topic), Leaf::Signal { .. }) = (topic, leaf) {
            let of_task = self.signals.taken.entry(task).or_default();
            let highest = of_task.entry(topic).or_default();
            *highest = (*highest).max(seq);
        }
    }

    /// L3, L4: checks the position after which a wait takes signals.
    fn check_cursors(
        &mut self,
        workflow: &Workflow,
        record: &ExecutionRecord,
        ordinal: Ordinal,
        open: &OpenWait,
    ) {
        let task = &record.tasks[ordinal as usize];
        let condition = Self::condition_of(workflow, ordinal, task);
        let parts = condition
            .as_ref()
            .map(Condition::leaves)
            .unwrap_or_default();
        for (part, leaf) in parts.into_iter().zip(&open.leaves) {
            for cursor in leaf.cursors() {
                let topic = cursor.topic.clone();
                let expected = self.expected_cursor(workflow, record, ordinal, part, topic);
                self.check(*cursor == expected, || {
                    format!(
                        "task {ordinal} of {} waits with the cursor {cursor:?} instead of {expected:?}",
                        record.id
                    )
                });
            }
        }
    }

    /// L3, L4: returns the position in a topic after which a part of a wait takes signals. This is the last signal that
    /// the task or an ancestor took from the topic. If none of them took a signal, the position is the beginning of the
    /// topic (for `Since::Ever` and for the mailbox), or the time of the submission (for other waits).
    pub(super) fn expected_cursor(
        &self,
        workflow: &Workflow,
        record: &ExecutionRecord,
        ordinal: Ordinal,
        part: &Condition,
        topic: Topic,
    ) -> Cursor {
        let is_ever = matches!(
            part,
            Condition::Signal {
                since: Since::Ever,
                ..
            }
        );
        let ancestors = workflow.graph().ancestors(ordinal);
        let earlier = ancestors.iter().copied().chain([ordinal]);
        let taken = earlier
            .filter_map(|task| self.signals.taken.get(&(record.id, task))?.get(&topic))
            .max()
            .copied();
        let is_mailbox = topic == Topic::mailbox(NAME, record.id);
        let from_first = is_ever || is_mailbox || taken.is_some();
        Cursor {
            topic,
            after: taken.unwrap_or(0),
            since: (!from_first).then_some(record.created_at),
        }
    }

    /// Notes the open executions that a signal must cancel: they listen to the signal's topic, and were submitted
    /// before the signal was sent.
    fn note_stopped(&mut self, signal: &SignalRecord) {
        let open = self.mirror.values().filter(|record| {
            let listens = self.workflows.get(&record.definition).is_some_and(|workflow| {
                workflow.definition().cancel_on.iter().any(|condition| {
                    matches!(condition, Condition::Signal { name, key_value, .. }
                        if signal.topic == Topic::keyed(name, key_value.as_deref())
                            || (key_value.is_none() && signal.topic == Topic::mailbox(name, record.id)))
                })
            });
            listens && !record.status.is_terminal() && signal.sent_at >= record.created_at + self.skew
        });
        let ids: Vec<ExecutionId> = open.map(|record| record.id).collect();
        for id in ids {
            self.signals.stopped.entry(id).or_insert(signal.sent_at);
        }
    }

    /// Checks the end of an execution. In a scenario without faults, an execution that ends more than five seconds after a
    /// signal that cancels it must end as cancelled.
    pub(super) fn check_stopped(&mut self, record: &ExecutionRecord, now: Timestamp) {
        let Some(at) = self.signals.stopped.remove(&record.id) else {
            return;
        };
        if record.status == ExecutionStatus::Cancelled {
            self.cover(Coverage::CancelledBySignal);
        }
        let is_calm = self.claim_limit.is_some();
        let is_late = is_calm && now.since(at) > 5 * SECOND;
        let is_wrong = is_late && record.status != ExecutionStatus::Cancelled;
        self.check(!is_wrong, || {
            format!(
                "{} ended as {} long after a signal that cancels it",
                record.id, record.status
            )
        });
    }

    /// L4: notes the signals that a transaction stored. `now` is the time on the sender's clock, and `stored` reads a stored
    /// signal.
    fn note_sent(
        &mut self,
        new: &[NewSignal],
        sent: &[Sent],
        now: Timestamp,
        stored: impl Fn(Topic, i64) -> Option<SignalRecord>,
    ) {
        // If the sender's clock is behind, the stores raise the time of a signal to the time of the last submission, by at most
        // their tolerance. They read only the 16 newest executions, so a larger database is not checked.
        let submitted = self.mirror.values().map(|record| record.created_at);
        let last = submitted.max().unwrap_or(now);
        let earliest = if last.since(now) < 10 * SECOND && self.mirror.len() <= 16 {
            last.max(now)
        } else {
            now
        };
        for (signal, sent) in new.iter().zip(sent) {
            if let Some(id) = &signal.id {
                let first = *self.signals.ids.entry(id.clone()).or_insert(sent.seq);
                self.check(first == sent.seq, || {
                    format!(
                        "the id '{id}' belongs to two signals: {first} and {}",
                        sent.seq
                    )
                });
            }
            if !sent.is_new {
                self.cover(Coverage::SignalSentAgain);
                continue;
            }
            self.cover(Coverage::SignalSent);
            let record = stored(signal.topic(), sent.seq).expect("the signal was stored");
            self.check(record.sent_at >= earliest, || {
                format!(
                    "signal {} has the time {:?}, which is before {earliest:?}",
                    sent.seq, record.sent_at
                )
            });
            self.note_stopped(&record);
            self.signals.stored.push(record);
        }
    }

    /// Checks that acknowledged signals are stored.
    fn acknowledge_sent(&mut self, sent: &[Sent]) {
        for sent in sent {
            let is_stored = (self.signals.stored.iter()).any(|signal| signal.seq == sent.seq);
            self.check(is_stored, || {
                format!("signal {} was acknowledged but is not stored", sent.seq)
            });
        }
    }
}

impl ObservedStore {
    /// Sends signals, and checks that the tasks that wait for them are due (L5).
    pub(super) fn observed_send(
        &self,
        runner: Option<RunnerId>,
        signals: &[NewSignal],
        settled: &[InboxId],
        at: Timestamp,
    ) -> Result<Vec<Sent>, StoreError> {
        let sent = self.inner.send(runner, signals, settled, at)?;
        self.changes.fetch_add(1, Ordering::Relaxed);
        let now = Timestamp(self.now.load(Ordering::Relaxed));
        let mut oracle = self.oracle.lock();
        oracle.note_sent(signals, &sent, at, |topic, seq| {
            let cursor = Cursor {
                topic,
                after: seq - 1,
                since: None,
            };
            let stored = self.inner.signals(&[cursor]);
            let mut stored = stored.expect("this store has no faults").into_iter();
            stored.find(|signal| signal.seq == seq)
        });
        let waits = |record: &&ExecutionRecord| record.tasks.iter().any(TaskRecord::is_waiting);
        let ids: Vec<ExecutionId> = oracle
            .mirror
            .values()
            .filter(waits)
            .map(|record| record.id)
            .collect();
        for record in self.inner.load(&ids)? {
            let problem = oracle.check_due(&record, now);
            oracle.check(problem.is_none(), || problem.unwrap_or_default());
        }
        Ok(sent)
    }

    pub(super) fn found_signals(
        &self,
        cursors: &[Cursor],
    ) -> Result<Vec<SignalRecord>, StoreError> {
        let oracle = self.oracle.lock();
        match self.mutant {
            Some(Mutant::TimeOutFirst) => {
                let now = Timestamp(self.now.load(Ordering::Relaxed)) + oracle.skew;
                let is_over = |cursor: &Cursor| {
                    let tasks = oracle.mirror.values().flat_map(|record| &record.tasks);
                    let mut open = tasks.filter_map(TaskRecord::open_wait);
                    open.any(|open| {
                        open.deadline.is_some_and(|deadline| deadline <= now)
                            && self::cursors(open).any(|other| other == cursor)
                    })
                };
                let left: Vec<Cursor> = cursors
                    .iter()
                    .filter(|cursor| !is_over(cursor))
                    .cloned()
                    .collect();
                drop(oracle);
                self.inner.signals(&left)
            }
            Some(Mutant::TakeNewest) => {
                let newest = cursors.iter().filter_map(|cursor| {
                    let found = oracle.signals.stored.iter();
                    found
                        .filter(|signal| matches(cursor, signal))
                        .max_by_key(|signal| signal.seq)
                });
                Ok(newest.cloned().collect())
            }
            _ => {
                drop(oracle);
                self.inner.signals(cursors)
            }
        }
    }

    /// Commits a batch whose waits skip the signals that are already stored, for the mutant `LoseWakeUp`.
    pub(super) fn commit_behind_signals(&self, batch: &Batch) -> Result<Committed, StoreError> {
        let mut flow = FlowWrites {
            waits: Vec::new(),
            ..batch.flow.clone()
        };
        for write in &batch.flow.waits {
            let mut write: WaitWrite = write.clone();
            for cursor in write.rows.iter_mut().filter_map(|row| row.cursor.as_mut()) {
                cursor.after = self
                    .oracle
                    .lock()
                    .signals
                    .newest(&cursor.topic)
                    .max(cursor.after);
            }
            flow.waits.push(write);
        }
        let changed = Batch {
            runner: batch.runner,
            now: batch.now,
            submits: batch.submits.iter().map(copy_submit).collect(),
            advances: batch.advances.iter().map(copy_advance).collect(),
            schedules: batch.schedules.iter().map(copy_schedule).collect(),
            flow,
            claim: batch.claim.clone(),
        };
        let committed = self.inner.commit(&changed)?;
        self.observe(&changed, &committed)?;
        Ok(committed)
    }
}

impl World {
    /// Sends a caller's signal to a runner.
    pub(super) fn send(&self, number: usize) {
        let plan = &self.scenario.sends[number];
        let runner = plan.runner % self.scenario.runners.len();
        let mut state = self.state.lock();
        let now = self.now();
        let Some(process) = &state.processes[runner] else {
            state.schedule(now + SECOND, None, Event::Send(number));
            return;
        };
        let alive = Arc::clone(&process.alive);
        let known = state.acknowledged.len();
        let to = plan
            .to
            .filter(|_| known > 0)
            .map(|to| state.acknowledged[to % known]);
        let key = plan.key.filter(|_| to.is_none());
        let signal = NewSignal {
            name: if plan.stops { STOP } else { name_of(key) }.to_owned(),
            key: key.map(str::to_owned),
            to,
            data: Json::parse(&number.to_string()).expect("a number is JSON"),
            id: plan.id.filter(|_| !plan.stops).map(str::to_owned),
            sender: None,
        };
        let oracle = Arc::clone(&self.oracle);
        let reply = move |answer: Result<Vec<Sent>, Error>| {
            if let Ok(sent) = answer
                && alive.load(Ordering::Relaxed)
            {
                oracle.lock().acknowledge_sent(&sent);
            }
        };
        let message = Message::Send {
            signals: vec![signal],
            give_up: Monotonic(now + 5 * SECOND),
            reply: Box::new(reply),
        };
        state.send(runner, message);
        drop(state);
        self.wake(runner);
    }

    /// Returns whether the inbox in the database is empty.
    pub(super) fn has_no_message(&self) -> bool {
        let due = self.store.inner.due_waits(Timestamp(i64::MAX - 1), 1);
        due.expect("this store has no faults").inbox.is_empty()
    }

    /// Checks at the end of the simulation that no wait is open or due, and that the inbox in the database is empty.
    pub(super) fn check_nothing_waits(&self) {
        let query = WaitQuery {
            kinds: WaitKind::ALL.to_vec(),
            limit: usize::MAX,
            ..WaitQuery::default()
        };
        let open = self
            .store
            .inner
            .waits(&query)
            .expect("this store has no faults");
        let due = self.store.inner.due_waits(Timestamp(i64::MAX - 1), 10);
        let due = due.expect("this store has no faults");
        let mut oracle = self.oracle.lock();
        oracle.check(open.is_empty(), || {
            format!("these waits are still open: {open:?}")
        });
        oracle.check(due.inbox.is_empty(), || {
            format!("these inbox messages were not applied: {:?}", due.inbox)
        });
        oracle.check(due.executions.is_empty(), || {
            format!("these executions have a due wait: {:?}", due.executions)
        });
    }
}
