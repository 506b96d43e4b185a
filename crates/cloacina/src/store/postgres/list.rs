//! Lists executions by id, state, definition, key, label, schedule, parent or deadline. Each list reads one index in
//! order, and only as many rows as needed (`store/listing.rs`).

use std::collections::HashSet;

use diesel::sql_types::{Array, BigInt, Bool, Nullable, SmallInt, Text, Uuid as SqlUuid};
use uuid::Uuid;

use super::driver::Connection;
use super::error::Fault;
use super::session::Session;
use super::statement::query;
use crate::store::listing::{Candidate, Index, Needs, Scan, bounds};
use crate::store::{ListQuery, Listed, OverdueExecutions};
use crate::types::{ExecutionId, Timestamp};
use crate::workflow::queue;

/// Maximum number of rows that one statement of a scan reads.
const MAX_ROWS: usize = 4_000;

/// The columns of a listed row. `$1` to `$4` tell which of the optional columns are needed.
macro_rules! columns {
    () => {
        "SELECT e.id, e.created_at, e.state, e.definition_id, e.started_at IS NOT NULL,
         CASE WHEN $1 THEN e.error END,
         CASE WHEN $2 THEN (SELECT i.input FROM cloacina_inputs AS i WHERE i.execution_id = e.id) END,
         CASE WHEN $3 THEN (SELECT json_agg(json_build_array(l.name, l.value))::text FROM cloacina_labels AS l
         WHERE l.execution_id = e.id) END,
         CASE WHEN $4 THEN EXISTS (SELECT 1 FROM cloacina_ticks AS t WHERE t.schedule_id = $5 AND t.execution_id = e.id)
         ELSE true END, coalesce(e.links, 0) & 2 <> 0 FROM "
    };
}

/// Declares two statements that read an index, one for each direction. They return at most `$8` rows, with ids between
/// `$6` and `$7`. With `by`, the rows are ordered by another column before the id, and the given text must contain
/// the condition for the ids.
macro_rules! index {
    ($down:ident, $up:ident { $($field:ident: $rust:ty => $sql:ty),* } by $first:literal, $id:literal, $text:literal, $end:literal) => {
        index! { @one $down { $($field: $rust => $sql),* } concat!($text, " ORDER BY ", $first, " DESC, ", $id), " DESC", $end }
        index! { @one $up { $($field: $rust => $sql),* } concat!($text, " ORDER BY ", $first, ", ", $id), "", $end }
    };
    ($down:ident, $up:ident { $($field:ident: $rust:ty => $sql:ty),* } $id:literal, $text:literal, $end:literal) => {
        index! {
            @one $down { $($field: $rust => $sql),* }
            concat!($text, " ", $id, " > $6 AND ", $id, " < $7 ORDER BY ", $id), " DESC", $end
        }
        index! {
            @one $up { $($field: $rust => $sql),* }
            concat!($text, " ", $id, " > $6 AND ", $id, " < $7 ORDER BY ", $id), "", $end
        }
    };
    (@one $name:ident { $($field:ident: $rust:ty => $sql:ty),* } $text:expr, $order:literal, $end:literal) => {
        query! {
            $name {
                error: bool => Bool,
                input: bool => Bool,
                labels: bool => Bool,
                schedule: bool => Bool,
                schedule_wanted: Uuid => SqlUuid,
                after: Uuid => SqlUuid,
                before: Uuid => SqlUuid,
                limit: i64 => BigInt,
                $($field: $rust => $sql,)*
            } -> (
                SqlUuid, BigInt, SmallInt, BigInt, Bool, Nullable<Text>, Nullable<Text>, Nullable<Text>, Bool,
                Bool,
            );
            concat!(columns!(), $text, $order, " LIMIT $8", $end, $order, " LIMIT $8")
        }
    };
}

index! { ByIdDown, ByIdUp {} "x.id", "(SELECT x.* FROM cloacina_executions AS x WHERE", ") AS e ORDER BY e.id" }

// The condition compares `ROW(…)` values, because with `definition_id = …` the planner might read the index of ids
// instead. A statement for a version with few executions would then read the whole table.
index! {
    ByDefinitionDown, ByDefinitionUp { definitions: Vec<i64> => Array<BigInt> }
    by "x.definition_id", "x.id",
    "unnest($9) AS d (id) CROSS JOIN LATERAL (SELECT x.* FROM cloacina_executions AS x
     WHERE ROW(x.definition_id, x.id) > ROW(d.id, $6) AND ROW(x.definition_id, x.id) < ROW(d.id, $7)",
    ") AS e ORDER BY e.id"
}

