//! Changes that a process makes without a runner: submissions, control actions, runs and backfills of schedules, and signals.
//! The calling thread decides and writes the changes.
//!
//! See docs/explanation/decisions/023-control.md

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::batch::{PendingChange, Purpose, ScheduleChange, WriteBatch};
use super::decide::{apply, check_size, hold_items, new_execution, refuse_derived};
use super::duties::{by_hand, unknown_workflow};
use super::ledger::Ledger;
use super::schedule_rows;
use super::{Control, RunnerConfig, SubmitRequest};
use crate::engine::{Execution, NewExecution, attribute, origin, schedule};
use crate::store::{Batch, ClaimRequest, Committed, Store, SubmitOutcome, TickWrite};
use crate::types::{
    Audit, Clock, DefinitionId, Error, ErrorCode, ExecutionId, ExecutionRecord, ExecutionStatus,
    HistoryEvent, Labels, NewSignal, RunnerId, ScheduleId, ScheduleKind, Sent, TickOutcome,
    Timestamp,
};
use crate::workflow::Workflow;

/// Maximum number of attempts to write a change. An attempt fails only if another writer changed the row at the same time.
const MAX_TRIES: u32 = 100;

/// Maximum number of executions in one commit of [`control_many_directly`] or [`backfill_directly`].
const COMMIT_ITEMS: usize = 100;

/// The outcome of a control action that applies only to one revision of an execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guarded {
    /// The action was applied, and the execution has this status now.
    Applied(ExecutionStatus),
    /// The execution has another revision, so nothing was changed.
    Changed {
        /// The current revision.
        revision: i64,
    },
}

/// Applies a control action to an execution, and returns its status once the change is durable. Notifies live runners.
///
/// `audit`: the caller and the reason, for the history; `workflow_of`: returns the workflow of a loaded record.
///
/// # Errors
/// Returns an error if the id is unknown, the action is not valid for the execution, this release cannot run the workflow,
/// or the database fails.
pub fn control_directly(
    store: &dyn Store,
    clock: &dyn Clock,
    id: ExecutionId,
    action: &Control,
    audit: &Audit,
    workflow_of: impl Fn(&ExecutionRecord) -> Result<Arc<Workflow>, Error>,
) -> Result<ExecutionStatus, Error> {
    match control_guarded(store, clock, id, action, audit, None, workflow_of)? {
        Guarded::Applied(status) => Ok(status),
        Guarded::Changed { .. } => Err(busy(id)),
    }
}

/// Applies a control action like [`control_directly`]. If `wanted` is given, changes the execution only while it has this
/// revision. The transaction that writes the change compares the revision.
///
/// # Errors
/// Returns the same errors as [`control_directly`].
pub fn control_guarded(
    store: &dyn Store,
    clock: &dyn Clock,
    id: ExecutionId,
    action: &Control,
    audit: &Audit,
    wanted: Option<i64>,
    workflow_of: impl Fn(&ExecutionRecord) -> Result<Arc<Workflow>, Error>,
) -> Result<Guarded, Error> {
    for _ in 0..MAX_TRIES {
        let record = store
            .load(&[id])?
            .pop()
            .ok_or_else(|| Error::unknown_execution(id))?;
        let revision = record.revision;
        if wanted.is_some_and(|wanted| wanted != revision) {
            return Ok(Guarded::Changed { revision });
        }
        let workflow = workflow_of(&record)?;
        let now = clock.now();
        let mut batch = WriteBatch::default();
        let execution = decide_directly(store, &mut batch, record, workflow, action, audit, now)?;
        let status = execution.record().status;
        if batch.executions.is_empty() {
            return Ok(Guarded::Applied(status));
        }
        let committed = commit(store, &mut batch, vec![execution], now)?;
        if committed.advances.first() == Some(&true) {
            notify_runners(store);
            return Ok(Guarded::Applied(status));
        }
    }
    Err(busy(id))
}

/// Adds the change of one execution to a batch, unless the action has no effect. Returns the changed execution.
fn decide_directly(
    store: &dyn Store,
    batch: &mut WriteBatch,
    record: ExecutionRecord,
    workflow: Arc<Workflow>,
    action: &Control,
    audit: &Audit,
    now: Timestamp,
) -> Result<Execution, Error> {
    let (id, expected) = (record.id, record.revision);
    workflow.check_needs()?;
    let mut execution = Execution::restore(workflow, record)?;
    let mut decided = WriteBatch::default();
    decided.change(&execution);
    let mut changes = apply(store, &mut execution, action, now)?;
    attribute(&mut changes, audit);
    if changes == crate::engine::Changes::default() {
        return Ok(execution);
    }
    if let Some(mut change) = decided.executions.shift_remove(&id) {
        change.changes.merge(changes);
        // Every change of a claim raises the revision, so the check of the revision is enough. A check of the claim
        // itself would need a live runner.
        change.is_unfenced = true;
        batch.executions.insert(id, change);
    }
    expand(batch, &mut execution, now);
    execution.set_revision(expected + 1);
    Ok(execution)
}

