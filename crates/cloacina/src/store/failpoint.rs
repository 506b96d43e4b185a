//! A store with a named point before and after each verb, where a test may let it fail or end the process.
//!
//! It wraps any store and costs nothing where it is not used. `cloaca.testing`, the simulation and the crash tests
//! stand on it.

use std::fmt;
use std::sync::Arc;

use super::{
    Batch, Committed, Due, DueQuery, DueSchedules, Health, Insight, ListQuery, Put, RunnerRow,
    ScheduleQuery, Store, StoreError, StoredDefinition,
};
use crate::types::{
    DefinitionId, ExecutionId, ExecutionRecord, ExecutionStatus, HistoryEvent, LogChunk, Offer,
    Progress, RunnerId, ScheduleId, ScheduleKind, ScheduleRecord, TickOutcome, TickRecord,
    Timestamp,
};
use crate::workflow::Workflow;

/// When a point is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Moment {
    /// Nothing of the verb was applied.
    Before,
    /// The verb was applied, and its caller has not heard of it.
    After,
}

/// A named point: `commit.before`, `commit.after`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Failpoint {
    /// The verb.
    pub verb: Verb,
    /// When.
    pub moment: Moment,
}

impl fmt::Display for Failpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = match self.moment {
            Moment::Before => "before",
            Moment::After => "after",
        };
        write!(f, "{}.{moment}", self.verb.name())
    }
}

/// Who decides what happens at a point.
pub trait Failpoints: Send + Sync {
    /// Called at each point.
    ///
    /// # Errors
    /// What the caller of the verb is to see. After [`Moment::After`] that means: failed although it was applied.
    fn reach(&self, point: Failpoint) -> Result<(), StoreError>;
}

/// A store whose verbs stop at the points.
pub struct FailpointStore<S: ?Sized> {
    points: Arc<dyn Failpoints>,
    inner: Arc<S>,
}

impl<S: Store + ?Sized> FailpointStore<S> {
    /// Puts points around a store.
    pub fn new(inner: Arc<S>, points: Arc<dyn Failpoints>) -> Self {
        Self { points, inner }
    }
}

/// The verbs with their points, and the store that has both.
macro_rules! verbs {
    ($($variant:ident => $name:ident($($argument:ident: $kind:ty),*) -> $answer:ty;)*) => {
        /// A verb of the store.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[expect(missing_docs, reason = "each is the method of that name")]
        pub enum Verb {
            $($variant,)*
        }

        impl Verb {
            /// Every verb.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its name in code.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => stringify!($name),)*
                }
            }
        }

        impl<S: Store + ?Sized> Store for FailpointStore<S> {
            fn location(&self) -> String {
                self.inner.location()
            }

            fn on_change(&self, wake: Arc<dyn Fn() + Send + Sync>) {
                self.inner.on_change(wake);
            }

            fn at_work(&self, runner: RunnerId, at_work: bool) {
                self.inner.at_work(runner, at_work);
            }

            fn take_vanished(&self) -> Vec<RunnerId> {
                self.inner.take_vanished()
            }

            fn take_wants_heartbeat(&self) -> bool {
                self.inner.take_wants_heartbeat()
            }

            // What callers ask of schedules changes nothing that a runner has in hand: no points.

            fn put_schedule(
                &self,
                record: &ScheduleRecord,
                expected: Option<i64>,
            ) -> Result<Put, StoreError> {
                self.inner.put_schedule(record, expected)
            }

            fn schedule(&self, id: ScheduleId) -> Result<Option<ScheduleRecord>, StoreError> {
                self.inner.schedule(id)
            }

            fn schedule_of(
                &self,
                kind: ScheduleKind,
                identity: &str,
            ) -> Result<Option<ScheduleRecord>, StoreError> {
                self.inner.schedule_of(kind, identity)
            }

            fn schedules(&self, query: &ScheduleQuery) -> Result<Vec<ScheduleRecord>, StoreError> {
                self.inner.schedules(query)
            }

            fn ticks(
                &self,
                schedule: ScheduleId,
                limit: usize,
                offset: usize,
            ) -> Result<Vec<TickRecord>, StoreError> {
                self.inner.ticks(schedule, limit, offset)
            }

            fn count_ticks(
                &self,
                kind: ScheduleKind,
                since: Timestamp,
            ) -> Result<Vec<(TickOutcome, u64)>, StoreError> {
                self.inner.count_ticks(kind, since)
            }

            $(fn $name(&self, $($argument: $kind),*) -> Result<$answer, StoreError> {
                let verb = Verb::$variant;
                self.points.reach(Failpoint { verb, moment: Moment::Before })?;
                let answer = self.inner.$name($($argument),*)?;
                self.points.reach(Failpoint { verb, moment: Moment::After })?;
                Ok(answer)
            })*
        }
    };
}

