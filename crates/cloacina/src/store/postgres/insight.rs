//! Reads and writes offers (the tasks that a runner can run), progress and logs. Also writes the start times of
//! attempts, counts ready tasks and waits, and checks the health of a PostgreSQL database.

use diesel::Queryable;
use diesel::sql_types::{Array, BigInt, Double, Nullable, SmallInt, Text, Uuid as SqlUuid};
use uuid::Uuid;

use super::PostgresStore;
use super::driver::{Connection, Statement};
use super::error::Fault;
use super::row::{Decoded, count, encode};
use super::session::Session;
use super::statement::{query, statement};
use crate::store::{AttemptStart, Health, StoreError};
use crate::types::{
    ExecutionId, LogChunk, LogLine, Offer, Progress, RunnerId, Timestamp, WaitKind,
};

statement! {
    SetWorkflows<'a> { workflows: &'a str => Text, id: Uuid => SqlUuid }
    "UPDATE cloacina_runners SET workflows = $1 WHERE id = $2 AND dead_at IS NULL"
}

statement! {
    PutOffer<'a> {
        workflow: &'a str => Text,
        runner_id: Uuid => SqlUuid,
        tasks: &'a str => Text,
        host: &'a str => Text,
        pid: i64 => BigInt,
        seen_at: i64 => BigInt,
    }
    "INSERT INTO cloacina_offers (workflow, runner_id, tasks, host, pid, seen_at) VALUES ($1, $2, $3, $4, $5, $6)
     ON CONFLICT (workflow, runner_id) DO UPDATE SET tasks = excluded.tasks, seen_at = excluded.seen_at"
}

statement! {
    Withdraw { seen_at: Option<i64> => Nullable<BigInt>, runner: Uuid => SqlUuid, id: Uuid => SqlUuid }
    "UPDATE cloacina_offers SET seen_at = coalesce($1::bigint,
     (SELECT heartbeat_at FROM cloacina_runners WHERE id = $2), seen_at) WHERE runner_id = $3"
}

statement! {
    ForgetOlder { id: Uuid => SqlUuid, again: Uuid => SqlUuid }
    "DELETE FROM cloacina_offers AS o WHERE o.runner_id <> $1
     AND NOT EXISTS (SELECT 1 FROM cloacina_runners AS r WHERE r.id = o.runner_id)
     AND EXISTS (SELECT 1 FROM cloacina_offers AS mine WHERE mine.workflow = o.workflow AND mine.runner_id = $2
     AND mine.tasks = o.tasks)"
}

query! {
    OffersOf { workflow: String => Text } -> (Text, SqlUuid, Text, BigInt, Text, BigInt);
    "SELECT workflow, runner_id, host, pid, tasks, seen_at FROM cloacina_offers WHERE workflow = $1 ORDER BY runner_id"
}

#[derive(Queryable)]
struct OfferRow {
    workflow: String,
    runner: Uuid,
    host: String,
    pid: i64,
    tasks: Decoded<Vec<String>>,
    seen_at: i64,
}

statement! {
    PutProgress<'a> {
        execution_id: Uuid => SqlUuid,
        ordinal: i64 => BigInt,
        attempt: i64 => BigInt,
        done: f64 => Double,
        total: f64 => Double,
        message: Option<&'a str> => Nullable<Text>,
        time: i64 => BigInt,
    }
    "INSERT INTO cloacina_progress AS p (execution_id, ordinal, attempt, done, total, message, time)
     VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (execution_id, ordinal) DO UPDATE SET attempt = excluded.attempt,
     done = excluded.done, total = excluded.total, message = excluded.message, time = excluded.time
     WHERE excluded.attempt >= p.attempt"
}

query! {
    ProgressOf { id: Uuid => SqlUuid } -> (BigInt, BigInt, Double, Double, Nullable<Text>, BigInt);
    "SELECT ordinal, attempt, done, total, message, time FROM cloacina_progress WHERE execution_id = $1 ORDER BY ordinal"
}