fn busy(id: ExecutionId) -> Error {
    Error::new(
        ErrorCode::Database,
        format!(
            "cannot change execution {id}: other writers changed it during each of {MAX_TRIES} attempts"
        ),
    )
    .with_hint("try again")
}

/// Applies a control action to many executions, up to a hundred in one commit. Returns an outcome for each id, in the order of
/// `ids`. An execution that cannot be changed does not affect the others.
pub fn control_many_directly(
    store: &dyn Store,
    clock: &dyn Clock,
    ids: &[ExecutionId],
    action: &Control,
    audit: &Audit,
    workflow_of: impl Fn(&ExecutionRecord) -> Result<Arc<Workflow>, Error>,
) -> Vec<(ExecutionId, Result<ExecutionStatus, Error>)> {
    let mut outcomes = Vec::with_capacity(ids.len());
    for chunk in ids.chunks(COMMIT_ITEMS) {
        let known = control_chunk(store, clock, chunk, action, audit, &workflow_of);
        let mut known = known.unwrap_or_else(|error| {
            // After a lost connection it is unknown what was written. After other errors, each execution is tried separately.
            let is_lost = error.code == ErrorCode::Connection;
            let failed = chunk.iter().filter(|_| is_lost);
            failed.map(|id| (*id, Err(error.clone()))).collect()
        });
        outcomes.extend(chunk.iter().map(|id| {
            let outcome = known.remove(id).unwrap_or_else(|| {
                control_directly(store, clock, *id, action, audit, &workflow_of)
            });
            (*id, outcome)
        }));
    }
    outcomes
}

/// Changes executions in one commit. Returns no outcome for an execution that another writer changed at the same time.
fn control_chunk(
    store: &dyn Store,
    clock: &dyn Clock,
    ids: &[ExecutionId],
    action: &Control,
    audit: &Audit,
    workflow_of: &impl Fn(&ExecutionRecord) -> Result<Arc<Workflow>, Error>,
) -> Result<FxHashMap<ExecutionId, Result<ExecutionStatus, Error>>, Error> {
    let now = clock.now();
    let (mut batch, mut changed) = (WriteBatch::default(), Vec::new());
    let mut outcomes = FxHashMap::default();
    for record in store.load(ids)? {
        let id = record.id;
        if batch.executions.contains_key(&id) {
            continue;
        }
        let decided = workflow_of(&record).and_then(|workflow| {
            decide_directly(store, &mut batch, record, workflow, action, audit, now)
        });
        let outcome = decided.map(|execution| {
            let status = execution.record().status;
            changed.extend(Some(execution).filter(|_| batch.executions.contains_key(&id)));
            status
        });
        outcomes.insert(id, outcome);
    }
    if changed.is_empty() {
        return Ok(outcomes);
    }
    let order: Vec<ExecutionId> = batch.executions.keys().copied().collect();
    let committed = commit(store, &mut batch, changed, now)?;
    for (id, is_written) in order.iter().zip(&committed.advances) {
        if !is_written {
            outcomes.remove(id);
        }
    }
    notify_runners(store);
    Ok(outcomes)
}

