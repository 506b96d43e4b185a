//! Sends signals, lists open waits and decides approvals, with or without a runner (semantics L).

use super::open_options::wait_for;
use super::{DefaultRunner, EngineHandle, Inspector};
use crate::engine::{MAX_SIGNAL_DATA, MAX_SIGNAL_KEY};
use crate::runtime::{Answer, Control, Message, send_directly};
use crate::types::{
    Decision, Error, ErrorCode, ExecutionId, ExecutionStatus, Json, NewSignal, Sent, Timestamp,
    WaitKind, WaitRow,
};
use crate::workflow::name_problem;

/// A signal to send. The tasks that wait for its name and key receive its data.
///
/// # Examples
///
/// ```
/// use cloacina::Signal;
///
/// let paid = Signal::new("paid").key("order-42").data(&3)?.id("stripe-evt-1");
/// # Ok::<(), cloacina::Error>(())
/// ```
///
/// Since 1.0.
#[derive(Clone, Debug)]
pub struct Signal(NewSignal);

impl Signal {
    /// Creates a signal without a key and without data. Since 1.0.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self(NewSignal {
            name: name.into(),
            key: None,
            to: None,
            data: Json::from_encoder("null"),
            id: None,
            sender: None,
        })
    }

    /// Sets the key: only waits for this key receive the signal. Since 1.0.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.0.key = Some(key.into());
        self
    }

    /// Addresses the signal to the mailbox of one execution. Since 1.0.
    #[must_use]
    pub fn to(mut self, execution: ExecutionId) -> Self {
        self.0.to = Some(execution);
        self
    }

    /// Sets the data.
    ///
    /// # Errors
    /// `ContextInvalid` for a value that is not JSON.
    ///
    /// Since 1.0.
    pub fn data<T: serde::Serialize + ?Sized>(mut self, data: &T) -> Result<Self, Error> {
        self.0.data = Json::encode(data).map_err(|error| {
            Error::new(
                ErrorCode::ContextInvalid,
                format!("the data of signal '{}' is not JSON: {error}", self.0.name),
            )
        })?;
        Ok(self)
    }

    /// Sets an idempotency id: while a signal with this id is stored, sending another signal with this id has no effect.
    /// Since 1.0.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.0.id = Some(id.into());
        self
    }

    /// Sets the name of the sender, which the history shows. Since 1.0.
    #[must_use]
    pub fn sender(mut self, sender: impl Into<String>) -> Self {
        self.0.sender = Some(sender.into());
        self
    }
}

/// An open wait of a task, or of an execution for a signal that cancels it.
///
/// Since 1.0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// The kind of the wait: `signal`, `approval`, `timer`, `child` or `cancel`.
    pub kind: WaitKind,
    /// The name of the signal, of the approval, or of the child's workflow. The name of a timer is the id of its task.
    pub name: String,
    /// The key of the signal.
    pub key: Option<String>,
    /// The execution.
    pub execution: ExecutionId,
    /// The workflow's name.
    pub workflow: String,
    /// The task's id; `None` for a signal that cancels the execution.
    pub task: Option<String>,
    /// The time at which the wait began.
    pub since: Timestamp,
    /// The time at which the wait times out or the timer is due.
    pub deadline: Option<Timestamp>,
    /// The title of the approval.
    pub title: Option<String>,
    /// The person or group who decides.
    pub to: Option<String>,
    /// The JSON schema of the approval's data.
    pub schema: Option<Json>,
}

impl Wait {
    pub(super) fn of(row: WaitRow) -> Self {
        #[derive(Default, serde::Deserialize)]
        struct Detail {
            title: Option<String>,
            to: Option<String>,
            schema: Option<Json>,
        }
        let detail = row.detail.as_ref();
        let detail: Detail = detail
            .and_then(|detail| detail.decode().ok())
            .unwrap_or_default();
        Self {
            kind: row.kind,
            name: row.name,
            key: row.key,
            execution: row.execution,
            workflow: row.workflow,
            task: row.task.map(|_| row.task_id),
            since: row.since,
            deadline: row.deadline,
            title: detail.title,
            to: detail.to,
            schema: detail.schema,
        }
    }
}

