//! Sends the statements with tokio-postgres, without Diesel.

use std::error::Error;

use futures_util::{FutureExt, future::try_join_all};
use tokio_postgres::{Client, NoTls, Statement, types::ToSql};

use super::{Columns, Outcome, SESSION, SendMode, Writer, text};
use crate::workload::Constants;

pub struct PlainClient {
    client: Client,
    begin: Statement,
    commit: Statement,
    commit_one: Statement,
    insert_executions: Statement,
    insert_tasks: Statement,
    finish_tasks: Statement,
    finish_executions: Statement,
    fused: Statement,
}

impl PlainClient {
    pub async fn new(url: &str) -> Result<Self, Box<dyn Error>> {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        tokio::spawn(connection);
        client.batch_execute(SESSION).await?;
        let prepare = async |text: &str| client.prepare(&numbered(text)).await;
        Ok(Self {
            begin: prepare("BEGIN").await?,
            commit: prepare("COMMIT").await?,
            commit_one: prepare(text::COMMIT_ONE).await?,
            insert_executions: prepare(text::INSERT_EXECUTIONS).await?,
            insert_tasks: prepare(text::INSERT_TASKS).await?,
            finish_tasks: prepare(text::FINISH_TASKS).await?,
            finish_executions: prepare(text::FINISH_EXECUTIONS).await?,
            fused: prepare(text::FUSED).await?,
            client,
        })
    }
}

impl Writer for PlainClient {
    async fn commit(&self, at: i64) -> Outcome {
        self.client.execute(&self.commit_one, &[&at]).await?;
        Ok(())
    }

    async fn write(
        &self,
        mode: SendMode,
        constants: &Constants,
        create: &Columns,
        finish: &Columns,
    ) -> Outcome {
        let insert_executions: [&(dyn ToSql + Sync); 5] = [
            &constants.definition,
            &constants.workflow,
            &create.at,
            &create.at,
            &create.ids,
        ];
        let insert_tasks: [&(dyn ToSql + Sync); 7] = [
            &constants.runner,
            &create.at,
            &constants.queue,
            &create.at,
            &create.task_executions,
            &create.ordinals,
            &create.states,
        ];
        let finish_tasks: [&(dyn ToSql + Sync); 7] = [
            &create.at,
            &finish.task_executions,
            &finish.ordinals,
            &finish.attempts,
            &finish.texts,
            &finish.texts,
            &constants.runner,
        ];
        let finish_executions: [&(dyn ToSql + Sync); 2] = [&create.at, &finish.ids];
        let steps: [(&Statement, &[&(dyn ToSql + Sync)]); 6] = [
            (&self.begin, &[]),
            (&self.insert_executions, &insert_executions),
            (&self.insert_tasks, &insert_tasks),
            (&self.finish_tasks, &finish_tasks),
            (&self.finish_executions, &finish_executions),
            (&self.commit, &[]),
        ];
        match mode {
            SendMode::Sequential => {
                for (statement, values) in steps {
                    self.client.execute(statement, values).await?;
                }
            }
            SendMode::Pipelined => {
                let replies = steps.into_iter().map(|(statement, values)| {
                    self.client.execute(statement, values).boxed_local()
                });
                try_join_all(replies).await?;
            }
            SendMode::Fused => {
                let values = [
                    &insert_executions[..],
                    &insert_tasks,
                    &finish_tasks,
                    &finish_executions,
                ]
                .concat();
                self.client.execute(&self.fused, &values).await?;
            }
        }
        Ok(())
    }
}

/// Numbers the placeholders, as PostgreSQL requires.
fn numbered(text: &str) -> String {
    let mut number = 0;
    text.split_inclusive('?')
        .map(|piece| match piece.strip_suffix('?') {
            Some(before) => {
                number += 1;
                format!("{before}${number}")
            }
            None => piece.to_owned(),
        })
        .collect()
}
