//! `TaskError`: the error with which a Rust task fails, retries or snoozes.

use std::any::Any;
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::time::Duration;

use crate::engine::{Outcome, retry_delay, should_retry};
use crate::types::{Error, ErrorCode, Failure, Micros, Park, RetryPolicy, micros};

/// The type name of the error with which a function exits in order to sleep or wait.
pub(super) const PARKED: &str = "TaskParked";

/// Returns the message of the error with which a function exits in order to sleep or wait.
pub(super) fn parked_text(key: &str) -> String {
    format!("waits for '{key}' and must not continue")
}

/// The reason why a task did not complete. The operator `?` converts every Rust error to a `TaskError`.
///
/// A `TaskError` keeps the type name of the original error, e.g. `"std::io::Error"`, which `retry_on` and `never_on` can match.
/// Transient errors of `std::io` (timeouts, lost connections) also match the names `TimeoutError` or `ConnectionError`, so
/// `retry_condition = "transient"` retries them.
///
/// Four constructors control what happens next: [`retry`](Self::retry), [`retry_after`](Self::retry_after),
/// [`abort`](Self::abort) and [`snooze`](Self::snooze).
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cloacina::{Context, TaskError, task};
///
/// #[task]
/// async fn load(context: &mut Context) -> Result<(), TaskError> {
///     let path: String = context.get("path")?;
///     let text = std::fs::read_to_string(path)?;
///     if text.is_empty() {
///         // The file is not written yet. Run again in a minute; this attempt does not count.
///         return Err(TaskError::snooze(Duration::from_secs(60)));
///     }
///     let rows: u64 = text.trim().parse().map_err(|_| TaskError::abort("not a number"))?;
///     context.set("rows", rows)?;
///     Ok(())
/// }
/// # fn main() {}
/// ```
///
/// Since 1.0.
pub struct TaskError {
    signal: TaskSignal,
    failure: Failure,
}

#[derive(Clone, Debug)]
enum TaskSignal {
    Fail,
    Retry(Option<Micros>),
    Snooze(Micros),
    Park(Box<Park>),
}

impl TaskError {
    /// Creates a failure with a message. The task's retry policy applies. The type name of the error is `TaskError`.
    ///
    /// Since 1.0.
    pub fn new(message: impl Into<String>) -> Self {
        Self::of_type("TaskError", message)
    }

    /// Creates a failure with a type name that `retry_on` and `never_on` can match. Since 1.0.
    pub fn of_type(name: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            signal: TaskSignal::Fail,
            failure: Failure {
                kind: name.into(),
                message: message.into(),
                traceback: None,
                retryable: true,
                lineage: Vec::new(),
            },
        }
    }

    /// Creates an error that retries the task after the policy's delay, even if the policy does not retry this error. The
    /// attempt counts: if no further attempt is allowed, the task fails with this message.
    ///
    /// Since 1.0.
    pub fn retry(message: impl Into<String>) -> Self {
        Self {
            signal: TaskSignal::Retry(None),
            ..Self::of_type("Retry", message)
        }
    }

    /// Creates an error that retries the task after the given delay instead of the policy's delay. The attempt counts
    /// (semantics D2).
    ///
    /// Since 1.0.
    #[must_use]
    pub fn retry_after(delay: Duration) -> Self {
        Self {
            signal: TaskSignal::Retry(Some(micros(delay))),
            ..Self::of_type("Retry", format!("requested a retry in {delay:?}"))
        }
    }

    /// Creates an error that fails the task without a retry, regardless of the policy. Since 1.0.
    pub fn abort(reason: impl Into<String>) -> Self {
        let mut error = Self::of_type("Abort", reason);
        error.failure.retryable = false;
        error
    }

    /// Creates an error that fails the task without a retry, because a parameter has no value or a value of a wrong type
    /// (semantics J9).
    pub(super) fn input(problem: impl Into<String>) -> Self {
        let mut error = Self::of_type("TaskInputError", problem);
        error.failure.retryable = false;
        error
    }

    /// Creates an error that runs the task again after the delay. The attempt does not count. Since 1.0.
    #[must_use]
    pub fn snooze(delay: Duration) -> Self {
        Self {
            signal: TaskSignal::Snooze(micros(delay)),
            ..Self::of_type("Snooze", format!("was snoozed for {delay:?}"))
        }
    }

    /// Creates an error that fails the task with `failure`.
    pub(super) const fn of_failure(failure: Failure) -> Self {
        Self {
            signal: TaskSignal::Fail,
            failure,
        }
    }

    /// Returns a copy of the error, for another task that waited for the same call of a resource's function.
    pub(super) fn again(&self) -> Self {
        Self {
            signal: self.signal.clone(),
            failure: self.failure.clone(),
        }
    }

    /// Creates the error with which a function exits in order to sleep or wait.
    pub(super) fn park(park: Park) -> Self {
        let text = parked_text(&park.key);
        Self {
            signal: TaskSignal::Park(Box::new(park)),
            ..Self::of_type(PARKED, text)
        }
    }

    /// T3: returns the delay in microseconds before the function of a step is called again in the same attempt. `None`: it is
    /// not called again.
    pub(super) fn delay_in_place(&self, policy: &RetryPolicy, attempt: u32) -> Option<Micros> {
        let delay = || retry_delay(policy, attempt, fastrand::f64());
        match self.signal {
            TaskSignal::Fail => should_retry(policy, &self.failure, attempt).then(delay),
            TaskSignal::Retry(after) => {
                (attempt < policy.max_attempts).then(|| after.unwrap_or_else(delay))
            }
            TaskSignal::Snooze(_) | TaskSignal::Park(_) => None,
        }
    }

    /// Returns the error's message. Since 1.0.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.failure.message
    }

    /// Returns the name of the error's type, as shown in results. Since 1.0.
    #[must_use]
    pub fn type_name(&self) -> &str {
        &self.failure.kind
    }

    pub(super) fn into_outcome(self) -> Outcome {
        match self.signal {
            TaskSignal::Fail => Outcome::Failed(self.failure),
            TaskSignal::Retry(after) => Outcome::Retry {
                after,
                failure: self.failure,
            },
            TaskSignal::Snooze(after) => Outcome::Snooze { after },
            TaskSignal::Park(park) => Outcome::Park(park),
        }
    }
}

