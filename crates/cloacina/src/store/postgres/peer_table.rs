//! The advisory locks of runners (semantics E3). While a runner's LISTEN session is open, the session holds an advisory
//! lock on the runner's id. A vanished lock tells other machines that the runner may be dead, long before its lease
//! ends.
//!
//! A vanished lock does not prove a death, because sessions break and servers restart. A runner is suspected only if
//! this session found the runner's lock held at an earlier check. The runner is reported only if, during a grace
//! period, it neither takes its lock again nor sends a heartbeat. A live runner takes its lock again immediately, and
//! sends heartbeats until it holds the lock. Locks are checked only while a peer may have claims, or while a runner is
//! suspected.
//!
//! See docs/explanation/decisions/012-presence.md

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use tokio_postgres::{Client, Statement};

use super::change_notifier::ChangeNotifier;
use crate::types::RunnerId;

/// Time between two checks of the locks while no runner is suspected.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// Time between two checks of the locks while a runner is suspected.
const SUSPECT_CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// How long a suspected runner has to show that it is alive. A reconnect and a heartbeat take less time.
const GRACE_PERIOD: Duration = Duration::from_secs(1);

/// Returns the query that reads the heartbeats and locks of a schema's runners; `None` means the session's own schema.
fn lock_query(schema: Option<&str>) -> String {
    // The name was validated with the options and contains no quote.
    let schema = schema.map_or_else(String::new, |schema| format!("\"{schema}\"."));
    format!(
        "\
    WITH held AS MATERIALIZED (\
        SELECT l.classid::bigint << 32 | l.objid::bigint AS key FROM pg_locks AS l \
        WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted \
        AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())\
    ) \
    SELECT r.id::text, r.heartbeat_at, \
    ('x' || right(replace(r.id::text, '-', ''), 16))::bit(64)::bigint IN (SELECT key FROM held) \
    FROM {schema}cloacina_runners AS r WHERE r.dead_at IS NULL"
    )
}

/// The state of a runner at one check: its last heartbeat, and whether its lock is held.
struct PeerState {
    runner: RunnerId,
    heartbeat_at: i64,
    is_locked: bool,
}

/// The time at which a runner's lock was first found missing, and the runner's last heartbeat at that time.
struct Suspicion {
    since: Instant,
    heartbeat_at: i64,
}

/// The locks that a LISTEN session holds for its own runners, and the peers whose locks it watches.
#[derive(Default)]
pub(super) struct PeerTable {
    schema: Option<String>,
    held: HashSet<RunnerId>,
    /// Peers whose locks were held at an earlier check. A suspicion is stored for each peer whose lock has vanished.
    tracked: HashMap<RunnerId, Option<Suspicion>>,
    checked_at: Option<Instant>,
    statement: Option<Statement>,
    /// Set when the server refuses the query for locks.
    cannot_read_locks: bool,
}

impl PeerTable {
    /// Creates an empty table for the runners of a schema.
    pub(super) fn new(schema: Option<&str>) -> Self {
        Self {
            schema: schema.map(str::to_owned),
            ..Self::default()
        }
    }

    /// For this store's runners, takes the locks that the session does not hold yet.
    pub(super) async fn hold(
        &mut self,
        client: &Client,
        notifier: &ChangeNotifier,
    ) -> Result<(), tokio_postgres::Error> {
        let missing = notifier.runner_cache.lock().own_except(&self.held);
        for runner in missing {
            self.held.insert(runner);
            // A shared lock never waits. In particular, it does not wait for an earlier session of the same runner that
            // the server still counts as open.
            let lock = format!("SELECT pg_advisory_lock_shared({})", lock_key(runner));
            match client.batch_execute(&lock).await {
                Err(error) if error.code().is_none() => return Err(error),
                Err(error) => {
                    tracing::debug!(%error, "cannot take the runner's advisory lock, so other machines notice the runner's death only when its lease ends");
                }
                Ok(()) => {}
            }
        }
        Ok(())
    }

    /// Returns the time of the next check of the locks; `None` if no check is needed or the locks cannot be read.
    pub(super) fn next_check(&self, notifier: &ChangeNotifier) -> Option<Instant> {
        let is_suspicious = self.tracked.values().any(Option::is_some);
        if self.cannot_read_locks || !(is_suspicious || notifier.needs_lock_checks()) {
            return None;
        }
        let pause = if is_suspicious {
            SUSPECT_CHECK_INTERVAL
        } else {
            CHECK_INTERVAL
        };
        Some(self.checked_at.map_or_else(Instant::now, |at| at + pause))
    }