// These statements are never used for completed executions, which the index of states does not contain.
index! {
    ByStateDown, ByStateUp { states: Vec<i16> => Array<SmallInt> }
    "x.id",
    "unnest($9) AS s (state) CROSS JOIN LATERAL (SELECT x.* FROM cloacina_executions AS x WHERE x.state = s.state
     AND x.state <> 3 AND",
    ") AS e ORDER BY e.id"
}

index! {
    ByKeyDown, ByKeyUp { workflows: Vec<String> => Array<Text>, keys: Vec<String> => Array<Text> }
    "x.id",
    "unnest($9) AS w (workflow) CROSS JOIN unnest($10) AS k (execution_key) CROSS JOIN LATERAL (
     SELECT x.* FROM cloacina_executions AS x WHERE x.workflow = w.workflow AND x.execution_key = k.execution_key AND",
    ") AS e ORDER BY e.id"
}

index! {
    ByLabelDown, ByLabelUp { name: String => Text, values: Vec<String> => Array<Text> }
    "x.execution_id",
    "unnest($10) AS v (value) CROSS JOIN LATERAL (SELECT x.execution_id FROM cloacina_labels AS x
     WHERE x.name = $9 AND x.value = v.value AND",
    ") AS n CROSS JOIN LATERAL (SELECT y.* FROM cloacina_executions AS y WHERE y.id = n.execution_id OFFSET 0) AS e
     ORDER BY n.execution_id"
}

index! {
    ByScheduleDown, ByScheduleUp { schedules: Vec<Uuid> => Array<SqlUuid> }
    "x.execution_id",
    "unnest($9) AS s (id) CROSS JOIN LATERAL (SELECT x.execution_id FROM cloacina_ticks AS x
     WHERE x.schedule_id = s.id AND x.execution_id IS NOT NULL AND",
    ") AS n CROSS JOIN LATERAL (SELECT y.* FROM cloacina_executions AS y WHERE y.id = n.execution_id OFFSET 0) AS e
     ORDER BY n.execution_id"
}

index! {
    ByParentDown, ByParentUp { parents: Vec<Uuid> => Array<SqlUuid> }
    "x.child_id",
    "unnest($9) AS s (id) CROSS JOIN LATERAL (SELECT x.child_id FROM cloacina_children AS x
     WHERE x.parent_id = s.id AND",
    ") AS n CROSS JOIN LATERAL (SELECT y.* FROM cloacina_executions AS y WHERE y.id = n.child_id OFFSET 0) AS e
     ORDER BY n.child_id"
}

index! {
    GivenIdsDown, GivenIdsUp { ids: Vec<Uuid> => Array<SqlUuid> }
    "x.id",
    "unnest($9) AS n (id) CROSS JOIN LATERAL (SELECT x.* FROM cloacina_executions AS x WHERE x.id = n.id AND",
    ") AS e ORDER BY e.id"
}

query! {
    WorkflowNames {} -> Text;
    "SELECT DISTINCT workflow FROM cloacina_definitions"
}

query! {
    /// Returns the overdue executions, and a row that contains only the next deadline. If a task waits or the inbox has
    /// a message, also returns a row of nulls.
    Overdue { now: i64 => BigInt, after: i64 => BigInt, queue: i64 => BigInt } -> (Nullable<SqlUuid>, Nullable<BigInt>);
    "(SELECT id, deadline FROM cloacina_executions WHERE deadline IS NOT NULL AND deadline <= $1 AND state = 1
     ORDER BY deadline, id) UNION ALL
     (SELECT NULL::uuid, deadline FROM cloacina_executions WHERE deadline IS NOT NULL AND deadline > $2 AND state = 1
     ORDER BY deadline LIMIT 1) UNION ALL
     (SELECT NULL::uuid, NULL::bigint
     WHERE EXISTS (SELECT 1 FROM cloacina_tasks WHERE queue = $3 AND state = 1 AND ready_at IS NOT NULL)
     OR EXISTS (SELECT 1 FROM cloacina_inbox WHERE note IS NULL))"
}

type ListedRow = (
    Uuid,
    i64,
    i16,
    i64,
    bool,
    Option<String>,
    Option<String>,
    Option<String>,
    bool,
    bool,
);

