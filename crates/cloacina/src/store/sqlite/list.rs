//! Lists executions by id, state, definition or deadline.
//!
//! Each list reads one index in order, only as far as needed. Other conditions are checked here instead of in SQL,
//! because the planner does not know the distribution of the rows.

use std::collections::HashSet;

use diesel::connection::DefaultLoadingMode;
use diesel::sql_types::{BigInt, Binary, Bool, SmallInt, Text};
use diesel::{RunQueryDsl, SqliteConnection};

use super::error::Fault;
use super::load::execution_status;
use super::row::Id;
use super::statement::query;
use crate::store::{ListQuery, OverdueExecutions};
use crate::types::{ExecutionId, ExecutionStatus, Timestamp};

/// Maximum difference in microseconds between the time in an id and the time of submission.
const ID_SLACK: i64 = 60_000_000;

/// A blob above every id: of two blobs with the same prefix, the longer one is greater.
const ABOVE_ALL: &[u8] = &[0xFF; 17];

query! {
    ById<'a> { before: &'a [u8] => Binary } -> (Binary, BigInt, SmallInt, BigInt, Bool);
    "SELECT id, created_at, state, definition_id, started_at IS NOT NULL FROM cloacina_executions WHERE id < ? ORDER BY id DESC"
}

query! {
    ByDefinition<'a> { definition_id: i64 => BigInt, before: &'a [u8] => Binary } -> (Binary, BigInt, SmallInt, BigInt, Bool);
    "SELECT id, created_at, state, definition_id, started_at IS NOT NULL FROM cloacina_executions INDEXED BY cloacina_executions_definition \
     WHERE definition_id = ? AND id < ? ORDER BY id DESC"
}

query! {
    ByKey<'a> { workflow: &'a str => Text, execution_key: &'a str => Text, before: &'a [u8] => Binary }
    -> (Binary, BigInt, SmallInt, BigInt, Bool);
    "SELECT id, created_at, state, definition_id, started_at IS NOT NULL FROM cloacina_executions INDEXED BY cloacina_executions_key \
     WHERE workflow = ? AND execution_key = ? AND id < ?"
}

query! {
    WorkflowNames {} -> Text;
    "SELECT DISTINCT workflow FROM cloacina_definitions"
}

/// Declares a statement per state, because SQLite uses the partial index only for a literal state.
macro_rules! by_state {
    ($($name:ident = $state:literal),*) => {
        $(query! {
            $name<'a> { before: &'a [u8] => Binary } -> (Binary, BigInt, SmallInt, BigInt, Bool);
            concat!(
                "SELECT id, created_at, state, definition_id, started_at IS NOT NULL FROM cloacina_executions \
                 INDEXED BY cloacina_executions_state WHERE state = ", $state, " AND id < ? ORDER BY id DESC"
            )
        })*
    };
}
by_state! { Pending = 0, Running = 1, Paused = 2, Failed = 4, Cancelled = 5 }

query! {
    Overdue { now: i64 => BigInt } -> Binary;
    "SELECT id FROM cloacina_executions INDEXED BY cloacina_executions_deadline \
     WHERE deadline <= ? AND state = 1 ORDER BY deadline, id"
}

query! {
    NextDeadline { now: i64 => BigInt } -> BigInt;
    "SELECT deadline FROM cloacina_executions INDEXED BY cloacina_executions_deadline \
     WHERE deadline > ? AND state = 1 ORDER BY deadline LIMIT 1"
}

type ListedRow = (Id, i64, i16, i64, bool);

/// The conditions of a query that the index does not cover.
struct Filter<'a> {
    statuses: &'a [ExecutionStatus],
    /// Executions that have started, although their rows may not say so.
    started: HashSet<Id>,
    definitions: Option<HashSet<i64>>,
    since: Option<i64>,
    limit: usize,
}

