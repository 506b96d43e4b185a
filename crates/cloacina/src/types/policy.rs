//! Retry policies as data (semantics D1). The delays and decisions are functions of the engine.

use serde::{Deserialize, Serialize};

use super::Micros;

/// How the delay grows from attempt to attempt.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "strategy", rename_all = "snake_case")]
pub enum Backoff {
    /// The same delay every time.
    Fixed,
    /// `initial_delay × multiplier × attempt`.
    Linear {
        /// Factor on every delay.
        multiplier: f64,
    },
    /// `initial_delay × multiplier × base ^ (attempt - 1)`.
    Exponential {
        /// Growth from one attempt to the next.
        base: f64,
        /// Factor on every delay.
        multiplier: f64,
    },
}

/// Which failures are worth another attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryCondition {
    /// Every failure.
    All,
    /// Timeouts and connection errors, by type and then by words.
    Transient,
    /// None.
    Never,
    /// Failures whose type or message contains one of the texts, in any case of letters.
    Patterns(Vec<String>),
}

/// When and how often a task is tried again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// All tries together, at least 1.
    pub max_attempts: u32,
    /// How the delay grows.
    pub backoff: Backoff,
    /// The first delay, in microseconds.
    pub initial_delay: Micros,
    /// No delay is longer, in microseconds.
    pub max_delay: Micros,
    /// Whether a delay varies by a quarter up or down.
    pub jitter: bool,
    /// Which failures are retried.
    pub condition: RetryCondition,
    /// Only these types and their subclasses, when not empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retry_on: Vec<String>,
    /// Never these types and their subclasses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub never_on: Vec<String>,
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
