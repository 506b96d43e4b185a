//! The database of a simulation: SQLite in memory. The oracle observes each transaction. A mutant changes some transactions.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use cloacina::store::sqlite::{SqliteOptions, SqliteStore};
use cloacina::store::{
    Advance, Batch, Committed, InboxKind, Layer, Request, Response, ScheduleWrite, Store,
    StoreError, Submit, SubmitOutcome, TaskWrite,
};
use cloacina::types::sync::Mutex;
use cloacina::types::{
    DefinitionId, ExecutionId, ExecutionRecord, HistoryEvent, StepChanges, TaskStatus, Timestamp,
};
use cloacina::workflow::Workflow;

use super::oracle::{Coverage, Oracle};

/// A defect that is injected to check that the oracle detects it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// Writes do not compare revisions or claims.
    DropFence,
    /// Tasks are dispatched before their claims are durable.
    StartBeforeCommit,
    /// Callers are answered although the transaction was not written.
    AcknowledgeEarly,
    /// An execution is loaded as it was before a task completed, so the completion is recorded again.
    RecordTwice,
    /// The runner ignores its timers and wakes up only for messages.
    ForgetTimers,
    /// A commit does not report the remaining ready tasks or the next due time.
    ForgetWaiting,
    /// A worker's report gets lost.
    LoseResult,
    /// Tasks do not wait for their dependencies.
    IgnoreDependencies,
    /// Trigger rules are ignored.
    IgnoreRules,
    /// `max_attempts` is exceeded.
    NeverGiveUp,
    /// `max_concurrent_tasks` is exceeded.
    TakeTooMuch,
    /// `max_rescues` is exceeded.
    RescueForever,
    /// A schedule fires a tick that another runner has already processed.
    FireTwice,
    /// A tick starts its execution but is not recorded.
    ForgetTicks,
    /// Timers use the wall clock.
    WallClockTimers,
    /// A batch with a value that the database refuses is retried as a whole.
    RetryRefusedBatch,
    /// The cache is not bounded.
    NeverEvict,
    /// Steps are recorded although another runner has changed the execution.
    RecordWithoutFence,
    /// A step is acknowledged to its attempt although the step was not written.
    ForgetSteps,
    /// A wait skips the signals that were stored between its evaluation and its registration.
    LoseWakeUp,
    /// A timeout is applied without reading the stored signals.
    TimeOutFirst,
    /// A wait takes the newest signal instead of the first signal.
    TakeNewest,
    /// A decision is recorded although another decision has changed the execution.
    DecideTwice,
    /// A map is ended twice, as if two runners had seen the end of its last item.
    EndMapTwice,
    /// The limit of a map applies to each runner separately instead of to all runners together.
    BoundPerRunner,
    /// The items of aligned maps do not get their elements.
    ForgetElements,
    /// A child's end is written without the message to its parent.
    ForgetParent,
    /// A parent's end is written without the messages to its children.
    ForgetChildren,
    /// An execution's end is written without the execution of its final tasks.
    ForgetFinals,
}

/// The context key that makes the database refuse a task's result. An item's result is refused if its JSON text contains this
/// word.
pub const UNSTORABLE: &str = "unstorable";

impl Mutant {
    /// The mutants that `every_mutant_is_detected` tests. `DecideTwice` is tested only in `interleavings.rs`.
    pub const ALL: [Self; 28] = [
        Self::DropFence,
        Self::StartBeforeCommit,
        Self::AcknowledgeEarly,
        Self::RecordTwice,
        Self::ForgetTimers,
        Self::ForgetWaiting,
        Self::LoseResult,
        Self::IgnoreDependencies,
        Self::IgnoreRules,
        Self::NeverGiveUp,
        Self::TakeTooMuch,
        Self::RescueForever,
        Self::FireTwice,
        Self::ForgetTicks,
        Self::WallClockTimers,
        Self::RetryRefusedBatch,
        Self::NeverEvict,
        Self::RecordWithoutFence,
        Self::ForgetSteps,
        Self::LoseWakeUp,
        Self::TimeOutFirst,
        Self::TakeNewest,
        Self::EndMapTwice,
        Self::BoundPerRunner,
        Self::ForgetElements,
        Self::ForgetParent,
        Self::ForgetChildren,
        Self::ForgetFinals,
    ];
}

