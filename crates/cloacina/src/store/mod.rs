//! Persistence: a store answers requests (`call`). Each `commit` is one durable transaction.
//!
//! The trait is not stable and not meant to be implemented outside this crate. A store makes no decisions: it applies
//! what the engine decided, or refuses a change because the execution was changed meanwhile.
//!
//! Invariant of every store: each change of an execution or one of its tasks increases the execution's `revision` in
//! the same transaction. A change based on revision `n` is not applied if the stored revision is another one.

mod call;
mod error;
pub mod failpoint;
mod layer;
#[cfg(feature = "sqlite")]
mod placeholder;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod prune_cursor;
mod requests;
mod schedule;
#[cfg(feature = "sqlite")]
pub mod sqlite;
mod url;

pub use call::{Request, Response, Store, Verb};
pub use error::StoreError;
pub use layer::Layer;
pub use requests::{
    Advance, AttemptStart, Batch, Changes, ClaimClass, ClaimRequest, Claimed, Committed, Health,
    ListQuery, OverdueExecutions, QueueId, RunnerRow, StoredDefinition, StoredVersion, Submit,
    SubmitOutcome, TaskWrite,
};
pub use schedule::{DueQuery, DueSchedules, PutOutcome, ScheduleQuery, ScheduleWrite, TickWrite};
pub use url::{DatabaseUrl, without_password};
