//! Limits the rate of NOTIFY, because each notification takes a database-wide lock and wakes every runner. After an
//! idle time, a number of notifications (the allowance) can be sent with short pauses. Later notifications need long
//! pauses.
//!
//! See docs/explanation/decisions/013-changes-and-notifications.md

use std::time::{Duration, Instant};

/// Minimum time between two notifications until the allowance is used up. It is short because a caller that runs one
/// execution at a time waits for each notification.
const SHORT_PAUSE: Duration = Duration::from_millis(1);
/// Minimum time between two notifications once the allowance is used up.
const LONG_PAUSE: Duration = Duration::from_millis(10);
/// Allowance after an idle time: 400 notifications. It is expressed as the time that 400 notifications take with the
/// long pause.
const ALLOWANCE: Duration = Duration::from_secs(4);
/// A transaction that writes at least this number of executions uses up the allowance. The peers have enough work after
/// such a transaction, so they need no quick notification.
const MANY: usize = 8;

#[derive(Debug)]
pub(super) struct NotifyRateLimiter {
    sent_at: Option<Instant>,
    /// The time at which the allowance is full again. Each notification delays this time by the long pause. A time in
    /// the past means that the allowance is full.
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
    /// Records that a transaction has written this number of executions.
    pub(super) fn note_written(&mut self, executions: usize, now: Instant) {
        if executions >= MANY {
            self.used_until = self.used_until.max(now + ALLOWANCE);
        }
    }

    /// Returns the time at which the next notification can be sent; `None` means immediately.
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
    fn sustained_notifications_are_limited_to_the_long_pause() {
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
    fn large_transaction_uses_up_the_allowance_and_idle_time_restores_it() {
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
