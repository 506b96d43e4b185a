//! Finds the tasks that wait for a signal, and makes them due.
//!
//! A sender locks the executions of the waiting tasks in the order of their ids, so that senders cannot deadlock.

use std::collections::BTreeSet;

use diesel::sql_types::{Array, BigInt, Nullable, Text, Uuid as SqlUuid};
use uuid::Uuid;

use super::driver::{self, Connection, Statement, Step};
use super::error::Fault;
use super::inbox;
use super::statement::{query, statement};
use crate::store::SEND_WAKES;
use crate::store::waits::{AdvanceBody, EXECUTION, TIMEOUT_MARGIN, WAKE_MARGIN, cancel_message};
use crate::types::Timestamp;
use crate::workflow::queue;

statement! {
    /// Sets the due time of waiting tasks far enough in the past (`WAKE_MARGIN`) that they are due on every runner, even if
    /// a runner's clock is behind. Does not affect tasks of paused executions, which are checked when the executions
    /// are resumed.
    MakeDue {
        ready_at: i64 => BigInt,
        queue: i64 => BigInt,
        ids: Vec<Uuid> => Array<SqlUuid>,
        ordinals: Vec<i64> => Array<BigInt>,
    }
    "UPDATE cloacina_tasks AS t SET ready_at = least(t.ready_at, $1) FROM unnest($3::uuid[], $4::bigint[]) AS n (id, ordinal)
     WHERE t.execution_id = n.id AND t.ordinal = n.ordinal AND t.state = 1 AND t.queue = $2"
}

query! {
    Waiters {
        topic: String => Text,
        execution: Uuid => SqlUuid,
        ordinal: i64 => BigInt,
        limit: i64 => BigInt,
    } -> (SqlUuid, BigInt, Text, Nullable<BigInt>);
    "SELECT execution_id, ordinal, name, since FROM cloacina_waits
     WHERE topic = $1 COLLATE \"C\" AND (execution_id, ordinal) > ($2::uuid, $3::bigint)
     ORDER BY execution_id, ordinal LIMIT $4"
}

query! {
    /// Returns the executions with a waiting task that this signal has not woken yet and whose wait times out soon (see
    /// [`TIMEOUT_MARGIN`]).
    WaitersNearTimeout {
        topic: String => Text,
        execution: Uuid => SqlUuid,
        ordinal: i64 => BigInt,
        until: i64 => BigInt,
    } -> SqlUuid;
    "SELECT DISTINCT execution_id FROM cloacina_waits
     WHERE topic = $1 COLLATE \"C\" AND (execution_id, ordinal) > ($2::uuid, $3::bigint)
     AND ordinal >= 0 AND deadline <= $4"
}

query! {
    LockExecutions { ids: Vec<Uuid> => Array<SqlUuid> } -> SqlUuid;
    "SELECT e.id FROM unnest($1::uuid[]) AS n (id) CROSS JOIN LATERAL (
         SELECT x.id FROM cloacina_executions AS x WHERE x.id = n.id FOR UPDATE
     ) AS e"
}

statement! {
    /// Raises the revisions of executions, so that the store refuses decisions that were made before the signal.
    Touch { ids: Vec<Uuid> => Array<SqlUuid> }
    "UPDATE cloacina_executions AS e SET revision = e.revision + 1 FROM unnest($1::uuid[]) AS n (id) WHERE e.id = n.id"
}

impl Waiters {
    /// Returns the query for the next tasks that wait for a signal.
    pub(super) fn of(body: &AdvanceBody) -> Self {
        let (after, ordinal) = body.after;
        Self {
            topic: body.topic.clone(),
            execution: after.uuid(),
            ordinal,
            limit: i64::try_from(SEND_WAKES + 1).unwrap_or(i64::MAX),
        }
    }
}

