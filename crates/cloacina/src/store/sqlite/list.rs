//! Lists executions by id, state, definition, key, label, schedule, parent or deadline.
//!
//! Each list reads one index in order, and only as many rows as needed (`store/listing.rs`).

use std::collections::HashSet;

use diesel::connection::DefaultLoadingMode;
use diesel::sql_types::{BigInt, Binary, Bool, Nullable, SmallInt, Text};
use diesel::{RunQueryDsl, SqliteConnection};

use super::error::Fault;
use super::row::Id;
use super::statement::query;
use crate::store::listing::{Candidate, Index, Needs, Scan, bounds};
use crate::store::{ListQuery, Listed, OverdueExecutions};
use crate::types::{ExecutionStatus, ScheduleId, Timestamp};
use crate::workflow::queue;

/// The columns of a listed row. The first four parameters tell which of the optional columns are needed.
macro_rules! columns {
    () => {
        "SELECT e.id, e.created_at, e.state, e.definition_id, e.started_at IS NOT NULL, \
         CASE WHEN ? THEN e.error END, \
         CASE WHEN ? THEN (SELECT i.input FROM cloacina_inputs AS i WHERE i.execution_id = e.id) END, \
         CASE WHEN ? THEN (SELECT json_group_array(json_array(l.name, l.value)) FROM cloacina_labels AS l \
         WHERE l.execution_id = e.id) END, \
         CASE WHEN ? THEN EXISTS (SELECT 1 FROM cloacina_ticks AS t WHERE t.schedule_id = ? AND t.execution_id = e.id) \
         ELSE 1 END, coalesce(e.links, 0) & 2 <> 0 FROM "
    };
}

/// Declares two statements that read an index, one for each direction.
macro_rules! index {
    ($down:ident, $up:ident { $($field:ident: $rust:ty => $sql:ty),* } $id:literal, $text:expr) => {
        index! { @one $down { $($field: $rust => $sql),* } $text, concat!(" ORDER BY ", $id, " DESC"), $id }
        index! { @one $up { $($field: $rust => $sql),* } $text, concat!(" ORDER BY ", $id), $id }
    };
    (@one $name:ident { $($field:ident: $rust:ty => $sql:ty),* } $text:expr, $order:expr, $id:literal) => {
        query! {
            $name<'a> {
                error: bool => Bool,
                input: bool => Bool,
                labels: bool => Bool,
                schedule: bool => Bool,
                schedule_wanted: &'a [u8] => Binary,
                $($field: $rust => $sql,)*
                after: &'a [u8] => Binary,
                before: &'a [u8] => Binary,
            } -> (
                Binary, BigInt, SmallInt, BigInt, Bool, Nullable<Text>, Nullable<Text>, Nullable<Text>,
                Bool, Bool,
            );
            concat!(columns!(), $text, " ", $id, " > ? AND ", $id, " < ?", $order)
        }
    };
}

index! { ByIdDown, ByIdUp {} "e.id", "cloacina_executions AS e WHERE" }

index! {
    ByDefinitionDown, ByDefinitionUp { definition_id: i64 => BigInt }
    "e.id", "cloacina_executions AS e INDEXED BY cloacina_executions_definition WHERE e.definition_id = ? AND"
}

index! {
    ByKeyDown, ByKeyUp { workflow: &'a str => Text, execution_key: &'a str => Text }
    "e.id", "cloacina_executions AS e INDEXED BY cloacina_executions_key WHERE e.workflow = ? AND e.execution_key = ? AND"
}

index! {
    ByLabelDown, ByLabelUp { name: &'a str => Text, value: &'a str => Text }
    "n.execution_id",
    "cloacina_labels AS n CROSS JOIN cloacina_executions AS e ON e.id = n.execution_id WHERE n.name = ? AND n.value = ? AND"
}