/// An execution that a transaction changed, with its new history events and its changed steps.
type Touched<'a> = (ExecutionId, &'a [HistoryEvent], Option<&'a StepChanges>);

pub struct ObservedStore {
    pub(super) inner: SqliteStore,
    pub oracle: Arc<Mutex<Oracle>>,
    pub(super) now: Arc<AtomicI64>,
    pub(super) mutant: Option<Mutant>,
    workflows: Vec<Arc<Workflow>>,
    /// The number of transactions that changed something.
    pub changes: Arc<AtomicU64>,
    /// For the mutant `RecordTwice`: executions as they were before a task completed.
    stale: Arc<Mutex<HashMap<ExecutionId, ExecutionRecord>>>,
}

impl ObservedStore {
    pub fn new(
        oracle: Arc<Mutex<Oracle>>,
        now: Arc<AtomicI64>,
        workflows: Vec<Arc<Workflow>>,
        mutant: Option<Mutant>,
    ) -> Self {
        Self {
            inner: SqliteStore::open(&SqliteOptions::memory())
                .expect("an in-memory database opens"),
            oracle,
            now,
            mutant,
            workflows,
            changes: Arc::default(),
            stale: Arc::default(),
        }
    }

    /// Returns a second handle to the same database, for another process. The new handle has its own change marker.
    pub fn share(&self) -> Self {
        Self {
            inner: self.inner.share(),
            oracle: Arc::clone(&self.oracle),
            now: Arc::clone(&self.now),
            mutant: self.mutant,
            workflows: self.workflows.clone(),
            changes: Arc::clone(&self.changes),
            stale: Arc::clone(&self.stale),
        }
    }