impl MakeDue {
    /// Returns the statement that makes tasks due; `None` if there are no tasks.
    fn of(mut tasks: Vec<(Uuid, i64)>, now: Timestamp) -> Option<Self> {
        tasks.sort_unstable();
        tasks.dedup();
        let (ids, ordinals): (Vec<Uuid>, Vec<i64>) = tasks.into_iter().unzip();
        (!ids.is_empty()).then(|| Self {
            ready_at: (now - WAKE_MARGIN).0,
            queue: queue::WAITING,
            ids,
            ordinals,
        })
    }
}

pub(super) async fn make_due(
    connection: &Connection,
    tasks: Vec<(Uuid, i64)>,
    now: Timestamp,
) -> Result<(), Fault> {
    if let Some(statement) = MakeDue::of(tasks, now) {
        statement.execute(connection).await?;
    }
    Ok(())
}

/// A waiting task: its execution, its ordinal, the signal's name, and the time from which signals count.
pub(super) type WaiterRow = (Uuid, i64, String, Option<i64>);

/// The tasks that signals wake, and the executions whose revision must rise.
#[derive(Default)]
pub(super) struct Wakes {
    tasks: Vec<(Uuid, i64)>,
    touched: BTreeSet<Uuid>,
}

impl Wakes {
    /// Processes the first waits for a signal, at most [`SEND_WAKES`]: adds the waiting tasks, and stores the messages
    /// that cancel executions. Returns the number of these waits, and the message body for the remaining waits if any
    /// remain.
    pub(super) async fn add(
        &mut self,
        connection: &Connection,
        body: AdvanceBody,
        mut waiters: Vec<WaiterRow>,
        now: Timestamp,
    ) -> Result<(usize, Option<AdvanceBody>), Fault> {
        let more = waiters.len() > SEND_WAKES;
        waiters.truncate(SEND_WAKES);
        let remaining = waiters.last().filter(|_| more).map(|last| AdvanceBody {
            after: (last.0.into(), last.1),
            ..body.clone()
        });
        if let Some(remaining) = remaining.as_ref().filter(|_| body.is_first()) {
            let statement = WaitersNearTimeout {
                topic: body.topic.clone(),
                execution: remaining.after.0.uuid(),
                ordinal: remaining.after.1,
                until: (now + TIMEOUT_MARGIN).0,
            };
            let near_timeout: Vec<Uuid> = statement.load(connection).await?;
            self.touched.extend(near_timeout);
        }
        let woken = waiters.len();
        for (execution, ordinal, name, since) in waiters {
            if ordinal != EXECUTION {
                self.touched.insert(execution);
                self.tasks.push((execution, ordinal));
            } else if since.is_none_or(|since| body.sent_at.0 >= since) {
                let message = cancel_message(execution.into(), &name, body.seq, now);
                inbox::insert(connection, [&message]).await?;
            }
        }
        Ok((woken, remaining))
    }

    /// Makes the tasks due, and commits the transaction, in one round trip.
    pub(super) async fn commit(self, connection: &Connection, now: Timestamp) -> Result<(), Fault> {
        if self.touched.is_empty() {
            return connection.batch_execute("COMMIT").await;
        }
        // A runner that is deciding about one of these executions has not seen the signal. A new revision makes the
        // store refuse that decision.
        let ids: Vec<Uuid> = self.touched.into_iter().collect();
        let locks = (connection.prepare(&LockExecutions { ids: ids.clone() })).await?;
        let touch = connection.prepare(&Touch { ids }).await?;
        let due = match MakeDue::of(self.tasks, now) {
            Some(statement) => Some(connection.prepare(&statement).await?),
            None => None,
        };
        let mut steps: Vec<Step<()>> = vec![
            Box::pin(async {
                let _: Vec<Uuid> = locks.load().await?;
                Ok(())
            }),
            Box::pin(async { touch.execute().await.map(drop) }),
        ];
        if let Some(due) = due {
            steps.push(Box::pin(async { due.execute().await.map(drop) }));
        }
        steps.push(driver::control(connection, "COMMIT"));
        driver::pipeline(steps).await.map(drop)
    }
}
