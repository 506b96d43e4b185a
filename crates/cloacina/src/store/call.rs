//! The interface of a store: requests as values, one method that answers them, and typed methods built on it.
//!
//! Because requests are values, a wrapper of a store is one `match` over [`Request`], and so is a store's own dispatch.

use std::sync::Arc;

use super::{
    AttemptStart, Batch, Changes, ClaimedItems, Committed, DueQuery, DueSchedules, DueWaits,
    Health, InboxMessage, ItemQuery, ListQuery, Listed, OverdueExecutions, Payload, PutOutcome,
    RunnerRow, ScheduleQuery, StoreError, StoredDefinition, StoredVersion, WaitQuery,
};
use crate::types::{
    Cursor, DefinitionId, ExecutionId, ExecutionRecord, ExecutionStatus, ExecutionSummary,
    HistoryEvent, InboxId, ItemRecord, LogChunk, MapRow, NewSignal, Offer, Ordinal, PendingEnd,
    Progress, RunnerId, ScheduleId, ScheduleKind, ScheduleRecord, Sent, SignalRecord, StepRecord,
    TickOutcome, TickRecord, Timestamp, Topic, WaitKind, WaitRow,
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

            /// Closes all connections. A later request opens a connection for its own duration.
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
    /// Stores a version of a workflow once. A stored version keeps its id, and its description and tags are updated.
    PutDefinition => put_definition(workflow: &'a Workflow, now: Timestamp) -> DefinitionId;

    /// Returns the definition with this id.
    Definition => definition(id: DefinitionId) -> Option<StoredDefinition>;

    /// Returns the definitions with an id above `after`, oldest first. Of several definitions with the same name, the last is the
    /// newest.
    Definitions => definitions(after: DefinitionId) -> Vec<StoredDefinition>;

    /// Returns the versions with an id above `after`, oldest first. If `after` is 0, returns only the newest version of each
    /// workflow, the last 64 versions, and the versions of executions that have not ended.
    Versions => versions(after: DefinitionId) -> Vec<StoredVersion>;

    /// Returns the number of stored definitions.
    CountDefinitions => count_definitions() -> u64;

    /// Applies a batch in one durable transaction: schedules, submissions, advances, then claims.
    ///
    /// After an error nothing was applied. After [`StoreError::Unavailable`] it is unknown whether the batch was applied.
    Commit => commit(batch: &'a Batch<'a>) -> Committed;

    /// Returns the executions with all their tasks, in the order of `ids`. Unknown ids are left out.
    Load => load(ids: &'a [ExecutionId]) -> Vec<ExecutionRecord>;

    /// Like [`Store::load`], without inputs and task results, which may be large.
    Outlines => outlines(ids: &'a [ExecutionId]) -> Vec<ExecutionRecord>;

    /// Returns the rows of executions with their labels, without tasks, in the order of `ids`. Unknown ids are left out.
    Summaries => summaries(ids: &'a [ExecutionId]) -> Vec<ExecutionSummary>;

    /// Returns the states of executions in any order. Unknown ids are left out. A running execution is reported as `Pending`
    /// as long as no start is stored for it.
    Statuses => statuses(ids: &'a [ExecutionId]) -> Vec<(ExecutionId, ExecutionStatus)>;

    /// Returns the ids of executions, newest first, with keyset pagination.
    List => list(query: &'a ListQuery) -> Listed;

    /// Returns the stored history of an execution, oldest first.
    History => history(id: ExecutionId) -> Vec<HistoryEvent>;

    /// Returns the recorded steps of an execution, or of one of its tasks, by task in the order in which they were recorded.
    Steps => steps(id: ExecutionId, task: Option<Ordinal>) -> Vec<(Ordinal, StepRecord)>;

    /// Returns the recorded steps of an item of a map, in the order in which they were recorded.
    ItemSteps => item_steps(id: ExecutionId, task: Ordinal, item: u32) -> Vec<StepRecord>;

    /// Returns the expanded maps of executions.
    Maps => maps(ids: &'a [ExecutionId]) -> Vec<MapRow>;

    /// Returns items of a map that have a row, in the order of the list.
    Items => items(query: &'a ItemQuery) -> Vec<ItemRecord>;

    /// Returns the last items of a map that have a row and a lower index than `query.from`, in the order of the list.
    ItemsBefore => items_before(query: &'a ItemQuery) -> Vec<ItemRecord>;

    /// Returns at most `limit` items that a runner has claimed, by map.
    ItemsOf => items_of(runner: RunnerId, limit: usize) -> Vec<ClaimedItems>;

    /// Changes the maximum number of items of an open map that run at once. Returns `false` if the map has not expanded or has
    /// ended.
    SetMap => set_map(id: ExecutionId, task: Ordinal, parallel: Option<u32>) -> bool;

    /// Returns the running executions whose deadline is at or before `now`, the next deadline after `now`, and whether there are
    /// waiting tasks or messages in the inbox.
    Overdue => overdue(now: Timestamp) -> OverdueExecutions;

    /// Adds a runner.
    RegisterRunner => register_runner(row: &'a RunnerRow) -> ();

    /// Extends a runner's lease. Returns `false` if the runner was declared dead or never registered.
    Heartbeat => heartbeat(runner: RunnerId, now: Timestamp, lease_until: Timestamp) -> bool;

    /// Returns all runners that were not declared dead or retired.
    Runners => runners() -> Vec<RunnerRow>;

    /// Declares a runner dead if its lease still ends at `seen_lease`. Returns `false` if the lease was extended.
    DeclareDead => declare_dead(runner: RunnerId, seen_lease: Timestamp, now: Timestamp) -> bool;

    /// Returns the executions in which a runner has claims.
    ClaimsOf => claims_of(runner: RunnerId) -> Vec<ExecutionId>;

    /// Returns the runners that were declared dead and may still have claims.
    DeadRunners => dead_runners() -> Vec<RunnerId>;

    /// Removes a runner that has no claims.
    RetireRunner => retire_runner(runner: RunnerId) -> ();

    /// Returns the changes made by other runners. `busy` is the calling runner if it has claims; its peers then watch
    /// its lock.
    Changes => changes(busy: Option<RunnerId>) -> Changes;

    /// Deletes at most `limit` executions that ended before `before`, oldest first, with all their rows. Also deletes at most
    /// `limit` ticks that were due before that time, and at most `limit` definitions that were stored before it, are not used by
    /// any execution and are not the newest of their workflow. Returns the number of deleted executions or definitions, whichever
    /// is larger.
    Prune => prune(before: Timestamp, limit: usize) -> usize;

    /// Deletes an execution that has ended, with all its rows, unless it is a child of a stored one. Returns whether the
    /// execution was deleted.
    DeleteExecution => delete_execution(id: ExecutionId) -> bool;

    /// Adds a schedule, or changes the one whose stored revision is `expected`.
    PutSchedule => put_schedule(record: &'a ScheduleRecord, expected: Option<i64>) -> PutOutcome;

    /// Returns the schedule with this id, even if it is deleted.
    Schedule => schedule(id: ScheduleId) -> Option<ScheduleRecord>, boxed;

    /// Returns the schedule with this identity, unless it is deleted.
    ScheduleOf => schedule_of(kind: ScheduleKind, identity: &'a str) -> Option<ScheduleRecord>, boxed;

    /// Returns the schedules that are not deleted, oldest first.
    Schedules => schedules(query: &'a ScheduleQuery) -> Vec<ScheduleRecord>;

    /// Returns the schedules that are due, and the time at which the next one is due. Uses an index, however many schedules there
    /// are.
    DueSchedules => due_schedules(query: &'a DueQuery, now: Timestamp) -> DueSchedules;

    /// Returns at most `limit` ends of executions for which a trigger is to be called now, oldest first.
    PendingEnds => pending_ends(schedule: ScheduleId, now: Timestamp, limit: usize) -> Vec<PendingEnd>;

    /// Returns the ticks of a schedule, newest first, even if it is deleted.
    Ticks => ticks(schedule: ScheduleId, limit: usize, offset: usize) -> Vec<TickRecord>;

    /// Returns the number of ticks that were due since a time, by outcome, for one kind of schedule.
    CountTicks => count_ticks(kind: ScheduleKind, since: Timestamp) -> Vec<(TickOutcome, u64)>;

    /// Writes a live runner's workflows into its row, and stores its offers. An offer replaces the runner's earlier one
    /// for the same workflow.
    Announce => announce(runner: RunnerId, workflows: &'a [String], offers: &'a [Offer]) -> ();

    /// Records when the offers of a stopping runner were last valid (`None`: at its last heartbeat). Deletes the offers
    /// of runners that stopped earlier and had the same tasks.
    Withdraw => withdraw(runner: RunnerId, seen_at: Option<Timestamp>) -> ();

    /// Returns the offers for a workflow: the offers of live runners and of the runners that stopped last.
    Offers => offers(workflow: &'a str) -> Vec<Offer>;

    /// Replaces the progress of tasks, and appends log lines.
    NoteInsight => note_insight(progress: &'a [Progress], logs: &'a [LogChunk]) -> ();

    /// Writes the starts of attempts that a runner's workers run. Leaves out attempts that no longer hold their claim.
    /// The revisions of the executions do not change.
    NoteStarts => note_starts(starts: &'a [AttemptStart]) -> ();

    /// Returns the last progress that each task of an execution reported.
    Progress => progress(id: ExecutionId) -> Vec<Progress>;

    /// Returns the log lines of an execution in the order in which they were written.
    Logs => logs(id: ExecutionId) -> Vec<LogChunk>;

    /// Returns the number of ready tasks that are not claimed, counted up to `limit`.
    Backlog => backlog(limit: usize) -> usize;

    /// Returns the number of open waits of a kind, counted up to `limit`.
    CountWaits => count_waits(kind: WaitKind, limit: usize) -> usize;

    /// Returns the number of executions in each state, each counted up to `limit`. Completed executions are counted only
    /// among the newest `2 * limit` executions. The flag tells whether the number is exact.
    CountStates => count_states(limit: usize) -> Vec<(ExecutionStatus, u64, bool)>;

    /// Returns the number of executions whose ids are above `after` and below `before`, and how many of them have failed, each
    /// counted up to `limit`.
    CountBetween => count_between(after: ExecutionId, before: ExecutionId, limit: usize) -> (u64, u64);

    /// Returns the beginning of an execution's input, or of the writes of one of its tasks, as JSON: at most `limit`
    /// characters. `None` if there is none.
    Payload => payload(id: ExecutionId, task: Option<Ordinal>, limit: usize) -> Option<Payload>;

    /// Returns a number that differs from an earlier one if anyone may have written to the database in between. A call
    /// costs one small query at most.
    Marker => marker() -> i64;

    /// Stores signals in one transaction, and wakes the tasks that wait for them: their rows become due, and the revisions of
    /// their executions rise. A signal whose id is stored already is left out. Wakes at most [`SEND_WAKES`] tasks per signal,
    /// and leaves the others to a message in the inbox. Deletes the messages in `settled` in the same transaction; if one of
    /// them is gone, nothing is done and the answer is empty.
    ///
    /// [`SEND_WAKES`]: super::SEND_WAKES
    Send => send(signals: &'a [NewSignal], settled: &'a [InboxId], now: Timestamp) -> Vec<Sent>;

    /// Wakes the next tasks that wait for a signal, as a message in the inbox says, and deletes or replaces the message.
    /// Returns the number of tasks.
    AdvanceInbox => advance_inbox(message: &'a InboxMessage, now: Timestamp) -> usize;

    /// Adds a message to the inbox. A caller whose store does not listen for changes notifies the runners itself (`NotifyPeers`).
    Post => post(message: &'a InboxMessage) -> ();

    /// Notes why a message cannot be applied. The message stays in the inbox, but is no longer due. Without a note, the
    /// message is deleted.
    NoteInbox => note_inbox(id: InboxId, note: Option<&'a str>) -> ();

    /// Returns at most `limit` executions with a waiting task that must be checked now, the time of the next check after
    /// them, and the first messages of the inbox.
    DueWaits => due_waits(now: Timestamp, limit: usize) -> DueWaits;

    /// Returns the first signal after each cursor, without duplicates.
    Signals => signals(cursors: &'a [Cursor]) -> Vec<SignalRecord>;

    /// Returns the number of signals that have this name and belong to none of the given topics, counted up to `limit`.
    CountOtherSignals => count_other_signals(name: &'a str, topics: &'a [Topic], limit: usize) -> usize;

    /// Returns open waits, oldest first.
    Waits => waits(query: &'a WaitQuery) -> Vec<WaitRow>;

    /// Deletes at most `limit` signals that were sent before `before` and that no open wait could still take. Returns their
    /// number.
    PruneSignals => prune_signals(before: Timestamp, limit: usize) -> usize;

    /// Checks the integrity of the database and its unused space.
    Check => check() -> Health;

    /// Notifies other runners immediately of a write, for a writer that is about to end.
    NotifyPeers => notify_peers() -> ();
}
