//! The rows of runners: their leases, deaths and claims. Leases use the database's clock.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use diesel::Queryable;
use diesel::sql_types::{BigInt, Bool, Nullable, Text, Uuid as SqlUuid};
use uuid::Uuid;

use super::driver::Connection;
use super::error::Fault;
use super::map_reads;
use super::row::{Decoded, encode};
use super::session::Session;
use super::statement::query;
use crate::store::RunnerRow;
use crate::types::{Clock, ExecutionId, RunnerId, SystemClock, Timestamp};

/// Maximum amount, in microseconds, by which the stored difference between the clocks can lie outside a measured range
/// without being replaced.
const MAX_DRIFT: i64 = 100_000;

/// Maximum age at which cached rows are used to check other runners. If a runner has extended its lease meanwhile, the
/// attempt to declare it dead fails.
const CACHE_TTL: Duration = Duration::from_millis(5500);

query! {
    /// Inserts a runner. A runner sends the statement again if it did not learn the outcome, so an existing row gets a new
    /// lease, unless the runner was declared dead meanwhile.
    InsertRunner {
        id: Uuid => SqlUuid,
        host: String => Text,
        pid: i64 => BigInt,
        pid_started: i64 => BigInt,
        started_at: i64 => BigInt,
        lease: i64 => BigInt,
        workflows: String => Text,
    } -> (BigInt, BigInt);
    "WITH clock AS MATERIALIZED (SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now)
     INSERT INTO cloacina_runners (id, host, pid, pid_started, started_at, heartbeat_at, lease_until, workflows)
     SELECT $1::uuid, $2::text, $3::bigint, $4::bigint, $5::bigint, clock.now, clock.now + $6::bigint, $7::text FROM clock
     ON CONFLICT (id) DO UPDATE SET heartbeat_at = excluded.heartbeat_at, lease_until = excluded.lease_until
     WHERE cloacina_runners.dead_at IS NULL RETURNING cloacina_runners.heartbeat_at, cloacina_runners.lease_until"
}

query! {
    /// Extends a lease, and returns the rows of all runners as they were before the heartbeat.
    Heartbeat { lease: i64 => BigInt, id: Uuid => SqlUuid } -> (
        BigInt, Bool, Nullable<SqlUuid>, Nullable<Text>, Nullable<BigInt>, Nullable<BigInt>, Nullable<BigInt>,
        Nullable<BigInt>, Nullable<BigInt>, Nullable<BigInt>, Nullable<Text>,
    );
    "WITH clock AS MATERIALIZED (SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now),
     beat AS (UPDATE cloacina_runners AS r SET heartbeat_at = clock.now, lease_until = clock.now + $1::bigint FROM clock
     WHERE r.id = $2::uuid AND r.dead_at IS NULL RETURNING r.id)
     SELECT clock.now, EXISTS (SELECT 1 FROM beat), r.id, r.host, r.pid, r.pid_started, r.started_at, r.heartbeat_at,
     r.lease_until, r.dead_at, r.workflows FROM clock LEFT JOIN cloacina_runners AS r ON true"
}

query! {
    AllRunners {} -> (
        BigInt, Bool, Nullable<SqlUuid>, Nullable<Text>, Nullable<BigInt>, Nullable<BigInt>, Nullable<BigInt>,
        Nullable<BigInt>, Nullable<BigInt>, Nullable<BigInt>, Nullable<Text>,
    );
    "SELECT clock.now, false, r.id, r.host, r.pid, r.pid_started, r.started_at, r.heartbeat_at, r.lease_until,
     r.dead_at, r.workflows
     FROM (SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now) AS clock
     LEFT JOIN cloacina_runners AS r ON true"
}

query! {
    DeclareDead { id: Uuid => SqlUuid, lease_until: i64 => BigInt } -> SqlUuid;
    "UPDATE cloacina_runners SET dead_at = (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
     WHERE id = $1 AND lease_until = $2 AND dead_at IS NULL RETURNING id"
}

