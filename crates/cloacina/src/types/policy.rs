//! Retry policies as data (semantics D1). The engine computes delays and decisions from them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Micros, micros};

/// The strategy by which the delay grows from attempt to attempt.
///
/// Since 1.0.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "strategy", rename_all = "snake_case")]
pub enum Backoff {
    /// The same delay every time.
    Fixed,
    /// `initial_delay × multiplier × attempt`.
    Linear {
        /// Factor applied to every delay.
        multiplier: f64,
    },
    /// `initial_delay × multiplier × base ^ (attempt - 1)`.
    Exponential {
        /// Factor by which the delay grows from one attempt to the next.
        base: f64,
        /// Factor applied to every delay.
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
    /// Timeouts and connection errors, recognised by type first and by words in the message second.
    Transient,
    /// No failure.
    Never,
    /// Failures whose type or message contains one of the texts, ignoring case.
    Patterns(Vec<String>),
}

/// A retry policy: the failures after which a task, or the function of a step, is tried again, and the delays.
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
    /// Maximum number of attempts, the first one included; at least 1.
    pub max_attempts: u32,
    /// The strategy by which the delay grows.
    pub backoff: Backoff,
    /// Delay before the first retry, in microseconds.
    pub initial_delay: Micros,
    /// Maximum delay, in microseconds.
    pub max_delay: Micros,
    /// Whether each delay varies at random by up to 25 % either way.
    pub jitter: bool,
    /// The failures that are retried.
    pub condition: RetryCondition,
    /// If not empty, only these types and their subclasses are retried.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retry_on: Vec<String>,
    /// These types and their subclasses are never retried.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub never_on: Vec<String>,
}

impl RetryPolicy {
    /// A policy with a maximum number of attempts, the first one included. Otherwise it has the defaults: every failure is
    /// retried, after a delay that doubles from one second to one minute, with jitter. Since 1.0.
    #[must_use]
    pub fn attempts(max_attempts: u32) -> Self {
        Self {
            max_attempts: max_attempts.max(1),
            ..Self::default()
        }
    }

    /// Sets the delay before the first retry, and raises the maximum delay to it. Since 1.0.
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
