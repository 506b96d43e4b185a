//! Persistence: a store answers requests (`call`). Each `commit` is one durable transaction.
//!
//! The trait [`Store`] is not stable, and not meant to be implemented outside this crate. A store makes no decisions: it
//! applies the engine's decision, or refuses the decision if the execution has changed in the meantime.
//!
//! Invariant of every store: each change of the state of an execution or of one of its tasks increases the execution's
//! `revision` in the same transaction. A change that is based on revision `n` is applied only if the stored revision is
//! still `n`. Start times ([`Store::note_starts`]), progress, logs, maps and their items do not change the revision.

mod call;
mod claim_class;
mod error;
pub mod failpoint;
mod inbox;
mod layer;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod listing;
mod maps;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod percent;
#[cfg(feature = "sqlite")]
mod placeholder;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod prune_cursor;
mod queue_id;
mod requests;
mod schedule;
#[cfg(feature = "sqlite")]
pub mod sqlite;
mod url;
mod waits;

pub use call::{Request, Response, Store, Verb};
pub use claim_class::ClaimClass;
pub use error::{Report, StoreError};
pub use inbox::{InboxKind, InboxMessage};
pub use layer::Layer;
pub use maps::{ClaimedItems, ItemEnds, ItemFence, ItemQuery, ItemWrite, MapOutcome, MapWrites};
pub use queue_id::QueueId;
pub use requests::{
    Advance, AttemptKey, AttemptStart, Batch, Changes, ClaimRequest, Claimed, Committed, Health,
    InputCondition, ListQuery, Listed, OverdueExecutions, Payload, Pruned, RunnerRow, ScanBudget,
    StoredDefinition, StoredVersion, Submit, SubmitOutcome, TaskWrite,
};
pub use schedule::{
    DueQuery, DueSchedules, EndWrite, PutOutcome, ScheduleQuery, ScheduleWrite, TickWrite,
};
pub use url::{DatabaseUrl, without_password};
pub use waits::{DueWaits, FlowWrites, LinkWrite, PostWrite, SEND_WAKES, WaitQuery, WaitWrite};