query! {
    /// Returns the executions in which a runner has claims. Searches the open executions, whose index is small. An
    /// index of running tasks would cost two writes for each task. `OFFSET 0` keeps the planner from reading all tasks
    /// first, which it prefers while the tables have no statistics.
    ClaimsOf { running: Uuid => SqlUuid, paused: Uuid => SqlUuid } -> SqlUuid;
    "SELECT e.id FROM cloacina_executions AS e WHERE e.state = 1 AND e.state <> 3
     AND EXISTS (SELECT 1 FROM cloacina_tasks AS t WHERE t.execution_id = e.id AND t.state = 2 AND t.runner_id = $1 OFFSET 0)
     UNION ALL
     SELECT e.id FROM cloacina_executions AS e WHERE e.state = 2 AND e.state <> 3
     AND EXISTS (SELECT 1 FROM cloacina_tasks AS t WHERE t.execution_id = e.id AND t.state = 2 AND t.runner_id = $2 OFFSET 0)"
}

query! {
    DeleteRunner { id: Uuid => SqlUuid } -> SqlUuid;
    "DELETE FROM cloacina_runners WHERE id = $1 RETURNING id"
}

#[derive(Queryable)]
struct ClockAndRunner {
    now: i64,
    alive: bool,
    id: Option<Uuid>,
    host: Option<String>,
    pid: Option<i64>,
    pid_started: Option<i64>,
    started_at: Option<i64>,
    heartbeat_at: Option<i64>,
    lease_until: Option<i64>,
    dead_at: Option<i64>,
    workflows: Option<Decoded<Vec<String>>>,
}

/// The runners as this store last read them. The times are times of the database's clock.
#[derive(Default)]
pub(super) struct RunnerCache {
    /// The database's clock minus this machine's clock, in microseconds.
    offset: Option<i64>,
    living: Vec<RunnerRow>,
    dead: Vec<RunnerId>,
    fetched_at: Option<Instant>,
    /// For each runner, the end of its lease as it was shown to callers, and as it is stored.
    shown_leases: HashMap<RunnerId, (Timestamp, i64)>,
    /// The runners that this store has registered and that have not stopped or been declared dead.
    own: Vec<RunnerId>,
}

impl RunnerCache {
    /// Returns `true` if this store has a runner and there may be other runners.
    pub(super) fn has_peers(&self) -> bool {
        !self.own.is_empty() && self.has_others()
    }

    /// Returns whether there may be other runners that must be notified of changes.
    pub(super) fn has_others(&self) -> bool {
        self.fetched_at.is_none() || self.living.iter().any(|row| !self.own.contains(&row.id))
    }

    /// Returns whether the runner is the only runner of this store.
    pub(super) fn is_sole(&self, runner: RunnerId) -> bool {
        self.own == [runner]
    }

    /// Returns the runners of this store that are not in `others`.
    pub(super) fn own_except(&self, others: &HashSet<RunnerId>) -> Vec<RunnerId> {
        let own = self.own.iter().copied();
        own.filter(|runner| !others.contains(runner)).collect()
    }

    /// Makes the next use of the cache read the rows again.
    pub(super) fn invalidate(&mut self) {
        self.fetched_at = None;
    }

    /// Removes a runner of this store that was declared dead or has stopped.
    pub(super) fn remove_own(&mut self, runner: RunnerId) {
        self.own.retain(|own| *own != runner);
        self.invalidate();
    }

    /// Measures the difference between the clocks: the database's clock showed `theirs` at some time after `sent` and
    /// before `sent + took`. The stored difference is kept if it fits, so that an unchanged row keeps its translated
    /// times.
    fn note_clock(&mut self, theirs: i64, sent: Timestamp, took: Duration) {
        let highest = theirs.saturating_sub(sent.0);
        let lowest =
            highest.saturating_sub_unsigned(took.as_micros().try_into().unwrap_or(u64::MAX));
        let range = lowest.saturating_sub(MAX_DRIFT)..=highest.saturating_add(MAX_DRIFT);
        if !self.offset.is_some_and(|known| range.contains(&known)) {
            let known = self.offset.unwrap_or(highest);
            self.offset = Some(known.clamp(lowest, highest));
        }
    }

