//! Functions that cron schedules and triggers share: track their open executions, and start new executions.

use std::sync::Arc;

use rustc_hash::FxHashSet;

use crate::engine::schedule;
use crate::runtime::batch::{Purpose, ScheduleChange};
use crate::runtime::message::SubmitRequest;
use crate::runtime::step::Step;
use crate::store::{ListQuery, StoreError, TickWrite};
use crate::types::{
    Context, Error, ErrorCode, ExecutionId, ExecutionStatus, Labels, ScheduleId, ScheduleKind,
    ScheduleRecord, TickOutcome, Timestamp,
};

/// Maximum number of executions that a schedule remembers as open.
const MAX_OPEN: usize = 1_000;

impl Step {
    /// Removes ended executions from the schedules' lists of open executions.
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

    /// Reads the latest known version of a workflow. If no version is known, first searches the database for versions that
    /// other programs have stored.
    pub(super) fn read_latest(&mut self, workflow: &str) -> Result<(), StoreError> {
        if self.latest_definition(workflow)?.is_none() {
            self.read_definitions()?;
            self.latest_definition(workflow)?;
        }
        Ok(())
    }

    /// Starts an execution of a schedule's workflow under the given id. Returns `None` if the workflow is not known,
    /// because no program has stored a definition of it.
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

    /// Returns the stored execution that was submitted for a workflow with this key. Returns `None` if there is none,
    /// or if the database does not answer. If it does not answer, the commit will fail too.
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

/// Schedules and triggers whose workflow was not known when they last fired. A warning is logged once for each. It is logged
/// again only after the schedule or trigger has started an execution in the meantime.
#[derive(Default)]
pub(super) struct UnknownWorkflows(FxHashSet<ScheduleId>);

impl UnknownWorkflows {
    /// Notes whether a schedule or trigger that fired has started its workflow. If not, returns the detail for the tick.
    pub(super) fn note(&mut self, record: &ScheduleRecord, is_started: bool) -> Option<String> {
        if is_started {
            self.0.remove(&record.id);
            return None;
        }
        let detail = unknown(&record.workflow);
        if self.0.insert(record.id) {
            let (subject, change) = match record.kind {
                ScheduleKind::Cron => ("a schedule".to_owned(), "delete the schedule"),
                ScheduleKind::Trigger => (
                    format!("trigger '{}'", record.identity),
                    "disable the trigger",
                ),
            };
            tracing::warn!(
                schedule_id = %record.id, workflow = %record.workflow,
                "{subject} has fired but started nothing: {detail}; hint: run a program that defines the workflow, or {change}",
            );
        }
        Some(detail)
    }
}

/// Returns the change of a schedule whose workflow is started at a caller's request.
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

/// Drops the oldest entries of a schedule's list of open executions if the list is too long.
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