impl Filter<'_> {
    fn keep(
        &self,
        rows: impl Iterator<Item = diesel::QueryResult<ListedRow>>,
        ids: &mut Vec<Id>,
    ) -> Result<(), Fault> {
        let mut wanted = self.limit;
        for row in rows {
            if wanted == 0 {
                break;
            }
            let (id, created_at, state, definition, has_start) = row?;
            if self
                .since
                .is_some_and(|since| created_at < since.saturating_sub(ID_SLACK))
            {
                break;
            }
            let in_time = self.since.is_none_or(|since| created_at >= since);
            let is_claimed_only = || !has_start && !self.started.contains(&id);
            let status = match execution_status(state)? {
                ExecutionStatus::Running if is_claimed_only() => ExecutionStatus::Pending,
                status => status,
            };
            let in_state = self.statuses.is_empty() || self.statuses.contains(&status);
            let in_definition = self
                .definitions
                .as_ref()
                .is_none_or(|known| known.contains(&definition));
            if in_time && in_state && in_definition {
                ids.push(id);
                wanted -= 1;
            }
        }
        Ok(())
    }
}

/// Returns ids of executions, newest first.
pub(super) fn list(
    connection: &mut SqliteConnection,
    query: &ListQuery,
) -> Result<Vec<ExecutionId>, Fault> {
    let filter = Filter {
        statuses: &query.statuses,
        started: query.started.iter().copied().map(Id::from).collect(),
        definitions: definitions(connection, query)?,
        since: query.since.map(|since| since.0),
        limit: query.limit,
    };
    let before = query.before.as_ref().map_or(ABOVE_ALL, |id| id.as_bytes());
    let mut ids = Vec::new();
    // A macro instead of a function, because each statement has its own type.
    macro_rules! read {
        ($statement:expr) => {
            filter.keep(
                $statement.load_iter::<ListedRow, DefaultLoadingMode>(connection)?,
                &mut ids,
            )?
        };
    }
    if let Some(keys) = &query.keys {
        // The index of keys begins with the workflow.
        let workflows: Vec<String> = match &query.workflow {
            Some(workflow) => vec![workflow.clone()],
            None => WorkflowNames {}.load(connection)?,
        };
        for workflow in &workflows {
            for execution_key in keys {
                read!(ByKey {
                    workflow,
                    execution_key,
                    before
                });
            }
        }
    } else if !query.statuses.is_empty() && !query.statuses.contains(&ExecutionStatus::Completed) {
        let mut statuses: HashSet<_> = query.statuses.iter().copied().collect();
        if statuses.contains(&ExecutionStatus::Pending) {
            // A claimed execution that has not started is stored as running.
            statuses.insert(ExecutionStatus::Running);
        }
        for status in statuses {
            match status {
                ExecutionStatus::Pending => read!(Pending { before }),
                ExecutionStatus::Running => read!(Running { before }),
                ExecutionStatus::Paused => read!(Paused { before }),
                ExecutionStatus::Failed => read!(Failed { before }),
                ExecutionStatus::Cancelled => read!(Cancelled { before }),
                ExecutionStatus::Completed => {}
            }
        }
    } else if let Some(definitions) = &filter.definitions {
        for definition_id in definitions {
            read!(ByDefinition {
                definition_id: *definition_id,
                before
            });
        }
    } else {
        read!(ById { before });
    }
    ids.sort_unstable_by(|left, right| right.cmp(left));
    ids.truncate(query.limit);
    Ok(ids.into_iter().map(Into::into).collect())
}

/// Returns the definitions that the query allows; `None` means all.
fn definitions(
    connection: &mut SqliteConnection,
    query: &ListQuery,
) -> Result<Option<HashSet<i64>>, Fault> {
    let given: Option<HashSet<i64>> = query
        .definitions
        .as_ref()
        .map(|ids| ids.iter().map(|id| id.0).collect());
    let Some(workflow) = &query.workflow else {
        return Ok(given);
    };
    let named = super::definition::ids_of(connection, workflow)?;
    Ok(Some(
        named
            .into_iter()
            .filter(|id| given.as_ref().is_none_or(|given| given.contains(id)))
            .collect(),
    ))
}

/// Returns running executions whose deadline has passed, and the next deadline.
pub(super) fn overdue(
    connection: &mut SqliteConnection,
    now: Timestamp,
) -> Result<OverdueExecutions, Fault> {
    let executions: Vec<Id> = Overdue { now: now.0 }.load(connection)?;
    let next: Vec<i64> = NextDeadline { now: now.0 }.load(connection)?;
    Ok(OverdueExecutions {
        executions: executions.into_iter().map(Into::into).collect(),
        next: next.first().copied().map(Timestamp),
    })
}