    fn replace_rows(&mut self, rows: Vec<ClockAndRunner>) {
        self.living.clear();
        self.dead.clear();
        for row in rows {
            if self.offset.is_none() {
                self.note_clock(row.now, SystemClock.now(), Duration::ZERO);
            }
            let Some(id) = row.id.map(RunnerId::from) else {
                continue;
            };
            if row.dead_at.is_some() {
                self.dead.push(id);
                continue;
            }
            self.living.push(RunnerRow {
                id,
                host: row.host.unwrap_or_default(),
                pid: row.pid.unwrap_or_default(),
                pid_started: row.pid_started.unwrap_or_default(),
                started_at: Timestamp(row.started_at.unwrap_or_default()),
                heartbeat_at: Timestamp(row.heartbeat_at.unwrap_or_default()),
                lease_until: Timestamp(row.lease_until.unwrap_or_default()),
                workflows: row
                    .workflows
                    .map(|workflows| workflows.0)
                    .unwrap_or_default(),
            });
        }
        let known: HashSet<RunnerId> = self.living.iter().map(|row| row.id).collect();
        let own = &self.own;
        (self.shown_leases).retain(|id, _| known.contains(id) || own.contains(id));
        self.living.sort_unstable_by_key(|row| row.id);
        self.dead.sort_unstable();
        self.fetched_at = Some(Instant::now());
    }

    fn is_fresh(&self) -> bool {
        self.fetched_at.is_some_and(|at| at.elapsed() < CACHE_TTL)
    }

    /// Returns the live runners, with times of the caller's clock. `None` if the rows are too old.
    pub(super) fn living(&mut self) -> Option<Vec<RunnerRow>> {
        if !self.is_fresh() {
            return None;
        }
        let offset = self.offset.unwrap_or_default();
        let shown_leases = &mut self.shown_leases;
        let translate = |row: &RunnerRow| {
            let lease_until = row.lease_until - offset;
            shown_leases.insert(row.id, (lease_until, row.lease_until.0));
            RunnerRow {
                heartbeat_at: row.heartbeat_at - offset,
                lease_until,
                ..row.clone()
            }
        };
        Some(self.living.iter().map(translate).collect())
    }

    pub(super) fn dead(&self) -> Option<Vec<RunnerId>> {
        self.is_fresh().then(|| self.dead.clone())
    }

    /// Returns the stored end of a lease, given the end that was shown to a caller.
    pub(super) fn stored_lease(&self, runner: RunnerId, lease: Timestamp) -> Option<i64> {
        self.shown_leases
            .get(&runner)
            .filter(|(shown, _)| *shown == lease)
            .map(|(_, stored)| *stored)
    }
}

/// Inserts a runner's row. Returns the stored heartbeat and lease, or `None` if the runner was declared dead meanwhile.
pub(super) async fn register(
    connection: &Connection,
    session: &Session,
    row: &RunnerRow,
) -> Result<Option<(i64, i64)>, Fault> {
    let statement = InsertRunner {
        id: row.id.uuid(),
        host: row.host.clone(),
        pid: row.pid,
        pid_started: row.pid_started,
        started_at: row.started_at.0,
        lease: row.lease_until.since(row.heartbeat_at),
        workflows: encode(&row.workflows)?,
    };
    Ok(session.fetch(connection, statement).await?.first().copied())
}

/// Updates the cache after a registration. `stored` is the answer of [`register`], which came after the time `took`.
pub(super) fn note_registered(
    runner_cache: &mut RunnerCache,
    row: &RunnerRow,
    stored: Option<(i64, i64)>,
    took: Duration,
) {
    runner_cache.invalidate();
    if let Some((heartbeat_at, lease_until)) = stored {
        runner_cache.note_clock(heartbeat_at, row.heartbeat_at, took);
        runner_cache
            .shown_leases
            .insert(row.id, (row.lease_until, lease_until));
        if !runner_cache.own.contains(&row.id) {
            runner_cache.own.push(row.id);
        }
    }
}

/// The rows of all runners. Each row also contains the database's time.
pub(super) struct RunnerRows {
    rows: Vec<ClockAndRunner>,
}

