//! The locks of runners (semantics E3). A runner's listener holds an advisory lock made from the runner's id, for as long as
//! its session lives. A lock that vanishes tells other machines of a death long before the lease ends.
//!
//! A vanished lock proves nothing: sessions break, and servers restart. So a runner is suspected only where this very session
//! of the watcher saw the lock held, and the verdict waits for a second look: a living runner takes its lock again at once,
//! and until it has, sends heartbeats. Nothing is asked while nobody works: runners that have claims say so.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use tokio_postgres::{Client, Statement};

use super::change_notifier::ChangeNotifier;
use crate::types::RunnerId;

/// The time between two looks at the locks, and the same while a runner is suspected.
const LOOK: Duration = Duration::from_millis(500);
const SECOND_LOOK: Duration = Duration::from_millis(250);
/// How long a suspect has to show that it lives. Longer than a new connection and a heartbeat take.
const GRACE: Duration = Duration::from_secs(1);

/// In a session that stores of several schemas may share; an empty `schema` stands for the session's own.
fn locks(schema: Option<&str>) -> String {
    // The name was checked when the options were made: no quote is in it.
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

/// What a look found of a runner.
struct PeerState {
    runner: RunnerId,
    heartbeat_at: i64,
    is_locked: bool,
}

/// A runner whose lock this session saw held, and has not seen since.
struct Suspicion {
    since: Instant,
    heartbeat_at: i64,
}

/// The runners whose locks one session of a listener holds or saw.
#[derive(Default)]
pub(super) struct PeerTable {
    schema: Option<String>,
    held: HashSet<RunnerId>,
    /// Those whose locks were seen held.
    seen: HashMap<RunnerId, Option<Suspicion>>,
    looked_at: Option<Instant>,
    statement: Option<Statement>,
    /// The server does not answer the question.
    is_blind: bool,
}

impl PeerTable {
    /// An empty table of the runners of a schema.
    pub(super) fn new(schema: Option<&str>) -> Self {
        Self {
            schema: schema.map(str::to_owned),
            ..Self::default()
        }
    }

    /// Takes the locks of this store's runners that the session does not hold.
    pub(super) async fn hold(
        &mut self,
        client: &Client,
        notifier: &ChangeNotifier,
    ) -> Result<(), tokio_postgres::Error> {
        let missing = notifier.roster.lock().own_except(&self.held);
        for runner in missing {
            self.held.insert(runner);
            // Shared: it never waits, not even for a dead session of our own that the server has not noticed.
            let lock = format!("SELECT pg_advisory_lock_shared({})", key(runner));
            match client.batch_execute(&lock).await {
                Err(error) if error.code().is_none() => return Err(error),
                Err(error) => {
                    tracing::debug!(%error, "this runner's death would be noticed only by the end of its lease");
                }
                Ok(()) => {}
            }
        }
        Ok(())
    }

    /// When the locks are to be looked at; `None`: nobody works who could be watched.
    pub(super) fn next_look(&self, notifier: &ChangeNotifier) -> Option<Instant> {
        let is_suspicious = self.seen.values().any(Option::is_some);
        if self.is_blind || !(is_suspicious || notifier.is_watching()) {
            return None;
        }
        let pause = if is_suspicious { SECOND_LOOK } else { LOOK };
        Some(self.looked_at.map_or_else(Instant::now, |at| at + pause))
    }

    /// Looks at the locks; runners that are gone are told to the store.
    pub(super) async fn look(
        &mut self,
        client: &Client,
        notifier: &ChangeNotifier,
    ) -> Result<(), tokio_postgres::Error> {
        match self.states(client).await {
            Ok(states) => {
                let now = Instant::now();
                self.looked_at = Some(now);
                let vanished = self.judge(&states, now);
                if !vanished.is_empty() {
                    notifier.tell_vanished(vanished);
                }
            }
            Err(error) if error.code().is_none() => return Err(error),
            Err(error) => {
                tracing::debug!(%error, "deaths on other machines are noticed only by the end of a lease");
                self.is_blind = true;
            }
        }
        Ok(())
    }

    /// The states of the runners of other stores.
    async fn states(&mut self, client: &Client) -> Result<Vec<PeerState>, tokio_postgres::Error> {
        let statement = match &self.statement {
            Some(statement) => statement.clone(),
            None => self
                .statement
                .insert(client.prepare(&locks(self.schema.as_deref())).await?)
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

    /// The runners that are gone, as far as locks and heartbeats tell. `states`: all that were not declared dead.
    fn judge(&mut self, states: &[PeerState], now: Instant) -> Vec<RunnerId> {
        let mut seen = std::mem::take(&mut self.seen);
        let mut vanished = Vec::new();
        for state in states {
            let heartbeat_at = state.heartbeat_at;
            let suspicion = match seen.remove(&state.runner) {
                _ if state.is_locked => None,
                None => continue,
                Some(None) => Some(Suspicion {
                    since: now,
                    heartbeat_at,
                }),
                // It lives without its lock: nothing is known of it until the lock is back.
                Some(Some(suspicion)) if suspicion.heartbeat_at != heartbeat_at => continue,
                Some(Some(suspicion)) if now.duration_since(suspicion.since) >= GRACE => {
                    vanished.push(state.runner);
                    continue;
                }
                Some(suspicion) => suspicion,
            };
            self.seen.insert(state.runner, suspicion);
        }
        vanished
    }
}

/// The half of the id that is random.
fn key(runner: RunnerId) -> i64 {
    let bytes = runner.as_bytes();
    bytes[8..]
        .iter()
        .fold(0, |key, byte| key << 8 | i64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks at one runner: its heartbeats as they are found, and whether its lock is held, at parts of the grace.
    fn verdicts<const N: usize>(looks: [(u32, i64, bool); N]) -> [bool; N] {
        let (mut table, runner, start) =
            (PeerTable::default(), RunnerId::generate(), Instant::now());
        looks.map(|(halves, heartbeat_at, is_locked)| {
            let state = PeerState {
                runner,
                heartbeat_at,
                is_locked,
            };
            table.judge(&[state], start + GRACE / 2 * halves) == [runner]
        })
    }

    #[test]
    fn e3_a_vanished_lock_is_judged_once_after_the_grace() {
        let looks = [
            (0, 1, true),
            (0, 1, false),
            (1, 1, false),
            (2, 1, false),
            (4, 1, false),
        ];
        assert_eq!(verdicts(looks), [false, false, false, true, false]);
    }

    #[test]
    fn e3_a_lock_that_this_session_never_saw_tells_nothing() {
        let looks = [(0, 1, false), (2, 1, false), (4, 1, false), (8, 1, false)];
        assert_eq!(verdicts(looks), [false; 4]);
    }

    #[test]
    fn e3_a_runner_that_listens_again_or_sends_heartbeats_lives() {
        let listens = [(0, 1, true), (0, 1, false), (2, 1, true), (2, 1, false)];
        assert_eq!(verdicts(listens), [false; 4]);
        let beats = [(0, 1, true), (0, 1, false), (2, 2, false), (9, 2, false)];
        assert_eq!(verdicts(beats), [false; 4]);
    }

    #[test]
    fn e3_a_runner_whose_row_is_gone_is_forgotten() {
        let (mut table, runner, now) = (PeerTable::default(), RunnerId::generate(), Instant::now());
        table.judge(
            &[PeerState {
                runner,
                heartbeat_at: 1,
                is_locked: true,
            }],
            now,
        );
        assert_eq!(table.judge(&[], now), []);
        assert!(table.seen.is_empty());
    }
}
