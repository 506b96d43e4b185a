//! Persistence. A store answers requests (`call`); one `commit` is one durable transaction.
//!
//! The trait is not stable and not meant to be implemented outside this crate. No policy lives here: a store applies what
//! the engine decided, or refuses it as a whole because somebody else changed the execution first.
//!
//! Invariant that every store keeps: each change of an execution or of one of its tasks raises the execution's
//! `revision`, in the same transaction. A writer that saw revision `n` and finds another number writes nothing.

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
    Advance, Batch, Changes, ClaimClass, ClaimRequest, Claimed, Committed, Due, Health, ListQuery,
    QueueId, RunnerRow, StoredDefinition, StoredVersion, Submit, SubmitVerdict, TaskWrite,
};
pub use schedule::{DueQuery, DueSchedules, Put, ScheduleQuery, ScheduleWrite, TickWrite};
pub use url::{DatabaseUrl, without_password};
