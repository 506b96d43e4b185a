//! Measures SQLite: one connection, and each statement writes one row and is prepared once.

use std::{
    error::Error,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use diesel::{
    Connection, QueryResult, RunQueryDsl, SqliteConnection,
    connection::SimpleConnection,
    sql_types::{BigInt, Binary, Integer, Nullable, Text},
    sqlite::Sqlite,
};
use serde_json::{Map, Value, json};

use crate::{
    measurement::{Commits, Rate},
    statement::statement,
    workload::{BATCHES, Batch, COMPLETED, Constants, Effort, RUNNING, WORKLOADS, Workload, now},
};

statement! {
    Commit on Sqlite { at: i64 => BigInt }
    "INSERT INTO commits (at) VALUES (?)"
}

statement! {
    InsertExecution<'a> on Sqlite {
        id: &'a [u8] => Binary,
        definition_id: &'a [u8] => Binary,
        workflow: &'a str => Text,
        state: i32 => Integer,
        priority: i32 => Integer,
        created_at: i64 => BigInt,
        started_at: i64 => BigInt,
    }
    "INSERT INTO executions (id, definition_id, workflow, state, priority, revision, created_at, started_at) \
     VALUES (?, ?, ?, ?, ?, 1, ?, ?)"
}

statement! {
    InsertTask<'a> on Sqlite {
        execution_id: &'a [u8] => Binary,
        ordinal: i32 => Integer,
        state: i32 => Integer,
        runner_id: &'a [u8] => Binary,
        ready_at: i64 => BigInt,
        queue: &'a str => Text,
        priority: i32 => Integer,
        started_at: i64 => BigInt,
    }
    "INSERT INTO tasks (execution_id, ordinal, state, attempt, runner_id, ready_at, queue, priority, started_at) \
     VALUES (?, ?, ?, 1, ?, ?, ?, ?, ?)"
}

statement! {
    FinishTask<'a> on Sqlite {
        state: i32 => Integer,
        ended_at: i64 => BigInt,
        delta: Option<&'a str> => Nullable<Text>,
        error: Option<&'a str> => Nullable<Text>,
        execution_id: &'a [u8] => Binary,
        ordinal: i32 => Integer,
        runner_id: &'a [u8] => Binary,
        attempt: i32 => Integer,
    }
    "UPDATE tasks SET state = ?, ended_at = ?, delta = ?, error = ? \
     WHERE execution_id = ? AND ordinal = ? AND runner_id = ? AND attempt = ?"
}

statement! {
    FinishExecution<'a> on Sqlite {
        state: i32 => Integer,
        ended_at: i64 => BigInt,
        error: Option<&'a str> => Nullable<Text>,
        id: &'a [u8] => Binary,
    }
    "UPDATE executions SET state = ?, ended_at = ?, error = ?, revision = revision + 1 WHERE id = ?"
}

impl RunQueryDsl<SqliteConnection> for Commit {}
impl RunQueryDsl<SqliteConnection> for InsertExecution<'_> {}
impl RunQueryDsl<SqliteConnection> for InsertTask<'_> {}
impl RunQueryDsl<SqliteConnection> for FinishTask<'_> {}
impl RunQueryDsl<SqliteConnection> for FinishExecution<'_> {}

/// The tables. `{}` stands for the table option: `WITHOUT ROWID` or nothing.
const SCHEMA: &str = "
    CREATE TABLE executions (
        id BLOB NOT NULL PRIMARY KEY, definition_id BLOB NOT NULL, workflow TEXT NOT NULL, state INTEGER NOT NULL,
        priority INTEGER NOT NULL, revision INTEGER NOT NULL, created_at INTEGER NOT NULL, started_at INTEGER,
        ended_at INTEGER, error TEXT) {};
    CREATE TABLE tasks (
        execution_id BLOB NOT NULL, ordinal INTEGER NOT NULL, state INTEGER NOT NULL, attempt INTEGER NOT NULL,
        runner_id BLOB, ready_at INTEGER, queue TEXT NOT NULL, priority INTEGER NOT NULL, started_at INTEGER,
        ended_at INTEGER, delta TEXT, error TEXT, PRIMARY KEY (execution_id, ordinal)) {};
    CREATE INDEX tasks_ready ON tasks (queue, priority DESC, execution_id, ordinal) WHERE state = 1;
    CREATE INDEX executions_unfinished ON executions (state, id) WHERE state IN (0, 1, 2);
    CREATE TABLE commits (id INTEGER PRIMARY KEY, at INTEGER NOT NULL);
";

const WITHOUT_ROWID: &str = "WITHOUT ROWID";

pub fn measure(directory: &Path, effort: Effort) -> Result<Value, Box<dyn Error>> {
    fs::create_dir_all(directory)?;
    let file = directory.join("limits.sqlite");
    let mut commit = Map::new();
    for synchronous in ["FULL", "NORMAL"] {
        let mut connection = fresh(&file, synchronous, WITHOUT_ROWID)?;
        commit.insert(
            synchronous.to_lowercase(),
            commits(&mut connection, effort)?.to_json(),
        );
    }
    let mut rows = Map::new();
    for workload in WORKLOADS {
        let mut batches = Map::new();
        for size in BATCHES {
            let rate = rate(&file, "FULL", WITHOUT_ROWID, workload, size, effort)?;
            batches.insert(size.to_string(), rate.to_json());
        }
        // Measures two other settings, at the 100 executions per transaction that `limit` uses for W2 and W3.
        for (name, synchronous, option) in [
            ("100_normal", "NORMAL", WITHOUT_ROWID),
            ("100_rowid", "FULL", ""),
        ] {
            let rate = rate(&file, synchronous, option, workload, 100, effort)?;
            batches.insert(name.to_owned(), rate.to_json());
        }
        rows.insert(workload.name.to_owned(), Value::Object(batches));
    }
    let mut connection = fresh(&file, "FULL", WITHOUT_ROWID)?;
    let after = json!({ "full": commits(&mut connection, effort)?.to_json() });
    drop(connection);
    remove(&file)?;
    Ok(json!({ "commit": commit, "commit_after": after, "rows": rows }))
}

