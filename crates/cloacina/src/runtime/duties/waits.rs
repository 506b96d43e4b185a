//! Checks waiting tasks that are due, and applies messages of the inbox (semantics L).
//!
//! Several runners can do this at the same time. A decision is written only if the execution still has the revision on which
//! the decision is based. A check that finds nothing new has no effect.
//!
//! A database without waits needs no extra query: the query of the poll for changes also reports whether waits exist. Waits
//! that this runner writes are noted in the turn that writes them.

use std::collections::BTreeSet;

use super::duty::Duty;
use crate::runtime::batch::PendingChange;
use crate::runtime::refused_batch::RefusedBatch;
use crate::runtime::step::{Signal, Step};
use crate::store::{InboxKind, InboxMessage, StoreError};
use crate::types::{Cursor, ExecutionId, Json, Micros, Monotonic, NewSignal, Ordinal, Timestamp};

/// Maximum value of [`WaitKeeper::batch`].
const BATCH: usize = 200;
/// Time, in microseconds, after which this runner reads due tasks and messages again. It reads them again because it may have
/// been unable to handle some of them.
const INTERVAL: Micros = 30_000_000;

/// The duty that checks waiting tasks.
pub(in crate::runtime) struct WaitKeeper {
    next: Monotonic,
    /// Maximum number of due tasks, and of messages, to handle in one turn. It is reduced after the database has refused a
    /// batch.
    batch: usize,
    /// Number of due tasks and messages to read in addition to `batch`, so that tasks and messages that this runner cannot
    /// handle do not block the others.
    extra: usize,
}

impl Default for WaitKeeper {
    /// Nothing is due until the first poll for changes reports that waits or messages exist.
    fn default() -> Self {
        Self {
            next: Monotonic::NEVER,
            batch: BATCH,
            extra: 0,
        }
    }
}

impl WaitKeeper {
    /// After a refused batch, handles fewer executions in one turn. If the batch contained only one, skips this execution.
    pub(in crate::runtime) fn note_refused(&mut self, step: &mut Step, refused: &RefusedBatch) {
        if let ([id], true) = (refused.woken.as_slice(), refused.is_single()) {
            step.set_unreadable(*id, "the database refuses the changes that its waits cause");
        }
        if !refused.woken.is_empty() {
            self.batch = (refused.woken.len() / 2).max(1);
        }
    }
}

impl Duty for WaitKeeper {
    const ACTION: &'static str = "check waiting tasks";

    fn next_wake(&self, step: &Step) -> Monotonic {
        if step.is_stopping {
            return Monotonic::NEVER;
        }
        if step.signals.is_raised(Signal::Waits) {
            return step.monotonic;
        }
        let noted = step.waits_due.map(|at| step.instant_of(at));
        noted.map_or(self.next, |noted| noted.min(self.next))
    }

    fn run(&mut self, step: &mut Step) -> Result<(), StoreError> {
        let limit = self.batch.saturating_add(self.extra);
        let due = step.store.due_waits(step.now, limit)?;
        self.batch = (self.batch * 2).min(BATCH);
        step.signals.take(Signal::Waits);
        step.waits_due = None;
        // If one of the following calls fails, the duty stays due.
        self.next = step.monotonic;
        let was_due = !(due.executions.is_empty() && due.inbox.is_empty());
        let checked = step.check_tasks(&due.executions)?;
        let applied = step.apply_inbox(due.inbox)?;
        self.extra = match (due.is_full, checked + applied) {
            (false, _) => 0,
            (true, 0) => limit,
            (true, _) => self.extra,
        };
        self.next = match due.next {
            Some(at) => step.instant_of(at),
            None => Monotonic::NEVER,
        };
        if was_due && step.config.enable_recovery {
            self.next = self.next.min(step.monotonic + INTERVAL);
        }
        if due.is_full {
            self.next = step.monotonic;
        }
        Ok(())
    }
}

