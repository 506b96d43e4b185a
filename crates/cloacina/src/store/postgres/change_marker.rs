//! The change marker: a number that changes when the database may contain something new that a web page shows.
//!
//! A store that can listen asks the runners to report their next write, and then needs no queries. If a live runner
//! does not listen, that runner receives no request, so the store polls the server instead.

use diesel::sql_types::{Bool, Text};

use super::PostgresStore;
use super::snapshot_poll::SnapshotPoll;
use super::statement::query;
use crate::store::StoreError;

query! {
    /// Returns a string that changes whenever a writing transaction starts or ends on the server.
    Snapshot {} -> Text;
    "SELECT pg_current_snapshot()::text"
}

query! {
    /// Returns whether there is a live runner without an open LISTEN session. An open session holds the advisory lock of
    /// its runner.
    DeafRunner {} -> Bool;
    "SELECT EXISTS (SELECT FROM cloacina_runners AS r WHERE r.dead_at IS NULL
     AND r.lease_until > (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
     AND ('x' || right(replace(r.id::text, '-', ''), 16))::bit(64)::bigint NOT IN (
     SELECT l.classid::bigint << 32 | l.objid::bigint FROM pg_locks AS l
     WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted
     AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())))"
}

impl PostgresStore {
    /// Returns the change marker. Once all other processes report their writes, sends no query until one of them has written.
    pub(super) fn marker(&self) -> Result<i64, StoreError> {
        if !self.can_listen() {
            return self.polled_marker();
        }
        self.listen()?;
        let (changes, is_waiting) = self.notifier.watched_changes();
        let mut poll = self.snapshot_poll.lock();
        if !is_waiting && (poll.reports_requested || poll.is_due()) {
            poll.reports_requested = false;
            self.read_snapshot(&mut poll)?;
            let deaf: Vec<bool> = self
                .read(async |connection, session| session.fetch(connection, DeafRunner {}).await)?;
            poll.reports_requested = deaf == [false] && self.notifier.request_watch();
        }
        Ok(poll.marker.wrapping_add(changes))
    }

    /// Returns a number that changes with the server's transactions, with a delay of at most `MAX_POLL_INTERVAL`. Queries
    /// the server less often while the number does not change.
    pub(super) fn polled_marker(&self) -> Result<i64, StoreError> {
        let mut poll = self.snapshot_poll.lock();
        if poll.is_due() {
            self.read_snapshot(&mut poll)?;
        }
        Ok(poll.marker)
    }

    fn read_snapshot(&self, poll: &mut SnapshotPoll) -> Result<(), StoreError> {
        let texts: Vec<String> =
            self.read(async |connection, session| session.fetch(connection, Snapshot {}).await)?;
        poll.note(&texts);
        Ok(())
    }
}
