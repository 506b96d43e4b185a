//! The store in an SQLite file, or in memory by SQLite.
//!
//! One connection writes, a few read (`connection`). Every statement of the hot path is a type of its own with a constant
//! text (`statement`), so that Diesel prepares it once per connection.

mod claim;
mod commit;
mod connection;
mod definition;
mod error;
mod insight;
mod list;
mod load;
mod migration;
mod open;
mod options;
mod prune;
mod row;
mod runner;
mod schedule;
mod statement;
#[cfg(test)]
mod tests;
mod write;

use diesel::SqliteConnection;

use connection::{Readers, Writer};
use error::Fault;
use migration::Schema;
pub use options::{OpenMode, SqliteOptions, Synchronous};

use super::{
    Batch, Committed, Due, DueQuery, DueSchedules, ListQuery, Put, RunnerRow, ScheduleQuery, Store,
    StoreError, StoredDefinition,
};
use crate::types::{
    DefinitionId, ExecutionId, ExecutionRecord, ExecutionStatus, HistoryEvent, RunnerId,
    ScheduleId, ScheduleKind, ScheduleRecord, TickOutcome, TickRecord, Timestamp,
};
use crate::workflow::Workflow;

/// A store in an SQLite database.
pub struct SqliteStore {
    location: String,
    writer: Writer,
    readers: Option<Readers>,
}

impl std::fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteStore")
            .field("location", &self.location)
            .finish_non_exhaustive()
    }
}

impl SqliteStore {
    /// Opens a database, creating and migrating it where the options allow it.
    ///
    /// # Errors
    /// What the path, the file or its schema lack, and what to do. A file that did not exist before does not exist after.
    pub fn open(options: &SqliteOptions) -> Result<Self, StoreError> {
        let open::Opened {
            location,
            writer,
            readers,
        } = open::open(options)?;
        Ok(Self {
            location,
            writer,
            readers,
        })
    }

    /// The newest version of the schema that the database has, if it has any. Changes nothing.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn schema_version(options: &SqliteOptions) -> Result<Option<String>, StoreError> {
        open::schema(options).map(|Schema { mut applied, .. }| applied.pop())
    }

    /// The versions of the schema that the database lacks, oldest first. Changes nothing.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn pending_migrations(options: &SqliteOptions) -> Result<Vec<String>, StoreError> {
        open::schema(options).map(|schema| schema.pending)
    }

    /// Another store on the same database in memory, for another runner of this process. Its change marker tells of what
    /// is written through the others.
    ///
    /// # Panics
    /// If the database is a file: that is opened again.
    #[must_use]
    pub fn share(&self) -> Self {
        assert!(
            self.readers.is_none(),
            "only a database in memory is shared"
        );
        Self {
            location: self.location.clone(),
            writer: self.writer.share(),
            readers: None,
        }
    }

    /// Reads in one snapshot.
    fn read<T>(
        &self,
        work: impl FnOnce(&mut SqliteConnection) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        match &self.readers {
            // Nobody else writes while this holds the database's only connection.
            None => work(&mut self.writer.lock()).map_err(|fault| self.error(fault)),
            Some(readers) => readers.lend(|connection| {
                connection::read(connection, work).map_err(|fault| self.error(fault))
            }),
        }
    }

    fn error(&self, fault: Fault) -> StoreError {
        fault.at(&self.location)
    }
}

impl Store for SqliteStore {
    fn location(&self) -> String {
        self.location.clone()
    }

    fn put_definition(
        &self,
        workflow: &Workflow,
        now: Timestamp,
    ) -> Result<DefinitionId, StoreError> {
        definition::put(&self.writer, workflow, now).map_err(|fault| self.error(fault))
    }

    fn definition(&self, id: DefinitionId) -> Result<Option<StoredDefinition>, StoreError> {
        self.read(|connection| definition::get(connection, id))
    }

    fn definitions(&self, after: DefinitionId) -> Result<Vec<StoredDefinition>, StoreError> {
        self.read(|connection| definition::after(connection, after))
    }

