//! Reads and writes offers (the tasks that a runner can run), progress and logs. Also writes the start times of
//! attempts, counts ready tasks and waits, and checks the health of an SQLite database.

use diesel::sql_types::{BigInt, Binary, Double, Nullable, SmallInt, Text};
use diesel::{Queryable, RunQueryDsl, SqliteConnection};

use super::connection::Writer;
use super::error::Fault;
use super::row::{Decoded, Id, count, encode};
use super::statement::{query, statement};
use crate::store::{AttemptStart, Health};
use crate::types::{
    ExecutionId, LogChunk, LogLine, Offer, Progress, RunnerId, Timestamp, WaitKind,
};

statement! {
    SetWorkflows<'a> { workflows: &'a str => Text, id: &'a [u8] => Binary }
    "UPDATE cloacina_runners SET workflows = ? WHERE id = ? AND dead_at IS NULL"
}

statement! {
    PutOffer<'a> {
        workflow: &'a str => Text,
        runner_id: &'a [u8] => Binary,
        tasks: &'a str => Text,
        host: &'a str => Text,
        pid: i64 => BigInt,
        seen_at: i64 => BigInt,
    }
    "INSERT INTO cloacina_offers (workflow, runner_id, tasks, host, pid, seen_at) VALUES (?, ?, ?, ?, ?, ?) \
     ON CONFLICT (workflow, runner_id) DO UPDATE SET tasks = excluded.tasks, seen_at = excluded.seen_at"
}

statement! {
    Withdraw<'a> { seen_at: Option<i64> => Nullable<BigInt>, runner: &'a [u8] => Binary, id: &'a [u8] => Binary }
    "UPDATE cloacina_offers SET seen_at = coalesce(?, (SELECT heartbeat_at FROM cloacina_runners WHERE id = ?), seen_at) \
     WHERE runner_id = ?"
}

statement! {
    ForgetOlder<'a> { id: &'a [u8] => Binary, again: &'a [u8] => Binary }
    "DELETE FROM cloacina_offers WHERE runner_id <> ? AND runner_id NOT IN (SELECT id FROM cloacina_runners) \
     AND EXISTS (SELECT 1 FROM cloacina_offers AS mine WHERE mine.workflow = cloacina_offers.workflow \
     AND mine.runner_id = ? AND mine.tasks = cloacina_offers.tasks)"
}

query! {
    OffersOf<'a> { workflow: &'a str => Text } -> (Text, Binary, Text, BigInt, Text, BigInt);
    "SELECT workflow, runner_id, host, pid, tasks, seen_at FROM cloacina_offers WHERE workflow = ? ORDER BY runner_id"
}

#[derive(Queryable)]
struct OfferRow {
    workflow: String,
    runner: Id,
    host: String,
    pid: i64,
    tasks: Decoded<Vec<String>>,
    seen_at: i64,
}

statement! {
    PutProgress<'a> {
        execution_id: &'a [u8] => Binary,
        ordinal: i64 => BigInt,
        attempt: i64 => BigInt,
        done: f64 => Double,
        total: f64 => Double,
        message: Option<&'a str> => Nullable<Text>,
        time: i64 => BigInt,
    }
    "INSERT INTO cloacina_progress (execution_id, ordinal, attempt, done, total, message, time) \
     VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (execution_id, ordinal) DO UPDATE SET attempt = excluded.attempt, \
     done = excluded.done, total = excluded.total, message = excluded.message, time = excluded.time \
     WHERE excluded.attempt >= cloacina_progress.attempt"
}

query! {
    ProgressOf<'a> { id: &'a [u8] => Binary } -> (BigInt, BigInt, Double, Double, Nullable<Text>, BigInt);
    "SELECT ordinal, attempt, done, total, message, time FROM cloacina_progress WHERE execution_id = ? ORDER BY ordinal"
}

statement! {
    AppendLog<'a> {
        execution_id: &'a [u8] => Binary, ordinal: i64 => BigInt, attempt: i64 => BigInt, lines: &'a str => Text,
    }
    "INSERT INTO cloacina_logs (execution_id, ordinal, attempt, lines) VALUES (?, ?, ?, ?)"
}

