//! What a process that runs nothing may do: control an execution, start a schedule's workflow. Decided here, written at
//! once, without a runner.

use std::sync::Arc;

use super::Control;
use super::batch::{PendingChange, Purpose, WriteBatch};
use super::decide::{control_error, unknown_task};
use super::duties::{by_hand, unknown_workflow};
use super::ledger::Ledger;
use super::schedule_rows;
use crate::engine::{ControlError, Execution, NewExecution, schedule};
use crate::store::{Batch, ClaimRequest, Committed, Store};
use crate::types::{
    Clock, DefinitionId, Error, ErrorCode, ExecutionId, ExecutionStatus, RunnerId, ScheduleId,
    ScheduleKind, Timestamp,
};
use crate::workflow::Workflow;

/// Another writer may be first so often before it is taken for trouble.
const TRIES: u32 = 100;

/// Does what is asked of an execution, and gives its state, durable. Live runners hear of it and follow.
///
/// `workflow_of` gives the workflow of a loaded record.
///
/// # Errors
/// For an unknown id, a state that does not allow it, or a database in trouble.
pub fn control_directly(
    store: &dyn Store,
    clock: &dyn Clock,
    id: ExecutionId,
    action: &Control,
    workflow_of: impl Fn(&crate::types::ExecutionRecord) -> Result<Arc<Workflow>, Error>,
) -> Result<ExecutionStatus, Error> {
    for _ in 0..TRIES {
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
            change.changes.absorb(changes);
            // The revision alone tells whether a claim has moved: its holder raises it with every write. A fence would ask
            // for a living runner.
            change.fences.clear();
        }
        execution.set_revision(expected + 1);
        let committed = commit(store, &batch, execution, now)?;
        if committed.advances.first() == Some(&true) {
            tell_others(store);
            return Ok(status);
        }
    }
    Err(Error::new(
        ErrorCode::Database,
        format!("execution {id} changed {TRIES} times while it was to be changed"),
    )
    .with_hint("try again"))
}

/// Starts a schedule's workflow once, now, whatever its rules say; its next tick stays. Gives the execution, durable.
///
/// `latest` gives the latest definition of a workflow, if any is stored.
///
/// # Errors
/// `ScheduleNotFound`, `WorkflowNotFound`, or a database in trouble.
pub fn run_schedule_directly(
    store: &dyn Store,
    clock: &dyn Clock,
    id: ScheduleId,
    latest: impl Fn(&str) -> Result<Option<(DefinitionId, Arc<Workflow>)>, Error>,
) -> Result<ExecutionId, Error> {
    for _ in 0..TRIES {
        let record = schedule_rows::living(store, ScheduleKind::Cron, id)?;
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
            tell_others(store);
            return Ok(execution_id);
        }
    }
    Err(Error::new(
        ErrorCode::Database,
        format!("schedule {id} changed {TRIES} times while it was to be run"),
    )
    .with_hint("try again"))
}

/// Writes the batch, which is about one execution.
fn commit(
    store: &dyn Store,
    batch: &WriteBatch,
    execution: Execution,
    now: Timestamp,
) -> Result<Committed, Error> {
    let ledger = Ledger::of(execution);
    let (submits, advances) = batch.rows(&ledger);
    let committed = store.commit(&Batch {
        // Never registered: what claims nothing needs no lease.
        runner: RunnerId::generate(),
        now,
        submits,
        advances,
        schedules: batch.schedule_rows(),
        claim: ClaimRequest::default(),
    })?;
    Ok(committed)
}

/// It is written: that others hear of it late is no reason to say it was not.
fn tell_others(store: &dyn Store) {
    if let Err(error) = store.tell_others() {
        tracing::debug!(%error, "other runners notice the change late");
    }
}

fn decide(
    execution: &mut Execution,
    action: &Control,
    now: Timestamp,
) -> Result<crate::engine::Changes, Error> {
    let decided: Result<_, ControlError> = match action {
        Control::Cancel => execution.cancel(now),
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
