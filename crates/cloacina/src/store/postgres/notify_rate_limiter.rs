//! When the next notification may be sent: each takes a lock over the whole database and wakes every runner.

use std::time::{Duration, Instant};

/// The pause between two notifications while the allowance lasts: a caller waits for a single execution, and then for the next.
const SHORT_PAUSE: Duration = Duration::from_millis(1);
/// The pause between two notifications in the long run.
const LONG_PAUSE: Duration = Duration::from_millis(10);
/// The allowance after a rest, 400 notifications, as the time that they would take at the long pause.
const ALLOWANCE: Duration = Duration::from_secs(4);
/// The number of executions in one transaction that uses the allowance up: such a writer keeps its peers busy anyway.
const MANY: usize = 8;

#[derive(Debug)]
pub(super) struct NotifyRateLimiter {
    sent_at: Option<Instant>,
    /// The end of the time for which the notifications so far would suffice at the long pause.
    used_until: Instant,
}

impl Default for NotifyRateLimiter {
    fn default() -> Self {
        Self {
            sent_at: None,
            used_until: Instant::now(),
        }
    }
}

impl NotifyRateLimiter {
    /// Notes the size of a transaction.
    pub(super) fn note_written(&mut self, executions: usize, now: Instant) {
        if executions >= MANY {
            self.used_until = self.used_until.max(now + ALLOWANCE);
        }
    }

    /// When the next notification may be sent; `None`: at once.
    pub(super) fn next(&self) -> Option<Instant> {
        self.sent_at.map(|sent_at| {
            if self.used_until >= sent_at + ALLOWANCE {
                sent_at + LONG_PAUSE
            } else {
                sent_at + SHORT_PAUSE
            }
        })
    }

    pub(super) fn note_sent(&mut self, now: Instant) {
        self.used_until = self.used_until.max(now) + LONG_PAUSE;
        self.sent_at = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notifications_keep_the_long_pause_in_the_long_run() {
        let (mut limiter, start) = (NotifyRateLimiter::default(), Instant::now());
        assert_eq!(limiter.next(), None);
        let (mut now, mut sent) = (start, 0);
        while now < start + Duration::from_secs(10) {
            limiter.note_sent(now);
            sent += 1;
            now = limiter.next().unwrap();
        }
        assert!((1000..=1420).contains(&sent), "{sent}");
    }

    #[test]
    fn a_large_transaction_uses_up_the_allowance_until_a_rest() {
        let (mut limiter, now) = (NotifyRateLimiter::default(), Instant::now());
        limiter.note_sent(now);
        limiter.note_written(MANY - 1, now);
        assert_eq!(limiter.next(), Some(now + SHORT_PAUSE));
        limiter.note_written(MANY, now);
        assert_eq!(limiter.next(), Some(now + LONG_PAUSE));
        let later = now + Duration::from_secs(1);
        limiter.note_sent(later);
        assert_eq!(limiter.next(), Some(later + SHORT_PAUSE));
    }
}