verbs! {
    PutDefinition => put_definition(workflow: &Workflow, now: Timestamp) -> DefinitionId;
    Definition => definition(id: DefinitionId) -> Option<StoredDefinition>;
    Definitions => definitions(after: DefinitionId) -> Vec<StoredDefinition>;
    Commit => commit(batch: &Batch) -> Committed;
    Load => load(ids: &[ExecutionId]) -> Vec<ExecutionRecord>;
    Statuses => statuses(ids: &[ExecutionId]) -> Vec<(ExecutionId, ExecutionStatus)>;
    List => list(query: &ListQuery) -> Vec<ExecutionId>;
    History => history(id: ExecutionId) -> Vec<HistoryEvent>;
    Overdue => overdue(now: Timestamp) -> Due;
    RegisterRunner => register_runner(row: &RunnerRow) -> ();
    Heartbeat => heartbeat(runner: RunnerId, now: Timestamp, lease_until: Timestamp) -> bool;
    Runners => runners() -> Vec<RunnerRow>;
    DeclareDead => declare_dead(runner: RunnerId, seen_lease: Timestamp, now: Timestamp) -> bool;
    ClaimsOf => claims_of(runner: RunnerId) -> Vec<ExecutionId>;
    DeadRunners => dead_runners() -> Vec<RunnerId>;
    RetireRunner => retire_runner(runner: RunnerId) -> ();
    ChangeMarker => change_marker() -> i64;
    Prune => prune(before: Timestamp, limit: usize) -> usize;
    DueSchedules => due_schedules(query: &DueQuery, now: Timestamp) -> DueSchedules;
}

/// What people want to see decides nothing: no points.
impl<S: Store + ?Sized> Insight for FailpointStore<S> {
    fn announce(
        &self,
        runner: RunnerId,
        workflows: &[String],
        offers: &[Offer],
    ) -> Result<(), StoreError> {
        self.inner.announce(runner, workflows, offers)
    }

    fn withdraw(&self, runner: RunnerId, seen_at: Option<Timestamp>) -> Result<(), StoreError> {
        self.inner.withdraw(runner, seen_at)
    }

    fn offers(&self, workflow: &str) -> Result<Vec<Offer>, StoreError> {
        self.inner.offers(workflow)
    }

    fn note_insight(&self, progress: &[Progress], logs: &[LogChunk]) -> Result<(), StoreError> {
        self.inner.note_insight(progress, logs)
    }

    fn progress(&self, id: ExecutionId) -> Result<Vec<Progress>, StoreError> {
        self.inner.progress(id)
    }

    fn logs(&self, id: ExecutionId) -> Result<Vec<LogChunk>, StoreError> {
        self.inner.logs(id)
    }

    fn backlog(&self, limit: usize) -> Result<usize, StoreError> {
        self.inner.backlog(limit)
    }

    fn check(&self) -> Result<Health, StoreError> {
        self.inner.check()
    }

    fn tell_others(&self) -> Result<(), StoreError> {
        self.inner.tell_others()
    }
}
