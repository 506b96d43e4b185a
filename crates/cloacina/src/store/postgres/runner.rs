//! Rows of runners: leases by the database's clock, deaths, what they hold.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use diesel::Queryable;
use diesel::sql_types::{BigInt, Bool, Nullable, Text, Uuid as SqlUuid};
use uuid::Uuid;

use super::driver::Connection;
use super::error::Fault;
use super::row::{Decoded, encode};
use super::session::Session;
use super::statement::query;
use crate::store::RunnerRow;
use crate::types::{Clock, ExecutionId, RunnerId, SystemClock, Timestamp};

/// The longest time in microseconds that an answer may take before the database's clock is taken to have been set.
const SLOW: i64 = 2_000_000;
/// The difference in microseconds by which the database's clock may run ahead before it is noted again.
const DRIFT: i64 = 100_000;

/// How long the rows that came with a heartbeat are good enough for a look at the others. A lease that moved since is
/// found when somebody is declared dead.
const FRESH: Duration = Duration::from_millis(5500);

query! {
    /// Sent again by a runner that did not learn the outcome, it changes nothing.
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
     ON CONFLICT DO NOTHING RETURNING heartbeat_at, lease_until"
}

query! {
    /// Extends a lease and looks at all runners; their rows are as before the heartbeat.
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
    /// Through the open executions, whose index is small: an index of running tasks would cost two writes a task.
    ClaimsOf { running: Uuid => SqlUuid, paused: Uuid => SqlUuid } -> SqlUuid;
    "SELECT e.id FROM cloacina_executions AS e WHERE e.state = 1 AND e.state <> 3
     AND EXISTS (SELECT 1 FROM cloacina_tasks AS t WHERE t.execution_id = e.id AND t.state = 2 AND t.runner_id = $1)
     UNION ALL
     SELECT e.id FROM cloacina_executions AS e WHERE e.state = 2 AND e.state <> 3
     AND EXISTS (SELECT 1 FROM cloacina_tasks AS t WHERE t.execution_id = e.id AND t.state = 2 AND t.runner_id = $2)"
}

query! {
    DeleteRunner { id: Uuid => SqlUuid } -> SqlUuid;
    "DELETE FROM cloacina_runners WHERE id = $1 RETURNING id"
}

#[derive(Queryable)]
struct Row {
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

/// What this store knows of the runners. Rows in here are by the database's clock.
#[derive(Default)]
pub(super) struct Roster {
    /// The database's clock minus the caller's.
    offset: Option<i64>,
    living: Vec<RunnerRow>,
    dead: Vec<RunnerId>,
    fetched: Option<Instant>,
    /// The end of a lease as a caller saw it, and as it is stored.
    seen: HashMap<RunnerId, (Timestamp, i64)>,
    /// Runners of this store.
    own: Vec<RunnerId>,
}

impl Roster {
    /// Whether somebody else may be there to be told of changes.
    pub(super) fn has_others(&self) -> bool {
        self.fetched.is_none() || self.living.iter().any(|row| !self.own.contains(&row.id))
    }

    /// Whether a notification comes from the only runner of this store.
    pub(super) fn is_sole(&self, runner: RunnerId) -> bool {
        self.own == [runner]
    }

    /// The runners of this store that are not among others.
    pub(super) fn own_except(&self, others: &HashSet<RunnerId>) -> Vec<RunnerId> {
        let own = self.own.iter().copied();
        own.filter(|runner| !others.contains(runner)).collect()
    }
    /// Look again before the next answer.
    pub(super) fn forget(&mut self) {
        self.fetched = None;
    }

    /// A runner of this store was lost; it has no use for its own notifications any more.
    pub(super) fn lose(&mut self, runner: RunnerId) {
        self.own.retain(|own| *own != runner);
        self.forget();
    }

    /// Notes both clocks. The difference changes only where one of them was set, so that a row that nobody writes keeps its
    /// times: a slow answer makes the database's clock look late, by less than `SLOW`.
    fn note_clock(&mut self, theirs: i64, ours: Timestamp) {
        let offset = theirs.saturating_sub(ours.0);
        let is_kept = self
            .offset
            .is_some_and(|known| (known - SLOW..=known + DRIFT).contains(&offset));
        if !is_kept {
            self.offset = Some(offset);
        }
    }

