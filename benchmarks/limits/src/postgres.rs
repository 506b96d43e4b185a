//! Measures PostgreSQL: one connection, and each statement writes a batch of rows.

mod diesel_client;
mod plain_client;

use std::{
    error::Error,
    time::{Duration, Instant},
};

use serde_json::{Map, Value, json};
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

use self::{diesel_client::DieselClient, plain_client::PlainClient};
use crate::{
    measurement::{Commits, Rate},
    workload::{BATCHES, Batch, Constants, Effort, WORKLOADS, Workload, now},
};

/// A way to send the statements of one transaction.
#[derive(Clone, Copy)]
enum SendMode {
    /// Each statement waits for the reply to the previous one: six round trips.
    Sequential,
    /// All statements are sent before the first reply is read: one round trip, but still six messages.
    Pipelined,
    /// One statement with data-modifying subqueries and no explicit transaction.
    Fused,
}

const SEND_MODES: [(&str, SendMode); 3] = [
    ("sequential", SendMode::Sequential),
    ("pipelined", SendMode::Pipelined),
    ("fused", SendMode::Fused),
];

pub const PLAIN: &str = "tokio_postgres";
const DIESEL: &str = "diesel_async";

type Outcome = Result<(), Box<dyn Error>>;

trait Writer {
    /// Commits one row durably in a separate transaction.
    async fn commit(&self, at: i64) -> Outcome;

    /// Creates the executions of one batch and finishes those of another, in one transaction.
    async fn write(
        &self,
        mode: SendMode,
        constants: &Constants,
        create: &Columns,
        finish: &Columns,
    ) -> Outcome;
}

/// A batch as parameters for PostgreSQL: one array for each column of the executions and of the tasks.
#[derive(Default)]
struct Columns {
    at: i64,
    ids: Vec<Uuid>,
    task_executions: Vec<Uuid>,
    ordinals: Vec<i32>,
    states: Vec<i32>,
    attempts: Vec<i32>,
    texts: Vec<Option<String>>,
}

impl From<&Batch> for Columns {
    fn from(batch: &Batch) -> Self {
        Self {
            at: now(),
            ids: batch.ids.clone(),
            task_executions: batch.tasks.iter().map(|task| task.execution).collect(),
            ordinals: batch.tasks.iter().map(|task| task.ordinal).collect(),
            states: batch.tasks.iter().map(|task| task.state).collect(),
            attempts: vec![1; batch.tasks.len()],
            texts: vec![None; batch.tasks.len()],
        }
    }
}

/// The texts of the statements that both clients send, with `?` for a placeholder.
mod text {
    pub const COMMIT_ONE: &str = "INSERT INTO commits (at) VALUES (?)";

    macro_rules! insert_executions {
        () => {
            "INSERT INTO executions (id, definition_id, workflow, state, priority, revision, created_at, started_at) \
             SELECT id, ?::uuid, ?::text, 2, 0, 1, ?::bigint, ?::bigint FROM unnest(?::uuid[]) AS n (id)"
        };
    }
    macro_rules! insert_tasks {
        () => {
            "INSERT INTO tasks \
             (execution_id, ordinal, state, attempt, runner_id, ready_at, queue, priority, started_at) \
             SELECT execution_id, ordinal, state, 1, ?::uuid, ?::bigint, ?::text, 0, ?::bigint \
             FROM unnest(?::uuid[], ?::int[], ?::int[]) AS n (execution_id, ordinal, state)"
        };
    }
    // The fence `(runner, attempt)` is written in a form that the planner does not consider selective. With the plain
    // form `runner_id = ? AND attempt = 1`, the planner expects a single matching row. It then scans the table, and
    // searches all the arrays for each of its rows, which is eighty times slower at 2,000 rows.
    macro_rules! finish_tasks {
        () => {
            "UPDATE tasks AS t SET state = 3, ended_at = ?::bigint, delta = n.delta, error = n.error \
             FROM unnest(?::uuid[], ?::int[], ?::int[], ?::text[], ?::text[]) \
             AS n (execution_id, ordinal, attempt, delta, error) \
             WHERE t.execution_id = n.execution_id AND t.ordinal = n.ordinal AND t.attempt = n.attempt \
             AND coalesce(t.runner_id = ?::uuid, false)"
        };
    }
    macro_rules! finish_executions {
        () => {
            "UPDATE executions AS e SET state = 3, ended_at = ?::bigint, revision = revision + 1 \
             FROM unnest(?::uuid[]) AS n (id) WHERE e.id = n.id"
        };
    }
    pub const INSERT_EXECUTIONS: &str = insert_executions!();
    pub const INSERT_TASKS: &str = insert_tasks!();
    pub const FINISH_TASKS: &str = finish_tasks!();
    pub const FINISH_EXECUTIONS: &str = finish_executions!();
    pub const FUSED: &str = concat!(
        "WITH a AS (",
        insert_executions!(),
        "), b AS (",
        insert_tasks!(),
        "), c AS (",
        finish_tasks!(),
        ") ",
        finish_executions!()
    );
}