fn commits(connection: &mut SqliteConnection, effort: Effort) -> QueryResult<Commits> {
    let mut commit = || {
        let statement = Commit { at: now() };
        let start = Instant::now();
        statement.execute(connection)?;
        Ok(start.elapsed())
    };
    for _ in 0..20 {
        commit()?;
    }
    (0..effort.commits)
        .map(|_| commit())
        .collect::<QueryResult<_>>()
        .map(Commits)
}

fn rate(
    file: &Path,
    synchronous: &str,
    option: &str,
    workload: Workload,
    size: usize,
    effort: Effort,
) -> Result<Rate, Box<dyn Error>> {
    let mut rate = Rate::new(workload.tasks);
    for _ in 0..effort.rounds {
        let mut connection = fresh(file, synchronous, option)?;
        let (executions, elapsed) = round(&mut connection, workload, size, effort.round)?;
        rate.add(executions, elapsed);
    }
    Ok(rate)
}

/// Measures one round. Each transaction creates one batch and finishes the previous batch, like a commit of a busy
/// engine. No execution is finished in the transaction that created it.
fn round(
    connection: &mut SqliteConnection,
    workload: Workload,
    size: usize,
    duration: Duration,
) -> QueryResult<(usize, Duration)> {
    let constants = Constants::new();
    let mut previous = Batch::default();
    let mut executions = 0;
    let start = Instant::now();
    while start.elapsed() < duration {
        let batch = Batch::new(size, workload.tasks);
        connection.immediate_transaction(|connection| {
            create(connection, &constants, &batch)?;
            finish(connection, &constants, &previous)
        })?;
        executions += previous.ids.len();
        previous = batch;
    }
    Ok((executions, start.elapsed()))
}

fn create(
    connection: &mut SqliteConnection,
    constants: &Constants,
    batch: &Batch,
) -> QueryResult<()> {
    let now = now();
    for id in &batch.ids {
        InsertExecution {
            id: id.as_bytes(),
            definition_id: constants.definition.as_bytes(),
            workflow: constants.workflow,
            state: RUNNING,
            priority: 0,
            created_at: now,
            started_at: now,
        }
        .execute(connection)?;
    }
    for task in &batch.tasks {
        InsertTask {
            execution_id: task.execution.as_bytes(),
            ordinal: task.ordinal,
            state: task.state,
            runner_id: constants.runner.as_bytes(),
            ready_at: now,
            queue: constants.queue,
            priority: 0,
            started_at: now,
        }
        .execute(connection)?;
    }
    Ok(())
}

fn finish(
    connection: &mut SqliteConnection,
    constants: &Constants,
    batch: &Batch,
) -> QueryResult<()> {
    let now = now();
    for task in &batch.tasks {
        let finished = FinishTask {
            state: COMPLETED,
            ended_at: now,
            delta: None,
            error: None,
            execution_id: task.execution.as_bytes(),
            ordinal: task.ordinal,
            runner_id: constants.runner.as_bytes(),
            attempt: 1,
        }
        .execute(connection)?;
        assert_eq!(finished, 1, "number of rows with the task's claim");
    }
    for id in &batch.ids {
        FinishExecution {
            state: COMPLETED,
            ended_at: now,
            error: None,
            id: id.as_bytes(),
        }
        .execute(connection)?;
    }
    Ok(())
}

fn fresh(file: &Path, synchronous: &str, option: &str) -> Result<SqliteConnection, Box<dyn Error>> {
    remove(file)?;
    let mut connection = SqliteConnection::establish(&file.to_string_lossy())?;
    connection.batch_execute(&format!(
        "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = {synchronous};"
    ))?;
    connection.batch_execute(&SCHEMA.replace("{}", option))?;
    Ok(connection)
}

fn remove(file: &Path) -> std::io::Result<()> {
    for suffix in ["", "-wal", "-shm"] {
        let mut name = file.as_os_str().to_owned();
        name.push(suffix);
        if Path::new(&name).exists() {
            fs::remove_file(&name)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use diesel::connection::InstrumentationEvent;

    use super::*;

    #[test]
    fn each_statement_is_prepared_once() {
        let mut connection = SqliteConnection::establish(":memory:").unwrap();
        connection
            .batch_execute(&SCHEMA.replace("{}", WITHOUT_ROWID))
            .unwrap();
        let prepared = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&prepared);
        connection.set_instrumentation(move |event: InstrumentationEvent<'_>| {
            if let InstrumentationEvent::CacheQuery { sql, .. } = event {
                seen.lock().unwrap().push(sql.to_owned());
            }
        });
        let constants = Constants::new();
        let batch = Batch::new(3, 2);
        create(&mut connection, &constants, &batch).unwrap();
        finish(&mut connection, &constants, &batch).unwrap();
        let prepared = prepared.lock().unwrap();
        assert_eq!(prepared.len(), 4, "{prepared:#?}");
    }
}