statement! {
    AppendLog<'a> {
        execution_id: Uuid => SqlUuid, ordinal: i64 => BigInt, attempt: i64 => BigInt, lines: &'a str => Text,
    }
    "INSERT INTO cloacina_logs (execution_id, ordinal, attempt, lines) VALUES ($1, $2, $3, $4)"
}

query! {
    LogsOf { id: Uuid => SqlUuid } -> (BigInt, BigInt, Text);
    "SELECT ordinal, attempt, lines FROM cloacina_logs WHERE execution_id = $1 ORDER BY id"
}

// `locked` locks the executions before their tasks, in the order that commits use.
statement! {
    StartAttempts {
        executions: Vec<Uuid> => Array<SqlUuid>,
        ordinals: Vec<i64> => Array<BigInt>,
        attempts: Vec<i64> => Array<BigInt>,
        runners: Vec<Uuid> => Array<SqlUuid>,
        starts: Vec<i64> => Array<BigInt>,
    }
    "WITH locked AS MATERIALIZED (
         SELECT e.id FROM cloacina_executions AS e WHERE e.id = ANY($1::uuid[]) ORDER BY e.id FOR UPDATE
     ), started AS (
         UPDATE cloacina_tasks AS t SET started_at = n.started_at
         FROM locked AS l, unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::uuid[], $5::bigint[])
             AS n (execution_id, ordinal, attempt, runner_id, started_at)
         WHERE l.id = n.execution_id AND t.execution_id = n.execution_id AND t.ordinal = n.ordinal AND t.state = 2
         AND t.attempt = n.attempt AND t.runner_id = n.runner_id RETURNING t.execution_id, t.started_at
     )
     UPDATE cloacina_executions AS e SET started_at = least(e.started_at, s.started_at)
     FROM (SELECT execution_id, min(started_at) AS started_at FROM started GROUP BY execution_id) AS s
     WHERE e.id = s.execution_id"
}

query! {
    Backlog { limit: i64 => BigInt } -> BigInt;
    "SELECT count(*) FROM (SELECT 1 FROM cloacina_tasks WHERE state = 1 AND ready_at IS NULL LIMIT $1) AS waiting"
}

query! {
    CountWaits { kind: i16 => SmallInt, limit: i64 => BigInt } -> BigInt;
    "SELECT count(*) FROM (SELECT 1 FROM cloacina_waits WHERE kind = $1 LIMIT $2) AS open"
}

query! {
    /// Returns the newest migration that was applied.
    SchemaVersion {} -> Text;
    "SELECT coalesce(max(version), '') FROM cloacina_migrations"
}

query! {
    /// For each table, returns its name, its size with indexes, its numbers of live and dead rows,
    /// and its size without indexes.
    TableHealth {} -> (Text, BigInt, BigInt, BigInt, BigInt);
    "SELECT c.relname::text, pg_total_relation_size(c.oid)::bigint, coalesce(s.n_live_tup, 0)::bigint,
     coalesce(s.n_dead_tup, 0)::bigint, pg_relation_size(c.oid)::bigint
     FROM pg_catalog.pg_class AS c LEFT JOIN pg_catalog.pg_stat_all_tables AS s ON s.relid = c.oid
     WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r' AND c.relname LIKE 'cloacina\\_%'
     ORDER BY c.relname"
}

query! {
    InvalidIndexes {} -> Text;
    "SELECT c.relname::text FROM pg_catalog.pg_index AS i JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid
     WHERE c.relnamespace = current_schema()::regnamespace AND c.relname LIKE 'cloacina\\_%' AND NOT i.indisvalid"
}

query! {
    /// Returns the number of task rows that belong to no execution. It is 0 unless another program has changed the
    /// database.
    Orphans {} -> BigInt;
    "SELECT count(*) FROM cloacina_tasks AS t
     WHERE NOT EXISTS (SELECT 1 FROM cloacina_executions AS e WHERE e.id = t.execution_id)"
}

/// A table is reported only if it has at least this number of dead rows.
const MIN_REPORTED_DEAD_ROWS: i64 = 100_000;