impl Step {
    /// Checks the due tasks of some executions. Returns the number of executions that were checked.
    fn check_tasks(&mut self, ids: &[ExecutionId]) -> Result<usize, StoreError> {
        if ids.is_empty() {
            return Ok(0);
        }
        let mut fresh = Vec::new();
        for id in ids {
            if self.batch.executions.contains_key(id) {
                // The execution was changed in this turn. The next turn checks it.
                self.signals.raise(Signal::Waits);
            } else if !self.ledger.is_unreadable(*id) {
                // A sent signal may have raised the revision, so the cached execution may be out of date.
                self.ledger.remove(*id);
                fresh.push(*id);
            }
        }
        self.load(&fresh)?;
        let now = self.now;
        let mut due: Vec<(ExecutionId, Vec<Ordinal>)> = Vec::new();
        let mut cursors: Vec<Cursor> = Vec::new();
        for id in fresh {
            let Some(execution) = self.ledger.get(id) else {
                continue;
            };
            let tasks = execution.due_waits(now);
            cursors.extend(
                (tasks.iter())
                    .flat_map(|task| execution.open_cursors(*task))
                    .cloned(),
            );
            due.push((id, tasks));
        }
        let found = if cursors.is_empty() {
            Vec::new()
        } else {
            self.store.signals(&cursors)?
        };
        let mut checked = 0;
        for (id, tasks) in due {
            let Some(execution) = self.ledger.get_mut(id) else {
                continue;
            };
            if tasks.is_empty() {
                continue;
            }
            let change = self.batch.change(execution);
            change.is_wake = true;
            for task in tasks {
                change.changes.merge(execution.look(task, &found, now));
            }
            checked += 1;
            self.watch_deadline(id);
        }
        Ok(checked)
    }

