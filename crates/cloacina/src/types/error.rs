//! The library's error type. An error has a stable code and a message that says what failed and where. It can also have a
//! hint that says what to do next.

use std::fmt;

use super::{ExecutionId, Timestamp};

/// The kind of an error. The name of a code is public and stable.
///
/// Since 1.0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ErrorCode {
    /// A workflow's definition breaks a rule.
    WorkflowInvalid,
    /// The input of an execution does not have the type that its workflow declares.
    WorkflowInputInvalid,
    /// No workflow has this name.
    WorkflowNotFound,
    /// A task's definition breaks a rule.
    TaskInvalid,
    /// A context or a value in it is not JSON.
    ContextInvalid,
    /// A schedule or a trigger is not valid.
    ScheduleInvalid,
    /// No schedule has this id, or no trigger has this name.
    ScheduleNotFound,
    /// A setting or an argument is not valid.
    Configuration,
    /// A database URL cannot be parsed.
    UrlInvalid,
    /// The database cannot be reached or opened.
    Connection,
    /// The database rejected an operation, or the operation failed.
    Database,
    /// The schema of the database is newer than this program, must be migrated first, or could not be migrated.
    Migration,
    /// No execution has this id.
    ExecutionNotFound,
    /// The execution's state does not allow the requested action.
    ExecutionState,
    /// An attempt lost its claim because of a timeout, a cancel or a rescue, so it cannot record anything.
    ClaimLost,
    /// A task has too many recorded steps, or its recorded steps are too large.
    StepLimit,
    /// A task waits for a result that cannot exist before the wait ends.
    Deadlock,
    /// A caller's wait for the end of an execution timed out.
    WaitTimeout,
    /// An approval has already been decided.
    AlreadyDecided,
    /// The runner is shut down.
    RunnerClosed,
    /// A forked process used a runner or an SQLite file that was opened before the fork.
    Forked,
}

impl ErrorCode {
    /// All codes.
    pub const ALL: &'static [Self] = &[
        Self::WorkflowInvalid,
        Self::WorkflowInputInvalid,
        Self::WorkflowNotFound,
        Self::TaskInvalid,
        Self::ContextInvalid,
        Self::ScheduleInvalid,
        Self::ScheduleNotFound,
        Self::Configuration,
        Self::UrlInvalid,
        Self::Connection,
        Self::Database,
        Self::Migration,
        Self::ExecutionNotFound,
        Self::ExecutionState,
        Self::ClaimLost,
        Self::StepLimit,
        Self::Deadlock,
        Self::WaitTimeout,
        Self::AlreadyDecided,
        Self::RunnerClosed,
        Self::Forked,
    ];

    /// Returns the public name, in snake case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::WorkflowInvalid => "workflow_invalid",
            Self::WorkflowInputInvalid => "workflow_input_invalid",
            Self::WorkflowNotFound => "workflow_not_found",
            Self::TaskInvalid => "task_invalid",
            Self::ContextInvalid => "context_invalid",
            Self::ScheduleInvalid => "schedule_invalid",
            Self::ScheduleNotFound => "schedule_not_found",
            Self::Configuration => "configuration",
            Self::UrlInvalid => "url_invalid",
            Self::Connection => "connection",
            Self::Database => "database",
            Self::Migration => "migration",
            Self::ExecutionNotFound => "execution_not_found",
            Self::ExecutionState => "execution_state",
            Self::ClaimLost => "claim_lost",
            Self::StepLimit => "step_limit",
            Self::Deadlock => "deadlock",
            Self::WaitTimeout => "wait_timeout",
            Self::AlreadyDecided => "already_decided",
            Self::RunnerClosed => "runner_closed",
            Self::Forked => "forked",
        }
    }
}

/// An error of the library.
///
/// Since 1.0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The kind of the error.
    pub code: ErrorCode,
    /// A sentence that says what failed and where.
    pub message: String,
    /// How to fix the problem, if the library knows.
    pub hint: Option<String>,
    /// The earlier decision, if the code is [`ErrorCode::AlreadyDecided`].
    pub decided: Option<Box<Decided>>,
}

/// The person and the time of a decision about an approval.
///
/// Since 1.0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// The name of the person, if the decision has one.
    pub by: Option<String>,
    /// The time of the decision.
    pub at: Timestamp,
}

impl Error {
    /// Creates an error without a hint.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            hint: None,
            decided: None,
        }
    }

    /// Creates the error of a call to a runner that has been shut down.
    #[must_use]
    pub fn runner_closed() -> Self {
        Self::new(ErrorCode::RunnerClosed, "the runner is shut down")
            .with_hint("start a new DefaultRunner")
    }

    /// Creates the error for an execution id that is not in the database.
    #[must_use]
    pub fn unknown_execution(id: ExecutionId) -> Self {
        let message = format!("there is no execution {id}");
        Self::new(ErrorCode::ExecutionNotFound, message)
            .with_hint("it may have been pruned, or be in another database")
    }

    /// Creates the error of an attempt that tries to record a step after it has lost its claim.
    #[must_use]
    pub fn claim_lost() -> Self {
        Self::new(
            ErrorCode::ClaimLost,
            "the attempt has lost its claim because of a timeout, a cancel or a rescue; nothing was recorded",
        )
        .with_hint("return from the function, because its result is dropped")
    }

    /// Returns the error with a hint.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// Returns the known name that is most similar to `typed`; `None` if no name is similar enough.
#[must_use]
pub fn nearest<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (typed.chars().count() / 3).max(2);
    known
        .into_iter()
        .map(|name| (strsim::levenshtein(typed, name), name))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_finds_similar_names_only() {
        assert_eq!(nearest("exract", ["load", "extract"]), Some("extract"));
        assert_eq!(nearest("zzz", ["load", "extract"]), None);
    }
}
