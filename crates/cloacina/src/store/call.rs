//! The interface of a store: requests as values, one method that answers them, and a typed method for each request.
//!
//! Because requests are values, a store and a wrapper of a store each need only one `match` over [`Request`].

use std::sync::Arc;

use super::{
    AttemptStart, Batch, Changes, ClaimedItems, Committed, DueQuery, DueSchedules, DueWaits,
    Health, InboxMessage, ItemQuery, ListQuery, Listed, OverdueExecutions, Payload, Pruned,
    PutOutcome, RunnerRow, ScheduleQuery, StoreError, StoredDefinition, StoredVersion, WaitQuery,
};
use crate::types::{
    Cursor, DefinitionId, ExecutionId, ExecutionRecord, ExecutionStatus, ExecutionSummary,
    HistoryEvent, InboxId, ItemRecord, LogChunk, MapRow, NewSignal, Offer, Ordinal, PendingEnd,
    Progress, RunnerId, ScheduleId, ScheduleKind, ScheduleRecord, Sent, SignalRecord, StepRecord,
    TickOutcome, TickRecord, Timestamp, Topic, WaitKind, WaitRow,
};
use crate::workflow::Workflow;

/// Expands to the type of an answer in [`Response`]. With `boxed`, the answer is boxed, so that `Response` stays small.
macro_rules! answer_type {
    (boxed $answer:ty) => { Box<$answer> };
    ($answer:ty) => { $answer };
}

