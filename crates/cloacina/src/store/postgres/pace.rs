//! How soon after one notification the next one follows.

use std::time::{Duration, Instant};

/// So often notifications are sent in the long run: each takes a lock over the whole database, and wakes every runner.
const STEADY: Duration = Duration::from_millis(10);
/// So soon another one may follow where there were few of late: somebody waits for a single execution, and then for the next.
const QUICK: Duration = Duration::from_millis(1);
/// So many may follow soon before the steady pace holds.
const SPARE: u32 = 400;
/// Who writes so many executions at once keeps others busy anyway.
const MANY: usize = 8;

/// A bucket that fills at the steady pace; each notification takes one out, and writing many executions at once empties it.
#[derive(Debug)]
pub(super) struct Pace {
    told: Option<Instant>,
    spare: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            told: None,
            spare: SPARE,
        }
    }
}

impl Pace {
    /// A transaction has written so many executions.
    pub(super) const fn wrote(&mut self, executions: usize) {
        if executions >= MANY {
            self.spare = 0;
        }
    }

    /// When the next notification may be sent.
    pub(super) fn next(&self) -> Option<Instant> {
        let pause = if self.spare > 0 { QUICK } else { STEADY };
        self.told.map(|told| told + pause)
    }

    /// One was sent.
    pub(super) fn told(&mut self, now: Instant) {
        let since = self
            .told
            .map_or(Duration::ZERO, |told| now.duration_since(told));
        let filled = u32::try_from(since.as_micros() / STEADY.as_micros()).unwrap_or(SPARE);
        self.spare = self
            .spare
            .saturating_add(filled)
            .min(SPARE)
            .saturating_sub(1);
        self.told = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_sent_at_once_and_the_next_one_soon() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        assert_eq!(pace.next(), None);
        pace.told(now);
        assert_eq!(pace.next(), Some(now + QUICK));
    }

    #[test]
    fn in_the_long_run_the_pace_is_steady() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let (mut now, mut sent) = (start, 0);
        while now < start + Duration::from_secs(10) {
            pace.told(now);
            sent += 1;
            now = pace.next().unwrap();
        }
        let steady = 10_000 / 10;
        assert!((steady..=steady + SPARE + 20).contains(&sent), "{sent}");
    }

    #[test]
    fn after_a_rest_they_may_follow_soon_again() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        pace.told(now);
        pace.wrote(MANY);
        assert_eq!(pace.next(), Some(now + STEADY));
        let later = now + Duration::from_secs(1);
        pace.told(later);
        assert_eq!(pace.next(), Some(later + QUICK));
    }

    #[test]
    fn who_writes_much_at_once_keeps_the_steady_pace() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        pace.told(now);
        pace.wrote(MANY - 1);
        assert_eq!(pace.next(), Some(now + QUICK));
        pace.wrote(MANY);
        assert_eq!(pace.next(), Some(now + STEADY));
    }
}
