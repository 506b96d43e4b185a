//! Retry policies (semantics D1). The engine uses them to decide whether to retry, and to compute delays.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Micros, micros};

/// The strategy that determines how the delay grows from attempt to attempt.
///
/// Since 1.0.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "strategy", rename_all = "snake_case")]
pub enum Backoff {
    /// All delays are equal.
    Fixed,
    /// The delay after an attempt is `initial_delay × multiplier × attempt`. Attempts are counted from 1.
    Linear {
        /// Factor of every delay.
        multiplier: f64,
    },
    /// The delay after an attempt is `initial_delay × multiplier × base ^ (attempt - 1)`. Attempts are counted from 1.
    Exponential {
        /// Factor by which the delay grows from one attempt to the next.
        base: f64,
        /// Factor of every delay.
        multiplier: f64,
    },
}

/// The failures that are retried.
///
/// Since 1.0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryCondition {
    /// All failures.
    All,
    /// Timeouts and connection errors. They are recognised by their type, or else by words in their message.
    Transient,
    /// No failure.
    Never,
    /// Failures whose type or message contains one of these strings, ignoring case.
    Patterns(Vec<String>),
}

/// A retry policy. It says which failures of a task or a step are retried, how often, and after which delays.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use cloacina::{Backoff, RetryPolicy};
///
/// let policy = RetryPolicy {
///     backoff: Backoff::Fixed,
///     never_on: vec!["std::num::ParseIntError".to_owned()],
///     ..RetryPolicy::attempts(5).delay(Duration::from_millis(200))
/// };
/// assert_eq!((policy.max_attempts, policy.initial_delay), (5, 200_000));
/// ```
///
/// Since 1.0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// Maximum number of attempts, including the first attempt; at least 1.
    pub max_attempts: u32,
    /// The strategy that determines how the delay grows.
    pub backoff: Backoff,
    /// Delay before the first retry, in microseconds, without the strategy's multiplier and without jitter.
    pub initial_delay: Micros,
    /// Maximum delay, in microseconds.
    pub max_delay: Micros,
    /// Whether each delay varies at random by up to 25 % either way.
    pub jitter: bool,
    /// The failures that are retried.
    pub condition: RetryCondition,
    /// If not empty, only errors of these types and their subclasses are retried. If empty, errors that another attempt
    /// cannot fix, such as `NameError`, are not retried (semantics D1).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retry_on: Vec<String>,
    /// Errors of these types and their subclasses are never retried.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub never_on: Vec<String>,
}

impl RetryPolicy {
    /// Creates a policy with a maximum number of attempts, including the first attempt. The other values are the defaults:
    /// `condition` is [`RetryCondition::All`], the delay doubles from one second up to one minute, and jitter is on.
    /// Since 1.0.
    #[must_use]
    pub fn attempts(max_attempts: u32) -> Self {
        Self {
            max_attempts: max_attempts.max(1),
            ..Self::default()
        }
    }

    /// Sets the delay before the first retry. If the maximum delay is shorter, raises it to this delay. Since 1.0.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.initial_delay = micros(delay);
        self.max_delay = self.max_delay.max(self.initial_delay);
        self
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: 3,
            backoff: Backoff::Exponential {
                base: 2.0,
                multiplier: 1.0,
            },
            initial_delay: 1_000_000,
            max_delay: 60_000_000,
            jitter: true,
            condition: RetryCondition::All,
            retry_on: Vec::new(),
            never_on: Vec::new(),
        }
    }
}
