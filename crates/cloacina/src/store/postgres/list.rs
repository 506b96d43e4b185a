//! Lists executions by id, state, definition or deadline. Each list reads one index in order, only as far as needed.

use std::collections::HashSet;

use diesel::sql_types::{Array, BigInt, Bool, Nullable, SmallInt, Text, Uuid as SqlUuid};
use uuid::Uuid;

use super::driver::Connection;
use super::error::Fault;
use super::session::Session;
use super::statement::query;
use crate::store::{ListQuery, OverdueExecutions};
use crate::types::{ExecutionId, ExecutionStatus, Timestamp};

/// Maximum difference in microseconds between the time in an id and the time of submission.
const ID_SLACK: i64 = 60_000_000;

query! {
    ById {
        before: Uuid => SqlUuid,
        from: Uuid => SqlUuid,
        since: i64 => BigInt,
        all_states: bool => Bool,
        states: Vec<i16> => Array<SmallInt>,
        limit: i64 => BigInt,
        started: Vec<Uuid> => Array<SqlUuid>,
    } -> SqlUuid;
    "SELECT e.id FROM cloacina_executions AS e WHERE e.id < $1 AND e.id >= $2 AND e.created_at >= $3
     AND ($4 OR CASE WHEN e.state = 1 AND e.started_at IS NULL AND e.id <> ALL($7) THEN 0 ELSE e.state END = ANY($5))
     ORDER BY e.id DESC LIMIT $6"
}

query! {
    ByDefinition {
        definitions: Vec<i64> => Array<BigInt>,
        before: Uuid => SqlUuid,
        from: Uuid => SqlUuid,
        since: i64 => BigInt,
        all_states: bool => Bool,
        states: Vec<i16> => Array<SmallInt>,
        inner_limit: i64 => BigInt,
        limit: i64 => BigInt,
        started: Vec<Uuid> => Array<SqlUuid>,
    } -> SqlUuid;
    "SELECT e.id FROM unnest($1) AS d (id) CROSS JOIN LATERAL (
     SELECT x.id FROM cloacina_executions AS x WHERE x.definition_id = d.id AND x.id < $2 AND x.id >= $3
     AND x.created_at >= $4
     AND ($5 OR CASE WHEN x.state = 1 AND x.started_at IS NULL AND x.id <> ALL($9) THEN 0 ELSE x.state END = ANY($6))
     ORDER BY x.id DESC LIMIT $7) AS e ORDER BY e.id DESC LIMIT $8"
}

query! {
    /// Not for completed executions, which are not in the index of states. `stored_states` are the states whose rows are read.
    ByState {
        stored_states: Vec<i16> => Array<SmallInt>,
        states: Vec<i16> => Array<SmallInt>,
        before: Uuid => SqlUuid,
        from: Uuid => SqlUuid,
        since: i64 => BigInt,
        all_definitions: bool => Bool,
        definitions: Vec<i64> => Array<BigInt>,
        inner_limit: i64 => BigInt,
        limit: i64 => BigInt,
        started: Vec<Uuid> => Array<SqlUuid>,
    } -> SqlUuid;
    "SELECT e.id FROM unnest($1) AS s (state) CROSS JOIN LATERAL (
     SELECT x.id FROM cloacina_executions AS x WHERE x.state = s.state AND x.state <> 3 AND x.id < $3 AND x.id >= $4
     AND x.created_at >= $5 AND ($6 OR x.definition_id = ANY($7))
     AND CASE WHEN x.state = 1 AND x.started_at IS NULL AND x.id <> ALL($10) THEN 0 ELSE x.state END = ANY($2)
     ORDER BY x.id DESC LIMIT $8) AS e ORDER BY e.id DESC LIMIT $9"
}

query! {
    ByKey {
        workflows: Vec<String> => Array<Text>,
        keys: Vec<String> => Array<Text>,
        before: Uuid => SqlUuid,
        from: Uuid => SqlUuid,
        since: i64 => BigInt,
        all_states: bool => Bool,
        states: Vec<i16> => Array<SmallInt>,
        all_definitions: bool => Bool,
        definitions: Vec<i64> => Array<BigInt>,
        limit: i64 => BigInt,
        started: Vec<Uuid> => Array<SqlUuid>,
    } -> SqlUuid;
    "SELECT e.id FROM unnest($1) AS w (workflow) CROSS JOIN unnest($2) AS k (execution_key) CROSS JOIN LATERAL (
     SELECT x.id FROM cloacina_executions AS x WHERE x.workflow = w.workflow AND x.execution_key = k.execution_key
     AND x.id < $3 AND x.id >= $4 AND x.created_at >= $5
     AND ($6 OR CASE WHEN x.state = 1 AND x.started_at IS NULL AND x.id <> ALL($11) THEN 0 ELSE x.state END = ANY($7))
     AND ($8 OR x.definition_id = ANY($9)) OFFSET 0) AS e ORDER BY e.id DESC LIMIT $10"
}

query! {
    WorkflowNames {} -> Text;
    "SELECT DISTINCT workflow FROM cloacina_definitions"
}