/// The conditions of a list of waits. A wait must satisfy all of them, except as described at [`execution`](Self::execution).
#[derive(Clone, Debug, Default)]
pub struct WaitFilter {
    /// Lists only waits for this signal or approval.
    pub name: Option<String>,
    /// Lists only waits of this workflow.
    pub workflow: Option<String>,
    /// Lists all waits of this execution, ordered by task. Of the other conditions, only `name` and `kind` then apply.
    pub execution: Option<ExecutionId>,
    /// Lists only waits of this kind; `None` means signals and approvals.
    pub kind: Option<WaitKind>,
    /// The cursor of the page to return: the [`WaitPage::next`] or [`WaitPage::prev`] of another page. `None`: the
    /// first page.
    pub cursor: Option<String>,
    /// Maximum number of waits; 0 means 50.
    pub limit: usize,
}

/// A page of open waits, oldest first.
#[derive(Clone, Debug, Default)]
pub struct WaitPage {
    /// The waits.
    pub items: Vec<Wait>,
    /// The cursor of the next page, if there is one.
    pub next: Option<String>,
    /// The cursor of the previous page, if there may be one.
    pub prev: Option<String>,
}

/// Refuses a signal that cannot be stored.
fn check(signal: &NewSignal) -> Result<(), Error> {
    let invalid = |message: String| Err(Error::new(ErrorCode::Configuration, message));
    if let Some(problem) = name_problem("signal name", &signal.name) {
        return invalid(format!("cannot send: the signal has {problem}"));
    }
    let name = &signal.name;
    if signal.key.is_some() && signal.to.is_some() {
        return invalid(format!(
            "cannot send signal '{name}': it has both a key and an execution; give only one of them"
        ));
    }
    for (what, text) in [
        ("key", &signal.key),
        ("id", &signal.id),
        ("sender", &signal.sender),
    ] {
        let Some(text) = text else { continue };
        let problem = if text.contains('\0') {
            "contains a NUL character".to_owned()
        } else if text.len() > MAX_SIGNAL_KEY {
            format!("has {} bytes, more than {MAX_SIGNAL_KEY}", text.len())
        } else {
            continue;
        };
        return invalid(format!("cannot send signal '{name}': its {what} {problem}"));
    }
    let size = signal.data.as_str().len();
    if size > MAX_SIGNAL_DATA {
        return Err(Error::new(
            ErrorCode::ContextInvalid,
            format!(
                "cannot send signal '{name}': its data takes {size} bytes, more than {MAX_SIGNAL_DATA}"
            ),
        )
        .with_hint("store large data in a file or a table, and send a reference to it"));
    }
    Ok(())
}

/// Creates a decision about an approval.
fn decision(approved: bool, data: Json, by: Option<String>, reason: Option<String>) -> Decision {
    Decision {
        approved,
        data,
        by,
        at: Timestamp(0),
        reason,
    }
}

impl Control {
    /// Creates the action that approves an open approval.
    #[must_use]
    pub fn approve(task: impl Into<String>, data: Json, by: Option<String>) -> Self {
        Self::Decide {
            task: task.into(),
            decision: decision(true, data, by, None),
            again: false,
        }
    }

    /// Creates the action that rejects an open approval.
    #[must_use]
    pub fn reject(task: impl Into<String>, reason: Option<String>, by: Option<String>) -> Self {
        Self::Decide {
            task: task.into(),
            decision: decision(false, Json::from_encoder("null"), by, reason),
            again: false,
        }
    }
}

impl Inspector {
    /// Sends signals without a runner, and returns their sequence numbers once they are durable.
    ///
    /// # Errors
    /// `Configuration` or `ContextInvalid` for an invalid signal; `Database` or `Connection`.
    pub fn send(&self, signals: &[NewSignal]) -> Result<Vec<Sent>, Error> {
        signals.iter().try_for_each(check)?;
        let sent = send_directly(&*self.store, &*self.clock, signals)?;
        self.notify_own_runner();
        Ok(sent)
    }

    /// Adds to each `Waiting` reason the number of signals that were sent with the same name but with another key.
    pub(super) fn count_other_signals(
        &self,
        reasons: &mut [crate::engine::Reason],
    ) -> Result<(), Error> {
        /// Maximum count of these signals. Counting stops at this number.
        const MAX_COUNT: usize = 1_000;
        for reason in reasons {
            let crate::engine::Reason::Waiting {
                signals, others, ..
            } = reason
            else {
                continue;
            };
            for (name, topics) in signals {
                let count = self.store.count_other_signals(name, topics, MAX_COUNT)?;
                if count > 0 {
                    others.push((name.clone(), count));
                }
            }
        }
        Ok(())
    }
}

