//! Sends the statements with diesel-async.

use std::error::Error;

use diesel::{
    pg::Pg,
    sql_types::{Array, BigInt, Integer, Nullable, Text, Uuid as SqlUuid},
};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use futures_util::try_join;
use uuid::Uuid;

use super::{Columns, Outcome, SESSION, SendMode, Writer, text};
use crate::{statement::statement, workload::Constants};

statement! { Begin on Pg {} "BEGIN" }
// `COMMIT` is a typed statement like the others, because `batch_execute` does not wait for statements that are still
// being prepared. In a pipeline, it could therefore send `COMMIT` before the statements to commit.
statement! { Commit on Pg {} "COMMIT" }

statement! { CommitOne on Pg { at: i64 => BigInt } text::COMMIT_ONE }

statement! {
    #[derive(Clone, Copy)]
    InsertExecutions<'a> on Pg {
        definition_id: Uuid => SqlUuid,
        workflow: &'a str => Text,
        created_at: i64 => BigInt,
        started_at: i64 => BigInt,
        ids: &'a [Uuid] => Array<SqlUuid>,
    }
    text::INSERT_EXECUTIONS
}

statement! {
    #[derive(Clone, Copy)]
    InsertTasks<'a> on Pg {
        runner_id: Uuid => SqlUuid,
        ready_at: i64 => BigInt,
        queue: &'a str => Text,
        started_at: i64 => BigInt,
        execution_ids: &'a [Uuid] => Array<SqlUuid>,
        ordinals: &'a [i32] => Array<Integer>,
        states: &'a [i32] => Array<Integer>,
    }
    text::INSERT_TASKS
}

statement! {
    #[derive(Clone, Copy)]
    FinishTasks<'a> on Pg {
        ended_at: i64 => BigInt,
        execution_ids: &'a [Uuid] => Array<SqlUuid>,
        ordinals: &'a [i32] => Array<Integer>,
        attempts: &'a [i32] => Array<Integer>,
        deltas: &'a [Option<String>] => Array<Nullable<Text>>,
        errors: &'a [Option<String>] => Array<Nullable<Text>>,
        runner_id: Uuid => SqlUuid,
    }
    text::FINISH_TASKS
}

statement! {
    #[derive(Clone, Copy)]
    FinishExecutions<'a> on Pg {
        ended_at: i64 => BigInt,
        ids: &'a [Uuid] => Array<SqlUuid>,
    }
    text::FINISH_EXECUTIONS
}

statement! {
    Fused<'a> on Pg {
        definition_id: Uuid => SqlUuid,
        workflow: &'a str => Text,
        created_at: i64 => BigInt,
        started_at: i64 => BigInt,
        ids: &'a [Uuid] => Array<SqlUuid>,
        runner_id: Uuid => SqlUuid,
        ready_at: i64 => BigInt,
        queue: &'a str => Text,
        task_started_at: i64 => BigInt,
        task_executions: &'a [Uuid] => Array<SqlUuid>,
        ordinals: &'a [i32] => Array<Integer>,
        states: &'a [i32] => Array<Integer>,
        ended_at: i64 => BigInt,
        finished_task_executions: &'a [Uuid] => Array<SqlUuid>,
        finished_ordinals: &'a [i32] => Array<Integer>,
        attempts: &'a [i32] => Array<Integer>,
        deltas: &'a [Option<String>] => Array<Nullable<Text>>,
        errors: &'a [Option<String>] => Array<Nullable<Text>>,
        finished_runner_id: Uuid => SqlUuid,
        execution_ended_at: i64 => BigInt,
        finished_ids: &'a [Uuid] => Array<SqlUuid>,
    }
    text::FUSED
}

pub struct DieselClient {
    connection: AsyncPgConnection,
}

impl DieselClient {
    pub async fn new(url: &str) -> Result<Self, Box<dyn Error>> {
        let mut connection = AsyncPgConnection::establish(url).await?;
        connection.batch_execute(SESSION).await?;
        Ok(Self { connection })
    }
}

impl Writer for DieselClient {
    async fn commit(&self, at: i64) -> Outcome {
        CommitOne { at }.execute(&mut &self.connection).await?;
        Ok(())
    }

    async fn write(
        &self,
        mode: SendMode,
        constants: &Constants,
        create: &Columns,
        finish: &Columns,
    ) -> Outcome {
        let insert_executions = InsertExecutions {
            definition_id: constants.definition,
            workflow: constants.workflow,
            created_at: create.at,
            started_at: create.at,
            ids: &create.ids,
        };
        let insert_tasks = InsertTasks {
            runner_id: constants.runner,
            ready_at: create.at,
            queue: constants.queue,
            started_at: create.at,
            execution_ids: &create.task_executions,
            ordinals: &create.ordinals,
            states: &create.states,
        };
        let finish_tasks = FinishTasks {
            ended_at: create.at,
            execution_ids: &finish.task_executions,
            ordinals: &finish.ordinals,
            attempts: &finish.attempts,
            deltas: &finish.texts,
            errors: &finish.texts,
            runner_id: constants.runner,
        };
        let finish_executions = FinishExecutions {
            ended_at: create.at,
            ids: &finish.ids,
        };
        let connection = &self.connection;
        match mode {
            SendMode::Sequential => {
                Begin {}.execute(&mut &*connection).await?;
                insert_executions.execute(&mut &*connection).await?;
                insert_tasks.execute(&mut &*connection).await?;
                finish_tasks.execute(&mut &*connection).await?;
                finish_executions.execute(&mut &*connection).await?;
                Commit {}.execute(&mut &*connection).await?;
            }
            SendMode::Pipelined => {
                // A statement is sent when its future is first polled, and `try_join!` polls the futures in this order.
                try_join!(
                    Begin {}.execute(&mut &*connection),
                    insert_executions.execute(&mut &*connection),
                    insert_tasks.execute(&mut &*connection),
                    finish_tasks.execute(&mut &*connection),
                    finish_executions.execute(&mut &*connection),
                    Commit {}.execute(&mut &*connection),
                )?;
            }
            SendMode::Fused => {
                fused(
                    insert_executions,
                    insert_tasks,
                    finish_tasks,
                    finish_executions,
                )
                .execute(&mut &*connection)
                .await?;
            }
        }
        Ok(())
    }
}

fn fused<'a>(
    insert_executions: InsertExecutions<'a>,
    insert_tasks: InsertTasks<'a>,
    finish_tasks: FinishTasks<'a>,
    finish_executions: FinishExecutions<'a>,
) -> Fused<'a> {
    Fused {
        definition_id: insert_executions.definition_id,
        workflow: insert_executions.workflow,
        created_at: insert_executions.created_at,
        started_at: insert_executions.started_at,
        ids: insert_executions.ids,
        runner_id: insert_tasks.runner_id,
        ready_at: insert_tasks.ready_at,
        queue: insert_tasks.queue,
        task_started_at: insert_tasks.started_at,
        task_executions: insert_tasks.execution_ids,
        ordinals: insert_tasks.ordinals,
        states: insert_tasks.states,
        ended_at: finish_tasks.ended_at,
        finished_task_executions: finish_tasks.execution_ids,
        finished_ordinals: finish_tasks.ordinals,
        attempts: finish_tasks.attempts,
        deltas: finish_tasks.deltas,
        errors: finish_tasks.errors,
        finished_runner_id: finish_tasks.runner_id,
        execution_ended_at: finish_executions.ended_at,
        finished_ids: finish_executions.ids,
    }
}
