//! The interface of a store: requests as values, one method that answers them, and typed methods built on it.
//!
//! A wrapper of a store, or the dispatch to its functions, is therefore one `match` over [`Request`].

use std::sync::Arc;

use super::{
    Batch, Changes, Committed, Due, DueQuery, DueSchedules, Health, ListQuery, Put, RunnerRow,
    ScheduleQuery, StoreError, StoredDefinition, StoredVersion,
};
use crate::types::{
    DefinitionId, ExecutionId, ExecutionRecord, ExecutionStatus, HistoryEvent, LogChunk, Offer,
    Progress, RunnerId, ScheduleId, ScheduleKind, ScheduleRecord, TickOutcome, TickRecord,
    Timestamp,
};
use crate::workflow::Workflow;

/// Returns the type in a response. `boxed` keeps one large answer from making every response large.
macro_rules! held {
    (boxed $answer:ty) => { Box<$answer> };
    ($answer:ty) => { $answer };
}

macro_rules! unpack {
    (boxed $answer:ident) => {
        *$answer
    };
    ($answer:ident) => {
        $answer
    };
}

/// Declares the requests, the responses, and the trait with a typed method for each request.
macro_rules! requests {
    ($a:lifetime $(
        $(#[$doc:meta])*
        $name:ident => $method:ident($($argument:ident: $kind:ty),*) -> $answer:ty $(, $boxed:ident)?;
    )*) => {
        /// The kinds of requests.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[expect(missing_docs, reason = "documented at the methods of the store")]
        pub enum Verb {
            $($name,)*
        }

        impl Verb {
            /// All kinds.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The name of the method.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($method),)*
                }
            }
        }

        /// A call of a store with its arguments.
        #[derive(Clone, Copy, Debug)]
        #[expect(missing_docs, reason = "documented at the methods of the store")]
        pub enum Request<$a> {
            $($name { $($argument: $kind),* },)*
        }

        impl Request<'_> {
            /// Its kind.
            #[must_use]
            pub const fn verb(&self) -> Verb {
                match self {
                    $(Self::$name { .. } => Verb::$name,)*
                }
            }
        }

        /// The answer to the request of the same name.
        #[derive(Debug)]
        #[expect(missing_docs, reason = "documented at the methods of the store")]
        pub enum Response {
            $($name(held!($($boxed)? $answer)),)*
        }

        /// A database of definitions, executions, tasks, schedules and runners.
        ///
        /// Every request can fail with any [`StoreError`].
        pub trait Store: Send + Sync {
            /// Answers a request with the response of the same name.
            ///
            /// # Errors
            /// See [`StoreError`].
            fn call(&self, request: Request<'_>) -> Result<Response, StoreError>;

            /// Returns where the data is, for use in messages, without a password.
            fn location(&self) -> String;

            /// Sets a function that the store calls, from its own thread, when the change marker has changed. If a
            /// store never calls it, its marker is polled.
            fn on_change(&self, wake: Arc<dyn Fn() + Send + Sync>) {
                drop(wake);
            }

            /// Closes all connections. A later request opens one for its own duration.
            fn close(&self) {}

            $(
                $(#[$doc])*
                ///
                /// # Errors
                /// See [`StoreError`].
                fn $method<$a>(&$a self, $($argument: $kind),*) -> Result<$answer, StoreError> {
                    match self.call(Request::$name { $($argument),* })? {
                        Response::$name(answer) => Ok(unpack!($($boxed)? answer)),
                        other => unreachable!("{} is answered with {other:?}", stringify!($name)),
                    }
                }
            )*
        }
    };
}

