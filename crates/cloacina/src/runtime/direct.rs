//! Changes that a process makes without a runner: submits an execution, controls one, starts a schedule's workflow. They are
//! decided on the calling thread and written at once.
//!
//! See docs/explanation/decisions/023-control.md

use std::sync::Arc;

use super::batch::{PendingChange, Purpose, WriteBatch};
use super::decide::{control_error, unknown_task};
use super::duties::{by_hand, unknown_workflow};
use super::ledger::Ledger;
use super::schedule_rows;
use super::{Control, SubmitRequest};
use crate::engine::{ControlError, Execution, NewExecution, schedule};
use crate::store::{Batch, ClaimRequest, Committed, Store, SubmitOutcome};
use crate::types::{
    Clock, DefinitionId, Error, ErrorCode, ExecutionId, ExecutionStatus, RunnerId, ScheduleId,
    ScheduleKind, Timestamp,
};
use crate::workflow::Workflow;

/// Maximum number of optimistic attempts. Each fails only if another writer changed the row in between.
const MAX_TRIES: u32 = 100;

/// Cancels, pauses, resumes or retries an execution, and returns its status once that is durable. Live runners are notified.
///
/// `workflow_of` returns the workflow of a loaded record.
///
/// # Errors
/// For an unknown id, a status that does not allow the action, or a failure of the database.
pub fn control_directly(
    store: &dyn Store,
    clock: &dyn Clock,
    id: ExecutionId,
    action: &Control,
    workflow_of: impl Fn(&crate::types::ExecutionRecord) -> Result<Arc<Workflow>, Error>,
) -> Result<ExecutionStatus, Error> {
    for _ in 0..MAX_TRIES {
        let record = store
            .load(&[id])?
            .pop()
            .ok_or_else(|| Error::unknown_execution(id))?;
        let expected = record.revision;
        let mut execution = Execution::restore(workflow_of(&record)?, record)?;
        let mut batch = WriteBatch::default();
        batch.change(&execution);
        let now = clock.now();
        let changes = decide(&mut execution, action, now)?;
        let status = execution.record().status;
        if changes == crate::engine::Changes::default() {
            return Ok(status);
        }
        if let Some(change) = batch.executions.get_mut(&id) {
            change.changes.merge(changes);
            // The expected revision is enough, since every change of a claim raises it. A fence would need a live runner.
            change.fences.clear();
        }
        execution.set_revision(expected + 1);
        let committed = commit(store, &batch, execution, now)?;
        if committed.advances.first() == Some(&true) {
            notify_runners(store);
            return Ok(status);
        }
    }
    Err(Error::new(
        ErrorCode::Database,
        format!(
            "cannot change execution {id}: other writers changed it {MAX_TRIES} times in between"
        ),
    )
    .with_hint("try again"))
}

/// Starts a schedule's workflow once, now, regardless of its rules, and returns the execution once it is durable. The
/// schedule's next tick does not change.
///
/// `latest` returns the latest stored definition of a workflow, if there is one.
///
/// # Errors
/// `ScheduleNotFound`, `WorkflowNotFound`, or a failure of the database.
pub fn run_schedule_directly(
    store: &dyn Store,
    clock: &dyn Clock,
    id: ScheduleId,
    latest: impl Fn(&str) -> Result<Option<(DefinitionId, Arc<Workflow>)>, Error>,
) -> Result<ExecutionId, Error> {
    for _ in 0..MAX_TRIES {
        let record = schedule_rows::existing(store, ScheduleKind::Cron, id)?;
        let (definition, workflow) =
            latest(&record.workflow)?.ok_or_else(|| unknown_workflow(&record.workflow))?;
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
        let (execution, changes) = Execution::submit(workflow, new, now);
        let mut batch = WriteBatch::default();
        let change = PendingChange::new(changes);
        batch.executions.insert(execution_id, change);
        let change = by_hand(record, execution_id, due_at, Purpose::Tick);
        batch.schedules.push(change);
        let committed = commit(store, &batch, execution, now)?;
        if committed.schedules.first() == Some(&true) {
            notify_runners(store);
            return Ok(execution_id);
        }
    }
    Err(Error::new(
        ErrorCode::Database,
        format!("cannot run schedule {id}: other writers changed it {MAX_TRIES} times in between"),
    )
    .with_hint("try again"))
}

/// The answer to a submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Submitted {
    /// The execution.
    pub id: ExecutionId,
    /// Whether this submission created it. `false`: an earlier execution of the workflow has the same key.
    pub is_new: bool,
}

/// Submits an execution of a stored workflow, and returns it once it is durable. Live runners are notified.
///
/// # Errors
/// When the database fails or does not answer.
pub fn submit_directly(
    store: &dyn Store,
    clock: &dyn Clock,
    request: SubmitRequest,
    definition: DefinitionId,
    workflow: Arc<Workflow>,
) -> Result<Submitted, Error> {
    let now = clock.now();
    let id = request.id;
    let new = NewExecution {
        id,
        definition,
        input: request.input,
        key: request.key,
        priority: request.priority,
        start_at: request.start_at.filter(|at| *at > now),
        timeout: request.timeout,
    };
    let (execution, changes) = Execution::submit(workflow, new, now);
    let mut batch = WriteBatch::default();
    batch.executions.insert(id, PendingChange::new(changes));
    let committed = commit(store, &batch, execution, now)?;
    if let Some(SubmitOutcome::Duplicate(earlier)) = committed.submits.first() {
        return Ok(Submitted {
            id: *earlier,
            is_new: false,
        });
    }
    notify_runners(store);
    Ok(Submitted { id, is_new: true })
}

/// Writes a batch that concerns one execution.
fn commit(
    store: &dyn Store,
    batch: &WriteBatch,
    execution: Execution,
    now: Timestamp,
) -> Result<Committed, Error> {
    let ledger = Ledger::of(execution);
    let (submits, advances) = batch.rows(&ledger);
    let committed = store.commit(&Batch {
        // This id is never registered: a batch without claims needs no lease.
        runner: RunnerId::generate(),
        now,
        submits,
        advances,
        schedules: batch.schedule_rows(),
        claim: ClaimRequest::default(),
    })?;
    Ok(committed)
}

/// Notifies the runners of a change. It is durable already, so a failure only delays them.
fn notify_runners(store: &dyn Store) {
    if let Err(error) = store.notify_peers() {
        tracing::debug!(%error, "cannot notify other runners; they find the change at their next poll");
    }
}

fn decide(
    execution: &mut Execution,
    action: &Control,
    now: Timestamp,
) -> Result<crate::engine::Changes, Error> {
    let decided: Result<_, ControlError> = match action {
        Control::Cancel => execution.cancel(now),
        Control::CancelOpen => execution.cancel_open(now),
        Control::Pause => execution.pause(now),
        Control::Resume => execution.resume(now),
        Control::Retry { from_task: None } => execution.retry(None, now),
        Control::Retry {
            from_task: Some(task),
        } => match execution.workflow().ordinal(task) {
            Some(ordinal) => execution.retry(Some(ordinal), now),
            None => return Err(unknown_task(execution.workflow(), task)),
        },
    };
    decided.map_err(control_error)
}