pub(super) async fn heartbeat(
    connection: &Connection,
    session: &Session,
    runner: RunnerId,
    lease: i64,
) -> Result<RunnerRows, Fault> {
    let rows = session
        .fetch(
            connection,
            Heartbeat {
                lease,
                id: runner.uuid(),
            },
        )
        .await?;
    Ok(RunnerRows { rows })
}

/// Updates the cache after a heartbeat, whose answer came after the time `took`. Returns whether the runner is alive.
pub(super) fn apply_heartbeat(
    runner_cache: &mut RunnerCache,
    answer: RunnerRows,
    runner: RunnerId,
    now: Timestamp,
    lease_until: Timestamp,
    took: Duration,
) -> bool {
    let Some((theirs, alive)) = answer.rows.first().map(|row| (row.now, row.alive)) else {
        return false;
    };
    runner_cache.note_clock(theirs, now, took);
    let mut rows = answer.rows;
    let stored = theirs.saturating_add(lease_until.since(now));
    if alive {
        for row in rows.iter_mut().filter(|row| row.id == Some(runner.uuid())) {
            row.heartbeat_at = Some(theirs);
            row.lease_until = Some(stored);
        }
        runner_cache
            .shown_leases
            .insert(runner, (lease_until, stored));
    }
    runner_cache.replace_rows(rows);
    alive
}

pub(super) async fn all(connection: &Connection, session: &Session) -> Result<RunnerRows, Fault> {
    Ok(RunnerRows {
        rows: session.fetch(connection, AllRunners {}).await?,
    })
}

pub(super) fn update_cache(runner_cache: &mut RunnerCache, answer: RunnerRows) {
    runner_cache.replace_rows(answer.rows);
}

pub(super) async fn declare_dead(
    connection: &Connection,
    session: &Session,
    runner: RunnerId,
    lease_until: i64,
) -> Result<bool, Fault> {
    let statement = DeclareDead {
        id: runner.uuid(),
        lease_until,
    };
    Ok(!session
        .fetch::<_, Uuid>(connection, statement)
        .await?
        .is_empty())
}

pub(super) async fn claims_of(
    connection: &Connection,
    session: &Session,
    runner: RunnerId,
) -> Result<Vec<ExecutionId>, Fault> {
    let statement = ClaimsOf {
        running: runner.uuid(),
        paused: runner.uuid(),
    };
    let rows: Vec<Uuid> = session.fetch(connection, statement).await?;
    let mut ids: Vec<ExecutionId> = rows.into_iter().map(Into::into).collect();
    ids.sort_unstable();
    Ok(ids)
}

pub(super) async fn retire(
    connection: &Connection,
    session: &Session,
    runner: RunnerId,
) -> Result<(), Fault> {
    // If the row of a runner with claims were deleted, no other runner would rescue the claims. No claim can be added
    // between these checks and the deletion: a runner that was declared dead writes nothing, and a live runner retires
    // itself only after it has stopped.
    let claims = claims_of(connection, session, runner).await?.len();
    if claims > 0 {
        return Err(Fault::Refused(format!(
            "cannot retire runner {runner}: it still has claims in {claims} executions"
        )));
    }
    if !map_reads::items_of(connection, session, runner, 1)
        .await?
        .is_empty()
    {
        return Err(Fault::Refused(format!(
            "cannot retire runner {runner}: it still has claims of items"
        )));
    }
    session
        .fetch::<_, Uuid>(connection, DeleteRunner { id: runner.uuid() })
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    #[test]
    fn e2_slow_answer_does_not_move_leases() {
        let mut runner_cache = RunnerCache::default();
        let ours = Timestamp(1_800_000_000 * SECOND);
        let mut offset_after = |before: i64, after: i64, step: i64| {
            let took = Duration::from_micros((before + after).unsigned_abs());
            runner_cache.note_clock(ours.0 + 5 * SECOND, ours + (step - before), took);
            runner_cache.offset
        };
        let first = offset_after(1_000, 0, 0);
        for latency in [0, SECOND, 10 * SECOND] {
            assert_eq!(offset_after(latency, 0, 0), first, "the request came late");
            assert_eq!(offset_after(0, latency, 0), first, "the answer came late");
        }
        assert_ne!(
            offset_after(0, 0, 3_600 * SECOND),
            first,
            "our clock was set"
        );
    }
}
