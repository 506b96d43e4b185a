//! Simulates maps: tasks that run once for each element of a list (semantics K). `map_rules.rs` checks them.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use cloacina::store::{Batch, Committed, ItemQuery, ItemWrite, Store, StoreError};
use cloacina::types::{
    Context, ExecutionId, ItemRecord, Json, MapChange, MapSpec, Micros, Ordinal, Timestamp,
    Tolerance,
};
use cloacina::workflow::{TaskDefinition, TaskKind, TriggerRule, Workflow, WorkflowDefinition};
use fastrand::Rng;

use super::map_rules::{KnownMap, facts};
use super::observed::{ObservedStore, UNSTORABLE, copy_advance, copy_schedule, copy_submit};
use super::oracle::{Coverage, TaskKey};
use super::scenario::SECOND;
use super::world::World;

/// The key of the list in the input. Every map that is not aligned with another map runs over this list.
pub const ROWS: &str = "rows";

/// The plan of a caller's change to a map's limit on concurrent items.
pub struct SetMapPlan {
    pub at: Micros,
    /// Selects the map: `target % n` is its index among the `n` maps that have expanded so far.
    pub target: usize,
    /// The new limit, or `None` for no limit.
    pub parallel: Option<u32>,
}

/// Turns some tasks of a workflow into maps.
pub fn with_maps(rng: &mut Rng, workflow: &Workflow) -> Workflow {
    let mut definition = workflow.definition().clone();
    for index in 0..definition.tasks.len() {
        let task = &definition.tasks[index];
        let is_plain = task.kind != TaskKind::Engine && task.wait_for.is_none();
        let source = source_for(&definition, task).filter(|_| rng.u8(0..4) > 0);
        if !is_plain || (source.is_none() && rng.u8(0..3) > 0) {
            continue;
        }
        let is_aligned = source.is_some();
        let task = &mut definition.tasks[index];
        if let Some((id, _)) = &source {
            task.rule = if rng.bool() {
                TriggerRule::AllSuccess
            } else {
                TriggerRule::NoneFailed
            };
            if rng.bool() {
                task.dependencies.retain(|dependency| dependency == id);
            }
        }
        task.over = Some(MapSpec {
            lists: BTreeMap::from([(
                "row".to_owned(),
                source.map_or_else(|| ROWS.to_owned(), |(_, key)| key),
            )]),
            parallel: (rng.u8(0..4) > 0).then(|| rng.u32(1..5)),
            batch: (!is_aligned && rng.u8(0..5) == 0).then(|| rng.u32(1..4)),
            tolerate: match rng.u8(0..4) {
                0 => Some(Tolerance::Count(rng.u32(0..3))),
                1 => Some(Tolerance::Share(f64::from(rng.u8(0..6)) / 10.0)),
                _ => None,
            },
        });
    }
    Workflow::new(definition).expect("maps are valid")
}

/// Returns the id and the result key of a map on which a task depends. The task can be aligned with this map.
fn source_for(definition: &WorkflowDefinition, task: &TaskDefinition) -> Option<(String, String)> {
    let is_source =
        |other: &&TaskDefinition| other.over.is_some() && task.dependencies.contains(&other.id);
    let source = definition.tasks.iter().find(is_source)?;
    Some((source.id.clone(), source.result_key().to_owned()))
}

/// Returns the input of a submission. Its value for `ROWS` is a list, which can be empty, or in a few cases a number.
pub fn input(rng: &mut Rng) -> Context {
    let rows = match rng.u8(0..12) {
        0 => "7".to_owned(),
        1 => "[]".to_owned(),
        2 => list(rng.usize(12..40)),
        _ => list(rng.usize(1..9)),
    };
    let mut context = Context::new();
    context.set(ROWS, Json::parse(&rows).expect("the rows are JSON"));
    context
}

fn list(width: usize) -> String {
    let rows: Vec<String> = (0..width).map(|row| row.to_string()).collect();
    format!("[{}]", rows.join(","))
}

pub fn set_maps(rng: &mut Rng, heals_at: Micros) -> Vec<SetMapPlan> {
    (0..rng.usize(0..4))
        .map(|_| SetMapPlan {
            at: rng.i64(0..heals_at + 5 * SECOND),
            target: rng.usize(..),
            parallel: (rng.u8(0..4) > 0).then(|| rng.u32(1..6)),
        })
        .collect()
}

fn task_of(change: &MapChange) -> Ordinal {
    match change {
        MapChange::Expand(row) => row.task,
        MapChange::Close(task)
        | MapChange::Tell(task, _)
        | MapChange::Pause(task)
        | MapChange::Resume(task, _)
        | MapChange::Reopen(task) => *task,
    }
}