    /// Passes a committed batch to the oracle, which checks the written executions, ticks, maps and messages.
    pub(super) fn observe(&self, batch: &Batch, committed: &Committed) -> Result<(), StoreError> {
        let mut touched: Vec<Touched> = Vec::new();
        for (submit, verdict) in batch.submits.iter().zip(&committed.submits) {
            if *verdict == SubmitOutcome::Accepted {
                touched.push((submit.record.id, submit.history, None));
            }
        }
        for (advance, applied) in batch.advances.iter().zip(&committed.advances) {
            if *applied {
                touched.push((advance.record.id, advance.history, advance.steps));
            }
        }
        // If a batch only claims a task of an execution, the batch's map changes do not apply to that execution.
        let applied = touched.iter().map(|(id, ..)| *id).collect();
        for claimed in &committed.claimed {
            if !touched.iter().any(|(id, ..)| *id == claimed.execution) {
                touched.push((claimed.execution, &[], None));
            }
        }
        let now = Timestamp(self.now.load(Ordering::Relaxed));
        let ids: Vec<ExecutionId> = touched.iter().map(|(id, ..)| *id).collect();
        let records = self.inner.load(&ids)?;
        let mut oracle = self.oracle.lock();
        oracle.check_rewrites(batch, committed);
        for (record, (id, history, steps)) in records.into_iter().zip(&touched) {
            if let Some(steps) = steps {
                oracle.record_steps(batch.runner, *id, steps);
            }
            let due = oracle.check_due(&record, now);
            oracle.write(batch.runner, record, history, now);
            oracle.check(due.is_none(), || due.unwrap_or_default());
        }
        let duplicates = committed.submits.iter();
        for _ in duplicates.filter(|verdict| matches!(verdict, SubmitOutcome::Duplicate(_))) {
            oracle.cover(Coverage::Duplicate);
        }
        for _ in committed.advances.iter().filter(|applied| !**applied) {
            oracle.cover(Coverage::Conflict);
        }
        let mut has_ticked = false;
        for (write, applied) in batch.schedules.iter().zip(&committed.schedules) {
            if *applied {
                has_ticked = true;
                oracle.ticked(write.record.id, write.ticks);
            }
        }
        oracle.check_finals();
        drop(oracle);
        self.observe_maps(batch, committed, &applied, now)?;
        self.check_family()?;
        let has_items = !committed.items.is_empty() || !batch.flow.maps.ends.is_empty();
        if !touched.is_empty() || has_ticked || has_items {
            self.changes.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Stores, for `possibly_stale`, the current records of the executions in which this batch completes a task.
    fn remember(&self, batch: &Batch) {
        let oracle = self.oracle.lock();
        let mut stale = self.stale.lock();
        for advance in &batch.advances {
            let id = advance.record.id;
            let completes = advance.tasks.iter().any(|write| {
                write.fence.is_some()
                    && advance.record.tasks[write.ordinal as usize].status == TaskStatus::Completed
            });
            if let Some(record) = oracle.mirror.get(&id).filter(|_| completes) {
                stale.insert(id, record.clone());
            }
        }
    }

    /// Commits a batch without checking revisions: each change is applied to the stored revision.
    fn commit_without_fence(&self, batch: &Batch) -> Result<Committed, StoreError> {
        let ids: Vec<ExecutionId> = batch
            .advances
            .iter()
            .map(|advance| advance.record.id)
            .collect();
        let stored: HashMap<ExecutionId, ExecutionRecord> = self
            .inner
            .load(&ids)?
            .into_iter()
            .map(|record| (record.id, record))
            .collect();
        let mut records = Vec::new();
        for advance in &batch.advances {
            let mut record = advance.record.clone();
            if let Some(known) = stored.get(&record.id) {
                record.revision = known.revision + 1;
            }
            records.push(record);
        }
        let advances = batch
            .advances
            .iter()
            .zip(&records)
            .map(|(advance, record)| {
                let known = stored.get(&record.id);
                let tasks = advance.tasks.iter().map(|write| {
                    let task = known.map(|known| &known.tasks[write.ordinal as usize]);
                    TaskWrite {
                        insert: task.is_none_or(|task| !task.stored),
                        fence: task.and_then(cloacina::types::TaskRecord::claim),
                        ..*write
                    }
                });
                Advance {
                    record,
                    expected: record.revision - 1,
                    tasks: tasks.collect(),
                    history: advance.history,
                    requires: advance.requires,
                    steps: advance.steps,
                }
            });
        let changed = Batch {
            runner: batch.runner,
            now: batch.now,
            submits: batch.submits.iter().map(copy_submit).collect(),
            advances: advances.collect(),
            schedules: batch.schedules.iter().map(copy_schedule).collect(),
            flow: batch.flow.clone(),
            claim: batch.claim.clone(),
        };
        let committed = self.inner.commit(&changed)?;
        self.observe(&changed, &committed)?;
        Ok(committed)
    }

    /// Commits a batch with the schedule changes that a mutant makes.
    fn commit_with_ticks(&self, batch: &Batch, mutant: Mutant) -> Result<Committed, StoreError> {
        let mut records = Vec::new();
        for write in &batch.schedules {
            let stored = self.inner.schedule(write.record.id)?;
            let revision = stored.map_or(write.expected, |stored| stored.revision);
            let moved = revision != write.expected;
            let mut record = write.record.clone();
            record.revision = revision + 1;
            let mut ticks = write.ticks.to_vec();
            if mutant == Mutant::ForgetTicks {
                ticks.clear();
            }
            for tick in ticks.iter_mut().filter(|_| moved) {
                // Changes the due time, because a second row with the same due time would violate a unique key.
                tick.due_at = tick.due_at + 1;
            }
            records.push((record, ticks));
        }
        let schedules = records.iter().map(|(record, ticks)| ScheduleWrite {
            record,
            expected: record.revision - 1,
            ticks,
            ends: &[],
        });
        let changed = Batch {
            runner: batch.runner,
            now: batch.now,
            submits: batch.submits.iter().map(copy_submit).collect(),
            advances: batch.advances.iter().map(copy_advance).collect(),
            schedules: schedules.collect(),
            flow: batch.flow.clone(),
            claim: batch.claim.clone(),
        };
        let committed = self.inner.commit(&changed)?;
        self.observe(&changed, &committed)?;
        Ok(committed)
    }

    /// For the mutant `StartBeforeCommit`: reports to the oracle that the tasks claimed by a batch have started.
    fn start_early(&self, batch: &Batch) {
        let submits = batch
            .submits
            .iter()
            .map(|submit| (submit.record, &submit.tasks));
        let advances = batch
            .advances
            .iter()
            .map(|advance| (advance.record, &advance.tasks));
        let mut oracle = self.oracle.lock();
        for (record, writes) in submits.chain(advances) {
            for write in writes.iter().filter(|write| write.fence.is_none()) {
                if let Some(claim) = record.tasks[write.ordinal as usize].claim() {
                    let now = Timestamp(self.now.load(Ordering::Relaxed));
                    oracle.start(record.id, write.ordinal, claim, now);
                }
            }
        }
    }
}

pub(super) fn copy_submit<'a>(submit: &Submit<'a>) -> Submit<'a> {
    Submit {
        record: submit.record,
        workflow: submit.workflow,
        labels: submit.labels,
        tasks: submit.tasks.clone(),
        history: submit.history,
    }
}