impl EngineHandle {
    /// Sends signals and returns their sequence numbers once they are durable.
    ///
    /// # Errors
    /// The errors of [`Inspector::send`]; `RunnerClosed`.
    pub fn send(&self, signals: Vec<NewSignal>) -> Result<Vec<Sent>, Error> {
        wait_for(&self.begin_send(signals))
    }

    /// Starts [`send`](Self::send) and returns the pending answer.
    pub fn begin_send(&self, signals: Vec<NewSignal>) -> Answer<Vec<Sent>> {
        if let Err(error) = signals.iter().try_for_each(check) {
            return Answer::ready(Err(error));
        }
        let give_up = self.give_up();
        self.ask(|reply| Message::Send {
            signals,
            give_up,
            reply,
        })
    }
}

impl DefaultRunner {
    /// Sends a signal to all tasks that wait for its name and key, now or later. Returns the signal's sequence number
    /// once the signal is durable.
    ///
    /// # Errors
    /// `Configuration` or `ContextInvalid` for an invalid signal; `Database` or `Connection`; `RunnerClosed`.
    ///
    /// Since 1.0.
    pub async fn send(&self, signal: Signal) -> Result<i64, Error> {
        check(&signal.0)?;
        let handle = self.engine.handle();
        let give_up = handle.give_up();
        let signals = vec![signal.0];
        let sent = self
            .engine
            .ask(|reply| Message::Send {
                signals,
                give_up,
                reply,
            })
            .await?;
        Ok(sent.first().map_or(0, |sent| sent.seq))
    }

    /// Lists open waits, oldest first, page by page.
    ///
    /// # Errors
    /// `Configuration` for an invalid cursor; `Database` or `Connection`.
    ///
    /// Since 1.0.
    pub async fn waits(&self, filter: WaitFilter) -> Result<WaitPage, Error> {
        self.engine
            .read(move |engine| engine.inspector().waits(&filter))
            .await
    }

    /// Approves an open approval. `by`: the person who approves it.
    ///
    /// # Errors
    /// `AlreadyDecided` when the approval has already been decided; `ExecutionState` when the task does not wait for a
    /// decision; `WorkflowInvalid` for an unknown task; `WorkflowInputInvalid` for data that does not match the schema that the
    /// approval declares; `ContextInvalid` for data of more than 16 MiB; `ExecutionNotFound`; `Database` or `Connection`;
    /// `RunnerClosed`.
    ///
    /// Since 1.0.
    pub async fn approve<T: serde::Serialize + ?Sized>(
        &self,
        execution: ExecutionId,
        task: &str,
        data: &T,
        by: Option<&str>,
    ) -> Result<ExecutionStatus, Error> {
        let data = Json::encode(data).map_err(|error| {
            Error::new(
                ErrorCode::ContextInvalid,
                format!("the data of the approval is not JSON: {error}"),
            )
        })?;
        self.act(
            execution,
            Control::approve(task, data, by.map(str::to_owned)),
        )
        .await
    }

    /// Rejects an open approval. `by`: the person who rejects it.
    ///
    /// # Errors
    /// The errors of [`approve`](Self::approve).
    ///
    /// Since 1.0.
    pub async fn reject(
        &self,
        execution: ExecutionId,
        task: &str,
        reason: Option<&str>,
        by: Option<&str>,
    ) -> Result<ExecutionStatus, Error> {
        let action = Control::reject(task, reason.map(str::to_owned), by.map(str::to_owned));
        self.act(execution, action).await
    }

    /// Moves the due time of an open timer or of a retry delay.
    ///
    /// # Errors
    /// `ExecutionState` when the task waits for neither a timer nor a retry; `WorkflowInvalid` for an unknown task;
    /// `ExecutionNotFound`; `Database` or `Connection`; `RunnerClosed`.
    ///
    /// Since 1.0.
    pub async fn reschedule(
        &self,
        execution: ExecutionId,
        task: &str,
        at: Timestamp,
    ) -> Result<ExecutionStatus, Error> {
        let task = task.to_owned();
        self.act(execution, Control::Reschedule { task, at }).await
    }

    async fn act(&self, execution: ExecutionId, action: Control) -> Result<ExecutionStatus, Error> {
        let give_up = self.engine.handle().give_up();
        self.engine
            .ask(|reply| Message::Control {
                execution,
                action,
                give_up,
                reply,
            })
            .await
    }
}
