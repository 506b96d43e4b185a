//! What cron schedules and triggers have in common: their open executions, and the executions that they start.

use std::sync::Arc;

use rustc_hash::FxHashSet;

use crate::engine::schedule;
use crate::runtime::batch::{Purpose, ScheduleChange};
use crate::runtime::message::SubmitRequest;
use crate::runtime::step::Step;
use crate::store::{StoreError, TickWrite};
use crate::types::{
    Context, Error, ErrorCode, ExecutionId, ExecutionStatus, ScheduleRecord, TickOutcome, Timestamp,
};

/// The number of executions that a schedule remembers as possibly open.
const MAX_OPEN: usize = 1_000;

impl Step {
    /// Forgets the executions of schedules that have ended.
    pub(super) fn forget_ended(&self, records: &mut [ScheduleRecord]) -> Result<(), StoreError> {
        let mut ids: Vec<ExecutionId> = records
            .iter()
            .flat_map(|record| record.state.open.iter().copied())
            .collect();
        if ids.is_empty() {
            return Ok(());
        }
        ids.sort_unstable();
        ids.dedup();
        let states = self.store.statuses(&ids)?.into_iter();
        let open: FxHashSet<ExecutionId> = states
            .filter(|(_, status)| !ExecutionStatus::is_terminal(*status))
            .map(|(id, _)| id)
            .collect();
        for record in records {
            record.state.open.retain(|id| open.contains(id));
        }
        Ok(())
    }

    /// Looks for a workflow that this runner does not know among those that others have stored.
    pub(super) fn learn(&mut self, workflow: &str) -> Result<(), StoreError> {
        if self.latest_definition(workflow)?.is_none() {
            self.read_definitions()?;
            self.latest_definition(workflow)?;
        }
        Ok(())
    }

    /// Starts the workflow of a schedule under an id. `None`: no program has stored its definition.
    pub(super) fn start_scheduled(
        &mut self,
        id: ExecutionId,
        record: &ScheduleRecord,
        input: Context,
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
        self.start(request).then_some(id)
    }
}

/// The change of a schedule whose workflow is started by hand.
pub(in crate::runtime) fn by_hand(
    mut record: ScheduleRecord,
    execution: ExecutionId,
    due_at: Timestamp,
    purpose: Purpose,
) -> ScheduleChange {
    schedule::note_started(&mut record, &[execution]);
    trim_open(&mut record);
    record.state.last_fired_at = record.state.last_fired_at.max(Some(due_at));
    let ticks = vec![TickWrite {
        due_at,
        outcome: TickOutcome::Fired,
        execution: Some(execution),
        detail: Some("run by hand".to_owned()),
    }];
    ScheduleChange::new(record, ticks, purpose)
}

pub(super) fn trim_open(record: &mut ScheduleRecord) {
    let surplus = record.state.open.len().saturating_sub(MAX_OPEN);
    record.state.open.drain(..surplus);
}

pub(in crate::runtime) fn unknown_workflow(name: &str) -> Error {
    Error::new(ErrorCode::WorkflowNotFound, unknown(name))
        .with_hint("run a program that defines it on this database")
}

pub(super) fn unknown(workflow: &str) -> String {
    format!(
        "workflow '{workflow}' is not known: no program has stored its definition in this database"
    )
}