query! {
    LogsOf<'a> { id: &'a [u8] => Binary } -> (BigInt, BigInt, Text);
    "SELECT ordinal, attempt, lines FROM cloacina_logs WHERE execution_id = ? ORDER BY id"
}

statement! {
    StartTask<'a> {
        started_at: i64 => BigInt,
        execution_id: &'a [u8] => Binary,
        ordinal: i64 => BigInt,
        attempt: i64 => BigInt,
        runner_id: &'a [u8] => Binary,
    }
    "UPDATE cloacina_tasks SET started_at = ? WHERE execution_id = ? AND ordinal = ? AND state = 2 AND attempt = ? \
     AND runner_id = ?"
}

statement! {
    StartExecution<'a> { earlier: i64 => BigInt, started_at: i64 => BigInt, id: &'a [u8] => Binary }
    "UPDATE cloacina_executions SET started_at = coalesce(min(started_at, ?), ?) WHERE id = ?"
}

query! {
    Backlog { limit: i64 => BigInt } -> BigInt;
    "SELECT count(*) FROM (SELECT 1 FROM cloacina_tasks WHERE state = 1 AND ready_at IS NULL LIMIT ?)"
}

query! {
    CountWaits { kind: i16 => SmallInt, limit: i64 => BigInt } -> BigInt;
    "SELECT count(*) FROM (SELECT 1 FROM cloacina_waits INDEXED BY cloacina_waits_kind WHERE kind = ? LIMIT ?)"
}

query! {
    /// Returns the newest migration that was applied.
    SchemaVersion {} -> Text;
    "SELECT coalesce(max(version), '') FROM cloacina_migrations"
}

query! { IntegrityCheck {} -> Text; "PRAGMA integrity_check(20)" }
query! { PageCount {} -> BigInt; "PRAGMA page_count" }
query! { FreePages {} -> BigInt; "PRAGMA freelist_count" }
query! { PageSize {} -> BigInt; "PRAGMA page_size" }

/// Minimum unused space, in bytes, for which `check` gives advice.
const MIN_REPORTED_FREE_SPACE: u64 = 16 << 20;

pub(super) fn announce(
    writer: &Writer,
    runner: RunnerId,
    workflows: &[String],
    offers: &[Offer],
) -> Result<(), Fault> {
    let work = |connection: &mut SqliteConnection| {
        let workflows = &encode(&workflows)?;
        let id = runner.as_bytes();
        SetWorkflows { workflows, id }.execute(connection)?;
        for offer in offers {
            PutOffer {
                workflow: &offer.workflow,
                runner_id: id,
                tasks: &encode(&offer.tasks)?,
                host: &offer.host,
                pid: offer.pid,
                seen_at: offer.seen_at.0,
            }
            .execute(connection)?;
        }
        Ok(())
    };
    writer.write(&mut *writer.lock()?, work)
}

pub(super) fn withdraw(
    writer: &Writer,
    runner: RunnerId,
    seen_at: Option<Timestamp>,
) -> Result<(), Fault> {
    let work = |connection: &mut SqliteConnection| {
        let id = runner.as_bytes().as_slice();
        Withdraw {
            seen_at: seen_at.map(|at| at.0),
            runner: id,
            id,
        }
        .execute(connection)?;
        ForgetOlder { id, again: id }.execute(connection)?;
        Ok(())
    };
    writer.write(&mut *writer.lock()?, work)
}

