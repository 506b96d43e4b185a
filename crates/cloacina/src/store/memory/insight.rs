//! Insight into the tables in memory.

use super::MemoryStore;
use crate::store::{Health, Insight, StoreError};
use crate::types::{ExecutionId, LogChunk, Offer, Progress, RunnerId, TaskStatus, Timestamp};

impl Insight for MemoryStore {
    fn announce(
        &self,
        runner: RunnerId,
        workflows: &[String],
        offers: &[Offer],
    ) -> Result<(), StoreError> {
        let mut tables = self.tables.lock();
        if let Some(known) = tables.runners.get_mut(&runner).filter(|known| !known.dead) {
            workflows.clone_into(&mut known.row.workflows);
        }
        for offer in offers {
            tables
                .offers
                .insert((offer.workflow.clone(), runner), offer.clone());
        }
        Ok(())
    }

    fn withdraw(&self, runner: RunnerId, seen_at: Option<Timestamp>) -> Result<(), StoreError> {
        let mut tables = self.tables.lock();
        let beat = tables
            .runners
            .get(&runner)
            .map(|known| known.row.heartbeat_at);
        let mut own = Vec::new();
        for offer in tables
            .offers
            .values_mut()
            .filter(|offer| offer.runner == runner)
        {
            offer.seen_at = seen_at.or(beat).unwrap_or(offer.seen_at);
            own.push(offer.clone());
        }
        let known: Vec<RunnerId> = tables.runners.keys().copied().collect();
        tables.offers.retain(|_, offer| {
            offer.runner == runner
                || known.contains(&offer.runner)
                || !own
                    .iter()
                    .any(|mine| mine.workflow == offer.workflow && mine.tasks == offer.tasks)
        });
        Ok(())
    }

    fn offers(&self, workflow: &str) -> Result<Vec<Offer>, StoreError> {
        let tables = self.tables.lock();
        let offers = tables.offers.values();
        Ok(offers
            .filter(|offer| offer.workflow == workflow)
            .cloned()
            .collect())
    }

    fn note_insight(&self, progress: &[Progress], logs: &[LogChunk]) -> Result<(), StoreError> {
        let mut tables = self.tables.lock();
        for said in progress {
            tables
                .progress
                .insert((said.execution, said.task), said.clone());
        }
        tables.logs.extend_from_slice(logs);
        Ok(())
    }

    fn progress(&self, id: ExecutionId) -> Result<Vec<Progress>, StoreError> {
        let tables = self.tables.lock();
        let said = tables.progress.values();
        Ok(said.filter(|said| said.execution == id).cloned().collect())
    }

    fn logs(&self, id: ExecutionId) -> Result<Vec<LogChunk>, StoreError> {
        let tables = self.tables.lock();
        let chunks = tables.logs.iter();
        Ok(chunks
            .filter(|chunk| chunk.execution == id)
            .cloned()
            .collect())
    }

    fn backlog(&self, limit: usize) -> Result<usize, StoreError> {
        let tables = self.tables.lock();
        let tasks = tables.executions.values().flat_map(|row| &row.record.tasks);
        Ok(tasks
            .filter(|task| task.status == TaskStatus::Ready && task.ready_at.is_none())
            .take(limit)
            .count())
    }

    fn check(&self) -> Result<Health, StoreError> {
        Ok(Health::default())
    }
}