query! {
    Overdue { now: i64 => BigInt, after: i64 => BigInt } -> (Nullable<SqlUuid>, BigInt);
    "(SELECT id, deadline FROM cloacina_executions WHERE deadline IS NOT NULL AND deadline <= $1 AND state = 1
     ORDER BY deadline, id) UNION ALL
     (SELECT NULL::uuid, deadline FROM cloacina_executions WHERE deadline IS NOT NULL AND deadline > $2 AND state = 1
     ORDER BY deadline LIMIT 1)"
}

/// Returns ids of executions, newest first.
pub(super) async fn list(
    connection: &Connection,
    session: &Session,
    query: &ListQuery,
) -> Result<Vec<ExecutionId>, Fault> {
    let definitions = definitions(connection, session, query).await?;
    if query.limit == 0 || definitions.as_ref().is_some_and(Vec::is_empty) {
        return Ok(Vec::new());
    }
    let limit = i64::try_from(query.limit).unwrap_or(i64::MAX);
    let before = query.before.map_or(Uuid::max(), |id| id.uuid());
    let since = query.since.map_or(i64::MIN, |since| since.0);
    let from = query
        .since
        .map_or(Uuid::nil(), |since| first_id_of(since - ID_SLACK));
    let states: HashSet<ExecutionStatus> = query.statuses.iter().copied().collect();
    let all_states = states.is_empty();
    let codes: Vec<i16> = states.iter().map(|status| status.code()).collect();
    let started: Vec<Uuid> = query.started.iter().map(ExecutionId::uuid).collect();
    let ids: Vec<Uuid> = if let Some(keys) = &query.keys {
        // The index of keys begins with the workflow.
        let workflows = match &query.workflow {
            Some(workflow) => vec![workflow.clone()],
            None => session.fetch(connection, WorkflowNames {}).await?,
        };
        let statement = ByKey {
            workflows,
            keys: keys.clone(),
            before,
            from,
            since,
            all_states,
            states: codes,
            all_definitions: definitions.is_none(),
            definitions: definitions.unwrap_or_default(),
            limit,
            started,
        };
        session.fetch(connection, statement).await?
    } else if !all_states && !states.contains(&ExecutionStatus::Completed) {
        let mut stored_states = codes.clone();
        if states.contains(&ExecutionStatus::Pending) && !states.contains(&ExecutionStatus::Running)
        {
            // A claimed execution that has not started is stored as running.
            stored_states.push(ExecutionStatus::Running.code());
        }
        let statement = ByState {
            stored_states,
            states: codes,
            before,
            from,
            since,
            all_definitions: definitions.is_none(),
            definitions: definitions.unwrap_or_default(),
            inner_limit: limit,
            limit,
            started,
        };
        session.fetch(connection, statement).await?
    } else if let Some(definitions) = definitions {
        let statement = ByDefinition {
            definitions,
            before,
            from,
            since,
            all_states,
            states: codes,
            inner_limit: limit,
            limit,
            started,
        };
        session.fetch(connection, statement).await?
    } else {
        session
            .fetch(
                connection,
                ById {
                    before,
                    from,
                    since,
                    all_states,
                    states: codes,
                    limit,
                    started,
                },
            )
            .await?
    };
    Ok(ids.into_iter().map(Into::into).collect())
}

/// Returns an id below every id that was generated at or after this time.
fn first_id_of(time: Timestamp) -> Uuid {
    let milliseconds = u64::try_from(time.0 / 1000)
        .unwrap_or_default()
        .min((1 << 48) - 1);
    let mut bytes = [0; 16];
    bytes[..6].copy_from_slice(&milliseconds.to_be_bytes()[2..]);
    Uuid::from_bytes(bytes)
}

/// Returns the definitions that the query allows; `None` means all.
async fn definitions(
    connection: &Connection,
    session: &Session,
    query: &ListQuery,
) -> Result<Option<Vec<i64>>, Fault> {
    let given: Option<HashSet<i64>> = query
        .definitions
        .as_ref()
        .map(|ids| ids.iter().map(|id| id.0).collect());
    let Some(workflow) = &query.workflow else {
        return Ok(given.map(|ids| ids.into_iter().collect()));
    };
    let named = super::definition::ids_of(connection, session, workflow).await?;
    Ok(Some(
        named
            .into_iter()
            .filter(|id| given.as_ref().is_none_or(|given| given.contains(id)))
            .collect(),
    ))
}

/// Returns running executions whose deadline has passed, and the next deadline.
pub(super) async fn overdue(
    connection: &Connection,
    session: &Session,
    now: Timestamp,
) -> Result<OverdueExecutions, Fault> {
    let rows: Vec<(Option<Uuid>, i64)> = session
        .fetch(
            connection,
            Overdue {
                now: now.0,
                after: now.0,
            },
        )
        .await?;
    let mut due = OverdueExecutions::default();
    for (id, deadline) in rows {
        match id {
            Some(id) => due.executions.push(id.into()),
            None => due.next = Some(Timestamp(deadline)),
        }
    }
    Ok(due)
}
