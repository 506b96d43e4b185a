//! Types that all layers share: ids, states, time, contexts, policies, failures. Pure: no I/O, no clock.

mod context;
mod error;
mod failure;
mod finite;
mod history;
mod id;
mod json;
mod merge;
mod missing_key;
mod overlay;
mod places;
mod policy;
mod presence;
mod progress;
mod provenance;
mod record;
mod schedule;
mod state;
pub mod sync;
mod tenant;
mod time;
mod tree;

pub use context::{Context, Delta};
pub use error::{Error, ErrorCode, nearest};
pub use failure::{Failure, FailureKind};
pub use history::{HistoryEvent, HistoryKind};
pub use id::{DefinitionId, ExecutionId, Ordinal, RunnerId, ScheduleId};
pub use json::{Json, JsonError, JsonShape, MAX_JSON_DEPTH};
pub use merge::{Write, merge_writes};
pub use missing_key::{missing_key, missing_key_of};
pub use overlay::Overlay;
pub use policy::{Backoff, RetryCondition, RetryPolicy};
pub use presence::{Offer, Presence};
pub use progress::{LogChunk, LogLine, Progress};
pub use record::{Claim, ExecutionRecord, Skip, SkipCause, TaskRecord};
pub use schedule::{
    CatchingUp, Catchup, Overlap, ScheduleKind, ScheduleRecord, ScheduleSpec, ScheduleState,
    TickOutcome, TickRecord,
};
pub use state::{ExecutionStatus, TaskStatus};
pub use tenant::{check_password, check_role_name, check_schema_name, check_tenant_schema_name};
pub use time::{Clock, Micros, Monotonic, NO_TIMEOUT, SystemClock, Timestamp, micros};
pub use tree::Tree;
