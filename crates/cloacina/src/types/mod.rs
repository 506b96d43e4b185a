//! Types that all layers share: ids, states, time, contexts, policies, failures. This layer does no I/O.

mod audit;
mod child;
mod context;
mod error;
mod failure;
mod finite;
mod history;
mod id;
mod id_ranges;
mod json;
mod labels;
mod map;
mod map_change;
mod masking;
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
mod signal;
mod state;
mod step;
mod summary;
pub mod sync;
mod tenant;
mod time;
mod tree;
mod wait;
mod wait_row;

pub use audit::Audit;
pub use child::{
    ChildEnd, ChildSpec, FailedRuns, Finale, HeldAttempt, MAX_CHILD_DEPTH, NodeChild, Note,
    OwnTimeout, ParentEnd, ParentLink, Post, RootStart, RunInput, Runs, RunsBeside,
};
pub use context::{Context, Delta};
pub use error::{Decided, Error, ErrorCode, nearest};
pub use failure::{Failure, FailureKind};
pub use history::{HistoryEvent, HistoryKind};
pub use id::{DefinitionId, ExecutionId, InboxId, Ordinal, RunnerId, ScheduleId};
pub use json::{Json, JsonError, JsonShape, MAX_JSON_DEPTH};
pub use labels::Labels;
pub use map::{ItemRecord, MapRow, MapSpec, MapState, TaskMap, Tolerance};
pub use map_change::{MapChange, Pause};
pub use masking::Masking;
pub use merge::{Write, lost_write, merge_writes};
pub use missing_key::{missing_key, missing_key_of};
pub use overlay::Overlay;
pub use policy::{Backoff, RetryCondition, RetryPolicy};
pub use presence::{Offer, Presence};
pub use progress::{LogChunk, LogLine, Progress};
pub use record::{Claim, ExecutionRecord, Skip, SkipCause, TaskRecord};
pub use schedule::{
    After, CatchingUp, Catchup, Overlap, PendingEnd, ScheduleKind, ScheduleRecord, ScheduleSpec,
    ScheduleState, Switch, TickOutcome, TickRecord,
};
pub use signal::{NewSignal, Sent};
pub use state::{ExecutionStatus, TaskStatus};
pub use step::{StepChanges, StepDrop, StepKind, StepRecord};
pub use summary::{ErrorSummary, ExecutionSummary};
pub use tenant::{check_password, check_role_name, check_schema_name, check_tenant_schema_name};
pub use time::{Clock, Micros, Monotonic, NO_TIMEOUT, SystemClock, Timestamp, micros};
pub use tree::Tree;
pub use wait::{
    Approval, Condition, Cursor, Decision, Leaf, OpenWait, Park, ParkKind, SignalRecord, Since,
    TaskWait, Topic, WaitEnd,
};
pub use wait_row::{WaitKind, WaitRow};
