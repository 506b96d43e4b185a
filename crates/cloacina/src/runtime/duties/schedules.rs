//! Functions shared by cron schedules and triggers: tracking their open executions, and starting new ones.

use std::sync::Arc;

use rustc_hash::FxHashSet;

use crate::engine::schedule;
use crate::runtime::batch::{Purpose, ScheduleChange};
use crate::runtime::message::SubmitRequest;
use crate::runtime::step::Step;
use crate::store::{ListQuery, StoreError, TickWrite};
use crate::types::{
    Context, Error, ErrorCode, ExecutionId, ExecutionStatus, Labels, ScheduleId, ScheduleRecord,
    TickOutcome, Timestamp,
};

/// Maximum number of executions that a schedule remembers as open.
const MAX_OPEN: usize = 1_000;

impl Step {
    /// Removes executions that have ended from the open executions of schedules.
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

    /// Reads the latest version of a workflow, including versions that other programs have stored since the last read.
    pub(super) fn read_latest(&mut self, workflow: &str) -> Result<(), StoreError> {
        if self.latest_definition(workflow)?.is_none() {
            self.read_definitions()?;
            self.latest_definition(workflow)?;
        }
        Ok(())
    }

    /// Starts the workflow of a schedule as an execution with this id. `None`: no program has stored its definition.
    pub(super) fn start_scheduled(
        &mut self,
        id: ExecutionId,
        record: &ScheduleRecord,
        input: Context,
        key: Option<String>,
    ) -> Option<ExecutionId> {
        let request = SubmitRequest {
            id,
            workflow: record.workflow.clone(),
            input: Arc::new(input),
            key,
            priority: 0,
            start_at: None,
            timeout: None,
            labels: Labels::default(),
            trace: None,
        };
        self.start(request).then_some(id)
    }

    /// Returns the stored execution of a workflow with a key. `None` if there is none, or if the database does not answer. In the
    /// second case the commit fails too.
    pub(super) fn execution_of(&self, workflow: &str, key: &str) -> Option<ExecutionId> {
        let query = ListQuery {
            workflow: Some(workflow.to_owned()),
            keys: Some(vec![key.to_owned()]),
            limit: 1,
            ..ListQuery::default()
        };
        self.store.list(&query).ok()?.ids.pop()
    }
}

/// The schedules and triggers whose workflow was not known when they fired. Each is logged once, and again only after it has
/// started an execution in between.
#[derive(Default)]
pub(super) struct UnknownWorkflows(FxHashSet<ScheduleId>);

impl UnknownWorkflows {
    /// Notes whether a schedule that fired has started its workflow. Returns the detail of the tick if it has not.
    pub(super) fn note(&mut self, record: &ScheduleRecord, is_started: bool) -> Option<String> {
        if is_started {
            self.0.remove(&record.id);
            return None;
        }
        let detail = unknown(&record.workflow);
        if self.0.insert(record.id) {
            tracing::warn!(
                schedule_id = %record.id, workflow = %record.workflow,
                "a schedule has fired but started nothing: {detail}; hint: run a program that defines it, or delete the schedule",
            );
        }
        Some(detail)
    }
}

/// Returns the change of a schedule whose workflow a caller starts.
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

/// Drops the oldest open executions beyond the maximum.
pub(super) fn trim_open(record: &mut ScheduleRecord) {
    let surplus = record.state.open.len().saturating_sub(MAX_OPEN);
    record.state.open.drain(..surplus);
}

pub(in crate::runtime) fn unknown_workflow(name: &str) -> Error {
    Error::new(ErrorCode::WorkflowNotFound, unknown(name))
        .with_hint("run a program that defines it on this database")
}

fn unknown(workflow: &str) -> String {
    format!(
        "workflow '{workflow}' is not known: no program has stored its definition in this database"
    )
}