    /// Checks the locks, and reports to the store the runners that seem to be dead.
    pub(super) async fn check_locks(
        &mut self,
        client: &Client,
        notifier: &ChangeNotifier,
    ) -> Result<(), tokio_postgres::Error> {
        match self.states(client).await {
            Ok(states) => {
                let now = Instant::now();
                self.checked_at = Some(now);
                let vanished = self.evaluate(&states, now);
                if !vanished.is_empty() {
                    notifier.report_vanished(vanished);
                }
            }
            Err(error) if error.code().is_none() => return Err(error),
            Err(error) => {
                tracing::debug!(%error, "cannot read the runners' advisory locks, so deaths on other machines are noticed only when a lease ends");
                self.cannot_read_locks = true;
            }
        }
        Ok(())
    }

    /// Reads the states of runners that belong to other stores.
    async fn states(&mut self, client: &Client) -> Result<Vec<PeerState>, tokio_postgres::Error> {
        let statement = match &self.statement {
            Some(statement) => statement.clone(),
            None => self
                .statement
                .insert(client.prepare(&lock_query(self.schema.as_deref())).await?)
                .clone(),
        };
        let mut states = Vec::new();
        for row in client.query(&statement, &[]).await? {
            let id: String = row.try_get(0)?;
            if let Ok(runner) = id.parse()
                && !self.held.contains(&runner)
            {
                states.push(PeerState {
                    runner,
                    heartbeat_at: row.try_get(1)?,
                    is_locked: row.try_get(2)?,
                });
            }
        }
        Ok(states)
    }

    /// Returns the runners that seem to be dead according to their locks and heartbeats. `states` covers all runners
    /// that were not declared dead.
    fn evaluate(&mut self, states: &[PeerState], now: Instant) -> Vec<RunnerId> {
        let mut tracked = std::mem::take(&mut self.tracked);
        let mut vanished = Vec::new();
        for state in states {
            let heartbeat_at = state.heartbeat_at;
            let suspicion = match tracked.remove(&state.runner) {
                _ if state.is_locked => None,
                None => continue,
                Some(None) => Some(Suspicion {
                    since: now,
                    heartbeat_at,
                }),
                // A heartbeat without a lock shows that the runner is alive. The runner is tracked again when its lock
                // is back.
                Some(Some(suspicion)) if suspicion.heartbeat_at != heartbeat_at => continue,
                Some(Some(suspicion)) if now.duration_since(suspicion.since) >= GRACE_PERIOD => {
                    vanished.push(state.runner);
                    continue;
                }
                Some(suspicion) => suspicion,
            };
            self.tracked.insert(state.runner, suspicion);
        }
        vanished
    }
}

/// Returns the key of a runner's lock: the random half of the runner's id.
fn lock_key(runner: RunnerId) -> i64 {
    let bytes = runner.as_bytes();
    bytes[8..]
        .iter()
        .fold(0, |key, byte| key << 8 | i64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks one runner repeatedly, and returns for each check whether the runner was reported. Each check consists of
    /// the time in half grace periods, the heartbeat, and whether the lock is held.
    fn reported<const N: usize>(checks: [(u32, i64, bool); N]) -> [bool; N] {
        let (mut table, runner, start) =
            (PeerTable::default(), RunnerId::generate(), Instant::now());
        checks.map(|(half_periods, heartbeat_at, is_locked)| {
            let state = PeerState {
                runner,
                heartbeat_at,
                is_locked,
            };
            table.evaluate(&[state], start + GRACE_PERIOD / 2 * half_periods) == [runner]
        })
    }

    #[test]
    fn e3_vanished_lock_is_reported_once_after_the_grace_period() {
        let checks = [
            (0, 1, true),
            (0, 1, false),
            (1, 1, false),
            (2, 1, false),
            (4, 1, false),
        ];
        assert_eq!(reported(checks), [false, false, false, true, false]);
    }

    #[test]
    fn e3_runner_whose_lock_was_never_seen_is_not_reported() {
        let checks = [(0, 1, false), (2, 1, false), (4, 1, false), (8, 1, false)];
        assert_eq!(reported(checks), [false; 4]);
    }

    #[test]
    fn e3_runner_that_relocks_or_sends_heartbeats_is_not_reported() {
        let listens = [(0, 1, true), (0, 1, false), (2, 1, true), (2, 1, false)];
        assert_eq!(reported(listens), [false; 4]);
        let beats = [(0, 1, true), (0, 1, false), (2, 2, false), (9, 2, false)];
        assert_eq!(reported(beats), [false; 4]);
    }

    #[test]
    fn e3_runner_without_a_row_is_forgotten() {
        let (mut table, runner, now) = (PeerTable::default(), RunnerId::generate(), Instant::now());
        table.evaluate(
            &[PeerState {
                runner,
                heartbeat_at: 1,
                is_locked: true,
            }],
            now,
        );
        assert_eq!(table.evaluate(&[], now), []);
        assert!(table.tracked.is_empty());
    }
}