/// F3: starts a schedule's workflow once for each of the due times in `due`, except for times for which the schedule
/// has already fired. Returns the started executions after they are durable. The schedule's next tick and its list of
/// open executions do not change.
///
/// `audit`: the caller and the reason, for the history; `latest`: returns the latest stored definition of a workflow.
///
/// # Errors
/// Returns `ScheduleNotFound`, `WorkflowNotFound`, `WorkflowInvalid` if this release cannot run the workflow, or an error
/// of the database. In the last case, some executions may have been started.
pub fn backfill_directly(
    store: &dyn Store,
    clock: &dyn Clock,
    id: ScheduleId,
    due: &[Timestamp],
    audit: &Audit,
    latest: impl Fn(&str) -> Result<Option<(DefinitionId, Arc<Workflow>)>, Error>,
) -> Result<Vec<(Timestamp, ExecutionId)>, Error> {
    let mut started = Vec::new();
    for chunk in due.chunks(COMMIT_ITEMS) {
        let mut tries = 0..MAX_TRIES;
        loop {
            if tries.next().is_none() {
                return Err(busy_schedule(id));
            }
            let record = schedule_rows::existing(store, ScheduleKind::Cron, id)?;
            let (definition, workflow) =
                latest(&record.workflow)?.ok_or_else(|| unknown_workflow(&record.workflow))?;
            workflow.check_needs()?;
            let now = clock.now();
            let (mut batch, mut executions) = (WriteBatch::default(), Vec::new());
            let (mut ticks, mut begun) = (Vec::new(), Vec::new());
            for due_at in chunk.iter().copied() {
                let new = NewExecution {
                    id: ExecutionId::generate(),
                    definition,
                    input: Arc::new(schedule::input(&record, due_at)),
                    key: None,
                    priority: 0,
                    start_at: None,
                    timeout: None,
                };
                begun.push((due_at, new.id));
                ticks.push(TickWrite {
                    due_at,
                    outcome: TickOutcome::Fired,
                    execution: Some(new.id),
                    detail: Some("backfill".to_owned()),
                });
                let id = new.id;
                let (mut execution, mut changes) =
                    Execution::submit(Arc::clone(&workflow), new, now);
                changes.history.extend(origin(None, audit, now));
                let change = PendingChange::new(changes, Labels::default());
                batch.executions.insert(id, change);
                expand(&mut batch, &mut execution, now);
                executions.push(execution);
            }
            let change = ScheduleChange::new(record, ticks, Purpose::Tick);
            batch.schedules.push(change);
            let committed = commit(store, &mut batch, executions, now)?;
            if committed.schedules.first() == Some(&true) {
                // If the schedule has already fired for a tick's time, the store drops the tick and its submission, whose
                // outcome is then `Duplicate`.
                let outcomes = begun.into_iter().zip(&committed.submits);
                let accepted = outcomes.filter(|(_, outcome)| **outcome == SubmitOutcome::Accepted);
                started.extend(accepted.map(|(begun, _)| begun));
                notify_runners(store);
                break;
            }
        }
    }
    Ok(started)
}

fn busy_schedule(id: ScheduleId) -> Error {
    Error::new(
        ErrorCode::Database,
        format!(
            "cannot run schedule {id}: other writers changed it during each of {MAX_TRIES} attempts"
        ),
    )
    .with_hint("try again")
}

/// Starts a schedule's workflow once, immediately and regardless of the schedule's rules. Returns the execution after
/// it is durable. The schedule's next tick does not change.
///
/// `audit`: the caller and the reason, for the history; `latest`: returns the latest stored definition of a workflow.
///
/// # Errors
/// Returns `ScheduleNotFound`, `WorkflowNotFound`, `WorkflowInvalid` if this release cannot run the workflow, or an error
/// of the database.
pub fn run_schedule_directly(
    store: &dyn Store,
    clock: &dyn Clock,
    id: ScheduleId,
    audit: &Audit,
    latest: impl Fn(&str) -> Result<Option<(DefinitionId, Arc<Workflow>)>, Error>,
) -> Result<ExecutionId, Error> {
    for _ in 0..MAX_TRIES {
        let record = schedule_rows::existing(store, ScheduleKind::Cron, id)?;
        let (definition, workflow) =
            latest(&record.workflow)?.ok_or_else(|| unknown_workflow(&record.workflow))?;
        workflow.check_needs()?;
        let now = clock.now();
        let due_at = schedule::between_ticks(&record, now);
        let new = NewExecution {
            id: ExecutionId::generate(),
            definition,
            input: Arc::new(schedule::input(&record, due_at)),
            key: None,
            priority: 0,
            start_at: None,
            timeout: None,
        };
        let execution_id = new.id;
        let (mut execution, mut changes) = Execution::submit(workflow, new, now);
        changes.history.extend(origin(None, audit, now));
        let mut batch = WriteBatch::default();
        let change = PendingChange::new(changes, Labels::default());
        batch.executions.insert(execution_id, change);
        expand(&mut batch, &mut execution, now);
        let change = by_hand(record, execution_id, due_at, Purpose::Tick);
        batch.schedules.push(change);
        let committed = commit(store, &mut batch, vec![execution], now)?;
        if committed.schedules.first() == Some(&true) {
            notify_runners(store);
            return Ok(execution_id);
        }
    }
    Err(busy_schedule(id))
}

/// The answer to a submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Submitted {
    /// The execution.
    pub id: ExecutionId,
    /// Whether this submission created the execution. If `false`, an earlier execution of the workflow has the same key.
    pub is_new: bool,
}

impl SubmitRequest {
    /// Checks a submission without a runner.
    ///
    /// # Errors
    /// Returns `WorkflowInvalid` or `ContextInvalid`, as [`submit_directly`] does.
    pub fn check(&self, workflow: &Workflow) -> Result<(), Error> {
        workflow.check_needs()?;
        if let Some(error) = refuse_derived(workflow) {
            return Err(error);
        }
        check_size(self, RunnerConfig::default().max_context_bytes)
    }
}

