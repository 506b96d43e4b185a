//! A store in front of another one. Every verb is listed here once; who stands in between says only what differs.

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

/// The enumeration of the verbs, the layer that passes each on, and the store that a layer is.
macro_rules! verbs {
    (
        Store { $($verb:ident => $name:ident($($argument:ident: $kind:ty),*) -> $answer:ty;)* }
        Insight { $($seen:ident => $look:ident($($given:ident: $sort:ty),*) -> $sight:ty;)* }
    ) => {
        /// A verb of the store.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[expect(missing_docs, reason = "each is the method of that name")]
        pub enum Verb {
            $($verb,)*
            $($seen,)*
        }

        impl Verb {
            /// Every verb.
            pub const ALL: &'static [Self] = &[$(Self::$verb,)* $(Self::$seen,)*];

            /// Its name in code.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$verb => stringify!($name),)*
                    $(Self::$seen => stringify!($look),)*
                }
            }
        }

        /// What stands in front of a store, and is one: whatever it does not define goes through [`pass`](Self::pass).
        pub trait Layer: Send + Sync {
            /// The store behind it.
            type Below: Store + ?Sized;

            /// The store behind it.
            fn below(&self) -> &Self::Below;

            /// Has the store behind it do a verb.
            ///
            /// # Errors
            /// The store's, or the layer's own.
            fn pass<T>(
                &self,
                verb: Verb,
                call: impl FnOnce(&Self::Below) -> Result<T, StoreError>,
            ) -> Result<T, StoreError> {
                let _ = verb;
                call(self.below())
            }

            $(
                #[doc = concat!("See [`Store::", stringify!($name), "`].\n\n# Errors\nThe store's.")]
                fn $name(&self, $($argument: $kind),*) -> Result<$answer, StoreError> {
                    self.pass(Verb::$verb, |below| Store::$name(below, $($argument),*))
                }
            )*

            $(
                #[doc = concat!("See [`Insight::", stringify!($look), "`].\n\n# Errors\nThe store's.")]
                fn $look(&self, $($given: $sort),*) -> Result<$sight, StoreError> {
                    self.pass(Verb::$seen, |below| Insight::$look(below, $($given),*))
                }
            )*
        }

        impl<L: Layer> Store for L {
            fn location(&self) -> String {
                self.below().location()
            }

            fn on_change(&self, wake: Arc<dyn Fn() + Send + Sync>) {
                self.below().on_change(wake);
            }

            fn revivals(&self) -> Option<u64> {
                self.below().revivals()
            }

            fn at_work(&self, runner: RunnerId, at_work: bool) {
                self.below().at_work(runner, at_work);
            }

            fn take_vanished(&self) -> Vec<RunnerId> {
                self.below().take_vanished()
            }

            fn take_wants_heartbeat(&self) -> bool {
                self.below().take_wants_heartbeat()
            }

            $(fn $name(&self, $($argument: $kind),*) -> Result<$answer, StoreError> {
                Layer::$name(self, $($argument),*)
            })*
        }

        impl<L: Layer> Insight for L {
            $(fn $look(&self, $($given: $sort),*) -> Result<$sight, StoreError> {
                Layer::$look(self, $($given),*)
            })*
        }
    };
}

verbs! {
    Store {
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
        PutSchedule => put_schedule(record: &ScheduleRecord, expected: Option<i64>) -> Put;
        Schedule => schedule(id: ScheduleId) -> Option<ScheduleRecord>;
        ScheduleOf => schedule_of(kind: ScheduleKind, identity: &str) -> Option<ScheduleRecord>;
        Schedules => schedules(query: &ScheduleQuery) -> Vec<ScheduleRecord>;
        DueSchedules => due_schedules(query: &DueQuery, now: Timestamp) -> DueSchedules;
        Ticks => ticks(schedule: ScheduleId, limit: usize, offset: usize) -> Vec<TickRecord>;
        CountTicks => count_ticks(kind: ScheduleKind, since: Timestamp) -> Vec<(TickOutcome, u64)>;
    }
    Insight {
        Announce => announce(runner: RunnerId, workflows: &[String], offers: &[Offer]) -> ();
        Withdraw => withdraw(runner: RunnerId, seen_at: Option<Timestamp>) -> ();
        Offers => offers(workflow: &str) -> Vec<Offer>;
        NoteInsight => note_insight(progress: &[Progress], logs: &[LogChunk]) -> ();
        Progress => progress(id: ExecutionId) -> Vec<Progress>;
        Logs => logs(id: ExecutionId) -> Vec<LogChunk>;
        Backlog => backlog(limit: usize) -> usize;
        Check => check() -> Health;
        TellOthers => tell_others() -> ();
    }
}