async fn in_transaction(
    connection: &Connection,
    session: &Session,
    work: impl AsyncFnOnce(&Connection) -> Result<(), Fault>,
) -> Result<(), Fault> {
    connection.batch_execute(session.begin()).await?;
    work(connection).await?;
    connection.batch_execute("COMMIT").await?;
    Ok(())
}

impl PostgresStore {
    pub(super) fn announce(
        &self,
        runner: RunnerId,
        workflows: &[String],
        offers: &[Offer],
    ) -> Result<(), StoreError> {
        self.write(async |connection, session| {
            let workflows = &encode(&workflows)?;
            in_transaction(connection, session, async |connection| {
                SetWorkflows {
                    workflows,
                    id: runner.uuid(),
                }
                .execute(connection)
                .await?;
                for offer in offers {
                    PutOffer {
                        workflow: &offer.workflow,
                        runner_id: runner.uuid(),
                        tasks: &encode(&offer.tasks)?,
                        host: &offer.host,
                        pid: offer.pid,
                        seen_at: offer.seen_at.0,
                    }
                    .execute(connection)
                    .await?;
                }
                Ok(())
            })
            .await
        })?;
        self.notifier.runner_cache.lock().invalidate();
        Ok(())
    }

    pub(super) fn withdraw(
        &self,
        runner: RunnerId,
        seen_at: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        let id = runner.uuid();
        self.write(async |connection, session| {
            in_transaction(connection, session, async |connection| {
                Withdraw {
                    seen_at: seen_at.map(|at| at.0),
                    runner: id,
                    id,
                }
                .execute(connection)
                .await?;
                ForgetOlder { id, again: id }.execute(connection).await?;
                Ok(())
            })
            .await
        })
    }

    pub(super) fn offers(&self, workflow: &str) -> Result<Vec<Offer>, StoreError> {
        let rows: Vec<OfferRow> = self.read(async |connection, session| {
            let workflow = workflow.to_owned();
            session.fetch(connection, OffersOf { workflow }).await
        })?;
        let offers = rows.into_iter().map(|row| Offer {
            workflow: row.workflow,
            runner: row.runner.into(),
            host: row.host,
            pid: row.pid,
            tasks: row.tasks.0,
            seen_at: Timestamp(row.seen_at),
        });
        Ok(offers.collect())
    }

    pub(super) fn note_insight(
        &self,
        progress: &[Progress],
        logs: &[LogChunk],
    ) -> Result<(), StoreError> {
        self.write(async |connection, session| {
            in_transaction(connection, session, async |connection| {
                for report in progress {
                    PutProgress {
                        execution_id: report.execution.uuid(),
                        ordinal: report.task.into(),
                        attempt: report.attempt.into(),
                        done: report.done,
                        total: report.total,
                        message: report.message.as_deref(),
                        time: report.time.0,
                    }
                    .execute(connection)
                    .await?;
                }
                for chunk in logs {
                    AppendLog {
                        execution_id: chunk.execution.uuid(),
                        ordinal: chunk.task.into(),
                        attempt: chunk.attempt.into(),
                        lines: &encode(&chunk.lines)?,
                    }
                    .execute(connection)
                    .await?;
                }
                Ok(())
            })
            .await
        })
    }

    pub(super) fn note_starts(&self, starts: &[AttemptStart]) -> Result<(), StoreError> {
        self.write(async |connection, session| {
            in_transaction(connection, session, async |connection| {
                StartAttempts {
                    executions: starts.iter().map(|start| start.execution.uuid()).collect(),
                    ordinals: starts.iter().map(|start| start.task.into()).collect(),
                    attempts: (starts.iter().map(|start| start.claim.attempt.into())).collect(),
                    runners: starts
                        .iter()
                        .map(|start| start.claim.runner.uuid())
                        .collect(),
                    starts: starts.iter().map(|start| start.at.0).collect(),
                }
                .execute(connection)
                .await?;
                Ok(())
            })
            .await
        })
    }