requests! { 'a
    /// Keeps a version of a workflow once; a known version keeps its id and gets the new description and tags.
    PutDefinition => put_definition(workflow: &'a Workflow, now: Timestamp) -> DefinitionId;

    /// A definition by its id.
    Definition => definition(id: DefinitionId) -> Option<StoredDefinition>;

    /// The definitions with an id above `after`, oldest first; the last one of a name is its latest.
    Definitions => definitions(after: DefinitionId) -> Vec<StoredDefinition>;

    /// The versions with an id above `after`, oldest first. From the beginning only those that matter: the newest of each
    /// workflow, and those of executions that have not ended.
    Versions => versions(after: DefinitionId) -> Vec<StoredVersion>;

    /// The number of stored definitions.
    CountDefinitions => count_definitions() -> u64;

    /// Applies a batch in one durable transaction: schedules, submissions, advances, then claims.
    ///
    /// An error means that nothing was applied, or, for [`StoreError::Unavailable`], that it is not known.
    Commit => commit(batch: &'a Batch<'a>) -> Committed;

    /// The executions with all their tasks; unknown ids are left out, the order is the given one.
    Load => load(ids: &'a [ExecutionId]) -> Vec<ExecutionRecord>;

    /// The same without inputs and without what tasks wrote, which may be large.
    Summaries => summaries(ids: &'a [ExecutionId]) -> Vec<ExecutionRecord>;

    /// The states of executions, in no order; unknown ids are left out.
    Statuses => statuses(ids: &'a [ExecutionId]) -> Vec<(ExecutionId, ExecutionStatus)>;

    /// Ids of executions, newest first, by a keyset.
    List => list(query: &'a ListQuery) -> Vec<ExecutionId>;

    /// The stored history of an execution, oldest first.
    History => history(id: ExecutionId) -> Vec<HistoryEvent>;

    /// Running executions whose deadline is at or before `now`, and the next deadline after it.
    Overdue => overdue(now: Timestamp) -> Due;

    /// Adds a runner.
    RegisterRunner => register_runner(row: &'a RunnerRow) -> ();

    /// Extends a runner's lease. `false`: it was declared dead or never registered.
    Heartbeat => heartbeat(runner: RunnerId, now: Timestamp, lease_until: Timestamp) -> bool;

    /// All runners that were not declared dead or retired.
    Runners => runners() -> Vec<RunnerRow>;

    /// Declares a runner dead if its lease still ends at the instant that was seen. `false`: it has moved, leave it alone.
    DeclareDead => declare_dead(runner: RunnerId, seen_lease: Timestamp, now: Timestamp) -> bool;

    /// Executions in which a runner has claims.
    ClaimsOf => claims_of(runner: RunnerId) -> Vec<ExecutionId>;

    /// Runners that were declared dead and may still have claims.
    DeadRunners => dead_runners() -> Vec<RunnerId>;

    /// Removes a runner that has no claim any more.
    RetireRunner => retire_runner(runner: RunnerId) -> ();

    /// What other runners did. `busy`: the runner that asks, if it has claims, so that its peers watch over it.
    Changes => changes(busy: Option<RunnerId>) -> Changes;

    /// Deletes at most `limit` executions that ended before `before`, oldest first, with all that belongs to them.
    /// Ticks that were due before it go too, as many at most. So do definitions that were stored before it, that no
    /// execution runs, and that are not the newest of their workflow. Returns the larger number of executions and definitions.
    Prune => prune(before: Timestamp, limit: usize) -> usize;

    /// Adds a schedule, or changes the one whose stored revision is `expected`.
    PutSchedule => put_schedule(record: &'a ScheduleRecord, expected: Option<i64>) -> Put;

    /// A schedule by its id, also a deleted one.
    Schedule => schedule(id: ScheduleId) -> Option<ScheduleRecord>, boxed;

    /// The schedule of an identity that is not deleted.
    ScheduleOf => schedule_of(kind: ScheduleKind, identity: &'a str) -> Option<ScheduleRecord>, boxed;

    /// Schedules that are not deleted, oldest first.
    Schedules => schedules(query: &'a ScheduleQuery) -> Vec<ScheduleRecord>;

    /// The schedules that have to be looked at now, and when the next one has to be: by index, however many there are.
    DueSchedules => due_schedules(query: &'a DueQuery, now: Timestamp) -> DueSchedules;

    /// The history of a schedule, newest first, also of a deleted one.
    Ticks => ticks(schedule: ScheduleId, limit: usize, offset: usize) -> Vec<TickRecord>;

    /// The number of ticks of a kind that were due since a time, by outcome.
    CountTicks => count_ticks(kind: ScheduleKind, since: Timestamp) -> Vec<(TickOutcome, u64)>;

    /// Writes a living runner's workflows into its row, and keeps what it offers: one entry a workflow replaces the
    /// runner's earlier one.
    Announce => announce(runner: RunnerId, workflows: &'a [String], offers: &'a [Offer]) -> ();

    /// Notes when the offers of a runner that goes away were last there (`None`: at its last heartbeat), and forgets
    /// those of runners that went before it and had the same tasks.
    Withdraw => withdraw(runner: RunnerId, seen_at: Option<Timestamp>) -> ();

    /// The offers for a workflow, of runners that are there and of the last that were.
    Offers => offers(workflow: &'a str) -> Vec<Offer>;

    /// Replaces the progress of attempts, and appends log lines.
    NoteInsight => note_insight(progress: &'a [Progress], logs: &'a [LogChunk]) -> ();

    /// The last progress that each task of an execution reported.
    Progress => progress(id: ExecutionId) -> Vec<Progress>;

    /// The log lines of an execution in the order in which they came.
    Logs => logs(id: ExecutionId) -> Vec<LogChunk>;

    /// Tasks that are ready and claimed by nobody, counted up to `limit`.
    Backlog => backlog(limit: usize) -> usize;

    /// Checks whether the database is sound and how much space it wastes.
    Check => check() -> Health;

    /// Tells other runners at once that something was written, for a writer that is about to end.
    TellOthers => tell_others() -> ();
}
