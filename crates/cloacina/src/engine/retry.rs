//! Decides whether a failed attempt is retried, and after which delay (semantics D1).

use crate::types::{Backoff, Failure, Micros, RetryCondition, RetryPolicy};

/// Exception types of transient failures, by the last part of their qualified names.
const TRANSIENT_TYPES: &[&str] = &[
    "TimeoutError",
    "TaskTimeoutError",
    "ConnectionError",
    "ConnectionRefusedError",
    "ConnectionResetError",
    "ConnectionAbortedError",
    "BrokenPipeError",
    "InterruptedError",
];
/// Words that mark a failure of any other type as transient if its message contains one of them.
const TRANSIENT_WORDS: &[&str] = &[
    "timeout",
    "timed out",
    "connection",
    "network",
    "temporary",
    "temporarily",
    "unavailable",
];

/// Built-in exception types of failures that another attempt cannot fix. These failures are retried only if `retry_on`
/// names them.
const PERMANENT_TYPES: &[&str] = &[
    "NameError",
    "SyntaxError",
    "ImportError",
    "NotImplementedError",
];

/// Whether a failed attempt is retried. `attempt`: the number of attempts so far that count towards `max_attempts`.
#[must_use]
pub fn should_retry(policy: &RetryPolicy, failure: &Failure, attempt: u32) -> bool {
    let matches = |names: &[String]| names.iter().any(|name| is_a(failure, name));
    let may_help = if policy.retry_on.is_empty() {
        !PERMANENT_TYPES.iter().any(|name| is_a(failure, name))
    } else {
        matches(&policy.retry_on)
    };
    failure.retryable
        && attempt < policy.max_attempts
        && !matches(&policy.never_on)
        && may_help
        && condition_holds(&policy.condition, failure)
}

/// Whether the failure is of the named type or of one of its subclasses.
fn is_a(failure: &Failure, name: &str) -> bool {
    same_type(name, &failure.kind) || failure.lineage.iter().any(|base| same_type(name, base))
}

fn condition_holds(condition: &RetryCondition, failure: &Failure) -> bool {
    match condition {
        RetryCondition::All => true,
        RetryCondition::Never => false,
        RetryCondition::Transient => is_transient(failure),
        RetryCondition::Patterns(patterns) => {
            let text = format!("{}: {}", failure.kind, failure.message).to_lowercase();
            patterns
                .iter()
                .any(|pattern| text.contains(&pattern.to_lowercase()))
        }
    }
}

fn is_transient(failure: &Failure) -> bool {
    let by_type = std::iter::once(&failure.kind)
        .chain(&failure.lineage)
        .any(|name| TRANSIENT_TYPES.contains(&name.rsplit('.').next().unwrap_or(name)));
    let text = failure.message.to_lowercase();
    by_type || TRANSIENT_WORDS.iter().any(|word| text.contains(word))
}

/// Whether two names of types are equal, ignoring the prefix `builtins.`.
fn same_type(left: &str, right: &str) -> bool {
    left.trim_start_matches("builtins.") == right.trim_start_matches("builtins.")
}

