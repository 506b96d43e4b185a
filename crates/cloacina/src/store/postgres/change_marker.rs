//! The change marker: a number that changes when the database may show something new, e.g. on a web page.
//!
//! A store that can listen asks the runners to report their next write, and then needs no queries. If a live runner
//! does not listen, that runner receives no request, so the store polls the server instead.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use diesel::sql_types::{Bool, Text};

use super::PostgresStore;
use super::statement::query;
use crate::store::{Request, Response, StoreError};

query! {
    /// Returns a string that changes whenever a writing transaction starts or ends on the server.
    Snapshot {} -> Text;
    "SELECT pg_current_snapshot()::text"
}

query! {
    /// Returns whether there is a live runner without an open LISTEN session. The lock of such a runner is not held.
    DeafRunner {} -> Bool;
    "SELECT EXISTS (SELECT FROM cloacina_runners AS r WHERE r.dead_at IS NULL
     AND r.lease_until > (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
     AND ('x' || right(replace(r.id::text, '-', ''), 16))::bit(64)::bigint NOT IN (
     SELECT l.classid::bigint << 32 | l.objid::bigint FROM pg_locks AS l
     WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted
     AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())))"
}

/// Minimum time between two queries for the server's snapshot.
const MIN_POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Maximum time between two queries for the server's snapshot, if callers ask for the marker often enough.
const MAX_POLL_INTERVAL: Duration = Duration::from_secs(2);

/// The marker that was computed from the server's snapshot, and the time of the next query for the snapshot.
pub(super) struct SnapshotPoll {
    marker: i64,
    next: Instant,
    interval: Duration,
    /// Whether the other processes were asked to report their next write after the last query. The next query is then
    /// made only after a report, so it need not wait until `next`.
    is_reported: bool,
}

impl Default for SnapshotPoll {
    fn default() -> Self {
        Self {
            marker: 0,
            next: Instant::now(),
            interval: MIN_POLL_INTERVAL,
            is_reported: false,
        }
    }
}

impl PostgresStore {
    /// Returns the change marker. Sends no query while the other processes have nothing to report.
    pub(super) fn marker(&self) -> Result<i64, StoreError> {
        if !self.can_listen() {
            return self.polled_marker();
        }
        self.listen()?;
        let (changes, is_waiting) = self.notifier.watched_changes();
        let mut poll = self.snapshot_poll.lock();
        if !is_waiting && (poll.is_reported || Instant::now() >= poll.next) {
            poll.is_reported = false;
            self.read_snapshot(&mut poll)?;
            let deaf = self
                .read(async |connection, session| session.fetch(connection, DeafRunner {}).await)?;
            poll.is_reported = deaf == [false] && self.notifier.request_watch();
        }
        Ok(poll.marker.wrapping_add(changes))
    }

    /// Returns a number that changes with the server's transactions, with a delay of at most `MAX_POLL_INTERVAL`. Queries
    /// the server less often while the number does not change.
    pub(super) fn polled_marker(&self) -> Result<i64, StoreError> {
        let mut poll = self.snapshot_poll.lock();
        if Instant::now() >= poll.next {
            self.read_snapshot(&mut poll)?;
        }
        Ok(poll.marker)
    }

    fn read_snapshot(&self, poll: &mut SnapshotPoll) -> Result<(), StoreError> {
        let texts: Vec<String> =
            self.read(async |connection, session| session.fetch(connection, Snapshot {}).await)?;
        let mut hasher = DefaultHasher::new();
        texts.hash(&mut hasher);
        let marker = i64::from_ne_bytes(hasher.finish().to_ne_bytes());
        poll.interval = if marker == poll.marker {
            (poll.interval * 2).min(MAX_POLL_INTERVAL)
        } else {
            MIN_POLL_INTERVAL
        };
        poll.marker = marker;
        poll.next = Instant::now() + poll.interval;
        Ok(())
    }
}

/// Returns whether the request may write something that a web page shows. Requests that notify all runners anyway are
/// left out, and so are heartbeats, which a page does not show.
pub(super) fn can_show(request: &Request<'_>) -> bool {
    matches!(
        request,
        Request::Commit { .. }
            | Request::SetMap { .. }
            | Request::DeclareDead { .. }
            | Request::RetireRunner { .. }
            | Request::Prune { .. }
            | Request::DeleteExecution { .. }
            | Request::NoteInsight { .. }
            | Request::NoteStarts { .. }
            | Request::Send { .. }
            | Request::AdvanceInbox { .. }
            | Request::NoteInbox { .. }
    )
}

/// Returns whether the request has written something, or may have written something before it failed.
pub(super) fn shows(response: &Result<Response, StoreError>) -> bool {
    match response {
        Ok(Response::Commit(committed)) => {
            !(committed.schedules.is_empty()
                && committed.submits.is_empty()
                && committed.advances.is_empty()
                && committed.claimed.is_empty()
                && committed.items.is_empty()
                && committed.maps.is_empty())
        }
        _ => true,
    }
}