pub(super) fn copy_advance<'a>(advance: &Advance<'a>) -> Advance<'a> {
    Advance {
        record: advance.record,
        expected: advance.expected,
        tasks: advance.tasks.clone(),
        history: advance.history,
        requires: advance.requires,
        steps: advance.steps,
    }
}

pub(super) const fn copy_schedule<'a>(write: &ScheduleWrite<'a>) -> ScheduleWrite<'a> {
    ScheduleWrite {
        record: write.record,
        expected: write.expected,
        ticks: write.ticks,
        ends: write.ends,
    }
}

/// Returns whether a batch decides an approval.
fn is_decision(batch: &Batch) -> bool {
    let mut events = batch.advances.iter().flat_map(|advance| advance.history);
    events.any(|event| event.kind.as_str() == "decided")
}

impl Layer for ObservedStore {
    type Below = SqliteStore;

    fn below(&self) -> &SqliteStore {
        &self.inner
    }

    fn pass(&self, request: Request<'_>) -> Result<Response, StoreError> {
        Ok(match request {
            Request::PutDefinition { workflow, now } => {
                Response::PutDefinition(self.put_workflow(workflow, now)?)
            }
            Request::Commit { batch } => Response::Commit(self.observed_commit(batch)?),
            Request::Load { ids } => Response::Load(self.possibly_stale(ids)?),
            Request::Send {
                runner,
                signals,
                settled,
                now,
            } => Response::Send(self.observed_send(runner, signals, settled, now)?),
            Request::Signals { cursors } => Response::Signals(self.found_signals(cursors)?),
            Request::NoteInbox { id, note } => {
                self.inner.note_inbox(id, note)?;
                self.check_family()?;
                Response::NoteInbox(())
            }
            other => self.inner.call(other)?,
        })
    }
}

impl ObservedStore {
    /// Stores the scenario's definition of a workflow and notes its id.
    fn put_workflow(
        &self,
        workflow: &Workflow,
        now: Timestamp,
    ) -> Result<DefinitionId, StoreError> {
        // A mutant registers an altered workflow, but the database stores the original workflow.
        let known = Self::known_workflow(&self.workflows, workflow.name());
        let known = known.expect("only the scenario's workflows are registered");
        let id = self.inner.put_definition(&known, now)?;
        self.oracle.lock().workflows.insert(id, known);
        Ok(id)
    }

    /// Returns an error if a batch contains a result that the database refuses.
    fn check_storable(&self, batch: &Batch) -> Result<(), StoreError> {
        let is_refused = batch.advances.iter().any(|advance| {
            advance.tasks.iter().any(|write| {
                let delta = advance.record.tasks[write.ordinal as usize].delta.as_ref();
                delta.is_some_and(|delta| delta.set.contains_key(UNSTORABLE))
            })
        }) || Self::has_unstorable_item(batch);
        let message = "a value cannot be stored".to_owned();
        match self.mutant {
            _ if !is_refused => Ok(()),
            // The mutant reports a failure of the database instead of a refused value.
            Some(Mutant::RetryRefusedBatch) => Err(StoreError::Failed(message.into())),
            _ => Err(StoreError::Refused(message)),
        }
    }

