//! The store in the process's memory: for simulation and tests. Deterministic, and nothing in it outlives it.

mod claim;
mod commit;
mod insight;
mod schedule;
mod table;

use std::sync::atomic::{AtomicI64, Ordering};

use crate::types::sync::Mutex;

use super::{
    Batch, Committed, Due, DueQuery, DueSchedules, ListQuery, Put, RunnerRow, ScheduleQuery, Store,
    StoreError, StoredDefinition, SubmitVerdict,
};
use crate::types::{
    DefinitionId, ExecutionId, ExecutionRecord, ExecutionStatus, HistoryEvent, RunnerId,
    ScheduleId, ScheduleKind, ScheduleRecord, TaskStatus, TickOutcome, TickRecord, Timestamp,
};
use crate::workflow::Workflow;
use table::{Definition, Runner, Tables};

/// A store in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    tables: Mutex<Tables>,
    /// Counts changes: runners that share the store learn of each other's work.
    changes: AtomicI64,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Store for MemoryStore {
    fn location(&self) -> String {
        "memory".to_owned()
    }

    fn put_definition(
        &self,
        workflow: &Workflow,
        _now: Timestamp,
    ) -> Result<DefinitionId, StoreError> {
        let mut tables = self.tables.lock();
        let body = workflow.stored().as_str();
        let known = tables.definitions.iter_mut().find(|definition| {
            definition.stored.workflow == workflow.name()
                && definition.stored.version == workflow.version()
        });
        if let Some(known) = known {
            body.clone_into(&mut known.stored.body);
            return Ok(known.stored.id);
        }
        let id = tables
            .definitions
            .last()
            .map_or(DefinitionId(1), |last| DefinitionId(last.stored.id.0 + 1));
        let stored = StoredDefinition {
            id,
            workflow: workflow.name().to_owned(),
            version: workflow.version().to_owned(),
            body: body.to_owned(),
        };
        tables.definitions.push(Definition {
            stored,
            task_count: workflow.len(),
        });
        self.changes.fetch_add(1, Ordering::Release);
        Ok(id)
    }

    fn definition(&self, id: DefinitionId) -> Result<Option<StoredDefinition>, StoreError> {
        Ok(self
            .tables
            .lock()
            .definition(id)
            .map(|definition| definition.stored.clone()))
    }

    fn definitions(&self, after: DefinitionId) -> Result<Vec<StoredDefinition>, StoreError> {
        let tables = self.tables.lock();
        let stored = tables
            .definitions
            .iter()
            .map(|definition| &definition.stored);
        Ok(stored.filter(|stored| stored.id > after).cloned().collect())
    }

    fn commit(&self, batch: &Batch) -> Result<Committed, StoreError> {
        let committed = commit::commit(&mut self.tables.lock(), batch)?;
        // A claim that found nothing changes nothing: else two idle runners would wake each other for ever.
        if committed.submits.contains(&SubmitVerdict::Accepted)
            || committed.advances.contains(&true)
            || committed.schedules.contains(&true)
            || !committed.claimed.is_empty()
        {
            self.changes.fetch_add(1, Ordering::Release);
        }
        Ok(committed)
    }

    fn load(&self, ids: &[ExecutionId]) -> Result<Vec<ExecutionRecord>, StoreError> {
        let tables = self.tables.lock();
        let rows = ids.iter().filter_map(|id| tables.executions.get(id));
        Ok(rows.map(|row| row.record.clone()).collect())
    }

    fn statuses(
        &self,
        ids: &[ExecutionId],
    ) -> Result<Vec<(ExecutionId, ExecutionStatus)>, StoreError> {
        let tables = self.tables.lock();
        let rows = ids.iter().filter_map(|id| tables.executions.get(id));
        Ok(rows.map(|row| (row.record.id, row.record.status)).collect())
    }

    fn list(&self, query: &ListQuery) -> Result<Vec<ExecutionId>, StoreError> {
        let tables = self.tables.lock();
        let matching = tables.executions.values().rev().filter(|row| {
            let record = &row.record;
            query.before.is_none_or(|before| record.id < before)
                && query
                    .workflow
                    .as_ref()
                    .is_none_or(|workflow| *workflow == row.workflow)
                && (query.statuses.is_empty() || query.statuses.contains(&record.status))
                && query
                    .definitions
                    .as_ref()
                    .is_none_or(|ids| ids.contains(&record.definition))
                && query.since.is_none_or(|since| record.created_at >= since)
        });
        Ok(matching
            .take(query.limit)
            .map(|row| row.record.id)
            .collect())
    }

    fn history(&self, id: ExecutionId) -> Result<Vec<HistoryEvent>, StoreError> {
        Ok(self
            .tables
            .lock()
            .executions
            .get(&id)
            .map(|row| row.history.clone())
            .unwrap_or_default())
    }

    fn overdue(&self, now: Timestamp) -> Result<Due, StoreError> {
        let tables = self.tables.lock();
        let running = tables.executions.values().map(|row| &row.record);
        let mut deadlines: Vec<(Timestamp, ExecutionId)> = running
            .filter(|record| record.status == ExecutionStatus::Running)
            .filter_map(|record| record.deadline.map(|deadline| (deadline, record.id)))
            .collect();
        deadlines.sort_unstable();
        let over = deadlines.partition_point(|(deadline, _)| *deadline <= now);
        Ok(Due {
            next: deadlines.get(over).map(|(deadline, _)| *deadline),
            executions: deadlines[..over].iter().map(|(_, id)| *id).collect(),
        })
    }

    fn register_runner(&self, row: &RunnerRow) -> Result<(), StoreError> {
        let mut tables = self.tables.lock();
        tables.runners.entry(row.id).or_insert_with(|| Runner {
            row: row.clone(),
            dead: false,
        });
        Ok(())
    }

    fn heartbeat(
        &self,
        runner: RunnerId,
        now: Timestamp,
        lease_until: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut tables = self.tables.lock();
        let Some(runner) = tables
            .runners
            .get_mut(&runner)
            .filter(|runner| !runner.dead)
        else {
            return Ok(false);
        };
        runner.row.heartbeat_at = now;
        runner.row.lease_until = lease_until;
        Ok(true)
    }

    fn runners(&self) -> Result<Vec<RunnerRow>, StoreError> {
        let tables = self.tables.lock();
        Ok(tables
            .runners
            .values()
            .filter(|runner| !runner.dead)
            .map(|runner| runner.row.clone())
            .collect())
    }

    fn declare_dead(
        &self,
        runner: RunnerId,
        seen_lease: Timestamp,
        _now: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut tables = self.tables.lock();
        let found = tables.runners.get_mut(&runner);
        let Some(runner) =
            found.filter(|runner| !runner.dead && runner.row.lease_until == seen_lease)
        else {
            return Ok(false);
        };
        runner.dead = true;
        Ok(true)
    }

    fn claims_of(&self, runner: RunnerId) -> Result<Vec<ExecutionId>, StoreError> {
        Ok(self.tables.lock().claims_of(runner))
    }

    fn dead_runners(&self) -> Result<Vec<RunnerId>, StoreError> {
        let tables = self.tables.lock();
        Ok(tables
            .runners
            .values()
            .filter(|runner| runner.dead)
            .map(|runner| runner.row.id)
            .collect())
    }

    fn retire_runner(&self, runner: RunnerId) -> Result<(), StoreError> {
        let mut tables = self.tables.lock();
        let claims = tables.claims_of(runner).len();
        if claims > 0 {
            return Err(StoreError::Failed(format!(
                "runner {runner} cannot be retired: it has claims in {claims} executions"
            )));
        }
        tables.runners.remove(&runner);
        Ok(())
    }

    fn change_marker(&self) -> Result<i64, StoreError> {
        Ok(self.changes.load(Ordering::Acquire))
    }

    fn prune(&self, before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        let mut tables = self.tables.lock();
        let rows = tables.executions.values().map(|row| &row.record);
        let ended = rows.filter(|record| record.ended_at.is_some_and(|ended| ended < before));
        let ids: Vec<ExecutionId> = ended.map(|record| record.id).take(limit).collect();
        for id in &ids {
            tables.remove(*id);
        }
        schedule::prune(&mut tables, before, limit);
        Ok(ids.len())
    }

    fn put_schedule(
        &self,
        record: &ScheduleRecord,
        expected: Option<i64>,
    ) -> Result<Put, StoreError> {
        self.changes.fetch_add(1, Ordering::Release);
        Ok(schedule::put(&mut self.tables.lock(), record, expected))
    }

    fn schedule(&self, id: ScheduleId) -> Result<Option<ScheduleRecord>, StoreError> {
        Ok(self.tables.lock().schedules.get(&id).cloned())
    }

    fn schedule_of(
        &self,
        kind: ScheduleKind,
        identity: &str,
    ) -> Result<Option<ScheduleRecord>, StoreError> {
        Ok(schedule::of(&self.tables.lock(), kind, identity))
    }

    fn schedules(&self, query: &ScheduleQuery) -> Result<Vec<ScheduleRecord>, StoreError> {
        Ok(schedule::list(&self.tables.lock(), query))
    }

    fn due_schedules(&self, query: &DueQuery, now: Timestamp) -> Result<DueSchedules, StoreError> {
        Ok(schedule::due(&self.tables.lock(), query, now))
    }

    fn ticks(
        &self,
        schedule: ScheduleId,
        limit: usize,
        offset: usize,
    ) -> Result<Vec<TickRecord>, StoreError> {
        Ok(schedule::ticks(
            &self.tables.lock(),
            schedule,
            limit,
            offset,
        ))
    }

    fn count_ticks(
        &self,
        kind: ScheduleKind,
        since: Timestamp,
    ) -> Result<Vec<(TickOutcome, u64)>, StoreError> {
        Ok(schedule::count(&self.tables.lock(), kind, since))
    }
}

/// Whether a task of a record runs under a claim of this runner.
fn is_claimed_by(record: &ExecutionRecord, runner: RunnerId) -> bool {
    record
        .tasks
        .iter()
        .any(|task| task.status == TaskStatus::Running && task.runner == Some(runner))
}