index! {
    ByScheduleDown, ByScheduleUp { schedule_id: &'a [u8] => Binary }
    "n.execution_id",
    "cloacina_ticks AS n INDEXED BY cloacina_ticks_execution CROSS JOIN cloacina_executions AS e ON e.id = n.execution_id \
     WHERE n.schedule_id = ? AND n.execution_id IS NOT NULL AND"
}

// The plus sign in `+n.child_id` prevents the planner from using the primary key (the child's id) instead of the
// index of parents.
index! {
    ByParentDown, ByParentUp { parent_id: &'a [u8] => Binary }
    "+n.child_id",
    "cloacina_children AS n CROSS JOIN cloacina_executions AS e ON e.id = n.child_id WHERE n.parent_id = ? AND"
}

index! { OneDown, OneUp { id: &'a [u8] => Binary } "e.id", "cloacina_executions AS e WHERE e.id = ? AND" }

/// Declares the statements for each state that the partial index contains. Each state has its own statements, because
/// SQLite uses a partial index only if the state in the condition is a literal.
macro_rules! by_state {
    ($($down:ident, $up:ident = $state:literal),*) => {
        $(index! {
            $down, $up {} "e.id",
            concat!("cloacina_executions AS e INDEXED BY cloacina_executions_state WHERE e.state = ", $state, " AND")
        })*
    };
}
by_state! {
    PendingDown, PendingUp = 0, RunningDown, RunningUp = 1, PausedDown, PausedUp = 2, FailedDown, FailedUp = 4,
    CancelledDown, CancelledUp = 5
}

query! {
    WorkflowNames {} -> Text;
    "SELECT DISTINCT workflow FROM cloacina_definitions"
}

query! {
    Overdue { now: i64 => BigInt } -> Binary;
    "SELECT id FROM cloacina_executions INDEXED BY cloacina_executions_deadline \
     WHERE deadline <= ? AND state = 1 ORDER BY deadline, id"
}

query! {
    /// Returns one row: the next deadline, and whether a task waits or the inbox has a message.
    NextDeadline { now: i64 => BigInt, queue: i64 => BigInt } -> (Nullable<BigInt>, Bool);
    "SELECT (SELECT deadline FROM cloacina_executions INDEXED BY cloacina_executions_deadline \
     WHERE deadline > ? AND state = 1 ORDER BY deadline LIMIT 1), \
     EXISTS (SELECT 1 FROM cloacina_tasks INDEXED BY cloacina_tasks_waiting \
     WHERE queue = ? AND state = 1 AND ready_at IS NOT NULL) \
     OR EXISTS (SELECT 1 FROM cloacina_inbox INDEXED BY cloacina_inbox_open WHERE note IS NULL)"
}

type ListedRow = (
    Id,
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
#[expect(clippy::too_many_lines, reason = "one branch per index")]
pub(super) fn list(connection: &mut SqliteConnection, query: &ListQuery) -> Result<Listed, Fault> {
    let definitions = definitions(connection, query)?;
    if query.limit == 0 {
        return Ok(Listed::default());
    }
    let index = Index::of(query);
    let needs = Needs::of(query, &index);
    let (after, before) = bounds(query);
    let (after, before) = (after.as_bytes().as_slice(), before.as_bytes().as_slice());
    let wanted = query
        .schedule
        .unwrap_or_else(|| ScheduleId::from_bytes([0; 16]));
    let scan = |ranges: usize| Scan::new(query, definitions.clone(), needs, ranges);
    // This is a macro instead of a function, because each statement has a different type.
    macro_rules! read {
        ($scan:ident, $down:ident, $up:ident { $($fields:tt)* }) => {{
            let Needs { error, input, labels, schedule } = needs;
            let schedule_wanted = wanted.as_bytes().as_slice();
            $scan.next_range();
            if query.ascending {
                let statement = $up { error, input, labels, schedule, schedule_wanted, after, before, $($fields)* };
                read_rows(statement.load_iter::<ListedRow, DefaultLoadingMode>(connection)?, &mut $scan)?;
            } else {
                let statement = $down { error, input, labels, schedule, schedule_wanted, after, before, $($fields)* };
                read_rows(statement.load_iter::<ListedRow, DefaultLoadingMode>(connection)?, &mut $scan)?;
            }
        }};
    }
    let scan = match index {
        Index::Keys(keys) => {
            // The index of keys begins with the workflow, so each workflow is searched separately.
            let workflows: Vec<String> = match &query.workflow {
                Some(workflow) => vec![workflow.clone()],
                None => WorkflowNames {}.load(connection)?,
            };
            let mut scan = scan(workflows.len() * keys.len());
            for workflow in &workflows {
                for execution_key in keys {
                    read!(
                        scan,
                        ByKeyDown,
                        ByKeyUp {
                            workflow,
                            execution_key
                        }
                    );
                }
            }
            scan
        }
        Index::Parent(parent) => {
            let mut scan = scan(1);
            read!(
                scan,
                ByParentDown,
                ByParentUp {
                    parent_id: parent.as_bytes()
                }
            );
            scan
        }
        Index::Ids(ids) => {
            let mut scan = scan(ids.len());
            for id in ids {
                read!(scan, OneDown, OneUp { id: id.as_bytes() });
            }
            scan
        }
        Index::Label(name, values) => {
            let mut scan = scan(values.len());
            for value in values {
                read!(scan, ByLabelDown, ByLabelUp { name, value });
            }
            scan
        }
        Index::Schedule(schedule) => {
            let mut scan = scan(1);
            read!(
                scan,
                ByScheduleDown,
                ByScheduleUp {
                    schedule_id: schedule.as_bytes()
                }
            );
            scan
        }
        Index::States(states) => {
            let mut scan = scan(states.len());
            for state in states {
                match state {
                    ExecutionStatus::Pending => read!(scan, PendingDown, PendingUp {}),
                    ExecutionStatus::Running => read!(scan, RunningDown, RunningUp {}),
                    ExecutionStatus::Paused => read!(scan, PausedDown, PausedUp {}),
                    ExecutionStatus::Failed => read!(scan, FailedDown, FailedUp {}),
                    ExecutionStatus::Cancelled => read!(scan, CancelledDown, CancelledUp {}),
                    ExecutionStatus::Completed => {}
                }
            }
            scan
        }
        Index::Other => {
            if let Some(definitions) = &definitions {
                let mut scan = scan(definitions.len());
                for definition_id in definitions {
                    read!(
                        scan,
                        ByDefinitionDown,
                        ByDefinitionUp {
                            definition_id: *definition_id
                        }
                    );
                }
                scan
            } else {
                let mut scan = scan(1);
                read!(scan, ByIdDown, ByIdUp {});
                scan
            }
        }
    };
    Ok(scan.finish())
}

/// Reads rows until the scan needs no more.
fn read_rows(
    rows: impl Iterator<Item = diesel::QueryResult<ListedRow>>,
    scan: &mut Scan<'_>,
) -> Result<(), Fault> {
    for row in rows {
        let (
            id,
            created_at,
            state,
            definition,
            has_start,
            error,
            input,
            labels,
            in_schedule,
            is_child,
        ) = row?;
        let candidate = Candidate {
            id: id.into(),
            created_at,
            state,
            definition,
            has_start,
            error: error.as_deref(),
            input: input.as_deref(),
            labels: labels.as_deref(),
            in_schedule,
            is_child,
        };
        if !scan.take(&candidate).map_err(Fault::Corrupt)? {
            break;
        }
    }
    Ok(())
}

/// Returns the definitions that the query allows. `None` means all definitions.
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

/// Returns running executions whose deadline has passed, the next deadline, and whether any task waits or the
/// inbox has a message.
pub(super) fn overdue(
    connection: &mut SqliteConnection,
    now: Timestamp,
) -> Result<OverdueExecutions, Fault> {
    let executions: Vec<Id> = Overdue { now: now.0 }.load(connection)?;
    let found: Vec<(Option<i64>, bool)> = NextDeadline {
        now: now.0,
        queue: queue::WAITING,
    }
    .load(connection)?;
    let (next, has_waits) = found.first().copied().unwrap_or_default();
    Ok(OverdueExecutions {
        executions: executions.into_iter().map(Into::into).collect(),
        next: next.map(Timestamp),
        has_waits,
    })
}