/// Submits an execution of a stored workflow, and returns it once it is durable. Notifies live runners.
///
/// `origin`: an event for the execution's history.
///
/// # Errors
/// Returns `WorkflowInvalid` if this release cannot run the workflow or the workflow is a derived one, `ContextInvalid`
/// if the input is larger than the default of `max_context_bytes`, and `Database` or `Connection` if the database fails.
pub fn submit_directly(
    store: &dyn Store,
    clock: &dyn Clock,
    request: SubmitRequest,
    definition: DefinitionId,
    workflow: Arc<Workflow>,
    origin: Option<HistoryEvent>,
) -> Result<Submitted, Error> {
    request.check(&workflow)?;
    let (now, id) = (clock.now(), request.id);
    let (mut execution, mut change) = new_execution(request, definition, workflow, None, now);
    change.changes.history.extend(origin);
    let mut batch = WriteBatch::default();
    batch.executions.insert(id, change);
    expand(&mut batch, &mut execution, now);
    let committed = commit(store, &mut batch, vec![execution], now)?;
    if let Some(SubmitOutcome::Duplicate(earlier)) = committed.submits.first() {
        return Ok(Submitted {
            id: *earlier,
            is_new: false,
        });
    }
    notify_runners(store);
    Ok(Submitted { id, is_new: true })
}

/// K1: expands the ready maps, with the default `max_map_items`. Maps that need results for this are left to a runner.
fn expand(batch: &mut WriteBatch, execution: &mut Execution, now: Timestamp) {
    let max_items = RunnerConfig::default().max_map_items;
    if let Some(change) = batch.executions.get_mut(&execution.record().id) {
        while let Some(ordinal) = change.changes.flow.expands.pop_first() {
            let is_aligned = execution.workflow().source_of(ordinal).is_some();
            if is_aligned || execution.maps_it_reads(ordinal).is_empty() {
                execution.expand_map(ordinal, &[], max_items, now, &mut change.changes);
            } else {
                execution.postpone_map(ordinal, now, &mut change.changes);
            }
        }
    }
}

/// Writes a batch. `executions`: the executions that the batch changes.
fn commit(
    store: &dyn Store,
    batch: &mut WriteBatch,
    mut executions: Vec<Execution>,
    now: Timestamp,
) -> Result<Committed, Error> {
    start_finales(store, batch, &mut executions, now)?;
    let ledger = Ledger::of(executions);
    let (submits, advances) = batch.rows(&ledger);
    let committed = store.commit(&Batch {
        // This id is never registered, because a batch without claims needs no lease.
        runner: RunnerId::generate(),
        now,
        submits,
        advances,
        schedules: batch.schedule_rows(),
        flow: batch.flow(&ledger, now),
        claim: ClaimRequest::default(),
    })?;
    Ok(committed)
}

/// Q1: for each execution that ends in this batch and has final tasks, adds the execution that runs them.
fn start_finales(
    store: &dyn Store,
    batch: &mut WriteBatch,
    executions: &mut Vec<Execution>,
    now: Timestamp,
) -> Result<(), Error> {
    let mut started = Vec::new();
    for execution in executions.iter_mut() {
        let change = batch.executions.get_mut(&execution.record().id);
        let due =
            change.and_then(|change| change.changes.flow.finale.take().map(|due| (change, due)));
        let (Some((change, mut due)), Some(finals)) =
            (due, execution.workflow().finals().map(Arc::clone))
        else {
            continue;
        };
        hold_items(
            store,
            execution.record().id,
            &change.changes.flow.maps,
            &mut due,
        )?;
        let definition = store.put_definition(&finals, now)?;
        let id = ExecutionId::generate();
        let start = execution.start_finale(due, id, definition, now, &mut change.changes);
        if let Some(start) = start {
            let (finale, changes) = Execution::submit_finale(finals, start, now);
            let change = PendingChange::new(changes, Labels::default());
            batch.executions.insert(id, change);
            started.push(finale);
        }
    }
    executions.append(&mut started);
    Ok(())
}

/// Notifies the runners of a change. The change is already durable, so a failure only means that the runners find it later.
fn notify_runners(store: &dyn Store) {
    if let Err(error) = store.notify_peers() {
        tracing::debug!(%error, "cannot notify other runners; they find the change at their next poll");
    }
}

/// Sends signals, and returns their sequence numbers once they are durable. Notifies live runners. The calling program
/// needs no task functions for this (L16).
///
/// # Errors
/// Returns an error if the database fails or does not answer.
pub fn send_directly(
    store: &dyn Store,
    clock: &dyn Clock,
    signals: &[NewSignal],
) -> Result<Vec<Sent>, Error> {
    let sent = store.send(None, signals, &[], clock.now())?;
    notify_runners(store);
    Ok(sent)
}