    /// Applies messages of the inbox in order. Returns the number of handled messages, without those that failed or must be
    /// applied later.
    fn apply_inbox(&mut self, messages: Vec<InboxMessage>) -> Result<usize, StoreError> {
        let mut settled = 0;
        for message in messages {
            let applied = match InboxKind::from_name(&message.kind) {
                Some(InboxKind::Cancel) => self.apply_cancel(&message),
                Some(InboxKind::Signal) => self.apply_signal(&message),
                Some(InboxKind::Advance) => {
                    let woken = self.store.advance_inbox(&message, self.now).map(|_| true);
                    self.signals.raise(Signal::Waits);
                    woken
                }
                Some(
                    kind @ (InboxKind::Pause
                    | InboxKind::Resume
                    | InboxKind::Retry
                    | InboxKind::AttemptEnded
                    | InboxKind::ChildEnded),
                ) => self.apply_note(kind, &message),
                // The kind is not known. A runner of a later release applies the message.
                None => Ok(false),
            };
            match applied {
                Ok(applied) => settled += usize::from(applied),
                Err(error) if error.is_of_item() => {
                    let note = error.to_string();
                    tracing::warn!(message_id = %message.id, "cannot apply a message of the inbox: {note}");
                    self.store.note_inbox(message.id, Some(&note))?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(settled)
    }

    /// Cancels an execution. A message for an execution that has ended or is unknown has no effect.
    fn apply_cancel(&mut self, message: &InboxMessage) -> Result<bool, StoreError> {
        let target = message.target.as_deref().unwrap_or_default();
        let Ok(id) = target.parse::<ExecutionId>() else {
            let note = format!("'{target}' is not the id of an execution");
            self.store.note_inbox(message.id, Some(&note))?;
            return Ok(true);
        };
        if self.batch.executions.contains_key(&id) {
            self.signals.raise(Signal::Waits);
            return Ok(false);
        }
        self.ledger.remove(id);
        self.load(&[id])?;
        self.note_starts_of(id);
        if self.ledger.is_unreadable(id) {
            return Ok(false);
        }
        let cause = message
            .body
            .as_deref()
            .and_then(|body| Json::parse(body).ok());
        let Some(execution) = self.ledger.get_mut(id) else {
            self.store.note_inbox(message.id, None)?;
            return Ok(true);
        };
        let change = self.batch.change(execution);
        let Ok(mut changes) = execution.cancel_open(self.now) else {
            self.batch.drop_if_empty(id);
            self.store.note_inbox(message.id, None)?;
            return Ok(true);
        };
        if let Some(event) = changes.history.last_mut() {
            event.data = cause;
        }
        change.changes.merge(changes);
        change.is_wake = true;
        self.batch.settled.push((message.id, id));
        Ok(true)
    }

    fn apply_signal(&mut self, message: &InboxMessage) -> Result<bool, StoreError> {
        match signal_of(message) {
            Ok(signal) => {
                let runner = Some(self.runner);
                self.store
                    .send(runner, &[signal], &[message.id], self.now)?;
                self.signals.raise(Signal::Waits);
            }
            Err(note) => self.store.note_inbox(message.id, Some(&note))?,
        }
        Ok(true)
    }

    /// Plans a check of waiting tasks and of the inbox, unless an earlier check is planned.
    pub(in crate::runtime) fn note_wait_due(&mut self, at: Timestamp) {
        self.waits_due = Some(self.waits_due.map_or(at, |due| due.min(at)));
    }

    /// If a durable change has added messages to the inbox, makes the next turn apply them.
    pub(in crate::runtime) fn note_posts(&mut self, change: &PendingChange) {
        // The message for a parent that was changed in the same batch is not counted. The store adds it only if the
        // parent's change was not applied, and in this case `Signal::Waits` has already been raised.
        let applied = usize::from(change.applied_to.is_some());
        if change.changes.flow.posts.len() > applied {
            self.signals.raise(Signal::Waits);
        }
    }

    /// Notes the waits that a durable change contains. Returns whether the execution now only
    /// waits: none of its tasks is running or can be claimed.
    pub(in crate::runtime) fn note_waits(
        &mut self,
        id: ExecutionId,
        waits: &BTreeSet<Ordinal>,
    ) -> bool {
        if waits.is_empty() {
            return false;
        }
        let Some(execution) = self.ledger.get(id) else {
            return false;
        };
        let tasks = &execution.record().tasks;
        let due_times = waits.iter().filter_map(|ordinal| {
            let task = tasks.get(*ordinal as usize)?;
            task.ready_at
                .filter(|at| task.is_waiting() && *at < Timestamp(i64::MAX))
        });
        let next = due_times.chain(self.waits_due).min();
        let only_waits = execution.only_waits();
        self.waits_due = next;
        self.watch_deadline(id);
        only_waits && self.ledger.claims_of(id).next().is_none()
    }
}

fn signal_of(message: &InboxMessage) -> Result<NewSignal, String> {
    #[derive(serde::Deserialize)]
    struct Body {
        name: String,
        #[serde(default)]
        key: Option<String>,
        #[serde(default)]
        to: Option<String>,
        #[serde(default)]
        data: Option<Json>,
        #[serde(default)]
        id: Option<String>,
        #[serde(default)]
        sender: Option<String>,
    }
    let body: Body = serde_json::from_str(message.body.as_deref().unwrap_or_default())
        .map_err(|error| format!("its body is not a signal: {error}"))?;
    if let Some(problem) = crate::workflow::name_problem("signal name", &body.name) {
        return Err(format!("it has {problem}"));
    }
    let to = body.to.map(|to| {
        to.parse::<ExecutionId>()
            .map_err(|_| format!("'{to}' is not the id of an execution"))
    });
    Ok(NewSignal {
        name: body.name,
        key: body.key,
        to: to.transpose()?,
        data: body.data.unwrap_or_else(|| Json::from_encoder("null")),
        id: body.id,
        sender: body.sender,
    })
}