/// Expands to the answer in a variant of [`Response`], unboxed if the answer is `boxed`.
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
        /// The kind of a request.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[expect(missing_docs, reason = "the methods of `Store` document them")]
        pub enum Verb {
            $($name,)*
        }

        impl Verb {
            /// All kinds of requests.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Returns the name of the typed method for this kind.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($method),)*
                }
            }
        }

        /// A call of a store, with its arguments.
        #[derive(Clone, Copy, Debug)]
        #[expect(missing_docs, reason = "the methods of `Store` document them")]
        pub enum Request<$a> {
            $($name { $($argument: $kind),* },)*
        }

        impl Request<'_> {
            /// Returns the kind of the request.
            #[must_use]
            pub const fn verb(&self) -> Verb {
                match self {
                    $(Self::$name { .. } => Verb::$name,)*
                }
            }
        }

        /// The answer to a request. Each variant answers the request with the same name.
        #[derive(Debug)]
        #[expect(missing_docs, reason = "the methods of `Store` document them")]
        pub enum Response {
            $($name(answer_type!($($boxed)? $answer)),)*
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

            /// Returns the location of the database without a password, for messages.
            fn location(&self) -> String;

            /// Sets a function that a thread of the store calls when the change marker has changed. A store that cannot
            /// notice changes never calls the function, so its marker must be polled.
            fn on_change(&self, wake: Arc<dyn Fn() + Send + Sync>) {
                drop(wake);
            }

            /// Closes all connections. A later request opens a connection, and closes it when the request is answered.
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
    /// Stores a version of a workflow, unless it is already stored. A stored version keeps its id, and its description
    /// and tags are updated.
    PutDefinition => put_definition(workflow: &'a Workflow, now: Timestamp) -> DefinitionId;

    /// Returns the definition with this id.
    Definition => definition(id: DefinitionId) -> Option<StoredDefinition>;

    /// Returns the definitions with an id above `after`, oldest first. The newest definition of a workflow is therefore
    /// the last one with its name.
    Definitions => definitions(after: DefinitionId) -> Vec<StoredDefinition>;

    /// Returns the versions with an id above `after`, oldest first. If `after` is 0, returns only the newest version of
    /// each workflow, the 64 newest versions of all workflows, and the versions of executions that have not ended.
    Versions => versions(after: DefinitionId) -> Vec<StoredVersion>;

    /// Returns the number of stored definitions.
    CountDefinitions => count_definitions() -> u64;

    /// Applies a batch in one durable transaction, in this order: schedules, submissions, advances, submissions that
    /// depend on other changes of the batch, the other writes ([`FlowWrites`](super::FlowWrites)), claims of tasks.
    ///
    /// After [`StoreError::Unavailable`], the batch may have been applied. After any other error, nothing was applied.
    Commit => commit(batch: &'a Batch<'a>) -> Committed;

    /// Returns the executions with all their tasks, in the order of `ids`. Unknown ids are left out.
    Load => load(ids: &'a [ExecutionId]) -> Vec<ExecutionRecord>;

    /// Like [`Store::load`], without inputs and task results, which may be large.
    Outlines => outlines(ids: &'a [ExecutionId]) -> Vec<ExecutionRecord>;

    /// Returns the rows of executions with their labels, without tasks, in the order of `ids`. Unknown ids are left
    /// out.
    Summaries => summaries(ids: &'a [ExecutionId]) -> Vec<ExecutionSummary>;

    /// Returns the states of executions, in any order. Unknown ids are left out. A running execution is reported as
    /// `Pending` until the start of one of its tasks is stored.
    Statuses => statuses(ids: &'a [ExecutionId]) -> Vec<(ExecutionId, ExecutionStatus)>;

    /// Returns the ids of executions, in the order of the query, with keyset pagination.
    List => list(query: &'a ListQuery) -> Listed;

    /// Returns the stored history of an execution, oldest first.
    History => history(id: ExecutionId) -> Vec<HistoryEvent>;

    /// Returns the recorded steps of an execution or of one of its tasks, ordered by task, then in the order of
    /// recording. Leaves out the steps of items of maps.
    Steps => steps(id: ExecutionId, task: Option<Ordinal>) -> Vec<(Ordinal, StepRecord)>;

    /// Returns the recorded steps of an item of a map, in the order of recording.
    ItemSteps => item_steps(id: ExecutionId, task: Ordinal, item: u32) -> Vec<StepRecord>;

    /// Returns the expanded maps of these executions.
    Maps => maps(ids: &'a [ExecutionId]) -> Vec<MapRow>;

    /// Returns the items of a map, in the order of the list. Leaves out items without a row.
    Items => items(query: &'a ItemQuery) -> Vec<ItemRecord>;

    /// Returns the last items before `query.from`, in the order of the list. Leaves out items without a row.
    ItemsBefore => items_before(query: &'a ItemQuery) -> Vec<ItemRecord>;

    /// Returns the number of the stored items with the numbers from `query.from` to `query.from + query.limit - 1`, and their
    /// results, separated by commas. An item without a result counts as `null`. The query must select all states.
    ItemResults => item_results(query: &'a ItemQuery) -> (u32, String);

    /// Returns at most `limit` items that a runner has claimed, grouped by map.
    ItemsOf => items_of(runner: RunnerId, limit: usize) -> Vec<ClaimedItems>;

    /// Sets the limit on concurrent items of a map that is open or paused. `None` means no limit. Returns `false` if the
    /// map has not expanded yet or has ended.
    SetMap => set_map(id: ExecutionId, task: Ordinal, parallel: Option<u32>) -> bool;

    /// Returns the running executions whose deadline is at or before `now`, the next deadline after `now`, and whether
    /// any task waits or the inbox has messages.
    Overdue => overdue(now: Timestamp) -> OverdueExecutions;

    /// Adds a runner.
    RegisterRunner => register_runner(row: &'a RunnerRow) -> ();

    /// Extends a runner's lease. Returns `false` if the runner was declared dead or is not registered.
    Heartbeat => heartbeat(runner: RunnerId, now: Timestamp, lease_until: Timestamp) -> bool;

    /// Returns the runners that were neither declared dead nor retired.
    Runners => runners() -> Vec<RunnerRow>;

    /// Declares a runner dead if its lease still ends at `seen_lease`. Returns `false` if the lease has been
    /// extended, or if the runner was already declared dead or retired.
    DeclareDead => declare_dead(runner: RunnerId, seen_lease: Timestamp, now: Timestamp) -> bool;

    /// Returns the executions in which a runner has claims.
    ClaimsOf => claims_of(runner: RunnerId) -> Vec<ExecutionId>;

    /// Returns the runners that were declared dead and may still have claims.
    DeadRunners => dead_runners() -> Vec<RunnerId>;

    /// Removes a runner. Fails if the runner still has claims.
    RetireRunner => retire_runner(runner: RunnerId) -> ();

    /// Returns a marker that changes when another runner may have written, and the runners that seem to be dead (see
    /// [`Changes`]). If the calling runner has claims, it passes its id as `busy`. A store with a LISTEN session then asks
    /// the runner's peers to watch whether the runner is alive.
    Changes => changes(busy: Option<RunnerId>) -> Changes;

    /// Deletes at most `limit` executions that ended before `before`, oldest first, with all their rows. Keeps the
    /// executions that [`Store::delete_execution`] keeps. Also deletes three kinds of rows from before that time: at
    /// most `limit` ticks that are not queued, all stored ends of executions that triggers have not handled, and at
    /// most `limit` unneeded definitions. A definition is unneeded if it is not used by any execution and is not the
    /// newest of its workflow.
    Prune => prune(before: Timestamp, limit: usize) -> Pruned;

    /// Returns the number of executions that [`Store::prune`] would delete, counted up to `limit`.
    CountPrunable => count_prunable(before: Timestamp, limit: usize) -> usize;

    /// Deletes an execution that has ended, with all its rows. Keeps a child whose parent is stored, and an execution
    /// with a child that has not ended. Final tasks are such a child. Returns whether the execution was deleted.
    DeleteExecution => delete_execution(id: ExecutionId) -> bool;

    /// Adds a schedule if `expected` is `None`. Otherwise, changes the schedule, provided that its stored revision is
    /// `expected`.
    PutSchedule => put_schedule(record: &'a ScheduleRecord, expected: Option<i64>) -> PutOutcome;

    /// Returns the schedule with this id, even if it is deleted.
    Schedule => schedule(id: ScheduleId) -> Option<ScheduleRecord>, boxed;

    /// Returns the schedule with this identity, unless it is deleted.
    ScheduleOf => schedule_of(kind: ScheduleKind, identity: &'a str) -> Option<ScheduleRecord>, boxed;

    /// Returns the schedules that are not deleted, in the order of their ids: oldest first, or newest first.
    Schedules => schedules(query: &'a ScheduleQuery) -> Vec<ScheduleRecord>;

    /// Returns the schedules that are due, and the time at which the next schedule becomes due. The request reads an
    /// index, so its cost does not grow with the number of schedules.
    DueSchedules => due_schedules(query: &'a DueQuery, now: Timestamp) -> DueSchedules;

    /// Returns at most `limit` ended executions, oldest first, for which the trigger with this id is due to be called.
    PendingEnds => pending_ends(schedule: ScheduleId, now: Timestamp, limit: usize) -> Vec<PendingEnd>;

    /// Returns the ticks of a schedule, newest first, even if the schedule is deleted.
    Ticks => ticks(schedule: ScheduleId, limit: usize, offset: usize) -> Vec<TickRecord>;

    /// Returns at most `limit` ticks of a schedule. If `ascending` is set, returns the ticks after `from`, oldest
    /// first. Otherwise, returns the ticks before `from`, newest first.
    TicksFrom => ticks_from(schedule: ScheduleId, from: Timestamp, ascending: bool, limit: usize) -> Vec<TickRecord>;

    /// For each outcome, returns the number of ticks that were due at or after `since`. Counts only the ticks of one
    /// kind of schedule.
    CountTicks => count_ticks(kind: ScheduleKind, since: Timestamp) -> Vec<(TickOutcome, u64)>;

    /// Writes a live runner's workflows into its row, and stores its offers. An offer lists the tasks of one workflow
    /// for which the runner has handlers. It replaces the runner's earlier offer for the same workflow.
    Announce => announce(runner: RunnerId, workflows: &'a [String], offers: &'a [Offer]) -> ();

    /// Records when the offers of a stopping runner were last valid (`None`: at its last heartbeat). Deletes the offers
    /// of runners that stopped earlier and had the same tasks.
    Withdraw => withdraw(runner: RunnerId, seen_at: Option<Timestamp>) -> ();

    /// Returns the offers for a workflow: those of live runners, and those of the runners that stopped last.
    Offers => offers(workflow: &'a str) -> Vec<Offer>;

    /// Replaces the progress of tasks, and appends log lines.
    NoteInsight => note_insight(progress: &'a [Progress], logs: &'a [LogChunk]) -> ();

    /// Writes the start times of attempts that a runner's workers have begun. Leaves out attempts that no longer hold
    /// their claim. Does not change the revisions of the executions.
    NoteStarts => note_starts(starts: &'a [AttemptStart]) -> ();

    /// Returns the latest progress of each task of an execution.
    Progress => progress(id: ExecutionId) -> Vec<Progress>;

    /// Returns the log lines of an execution, in the order in which they were written.
    Logs => logs(id: ExecutionId) -> Vec<LogChunk>;

    /// Returns the number of ready tasks that are not claimed, counted up to `limit`. Tasks with a `ready_at`, e.g.
    /// tasks that wait for a retry, are not counted.
    Backlog => backlog(limit: usize) -> usize;

    /// Returns at most `limit` executions with a ready task or item that no runner has claimed, each execution once.
    /// Looks only at the first `per_queue` tasks of each queue that are due at `now`, and at the first `per_queue` maps
    /// that are due at `now`.
    ReadyExecutions => ready_executions(now: Timestamp, per_queue: usize, limit: usize) -> Vec<ExecutionId>;

    /// Returns the number of open waits of a kind, counted up to `limit`.
    CountWaits => count_waits(kind: WaitKind, limit: usize) -> usize;

    /// For each state, returns the number of executions, counted up to `limit`, and whether this number is exact.
    /// Completed executions are counted only among the newest `2 * limit` executions.
    CountStates => count_states(limit: usize) -> Vec<(ExecutionStatus, u64, bool)>;

    /// Returns the number of executions with ids above `after` and below `before`, and the number of failed ones among
    /// them, each counted up to `limit`.
    CountBetween => count_between(after: ExecutionId, before: ExecutionId, limit: usize) -> (u64, u64);

    /// Returns the first `limit` characters of a JSON text: an execution's input, or the writes of one of its tasks.
    /// Returns `None` if the input or the writes do not exist.
    Payload => payload(id: ExecutionId, task: Option<Ordinal>, limit: usize) -> Option<Payload>;

    /// Returns a change marker, a number that changes after any runner or client has written something that a web page
    /// shows. It can also change without a write. On PostgreSQL, a call sends no query while nothing was written, unless
    /// this store or a live runner does not listen. In that case, the number changes up to 2 s after the write.
    Marker => marker() -> i64;

    /// Stores signals in one transaction, and wakes the tasks that wait for them: their rows become due, and the
    /// revisions of their executions rise. A signal whose id is already stored is left out. Wakes at most
    /// [`SEND_WAKES`] tasks per signal. If more tasks wait, adds a message for them to the inbox. Deletes the messages
    /// of the inbox in `settled` in the same transaction. If one of these messages no longer exists, does nothing and
    /// returns an empty answer. `runner` is the runner that sends the signals. This runner checks the woken tasks
    /// itself, so it is not notified.
    ///
    /// [`SEND_WAKES`]: super::SEND_WAKES
    Send => send(runner: Option<RunnerId>, signals: &'a [NewSignal], settled: &'a [InboxId], now: Timestamp) -> Vec<Sent>;

    /// Wakes the next tasks that wait for a signal, as described by a message in the inbox. Then deletes the message,
    /// or changes it so that it covers only the remaining tasks. Returns the number of woken tasks.
    AdvanceInbox => advance_inbox(message: &'a InboxMessage, now: Timestamp) -> usize;

    /// Adds a message to the inbox. If the store does not listen for changes, the caller must also notify the runners
    /// (`NotifyPeers`).
    Post => post(message: &'a InboxMessage) -> ();

    /// Records why a message of the inbox cannot be applied. The message stays in the inbox, but is not applied again.
    /// If `note` is `None`, deletes the message instead.
    NoteInbox => note_inbox(id: InboxId, note: Option<&'a str>) -> ();

    /// Returns at most `limit` executions with a waiting task that must be checked now. Also returns the time at which
    /// the next check is due, and the first messages of the inbox.
    DueWaits => due_waits(now: Timestamp, limit: usize) -> DueWaits;

    /// Returns the first signal after each cursor, without duplicates.
    Signals => signals(cursors: &'a [Cursor]) -> Vec<SignalRecord>;

    /// Returns the number of signals that have this name and belong to none of the given topics, counted up to `limit`.
    CountOtherSignals => count_other_signals(name: &'a str, topics: &'a [Topic], limit: usize) -> usize;

    /// Returns open waits, in the order of the query.
    Waits => waits(query: &'a WaitQuery) -> Vec<WaitRow>;

    /// Deletes at most `limit` signals that were sent before `before` and that no open wait can still receive. Returns
    /// the number of deleted signals.
    PruneSignals => prune_signals(before: Timestamp, limit: usize) -> usize;

    /// Checks the integrity of the database, and measures its unused space.
    Check => check() -> Health;

    /// Notifies other runners immediately that the database was written. A process that is about to exit calls this
    /// method.
    NotifyPeers => notify_peers() -> ();
}