pub(super) fn offers(
    connection: &mut SqliteConnection,
    workflow: &str,
) -> Result<Vec<Offer>, Fault> {
    let rows: Vec<OfferRow> = OffersOf { workflow }.load(connection)?;
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

pub(super) fn note(writer: &Writer, progress: &[Progress], logs: &[LogChunk]) -> Result<(), Fault> {
    let work = |connection: &mut SqliteConnection| {
        for report in progress {
            PutProgress {
                execution_id: report.execution.as_bytes(),
                ordinal: report.task.into(),
                attempt: report.attempt.into(),
                done: report.done,
                total: report.total,
                message: report.message.as_deref(),
                time: report.time.0,
            }
            .execute(connection)?;
        }
        for chunk in logs {
            AppendLog {
                execution_id: chunk.execution.as_bytes(),
                ordinal: chunk.task.into(),
                attempt: chunk.attempt.into(),
                lines: &encode(&chunk.lines)?,
            }
            .execute(connection)?;
        }
        Ok(())
    };
    writer.write(&mut *writer.lock()?, work)
}

pub(super) fn note_starts(writer: &Writer, starts: &[AttemptStart]) -> Result<(), Fault> {
    let work = |connection: &mut SqliteConnection| {
        for start in starts {
            let id = start.execution.as_bytes();
            let changed = StartTask {
                started_at: start.at.0,
                execution_id: id,
                ordinal: start.task.into(),
                attempt: start.claim.attempt.into(),
                runner_id: start.claim.runner.as_bytes(),
            }
            .execute(connection)?;
            if changed > 0 {
                StartExecution {
                    earlier: start.at.0,
                    started_at: start.at.0,
                    id,
                }
                .execute(connection)?;
            }
        }
        Ok(())
    };
    writer.write(&mut *writer.lock()?, work)
}

pub(super) fn progress(
    connection: &mut SqliteConnection,
    id: ExecutionId,
) -> Result<Vec<Progress>, Fault> {
    type ProgressColumns = (i64, i64, f64, f64, Option<String>, i64);
    let rows: Vec<ProgressColumns> = ProgressOf { id: id.as_bytes() }.load(connection)?;
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
}

pub(super) fn logs(
    connection: &mut SqliteConnection,
    id: ExecutionId,
) -> Result<Vec<LogChunk>, Fault> {
    let rows: Vec<(i64, i64, Decoded<Vec<LogLine>>)> =
        LogsOf { id: id.as_bytes() }.load(connection)?;
    let chunks = rows.into_iter().map(|(task, attempt, lines)| {
        Ok(LogChunk {
            execution: id,
            task: count("ordinal", task)?,
            attempt: count("attempt", attempt)?,
            lines: lines.0,
        })
    });
    chunks.collect()
}

pub(super) fn backlog(connection: &mut SqliteConnection, limit: usize) -> Result<usize, Fault> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let counted: Vec<i64> = Backlog { limit }.load(connection)?;
    Ok(usize::try_from(counted.first().copied().unwrap_or_default()).unwrap_or_default())
}

pub(super) fn count_waits(
    connection: &mut SqliteConnection,
    kind: WaitKind,
    limit: usize,
) -> Result<usize, Fault> {
    let query = CountWaits {
        kind: kind.code(),
        limit: i64::try_from(limit).unwrap_or(i64::MAX),
    };
    let counted: Vec<i64> = query.load(connection)?;
    Ok(usize::try_from(counted.first().copied().unwrap_or_default()).unwrap_or_default())
}

pub(super) fn check(connection: &mut SqliteConnection) -> Result<Health, Fault> {
    let found: Vec<String> = IntegrityCheck {}.load(connection)?;
    let first = |values: Vec<i64>| {
        u64::try_from(values.first().copied().unwrap_or_default()).unwrap_or_default()
    };
    let page = first(PageSize {}.load(connection)?);
    let size = page * first(PageCount {}.load(connection)?);
    let free = page * first(FreePages {}.load(connection)?);
    let mut advice = Vec::new();
    if free >= MIN_REPORTED_FREE_SPACE && free * 4 >= size {
        advice.push(format!(
            "{} of {} MiB are unused: new executions will use them; to return them to the disk, stop all programs \
             that use the database, and run VACUUM on the file",
            free >> 20,
            size >> 20
        ));
    }
    Ok(Health {
        problems: found.into_iter().filter(|line| line != "ok").collect(),
        size,
        free,
        advice,
        schema_version: SchemaVersion {}.load(connection)?.pop().unwrap_or_default(),
    })
}
