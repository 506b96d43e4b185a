//! Persistence. The verbs are the engine's, each takes a slice, and one `commit` is one durable transaction.
//!
//! The trait is not stable and not meant to be implemented outside this crate. No policy lives here: a store applies what
//! the engine decided, or refuses it as a whole because somebody else changed the execution first.
//!
//! Invariant that every store keeps: each change of an execution or of one of its tasks raises the execution's
//! `revision`, in the same transaction. A writer that saw revision `n` and finds another number writes nothing.

mod error;
pub mod failpoint;
mod insight;
mod layer;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod placeholder;
#[cfg(feature = "postgres")]
pub mod postgres;
mod schedule;
#[cfg(feature = "sqlite")]
pub mod sqlite;
mod url;
mod verbs;

pub use error::StoreError;
pub use insight::{Health, Insight};
pub use layer::{Layer, Verb};
pub use schedule::{DueQuery, DueSchedules, Put, ScheduleQuery, ScheduleWrite, TickWrite};
pub use url::{DatabaseUrl, without_password};
pub use verbs::{
    Advance, Batch, ClaimClass, ClaimRequest, Claimed, Committed, Due, ListQuery, QueueId,
    RunnerRow, StoredDefinition, Submit, SubmitVerdict, TaskWrite,
};

use std::sync::Arc;

use crate::types::{
    DefinitionId, ExecutionId, ExecutionRecord, ExecutionStatus, HistoryEvent, RunnerId,
    ScheduleId, ScheduleKind, ScheduleRecord, TickOutcome, TickRecord, Timestamp,
};
use crate::workflow::Workflow;

/// A database that keeps definitions, executions, tasks and runners.
///
/// Every verb fails alike: see [`StoreError`].
pub trait Store: Insight + Send + Sync {
    /// Where the data is, for messages: never with a password.
    fn location(&self) -> String;

    /// Keeps a version of a workflow once; a known version keeps its id and gets the new description and tags.
    fn put_definition(
        &self,
        workflow: &Workflow,
        now: Timestamp,
    ) -> Result<DefinitionId, StoreError>;

    /// A definition by its id.
    fn definition(&self, id: DefinitionId) -> Result<Option<StoredDefinition>, StoreError>;

    /// The definitions with an id above `after`, oldest first; the last one of a name is its latest.
    fn definitions(&self, after: DefinitionId) -> Result<Vec<StoredDefinition>, StoreError>;

    /// Applies a batch in one durable transaction: schedules, submissions, advances, then claims.
    ///
    /// An error means that nothing was applied, or, for [`StoreError::Unavailable`], that it is not known.
    fn commit(&self, batch: &Batch) -> Result<Committed, StoreError>;

    /// The executions with all their tasks; unknown ids are left out, the order is the given one.
    fn load(&self, ids: &[ExecutionId]) -> Result<Vec<ExecutionRecord>, StoreError>;

    /// The states of executions, in no order; unknown ids are left out.
    fn statuses(
        &self,
        ids: &[ExecutionId],
    ) -> Result<Vec<(ExecutionId, ExecutionStatus)>, StoreError>;

    /// Ids of executions, newest first, by a keyset.
    fn list(&self, query: &ListQuery) -> Result<Vec<ExecutionId>, StoreError>;

    /// The stored history of an execution, oldest first.
    fn history(&self, id: ExecutionId) -> Result<Vec<HistoryEvent>, StoreError>;

    /// Running executions whose deadline is at or before `now`, and the next deadline after it.
    fn overdue(&self, now: Timestamp) -> Result<Due, StoreError>;

    /// Adds a runner.
    fn register_runner(&self, row: &RunnerRow) -> Result<(), StoreError>;

    /// Extends a runner's lease. `false`: it was declared dead or never registered.
    fn heartbeat(
        &self,
        runner: RunnerId,
        now: Timestamp,
        lease_until: Timestamp,
    ) -> Result<bool, StoreError>;

    /// All runners that were not declared dead or retired.
    fn runners(&self) -> Result<Vec<RunnerRow>, StoreError>;

    /// Declares a runner dead if its lease still ends at the instant that was seen. `false`: it has moved, leave it alone.
    fn declare_dead(
        &self,
        runner: RunnerId,
        seen_lease: Timestamp,
        now: Timestamp,
    ) -> Result<bool, StoreError>;

    /// Executions in which a runner has claims.
    fn claims_of(&self, runner: RunnerId) -> Result<Vec<ExecutionId>, StoreError>;

    /// Runners that were declared dead and may still have claims.
    fn dead_runners(&self) -> Result<Vec<RunnerId>, StoreError>;

    /// Removes a runner that has no claim any more.
    fn retire_runner(&self, runner: RunnerId) -> Result<(), StoreError>;

    /// A number that differs from the last answer when another runner may have written. A store that nobody else can
    /// write to may always answer the same.
    fn change_marker(&self) -> Result<i64, StoreError>;

    /// Has `wake` called, from a thread of the store's own, when the marker has changed. A store that never calls it is
    /// asked for its marker now and then.
    fn on_change(&self, wake: Arc<dyn Fn() + Send + Sync>) {
        drop(wake);
    }

    /// A number that differs from the last answer when an execution that had ended may go on by another runner's doing.
    /// `None`: any change may be that.
    fn revivals(&self) -> Option<u64> {
        None
    }

    /// A runner of this process has claims, or has none any more: others may want to watch over it.
    fn at_work(&self, runner: RunnerId, at_work: bool) {
        let _ = (runner, at_work);
    }

    /// Runners that the database takes for gone though their leases last, each told once, after a change was told.
    fn take_vanished(&self) -> Vec<RunnerId> {
        Vec::new()
    }

    /// Whether this process's runner must send a heartbeat now, lest others take it for gone; told once.
    fn take_wants_heartbeat(&self) -> bool {
        false
    }

    /// Deletes at most `limit` executions that ended before `before`, oldest first, with all that belongs to them.
    /// Ticks that were due before it go too, as many at most.
    fn prune(&self, before: Timestamp, limit: usize) -> Result<usize, StoreError>;

    /// Adds a schedule, or changes the one whose stored revision is `expected`.
    fn put_schedule(
        &self,
        record: &ScheduleRecord,
        expected: Option<i64>,
    ) -> Result<Put, StoreError>;

    /// A schedule by its id, also a deleted one.
    fn schedule(&self, id: ScheduleId) -> Result<Option<ScheduleRecord>, StoreError>;

    /// The schedule of an identity that is not deleted.
    fn schedule_of(
        &self,
        kind: ScheduleKind,
        identity: &str,
    ) -> Result<Option<ScheduleRecord>, StoreError>;

    /// Schedules that are not deleted, oldest first.
    fn schedules(&self, query: &ScheduleQuery) -> Result<Vec<ScheduleRecord>, StoreError>;

    /// The schedules that have to be looked at now, and when the next one has to be: by index, however many there are.
    fn due_schedules(&self, query: &DueQuery, now: Timestamp) -> Result<DueSchedules, StoreError>;

    /// The history of a schedule, newest first, also of a deleted one.
    fn ticks(
        &self,
        schedule: ScheduleId,
        limit: usize,
        offset: usize,
    ) -> Result<Vec<TickRecord>, StoreError>;

    /// How many ticks of a kind were due since a time, by what became of them.
    fn count_ticks(
        &self,
        kind: ScheduleKind,
        since: Timestamp,
    ) -> Result<Vec<(TickOutcome, u64)>, StoreError>;
}