impl<E: StdError + Send + Sync + 'static> From<E> for TaskError {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut lineage: Vec<String> = transient_kind(&error).into_iter().collect();
        let mut source = error.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            // Many errors already contain their source's text.
            if !message.contains(&text) {
                message = format!("{message}: {text}");
            }
            if let Some(io) = cause.downcast_ref::<io::Error>() {
                lineage.extend(transient_io_kind(io));
            }
            source = cause.source();
        }
        let mut failure = Self::of_type(public_name::<E>(&error), message);
        failure.failure.lineage = lineage;
        failure
    }
}

/// Returns the type name that is stored and shown for an error.
fn public_name<E: Any>(error: &E) -> String {
    let any: &dyn Any = error;
    if any.is::<io::Error>() {
        return "std::io::Error".to_owned();
    }
    if let Some(error) = any.downcast_ref::<Error>() {
        return match error.code {
            ErrorCode::ContextInvalid => "ContextError".to_owned(),
            _ => "cloacina::Error".to_owned(),
        };
    }
    std::any::type_name::<E>().to_owned()
}

fn transient_kind<E: Any>(error: &E) -> Option<String> {
    let any: &dyn Any = error;
    any.downcast_ref::<io::Error>().and_then(transient_io_kind)
}

/// Returns the type name that both languages use for a transient I/O error; `None` for other errors (semantics D1).
fn transient_io_kind(error: &io::Error) -> Option<String> {
    use io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable,
        NetworkDown, NetworkUnreachable, NotConnected, TimedOut,
    };
    let name = match error.kind() {
        TimedOut => "TimeoutError",
        BrokenPipe | ConnectionAborted | ConnectionRefused | ConnectionReset | HostUnreachable
        | NetworkDown | NetworkUnreachable | NotConnected => "ConnectionError",
        _ => return None,
    };
    Some(name.to_owned())
}

impl From<TaskError> for Box<dyn StdError + Send + Sync> {
    fn from(error: TaskError) -> Self {
        Box::from(error.to_string())
    }
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.failure.kind, self.failure.message)
    }
}

impl fmt::Debug for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::RetryCondition;

    fn failure(error: TaskError) -> Failure {
        match error.into_outcome() {
            Outcome::Failed(failure) | Outcome::Retry { failure, .. } => failure,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn d1_lost_connections_are_transient_by_type() {
        let transient = RetryPolicy {
            condition: RetryCondition::Transient,
            ..RetryPolicy::default()
        };
        let reset = io::Error::new(io::ErrorKind::ConnectionReset, "x");
        let missing = io::Error::new(io::ErrorKind::NotFound, "x");
        assert!(should_retry(&transient, &failure(reset.into()), 1));
        assert!(!should_retry(&transient, &failure(missing.into()), 1));
    }

    #[test]
    fn d2_snooze_retry_after_and_abort_decide_the_outcome() {
        let second = Duration::from_secs(1);
        assert_eq!(
            TaskError::snooze(second).into_outcome(),
            Outcome::Snooze { after: 1_000_000 }
        );
        let retry = TaskError::retry_after(second).into_outcome();
        assert!(matches!(
            retry,
            Outcome::Retry {
                after: Some(1_000_000),
                ..
            }
        ));
        assert!(!failure(TaskError::abort("no")).retryable);
    }

    #[test]
    fn converted_error_keeps_its_type_and_sources() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot pay")]
        struct PaymentError(#[source] io::Error);

        let refused = io::Error::new(io::ErrorKind::ConnectionRefused, "nobody listens");
        let failure = failure(PaymentError(refused).into());
        assert!(failure.kind.ends_with("PaymentError"), "{}", failure.kind);
        assert_eq!(failure.message, "cannot pay: nobody listens");
        assert_eq!(failure.lineage, ["ConnectionError"]);
        let context = super::super::Context::new();
        let absent = context.get::<u8>("k").unwrap_err();
        assert_eq!(TaskError::from(absent).type_name(), "ContextError");
    }
}