impl ObservedStore {
    /// Checks the maps that a transaction has changed. Must be called after the oracle has noted the transaction's executions.
    pub(super) fn observe_maps(
        &self,
        batch: &Batch,
        committed: &Committed,
        applied: &HashSet<ExecutionId>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let writes = &batch.flow.maps;
        let changes = || (writes.changes.iter()).filter(|(id, _)| applied.contains(id));
        let mut keys: BTreeSet<TaskKey> = changes()
            .map(|(id, change)| (*id, task_of(change)))
            .collect();
        keys.extend(writes.ends.iter().map(|ends| (ends.execution, ends.task)));
        keys.extend(
            committed
                .items
                .iter()
                .map(|map| (map.row.execution, map.row.task)),
        );
        for ends in &writes.ends {
            let followers = ends.feeds.iter().map(|(_, follower)| *follower);
            keys.extend(followers.map(|follower| (ends.execution, follower)));
        }
        let mut oracle = self.oracle.lock();
        let known: BTreeMap<TaskKey, KnownMap> = (keys.into_iter())
            .filter_map(|key| Some((key, oracle.known_map(key)?)))
            .collect();
        for (key, KnownMap { record, workflow }) in &known {
            let key = *key;
            let mut map = oracle.maps.remove(&key).unwrap_or_default();
            for (_, change) in changes().filter(|(of, change)| (*of, task_of(change)) == key) {
                oracle.change_map(workflow, record, key, change);
                map.apply(change);
            }
            let ends = writes.ends.iter().zip(&committed.maps);
            for (ends, outcome) in ends.filter(|(ends, _)| (ends.execution, ends.task) == key) {
                oracle.note(|| {
                    let (last, applied) = (ends.is_last, outcome.applied);
                    format!(
                        "    map {} of {}: last={last} applied={applied} lost={:?}",
                        key.1, key.0, outcome.lost
                    )
                });
                if !outcome.applied {
                    continue;
                }
                let is_kept = |write: &&ItemWrite| !outcome.lost.contains(&write.record.item);
                for write in ends.items.iter().filter(is_kept) {
                    oracle.change_item(workflow, key, batch.runner, &mut map, write, now);
                }
                if ends.is_last {
                    oracle.check_map_end(workflow, key, &map);
                    map.end();
                }
            }
            oracle.maps.insert(key, map);
        }
        for (key, known) in &known {
            oracle.feed_map(&known.workflow, *key);
        }
        for key in known.into_keys() {
            let (id, task) = key;
            let row = self.inner.maps(&[id])?;
            let row = row.into_iter().find(|row| row.task == task);
            let items = self.inner.items(&ItemQuery {
                execution: id,
                task,
                status: None,
                from: 0,
                limit: 100_000,
            })?;
            let mut map = oracle.maps.remove(&key).unwrap_or_default();
            let claimed = committed.items.iter();
            let claimed: Vec<&ItemRecord> = claimed
                .filter(|claimed| (claimed.row.execution, claimed.row.task) == key)
                .flat_map(|claimed| &claimed.items)
                .collect();
            for item in &claimed {
                oracle.claim_item(key, batch.runner, &mut map, item, now);
            }
            let differs = items.iter().find(|item| {
                let known = map.items.get(&item.item);
                known.map(facts) != Some(facts(item))
            });
            oracle.check(differs.is_none() && items.len() == map.items.len(), || {
                format!(
                    "map {task} of {id} has {} items, {} expected; first difference: {differs:?}",
                    items.len(),
                    map.items.len()
                )
            });
            map.items = items.into_iter().map(|item| (item.item, item)).collect();
            if let Some(row) = &row {
                oracle.check_map(key, row, &map, !claimed.is_empty());
            }
            oracle.maps.insert(key, map);
        }
        Ok(())
    }

    /// Returns whether a batch contains an item's result that the database refuses.
    pub(super) fn has_unstorable_item(batch: &Batch) -> bool {
        let ends = batch.flow.maps.ends.iter();
        ends.flat_map(|ends| &ends.items).any(|write| {
            let result = write.record.result.as_ref();
            result.is_some_and(|result| result.as_str().contains(UNSTORABLE))
        })
    }