    pub(super) fn progress(&self, id: ExecutionId) -> Result<Vec<Progress>, StoreError> {
        type ProgressColumns = (i64, i64, f64, f64, Option<String>, i64);
        self.read(async |connection, session| {
            let rows: Vec<ProgressColumns> = session
                .fetch(connection, ProgressOf { id: id.uuid() })
                .await?;
            let reports = rows
                .into_iter()
                .map(|(task, attempt, done, total, message, time)| {
                    Ok(Progress {
                        execution: id,
                        task: count("ordinal", task)?,
                        attempt: count("attempt", attempt)?,
                        done,
                        total,
                        message,
                        time: Timestamp(time),
                    })
                });
            reports.collect()
        })
    }

    pub(super) fn logs(&self, id: ExecutionId) -> Result<Vec<LogChunk>, StoreError> {
        self.read(async |connection, session| {
            let rows: Vec<(i64, i64, Decoded<Vec<LogLine>>)> =
                session.fetch(connection, LogsOf { id: id.uuid() }).await?;
            let chunks = rows.into_iter().map(|(task, attempt, lines)| {
                Ok(LogChunk {
                    execution: id,
                    task: count("ordinal", task)?,
                    attempt: count("attempt", attempt)?,
                    lines: lines.0,
                })
            });
            chunks.collect()
        })
    }

    pub(super) fn backlog(&self, limit: usize) -> Result<usize, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let counted: Vec<i64> = self
            .read(async |connection, session| session.fetch(connection, Backlog { limit }).await)?;
        Ok(usize::try_from(counted.into_iter().next().unwrap_or_default()).unwrap_or_default())
    }

    pub(super) fn count_waits(&self, kind: WaitKind, limit: usize) -> Result<usize, StoreError> {
        let query = CountWaits {
            kind: kind.code(),
            limit: i64::try_from(limit).unwrap_or(i64::MAX),
        };
        let counted: Vec<i64> =
            self.read(async |connection, session| session.fetch(connection, query).await)?;
        Ok(usize::try_from(counted.into_iter().next().unwrap_or_default()).unwrap_or_default())
    }

    pub(super) fn check(&self) -> Result<Health, StoreError> {
        self.read(async |connection, session| {
            let versions: Vec<String> = session.fetch(connection, SchemaVersion {}).await?;
            let mut health = Health {
                schema_version: versions.into_iter().next().unwrap_or_default(),
                ..Health::default()
            };
            let tables: Vec<(String, i64, i64, i64, i64)> =
                session.fetch(connection, TableHealth {}).await?;
            for (name, size, live, dead, rows_size) in tables {
                health.size += u64::try_from(size).unwrap_or_default();
                if dead > 0 && live + dead > 0 {
                    let share = i128::from(rows_size) * i128::from(dead) / i128::from(live + dead);
                    health.free += u64::try_from(share).unwrap_or_default();
                }
                if dead >= MIN_REPORTED_DEAD_ROWS && dead >= live {
                    health.advice.push(format!(
                        "the table {name} has {dead} dead rows and {live} live ones: check that autovacuum runs, or run \
                         VACUUM (ANALYZE) {name}"
                    ));
                }
            }
            let invalid: Vec<String> = session.fetch(connection, InvalidIndexes {}).await?;
            health.problems.extend(
                invalid
                    .into_iter()
                    .map(|name| format!("the index {name} is invalid; run REINDEX INDEX {name}")),
            );
            let orphans: Vec<i64> = session.fetch(connection, Orphans {}).await?;
            if let Some(count) = orphans.into_iter().next().filter(|count| *count > 0) {
                health
                    .problems
                    .push(format!("{count} task rows do not belong to any execution"));
            }
            Ok(health)
        })
    }

    pub(super) fn notify_peers(&self) -> Result<(), StoreError> {
        let channel = self.session.channel();
        self.write(async |connection, _| {
            // The channel's name contains no quotes, and needs no escaping.
            let notify = format!(
                "SELECT pg_notify('{channel}', '{}')",
                super::change_notifier::CHANGED
            );
            connection.batch_execute(&notify).await?;
            Ok(())
        })
    }
}