    fn fill(&mut self, rows: Vec<Row>) {
        self.living.clear();
        self.dead.clear();
        for row in rows {
            if self.offset.is_none() {
                self.note_clock(row.now, SystemClock.now());
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
        self.living.sort_unstable_by_key(|row| row.id);
        self.dead.sort_unstable();
        self.fetched = Some(Instant::now());
    }

    fn is_fresh(&self) -> bool {
        self.fetched
            .is_some_and(|fetched| fetched.elapsed() < FRESH)
    }

    /// The living ones in the caller's time, if they are known well enough.
    pub(super) fn living(&mut self) -> Option<Vec<RunnerRow>> {
        if !self.is_fresh() {
            return None;
        }
        let offset = self.offset.unwrap_or_default();
        let seen = &mut self.seen;
        let translate = |row: &RunnerRow| {
            let lease_until = row.lease_until - offset;
            seen.insert(row.id, (lease_until, row.lease_until.0));
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

    /// The stored end of a lease that a caller saw.
    pub(super) fn stored_lease(&self, runner: RunnerId, seen: Timestamp) -> Option<i64> {
        self.seen
            .get(&runner)
            .filter(|(shown, _)| *shown == seen)
            .map(|(_, stored)| *stored)
    }
}

/// What `register` learnt: the stored heartbeat and lease; none if the row was there.
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

pub(super) fn registered(roster: &mut Roster, row: &RunnerRow, stored: Option<(i64, i64)>) {
    roster.forget();
    if let Some((heartbeat_at, lease_until)) = stored {
        roster.note_clock(heartbeat_at, row.heartbeat_at);
        roster.seen.insert(row.id, (row.lease_until, lease_until));
        if !roster.own.contains(&row.id) {
            roster.own.push(row.id);
        }
    }
}

/// What a heartbeat learnt.
pub(super) struct Beat {
    rows: Vec<Row>,
}

pub(super) async fn heartbeat(
    connection: &Connection,
    session: &Session,
    runner: RunnerId,
    lease: i64,
) -> Result<Beat, Fault> {
    let rows = session
        .fetch(
            connection,
            Heartbeat {
                lease,
                id: runner.uuid(),
            },
        )
        .await?;
    Ok(Beat { rows })
}

/// Whether the runner is alive.
pub(super) fn beaten(
    roster: &mut Roster,
    beat: Beat,
    runner: RunnerId,
    now: Timestamp,
    lease_until: Timestamp,
) -> bool {
    let Some((theirs, alive)) = beat.rows.first().map(|row| (row.now, row.alive)) else {
        return false;
    };
    roster.note_clock(theirs, now);
    let mut rows = beat.rows;
    let stored = theirs.saturating_add(lease_until.since(now));
    if alive {
        for row in rows.iter_mut().filter(|row| row.id == Some(runner.uuid())) {
            row.heartbeat_at = Some(theirs);
            row.lease_until = Some(stored);
        }
        roster.seen.insert(runner, (lease_until, stored));
    }
    roster.fill(rows);
    alive
}

pub(super) async fn all(connection: &Connection, session: &Session) -> Result<Beat, Fault> {
    Ok(Beat {
        rows: session.fetch(connection, AllRunners {}).await?,
    })
}

pub(super) fn fetched(roster: &mut Roster, beat: Beat) {
    roster.fill(beat.rows);
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
    // Without its row nobody would ever take these claims back. None can be added between the two statements: a runner that
    // was declared dead writes nothing, and a living one retires itself when it has stopped.
    let claims = claims_of(connection, session, runner).await?.len();
    if claims > 0 {
        return Err(Fault::Refused(format!(
            "runner {runner} cannot be retired: it has claims in {claims} executions"
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
    fn e2_a_slow_answer_does_not_move_the_leases_of_others() {
        let mut roster = Roster::default();
        let ours = Timestamp(1_800_000_000 * SECOND);
        let mut offset_after = |latency: i64, step: i64| {
            roster.note_clock(ours.0 + 5 * SECOND, ours + latency + step);
            roster.offset
        };
        let first = offset_after(1_000, 0);
        assert_eq!(offset_after(0, 0), first);
        assert_eq!(offset_after(SECOND, 0), first);
        assert_ne!(offset_after(0, 3_600 * SECOND), first, "our clock was set");
    }
}
