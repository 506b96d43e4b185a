//! Orders the submissions of children after the changes of their parents, and stores the links between children and
//! parents.

use std::collections::{BTreeMap, HashSet};

use diesel::sql_types::{Array, BigInt, Text, Uuid as SqlUuid};
use uuid::Uuid;

use super::driver::{Connection, Statement};
use super::error::Fault;
use super::row::encode;
use super::statement::statement;
use crate::store::{Batch, LinkWrite};
use crate::types::ExecutionId;

/// The item number stored for a child that was started by a task, and not by an item of a map.
const NO_ITEM: i64 = -1;

statement! {
    /// Inserts links. The unique key of the table prevents a second child of the same node and generation.
    #[derive(Default)]
    InsertLinks {
        children: Vec<Uuid> => Array<SqlUuid>,
        parents: Vec<Uuid> => Array<SqlUuid>,
        ordinals: Vec<i64> => Array<BigInt>,
        items: Vec<i64> => Array<BigInt>,
        keys: Vec<String> => Array<Text>,
        generations: Vec<i64> => Array<BigInt>,
        policies: Vec<String> => Array<Text>,
    }
    "INSERT INTO cloacina_children (child_id, parent_id, parent_ordinal, parent_item, parent_key, generation, policy)
     SELECT n.child, n.parent, n.ordinal, n.item, n.key, n.generation, n.policy
     FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bigint[], $5::text[], $6::bigint[], $7::text[])
         AS n (child, parent, ordinal, item, key, generation, policy)"
}

statement! {
    /// Marks executions as children. Other statements look up the link to the parent only for marked executions.
    MarkChildren { ids: Vec<Uuid> => Array<SqlUuid> }
    "UPDATE cloacina_executions AS e SET links = coalesce(e.links, 0) | 2 FROM unnest($1::uuid[]) AS n (id)
     WHERE e.id = n.id"
}

statement! {
    /// Marks executions whose final tasks were started.
    #[derive(Default)]
    MarkFinales { ids: Vec<Uuid> => Array<SqlUuid> }
    "UPDATE cloacina_executions AS e SET links = coalesce(e.links, 0) | 4 FROM unnest($1::uuid[]) AS n (id)
     WHERE e.id = n.id"
}

statement! {
    #[derive(Default)]
    SetLinks { ids: Vec<Uuid> => Array<SqlUuid>, policies: Vec<String> => Array<Text> }
    "UPDATE cloacina_children AS c SET policy = n.policy FROM unnest($1::uuid[], $2::text[]) AS n (id, policy)
     WHERE c.child_id = n.id"
}

/// Returns the submissions that depend on other changes, grouped by their depth, so that a parent is written before its
/// children.
pub(super) fn rounds(batch: &Batch) -> Vec<Vec<usize>> {
    let mut rounds: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (index, submit) in batch.submits.iter().enumerate() {
        if batch.source_of(submit).is_some() {
            let link = submit.record.parent.as_ref();
            let depth = link.map_or(0, |link| link.depth);
            rounds.entry(depth).or_default().push(index);
        }
    }
    rounds.into_values().collect()
}

/// Returns whether the change that a submission depends on was written.
pub(super) fn is_due(batch: &Batch, index: usize, written: &HashSet<ExecutionId>) -> bool {
    let source = batch.source_of(&batch.submits[index]);
    source.is_some_and(|source| written.contains(&source))
}

/// Writes the links of the children whose executions were written.
pub(super) async fn write_links(
    connection: &Connection,
    links: &[LinkWrite],
    applied: &HashSet<ExecutionId>,
) -> Result<(), Fault> {
    let (mut insert, mut set) = (InsertLinks::default(), SetLinks::default());
    let mut finales = MarkFinales::default();
    for write in links.iter().filter(|write| applied.contains(&write.child)) {
        let (child, link) = (write.child.uuid(), &*write.link);
        let policy = encode(link)?;
        if write.is_new {
            insert.children.push(child);
            insert.parents.push(link.execution.uuid());
            insert.ordinals.push(link.owner());
            insert.items.push(link.item.map_or(NO_ITEM, i64::from));
            insert.keys.push(link.key.clone().unwrap_or_default());
            insert.generations.push(link.generation.into());
            insert.policies.push(policy);
            if link.finale.is_some() {
                finales.ids.push(link.execution.uuid());
            }
        } else {
            set.ids.push(child);
            set.policies.push(policy);
        }
    }
    if !insert.children.is_empty() {
        let ids = insert.children.clone();
        insert.execute(connection).await?;
        MarkChildren { ids }.execute(connection).await?;
    }
    if !finales.ids.is_empty() {
        finales.execute(connection).await?;
    }
    if !set.ids.is_empty() {
        set.execute(connection).await?;
    }
    Ok(())
}
