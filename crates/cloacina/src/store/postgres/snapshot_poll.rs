//! The time of the next query for the server's snapshot, and the marker that was computed from the last snapshot.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

/// Minimum time between two queries for the server's snapshot, unless another process reports a write.
const MIN_POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Maximum time between two queries for the server's snapshot, if callers ask for the marker often enough.
const MAX_POLL_INTERVAL: Duration = Duration::from_secs(2);

/// The marker that was computed from the server's snapshot, and the time of the next query for the snapshot.
pub(super) struct SnapshotPoll {
    pub(super) marker: i64,
    next: Instant,
    interval: Duration,
    /// Whether, after the last query, the other processes were asked to report their next write. If so, the next query is
    /// made when a report arrives, and does not wait until `next`.
    pub(super) reports_requested: bool,
}

impl Default for SnapshotPoll {
    fn default() -> Self {
        Self {
            marker: 0,
            next: Instant::now(),
            interval: MIN_POLL_INTERVAL,
            reports_requested: false,
        }
    }
}

impl SnapshotPoll {
    pub(super) fn is_due(&self) -> bool {
        Instant::now() >= self.next
    }

    /// Records the answer of the query. The next query is due later if the snapshot has not changed.
    pub(super) fn note(&mut self, snapshot: &[String]) {
        let mut hasher = DefaultHasher::new();
        snapshot.hash(&mut hasher);
        let marker = i64::from_ne_bytes(hasher.finish().to_ne_bytes());
        self.interval = if marker == self.marker {
            (self.interval * 2).min(MAX_POLL_INTERVAL)
        } else {
            MIN_POLL_INTERVAL
        };
        self.marker = marker;
        self.next = Instant::now() + self.interval;
    }
}