    fn commit(&self, batch: &Batch) -> Result<Committed, StoreError> {
        commit::commit(&self.writer, batch).map_err(|fault| self.error(fault))
    }

    fn load(&self, ids: &[ExecutionId]) -> Result<Vec<ExecutionRecord>, StoreError> {
        self.read(|connection| load::executions(connection, ids))
    }

    fn statuses(
        &self,
        ids: &[ExecutionId],
    ) -> Result<Vec<(ExecutionId, ExecutionStatus)>, StoreError> {
        self.read(|connection| load::statuses(connection, ids))
    }

    fn list(&self, query: &ListQuery) -> Result<Vec<ExecutionId>, StoreError> {
        self.read(|connection| list::list(connection, query))
    }

    fn history(&self, id: ExecutionId) -> Result<Vec<HistoryEvent>, StoreError> {
        self.read(|connection| load::history(connection, id))
    }

    fn overdue(&self, now: Timestamp) -> Result<Due, StoreError> {
        self.read(|connection| list::overdue(connection, now))
    }

    fn register_runner(&self, row: &RunnerRow) -> Result<(), StoreError> {
        runner::register(&self.writer, row).map_err(|fault| self.error(fault))
    }

    fn heartbeat(
        &self,
        runner: RunnerId,
        now: Timestamp,
        lease_until: Timestamp,
    ) -> Result<bool, StoreError> {
        runner::heartbeat(&self.writer, runner, now, lease_until).map_err(|fault| self.error(fault))
    }

    fn runners(&self) -> Result<Vec<RunnerRow>, StoreError> {
        self.read(runner::living)
    }

    fn declare_dead(
        &self,
        runner: RunnerId,
        seen_lease: Timestamp,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        runner::declare_dead(&self.writer, runner, seen_lease, now)
            .map_err(|fault| self.error(fault))
    }

    fn claims_of(&self, runner: RunnerId) -> Result<Vec<ExecutionId>, StoreError> {
        self.read(|connection| runner::claims_of(connection, runner))
    }

    fn dead_runners(&self) -> Result<Vec<RunnerId>, StoreError> {
        self.read(runner::dead)
    }

    fn retire_runner(&self, runner: RunnerId) -> Result<(), StoreError> {
        runner::retire(&self.writer, runner).map_err(|fault| self.error(fault))
    }

    fn change_marker(&self) -> Result<i64, StoreError> {
        let marker = self.writer.change_marker();
        marker.map_err(|fault| self.error(fault))
    }

    fn prune(&self, before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        prune::prune(&self.writer, before, limit).map_err(|fault| self.error(fault))
    }

    fn put_schedule(
        &self,
        record: &ScheduleRecord,
        expected: Option<i64>,
    ) -> Result<Put, StoreError> {
        schedule::put(&self.writer, record, expected).map_err(|fault| self.error(fault))
    }

    fn schedule(&self, id: ScheduleId) -> Result<Option<ScheduleRecord>, StoreError> {
        self.read(|connection| schedule::by_id(connection, id))
    }

    fn schedule_of(
        &self,
        kind: ScheduleKind,
        identity: &str,
    ) -> Result<Option<ScheduleRecord>, StoreError> {
        self.read(|connection| schedule::by_identity(connection, kind, identity))
    }

    fn schedules(&self, query: &ScheduleQuery) -> Result<Vec<ScheduleRecord>, StoreError> {
        self.read(|connection| schedule::list(connection, query))
    }

    fn due_schedules(&self, query: &DueQuery, now: Timestamp) -> Result<DueSchedules, StoreError> {
        self.read(|connection| schedule::due(connection, query, now))
    }

    fn ticks(
        &self,
        schedule: ScheduleId,
        limit: usize,
        offset: usize,
    ) -> Result<Vec<TickRecord>, StoreError> {
        self.read(|connection| schedule::ticks(connection, schedule, limit, offset))
    }

    fn count_ticks(
        &self,
        kind: ScheduleKind,
        since: Timestamp,
    ) -> Result<Vec<(TickOutcome, u64)>, StoreError> {
        self.read(|connection| schedule::count(connection, kind, since))
    }
}