    /// Commits a batch, with the defect of the mutant if there is one.
    fn observed_commit(&self, batch: &Batch) -> Result<Committed, StoreError> {
        self.check_storable(batch)?;
        match self.mutant {
            Some(Mutant::DropFence) => return self.commit_without_fence(batch),
            Some(Mutant::RecordTwice) => {
                self.remember(batch);
                return self.commit_without_fence(batch);
            }
            Some(mutant @ (Mutant::FireTwice | Mutant::ForgetTicks)) => {
                return self.commit_with_ticks(batch, mutant);
            }
            Some(Mutant::StartBeforeCommit) => self.start_early(batch),
            Some(Mutant::ForgetSteps) => return self.commit_without_steps(batch),
            Some(Mutant::DecideTwice) if is_decision(batch) => {
                return self.commit_without_fence(batch);
            }
            Some(Mutant::LoseWakeUp) => return self.commit_behind_signals(batch),
            Some(Mutant::EndMapTwice) => return self.commit_map_ends_twice(batch),
            Some(Mutant::BoundPerRunner) => return self.commit_with_bound_per_runner(batch),
            Some(Mutant::ForgetElements) => return self.commit_without_elements(batch),
            Some(Mutant::ForgetParent) => return self.commit_without(batch, InboxKind::ChildEnded),
            Some(Mutant::ForgetChildren) => return self.commit_without(batch, InboxKind::Cancel),
            Some(Mutant::ForgetFinals) => return self.commit_without_finals(batch),
            Some(Mutant::AcknowledgeEarly) if !batch.submits.is_empty() && batch.now.0 % 5 == 0 => {
                return Ok(Committed {
                    submits: vec![SubmitOutcome::Accepted; batch.submits.len()],
                    advances: vec![true; batch.advances.len()],
                    more: vec![false; batch.claim.classes.len()],
                    ..Committed::default()
                });
            }
            _ => {}
        }
        let mut committed = match self.inner.commit(batch) {
            Ok(committed) => committed,
            Err(error) => {
                let mut oracle = self.oracle.lock();
                let is_moved = matches!(error, StoreError::MapMoved(_));
                oracle.check(is_moved || error == StoreError::RunnerLost, || {
                    format!("a batch was refused: {error}")
                });
                oracle.cover(if is_moved {
                    Coverage::MapMoved
                } else {
                    Coverage::LostRunner
                });
                return Err(error);
            }
        };
        self.observe(batch, &committed)?;
        if self.mutant == Some(Mutant::RecordWithoutFence) {
            self.record_stale_steps(batch, &committed)?;
        }
        if self.mutant == Some(Mutant::ForgetWaiting) {
            committed.next_due = None;
            committed.more.fill(false);
        }
        Ok(committed)
    }

    /// Commits a batch without its steps, for the mutant `ForgetSteps`.
    fn commit_without_steps(&self, batch: &Batch) -> Result<Committed, StoreError> {
        let advances = batch.advances.iter().map(|advance| Advance {
            requires: &[],
            steps: None,
            ..copy_advance(advance)
        });
        let changed = Batch {
            flow: batch.flow.clone(),
            runner: batch.runner,
            now: batch.now,
            submits: batch.submits.iter().map(copy_submit).collect(),
            advances: advances.collect(),
            schedules: batch.schedules.iter().map(copy_schedule).collect(),
            claim: batch.claim.clone(),
        };
        let committed = self.inner.commit(&changed)?;
        self.observe(&changed, &committed)?;
        Ok(committed)
    }

    /// For the mutant `RecordWithoutFence`: records the steps of changes that were refused because another runner had changed
    /// the execution.
    fn record_stale_steps(&self, batch: &Batch, committed: &Committed) -> Result<(), StoreError> {
        let stale = batch.advances.iter().zip(&committed.advances);
        for (advance, _) in stale.filter(|(advance, applied)| !**applied && advance.steps.is_some())
        {
            let Some(mut record) = self.inner.load(&[advance.record.id])?.pop() else {
                continue;
            };
            record.revision += 1;
            let changed = Batch {
                flow: batch.flow.clone(),
                runner: batch.runner,
                now: batch.now,
                submits: Vec::new(),
                advances: vec![Advance {
                    record: &record,
                    expected: record.revision - 1,
                    tasks: Vec::new(),
                    history: &[],
                    requires: &[],
                    steps: advance.steps,
                }],
                schedules: Vec::new(),
                claim: cloacina::store::ClaimRequest::default(),
            };
            let committed = self.inner.commit(&changed)?;
            self.observe(&changed, &committed)?;
        }
        Ok(())
    }

    /// Loads executions. For the mutant `RecordTwice`, some of them are stale.
    fn possibly_stale(&self, ids: &[ExecutionId]) -> Result<Vec<ExecutionRecord>, StoreError> {
        let mut records = self.inner.load(ids)?;
        for record in &mut records {
            if let Some(stale) = self.stale.lock().remove(&record.id) {
                *record = stale;
            }
        }
        Ok(records)
    }
}
