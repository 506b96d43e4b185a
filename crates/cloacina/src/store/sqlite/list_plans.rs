//! Checks the query plans of lists: a list with a condition on an indexed column must use the column's index.

use diesel::RunQueryDsl;

use super::tests::{PlanStep, watch};
use super::{SqliteOptions, SqliteStore};
use crate::store::{ListQuery, Store};
use crate::types::{DefinitionId, ExecutionId, ExecutionStatus, ScheduleId};

/// Returns the query plans of the statements with which a list reads executions.
fn plans(query: &ListQuery) -> Vec<String> {
    let store = SqliteStore::open(&SqliteOptions::memory()).unwrap();
    let log = watch(&mut store.writer.lock().unwrap());
    store.list(query).unwrap();
    let prepared = log.lock().prepared.clone();
    let mut connection = store.writer.lock().unwrap();
    let lists = prepared.iter().filter(|sql| sql.contains("e.created_at"));
    let plans = lists.map(|sql| {
        let steps: Vec<PlanStep> = diesel::sql_query(format!("EXPLAIN QUERY PLAN {sql}"))
            .load(&mut *connection)
            .unwrap();
        let steps: Vec<String> = steps.into_iter().map(|step| step.detail).collect();
        steps.join("; ")
    });
    plans.collect()
}

#[test]
fn list_with_an_indexed_condition_uses_the_index() {
    let label = || vec![("order".to_owned(), vec!["1".to_owned()])];
    let cases = [
        (ListQuery::default(), "e USING PRIMARY KEY (id>? AND id<?)"),
        (
            ListQuery {
                statuses: vec![ExecutionStatus::Failed],
                ..ListQuery::default()
            },
            "cloacina_executions_state (state=? AND id>? AND id<?)",
        ),
        (
            ListQuery {
                definitions: Some(vec![DefinitionId(1)]),
                ..ListQuery::default()
            },
            "cloacina_executions_definition (definition_id=? AND id>? AND id<?)",
        ),
        (
            ListQuery {
                workflow: Some("etl".to_owned()),
                keys: Some(vec!["key".to_owned()]),
                ..ListQuery::default()
            },
            "cloacina_executions_key (workflow=? AND execution_key=?",
        ),
        (
            ListQuery {
                labels: label(),
                ..ListQuery::default()
            },
            "n USING PRIMARY KEY (name=? AND value=? AND execution_id>? AND execution_id<?)",
        ),
        (
            ListQuery {
                schedule: Some(ScheduleId::generate()),
                ..ListQuery::default()
            },
            "cloacina_ticks_execution (schedule_id=? AND execution_id>? AND execution_id<?)",
        ),
        (
            ListQuery {
                parent: Some(ExecutionId::generate()),
                ..ListQuery::default()
            },
            "(parent_id=?)",
        ),
        (
            ListQuery {
                ids: Some(vec![ExecutionId::generate()]),
                ..ListQuery::default()
            },
            "e USING PRIMARY KEY (id=?",
        ),
    ];
    for (query, index) in cases {
        for ascending in [false, true] {
            let query = ListQuery {
                ascending,
                limit: 10,
                ..query.clone()
            };
            let plans = plans(&query);
            assert!(!plans.is_empty());
            for plan in plans {
                assert!(plan.contains(index), "{plan} does not use {index}");
                assert!(!plan.contains("SCAN"), "{plan}");
                // A list of children may be sorted in a temporary B-tree, because the index of parents is not in the order
                // of the children's ids.
                let is_in_order = query.parent.is_none();
                assert!(!is_in_order || !plan.contains("TEMP B-TREE"), "{plan}");
            }
        }
    }
}