/// Returns the delay after failed attempt number `attempt`. `random`, from 0 to 1, selects a point in the range of the jitter.
/// The delay with its jitter is capped at `max_delay`.
#[must_use]
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "delays are far below 2^53 microseconds and capped"
)]
pub fn retry_delay(policy: &RetryPolicy, attempt: u32, random: f64) -> Micros {
    let initial = policy.initial_delay as f64;
    let attempt = f64::from(attempt.max(1));
    let delay = match policy.backoff {
        Backoff::Fixed => initial,
        Backoff::Linear { multiplier } => initial * multiplier * attempt,
        Backoff::Exponential { base, multiplier } => {
            initial * multiplier * base.powf(attempt - 1.0)
        }
    };
    let spread = if policy.jitter {
        0.75 + 0.5 * random.clamp(0.0, 1.0)
    } else {
        1.0
    };
    (delay * spread).clamp(0.0, policy.max_delay as f64) as Micros
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(backoff: Backoff) -> RetryPolicy {
        RetryPolicy {
            backoff,
            jitter: false,
            max_attempts: 4,
            ..RetryPolicy::default()
        }
    }

    fn failure(kind: &str, message: &str) -> Failure {
        Failure {
            kind: kind.into(),
            message: message.into(),
            traceback: None,
            retryable: true,
            lineage: Vec::new(),
        }
    }

    #[test]
    fn d1_delay_follows_the_backoff() {
        let second = 1_000_000;
        let exponential = Backoff::Exponential {
            base: 2.0,
            multiplier: 1.0,
        };
        let cases = [
            (Backoff::Fixed, 1, second),
            (Backoff::Fixed, 9, second),
            (Backoff::Linear { multiplier: 1.0 }, 3, 3 * second),
            (Backoff::Linear { multiplier: 2.0 }, 3, 6 * second),
            (exponential, 1, second),
            (exponential, 2, 2 * second),
            (exponential, 5, 16 * second),
            (exponential, 7, 60 * second),
            (exponential, 4000, 60 * second),
            (
                Backoff::Exponential {
                    base: 3.0,
                    multiplier: 2.0,
                },
                3,
                18 * second,
            ),
        ];
        for (backoff, attempt, expected) in cases {
            assert_eq!(
                retry_delay(&policy(backoff), attempt, 0.5),
                expected,
                "{backoff:?} {attempt}"
            );
        }
    }

    #[test]
    fn d1_jitter_is_a_quarter_and_is_applied_before_max_delay() {
        let policy = RetryPolicy {
            jitter: true,
            ..policy(Backoff::Fixed)
        };
        assert_eq!(retry_delay(&policy, 1, 0.0), 750_000);
        assert_eq!(retry_delay(&policy, 1, 1.0), 1_250_000);
        let capped = RetryPolicy {
            max_delay: 1_100_000,
            ..policy
        };
        assert_eq!(retry_delay(&capped, 1, 1.0), 1_100_000);
    }

    #[test]
    fn d1_conditions_select_the_failures_that_are_retried() {
        let base = policy(Backoff::Fixed);
        let with = |condition| RetryPolicy {
            condition,
            ..base.clone()
        };
        assert!(should_retry(&base, &failure("ValueError", "x"), 3));
        assert!(!should_retry(&base, &failure("ValueError", "x"), 4));
        assert!(!should_retry(
            &with(RetryCondition::Never),
            &failure("ValueError", "x"),
            1
        ));
        assert!(should_retry(
            &with(RetryCondition::Transient),
            &failure("ConnectionResetError", "x"),
            1
        ));
        assert!(should_retry(
            &with(RetryCondition::Transient),
            &failure("Odd", "Service Unavailable"),
            1
        ));
        assert!(!should_retry(
            &with(RetryCondition::Transient),
            &failure("ValueError", "x"),
            1
        ));
        let patterns = with(RetryCondition::Patterns(vec!["rate limit".into()]));
        assert!(should_retry(
            &patterns,
            &failure("Odd", "Rate Limit hit"),
            1
        ));
        assert!(!should_retry(&patterns, &failure("Odd", "other"), 1));
    }

    #[test]
    fn d1_permanent_errors_are_not_retried() {
        let base = policy(Backoff::Fixed);
        for kind in [
            "NameError",
            "builtins.SyntaxError",
            "ImportError",
            "NotImplementedError",
        ] {
            assert!(!should_retry(&base, &failure(kind, "x"), 1), "{kind}");
        }
        let mut derived = failure("ModuleNotFoundError", "x");
        derived.lineage = vec!["ImportError".into()];
        assert!(!should_retry(&base, &derived, 1));
        let named = RetryPolicy {
            retry_on: vec!["ImportError".into()],
            ..base.clone()
        };
        assert!(should_retry(&named, &derived, 1));
        assert!(!should_retry(&named, &failure("NameError", "x"), 1));
        assert!(should_retry(&base, &failure("shop.NameError", "x"), 1));
        assert!(should_retry(&base, &failure("KeyError", "x"), 1));
    }

    #[test]
    fn d1_type_includes_its_subclasses() {
        let mut derived = failure("shop.PaymentDown", "x");
        derived.lineage = vec!["ConnectionError".into(), "OSError".into()];
        let retry_on = RetryPolicy {
            retry_on: vec!["builtins.ConnectionError".into()],
            ..policy(Backoff::Fixed)
        };
        assert!(should_retry(&retry_on, &derived, 1));
        assert!(!should_retry(&retry_on, &failure("ValueError", "x"), 1));
        let never_on = RetryPolicy {
            never_on: vec!["OSError".into()],
            ..policy(Backoff::Fixed)
        };
        assert!(!should_retry(&never_on, &derived, 1));
    }
}
