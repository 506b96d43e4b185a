//! Waits: how they begin, how they are checked, and how they end (semantics L).
//!
//! A waiting task has the status `Ready` (`Pending` while its execution is paused) and an open wait.
//! `Execution::present` shows it as `Waiting`. The task is not in a worker's queue. Its `ready_at` is the time of its
//! next check. A new signal only sets `ready_at` to now. The check reads the stored signals of the wait's topics and
//! decides which signal the task gets. So a wake-up that arrives twice or too late does no harm.
//!
//! `registration` begins a wait. `look` checks a wait, and ends it after a signal, a timer or the timeout. `approval` ends a
//! wait by a decision. `moving` changes a wait for other reasons (pause, new due time, retry). `rows` lists open waits, and
//! `paths` reads from the context the values that a wait depends on.

mod approval;
mod look;
mod moving;
mod paths;
mod registration;
mod rows;

use std::sync::Arc;

use super::{Changes, Execution};
use crate::types::{
    Context, HistoryKind, Json, Leaf, OpenWait, Ordinal, TaskRecord, TaskStatus, TaskWait,
    Timestamp,
};
use crate::workflow::TaskDefinition;

pub use approval::DecideError;
pub use paths::{MAX_SIGNAL_DATA, MAX_SIGNAL_KEY};
pub use rows::{MissingKey, leaf_text};

/// The `ready_at` of a waiting task that only an event makes due, such as a signal or the end of a child.
pub const NEVER: Timestamp = Timestamp(i64::MAX);

impl TaskRecord {
    /// The task's open wait. `None` if the task does not wait now.
    #[must_use]
    pub fn open_wait(&self) -> Option<&OpenWait> {
        let is_open = matches!(
            self.status,
            TaskStatus::Ready | TaskStatus::Pending | TaskStatus::Waiting
        );
        self.wait
            .as_ref()
            .filter(|_| is_open)
            .and_then(|wait| wait.open.as_ref())
    }

    /// Whether the task waits now.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.open_wait().is_some()
    }
}

impl Execution {
    pub(in crate::engine) fn change_wait(
        &mut self,
        ordinal: Ordinal,
        change: impl FnOnce(&mut TaskWait),
        changes: &mut Changes,
    ) {
        if let Some(wait) = &mut self.task_mut(ordinal).wait {
            change(Arc::make_mut(wait));
            changes.touch(ordinal);
            changes.flow.waits.insert(ordinal);
        }
    }

    /// The context that a task's function sees: the task's view, with the data of the signals for which the task
    /// waited.
    pub fn view_with_signals(&mut self, ordinal: Ordinal) -> Arc<Context> {
        let view = self.view(ordinal);
        let Some(wait) = self
            .task(ordinal)
            .wait
            .as_ref()
            .filter(|wait| !wait.values.is_empty())
        else {
            return view;
        };
        let mut context = (*view).clone();
        for (name, value) in &wait.values {
            context.set(name.as_str(), value.clone());
        }
        Arc::new(context)
    }
}

/// The next time at which a check can have an effect even if no signal has arrived.
fn next_check(open: &OpenWait) -> Timestamp {
    let timers = open.leaves.iter().filter_map(|leaf| match leaf {
        Leaf::Timer {
            at, fired: false, ..
        } => Some(*at),
        _ => None,
    });
    timers.chain(open.deadline).min().unwrap_or(NEVER)
}

/// Adds an event about a task to the history. The event has no attempt and no runner.
pub(in crate::engine) fn record_of(
    changes: &mut Changes,
    now: Timestamp,
    kind: HistoryKind,
    task: Ordinal,
    data: &serde_json::Value,
) {
    changes.record(now, kind, None, Json::encode(data).ok());
    if let Some(event) = changes.history.last_mut() {
        event.task = Some(task);
    }
}

impl TaskDefinition {
    /// Whether the task is a node without a function, which any runner completes (L16).
    #[must_use]
    pub fn is_node(&self) -> bool {
        self.kind == crate::workflow::TaskKind::Engine
    }

    /// The key under which the task's value is stored in the context.
    #[must_use]
    pub fn result_key(&self) -> &str {
        self.result.as_deref().unwrap_or(&self.id)
    }
}