/// Returns the ids of the executions that match a query.
#[expect(clippy::too_many_lines, reason = "each index has one branch")]
pub(super) async fn list(
    connection: &Connection,
    session: &Session,
    query: &ListQuery,
) -> Result<Listed, Fault> {
    let definitions = definitions(connection, session, query).await?;
    if query.limit == 0 || definitions.as_ref().is_some_and(Vec::is_empty) {
        return Ok(Listed::default());
    }
    // The index of keys begins with the workflow, so each workflow is searched separately.
    let workflows = match (&query.keys, &query.workflow) {
        (None, _) => Vec::new(),
        (Some(_), Some(workflow)) => vec![workflow.clone()],
        (Some(_), None) => session.fetch(connection, WorkflowNames {}).await?,
    };
    let index = Index::of(query);
    let needs = Needs::of(query, &index);
    let allowed = (definitions.as_ref()).map(|ids| ids.iter().copied().collect::<HashSet<i64>>());
    let mut scan = Scan::new(query, allowed, needs, 1);
    let (mut after, mut before) = bounds(query);
    let schedule_wanted = query.schedule.map_or_else(Uuid::nil, |id| id.uuid());
    let mut rows = query.limit.min(MAX_ROWS);
    loop {
        let limit = i64::try_from(rows).unwrap_or(i64::MAX);
        // This is a macro instead of a function, because each statement has a different type.
        macro_rules! fetch {
            ($down:ident, $up:ident { $($fields:tt)* }) => {{
                let Needs { error, input, labels, schedule } = needs;
                let (after, before) = (after.uuid(), before.uuid());
                if query.ascending {
                    session.fetch(connection, $up {
                        error, input, labels, schedule, schedule_wanted, after, before, limit, $($fields)*
                    }).await?
                } else {
                    session.fetch(connection, $down {
                        error, input, labels, schedule, schedule_wanted, after, before, limit, $($fields)*
                    }).await?
                }
            }};
        }
        let found: Vec<ListedRow> = match &index {
            Index::Keys(keys) => {
                fetch!(
                    ByKeyDown,
                    ByKeyUp {
                        workflows: workflows.clone(),
                        keys: keys.to_vec()
                    }
                )
            }
            Index::Ids(ids) => {
                fetch!(
                    GivenIdsDown,
                    GivenIdsUp {
                        ids: ids.iter().map(ExecutionId::uuid).collect()
                    }
                )
            }
            Index::Parent(id) => {
                fetch!(
                    ByParentDown,
                    ByParentUp {
                        parents: vec![id.uuid()]
                    }
                )
            }
            Index::Label(name, values) => {
                fetch!(
                    ByLabelDown,
                    ByLabelUp {
                        name: (*name).to_owned(),
                        values: values.to_vec()
                    }
                )
            }
            Index::Schedule(id) => {
                fetch!(
                    ByScheduleDown,
                    ByScheduleUp {
                        schedules: vec![id.uuid()]
                    }
                )
            }
            Index::States(states) => {
                let states = states.iter().map(|state| state.code()).collect();
                fetch!(ByStateDown, ByStateUp { states })
            }
            Index::Other => {
                if let Some(ids) = &definitions {
                    let definitions = ids.clone();
                    fetch!(ByDefinitionDown, ByDefinitionUp { definitions })
                } else {
                    fetch!(ByIdDown, ByIdUp {})
                }
            }
        };
        let is_last = found.len() < rows;
        for row in &found {
            let candidate = candidate(row);
            if !scan.take(&candidate).map_err(Fault::Corrupt)? {
                return Ok(scan.finish());
            }
            if query.ascending {
                after = candidate.id;
            } else {
                before = candidate.id;
            }
        }
        if is_last {
            return Ok(scan.finish());
        }
        rows = (rows * 4).clamp(100, MAX_ROWS);
    }
}

fn candidate(row: &ListedRow) -> Candidate<'_> {
    let (id, created_at, state, definition, has_start, error, input, labels, in_schedule, is_child) =
        row;
    Candidate {
        id: (*id).into(),
        created_at: *created_at,
        state: *state,
        definition: *definition,
        has_start: *has_start,
        error: error.as_deref(),
        input: input.as_deref(),
        labels: labels.as_deref(),
        in_schedule: *in_schedule,
        is_child: *is_child,
    }
}

/// Returns the definitions that the query allows. `None` means all definitions.
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

/// Returns running executions whose deadline has passed, the next deadline, and whether any task waits or the inbox has
/// a message.
pub(super) async fn overdue(
    connection: &Connection,
    session: &Session,
    now: Timestamp,
) -> Result<OverdueExecutions, Fault> {
    let rows: Vec<(Option<Uuid>, Option<i64>)> = session
        .fetch(
            connection,
            Overdue {
                now: now.0,
                after: now.0,
                queue: queue::WAITING,
            },
        )
        .await?;
    let mut due = OverdueExecutions::default();
    for (id, deadline) in rows {
        match (id, deadline) {
            (Some(id), _) => due.executions.push(id.into()),
            (None, Some(deadline)) => due.next = Some(Timestamp(deadline)),
            (None, None) => due.has_waits = true,
        }
    }
    Ok(due)
}