    /// For the mutant `EndMapTwice`: commits a batch, and then ends its maps again, as if a second runner had also seen the last
    /// items end.
    pub(super) fn commit_map_ends_twice(&self, batch: &Batch) -> Result<Committed, StoreError> {
        let committed = self.inner.commit(batch)?;
        self.observe(batch, &committed)?;
        let ends = batch.flow.maps.ends.iter().zip(&committed.maps);
        for (ends, _) in ends.filter(|(ends, outcome)| ends.is_last && outcome.applied) {
            let advance = batch.advances.iter();
            let advance = advance
                .clone()
                .find(|advance| advance.record.id == ends.execution);
            let Some(advance) = advance else { continue };
            let mut record = advance.record.clone();
            record.revision += 1;
            let tasks = advance
                .tasks
                .iter()
                .filter(|write| write.ordinal == ends.task);
            let tasks = tasks.map(|write| cloacina::store::TaskWrite {
                insert: false,
                ..*write
            });
            let again = cloacina::store::Advance {
                record: &record,
                expected: record.revision - 1,
                tasks: tasks.collect(),
                requires: &[],
                steps: None,
                ..copy_advance(advance)
            };
            let second = Batch {
                runner: batch.runner,
                now: batch.now,
                submits: Vec::new(),
                advances: vec![again],
                schedules: Vec::new(),
                flow: cloacina::store::FlowWrites::default(),
                claim: cloacina::store::ClaimRequest::default(),
            };
            let committed = self.inner.commit(&second)?;
            self.observe(&second, &committed)?;
        }
        Ok(committed)
    }

    /// Commits a batch without the new elements of aligned maps, for the mutant `ForgetElements`.
    pub(super) fn commit_without_elements(&self, batch: &Batch) -> Result<Committed, StoreError> {
        let mut flow = batch.flow.clone();
        for ends in &mut flow.maps.ends {
            ends.feeds.clear();
        }
        let changed = Batch {
            flow,
            runner: batch.runner,
            now: batch.now,
            submits: batch.submits.iter().map(copy_submit).collect(),
            advances: batch.advances.iter().map(copy_advance).collect(),
            schedules: batch.schedules.iter().map(copy_schedule).collect(),
            claim: batch.claim.clone(),
        };
        let committed = self.inner.commit(&changed)?;
        self.observe(&changed, &committed)?;
        Ok(committed)
    }

    /// Commits a batch whose claims apply a map's limit only to the items of the batch's own runner, for the mutant
    /// `BoundPerRunner`.
    pub(super) fn commit_with_bound_per_runner(
        &self,
        batch: &Batch,
    ) -> Result<Committed, StoreError> {
        let maps: Vec<(TaskKey, u32)> = {
            let oracle = self.oracle.lock();
            let open = oracle.maps.iter().filter(|(_, map)| map.is_open);
            open.map(|(key, map)| {
                let items = map.items.values();
                let others = items.filter(|item| item.runner.is_some_and(|id| id != batch.runner));
                (
                    *key,
                    u32::try_from(others.count()).expect("the count is small"),
                )
            })
            .collect()
        };
        let mut raised = Vec::new();
        for ((id, task), others) in maps {
            let row = self.inner.maps(&[id])?;
            let row = row.into_iter().find(|row| row.task == task);
            if let Some(parallel) = row.and_then(|row| row.parallel)
                && self.inner.set_map(id, task, Some(parallel + others))?
            {
                raised.push((id, task, parallel));
            }
        }
        let committed = self.inner.commit(batch)?;
        for (id, task, parallel) in raised {
            self.inner.set_map(id, task, Some(parallel))?;
        }
        self.observe(batch, &committed)?;
        Ok(committed)
    }
}

impl World {
    /// Changes how many items of a map may run at a time.
    pub(super) fn set_map(&self, number: usize) {
        let plan = &self.scenario.set_maps[number];
        let target = {
            let oracle = self.oracle.lock();
            let known = oracle.maps.len();
            (known > 0).then(|| oracle.maps.keys().nth(plan.target % known).copied())
        };
        let Some((id, task)) = target.flatten() else {
            return;
        };
        let set = self.store.inner.set_map(id, task, plan.parallel);
        let set = set.expect("this store has no faults");
        let mut oracle = self.oracle.lock();
        let is_open = oracle.maps.get(&(id, task)).is_some_and(|map| map.is_open);
        oracle.check(set == is_open, || {
            format!("`set_map` returned {set} for map {task} of {id}, but `is_open` of the map is {is_open}")
        });
        oracle.cover(Coverage::MapSet);
        drop(oracle);
        self.wake_all();
    }

    /// Checks at the end of the simulation that no map is open.
    pub(super) fn check_maps(&self) {
        self.oracle.lock().check_maps_at_rest();
    }
}

/// Returns a result that the database refuses.
pub fn unstorable() -> Json {
    Json::parse(&format!("\"{UNSTORABLE}\"")).expect("a string is JSON")
}