const SCHEMA: &str = "
    DROP SCHEMA IF EXISTS cloacina_limits CASCADE;
    CREATE SCHEMA cloacina_limits;
    SET search_path = cloacina_limits;
    CREATE TABLE executions (
        id UUID NOT NULL PRIMARY KEY, definition_id UUID NOT NULL, workflow TEXT NOT NULL, state INT NOT NULL,
        priority INT NOT NULL, revision INT NOT NULL, created_at BIGINT NOT NULL, started_at BIGINT,
        ended_at BIGINT, error TEXT);
    CREATE TABLE tasks (
        execution_id UUID NOT NULL, ordinal INT NOT NULL, state INT NOT NULL, attempt INT NOT NULL,
        runner_id UUID, ready_at BIGINT, queue TEXT NOT NULL, priority INT NOT NULL, started_at BIGINT,
        ended_at BIGINT, delta TEXT, error TEXT, PRIMARY KEY (execution_id, ordinal));
    CREATE INDEX tasks_ready ON tasks (queue, priority DESC, execution_id, ordinal) WHERE state = 1;
    CREATE INDEX executions_unfinished ON executions (state, id) WHERE state IN (0, 1, 2);
    CREATE TABLE commits (id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at BIGINT NOT NULL);
";

/// Disables sequential scans, hash joins and merge joins. PostgreSQL plans the statements while the tables are empty, and
/// keeps a statement's plan from its sixth execution on, until the table is analysed. Without these settings, the plan was
/// a sequential scan with a hash join, which was ten times slower than a search by primary key even before the table had
/// 2,000 rows.
const SESSION: &str = "
    SET search_path = cloacina_limits;
    SET enable_seqscan = off;
    SET enable_hashjoin = off;
    SET enable_mergejoin = off;
";

pub fn measure(url: &str, effort: Effort) -> Result<Value, Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        tokio::spawn(connection);
        let measured = measure_clients(&client, url, effort).await?;
        client
            .batch_execute("DROP SCHEMA cloacina_limits CASCADE")
            .await?;
        Ok(measured)
    })
}

/// Measures the two clients alternately, because the speed of the disk varies by more than the difference between the
/// clients.
async fn measure_clients(
    administrator: &Client,
    url: &str,
    effort: Effort,
) -> Result<Value, Box<dyn Error>> {
    let commit = commits(administrator, url, effort).await?;
    let mut rows = Map::new();
    for workload in WORKLOADS {
        let mut batches = Map::new();
        for size in BATCHES {
            let mut modes = Map::new();
            for (name, mode) in SEND_MODES {
                let mut plain = Rate::new(workload.tasks);
                let mut diesel = Rate::new(workload.tasks);
                for _ in 0..effort.rounds {
                    administrator.batch_execute(SCHEMA).await?;
                    let writer = PlainClient::new(url).await?;
                    round(&writer, mode, workload, size, effort.round, &mut plain).await?;
                    check(administrator).await?;

                    administrator.batch_execute(SCHEMA).await?;
                    let writer = DieselClient::new(url).await?;
                    round(&writer, mode, workload, size, effort.round, &mut diesel).await?;
                    check(administrator).await?;
                }
                modes.insert(
                    name.to_owned(),
                    json!({ PLAIN: plain.to_json(), DIESEL: diesel.to_json() }),
                );
            }
            batches.insert(size.to_string(), Value::Object(modes));
        }
        rows.insert(workload.name.to_owned(), Value::Object(batches));
    }
    let after = commits(administrator, url, effort).await?;
    Ok(json!({ "commit": commit, "commit_after": after, "rows": rows }))
}

async fn commits(
    administrator: &Client,
    url: &str,
    effort: Effort,
) -> Result<Value, Box<dyn Error>> {
    administrator.batch_execute(SCHEMA).await?;
    let (plain, diesel) = (PlainClient::new(url).await?, DieselClient::new(url).await?);
    for _ in 0..20 {
        plain.commit(now()).await?;
        diesel.commit(now()).await?;
    }
    let (mut by_plain, mut by_diesel) = (Vec::new(), Vec::new());
    for _ in 0..effort.commits {
        let start = Instant::now();
        plain.commit(now()).await?;
        let between = Instant::now();
        diesel.commit(now()).await?;
        by_plain.push(between - start);
        by_diesel.push(between.elapsed());
    }
    Ok(json!({ PLAIN: Commits(by_plain).to_json(), DIESEL: Commits(by_diesel).to_json() }))
}

/// Measures one round. Each transaction creates one batch and finishes the previous batch, as for SQLite.
async fn round(
    writer: &impl Writer,
    mode: SendMode,
    workload: Workload,
    size: usize,
    duration: Duration,
    rate: &mut Rate,
) -> Outcome {
    let constants = Constants::new();
    let mut previous = Columns::default();
    let mut executions = 0;
    let start = Instant::now();
    while start.elapsed() < duration {
        let batch = Columns::from(&Batch::new(size, workload.tasks));
        writer.write(mode, &constants, &batch, &previous).await?;
        executions += previous.ids.len();
        previous = batch;
    }
    rate.add(executions, start.elapsed());
    Ok(())
}

/// Checks that the rows were written. After a failed statement, `COMMIT` rolls back and reports no error.
async fn check(administrator: &Client) -> Outcome {
    let row = administrator
        .query_one(
            "SELECT (SELECT count(DISTINCT created_at) FROM executions WHERE state <> 3), \
                    (SELECT count(DISTINCT ready_at) FROM tasks WHERE state <> 3), \
                    (SELECT count(*) FROM executions WHERE state = 3)",
            &[],
        )
        .await?;
    let (executions, tasks, finished): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
    if (executions, tasks) == (1, 1) && finished > 0 {
        Ok(())
    } else {
        Err(format!(
            "a round wrote wrong rows: {executions} batches of executions and {tasks} batches of tasks are unfinished \
             (1 and 1 expected), {finished} executions are finished (at least 1 expected)"
        )
        .into())
    }
}
