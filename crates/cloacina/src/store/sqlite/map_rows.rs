//! The statements that read and write maps and their items, and the types of their rows.

use diesel::Queryable;
use diesel::sql_types::{BigInt, Binary, Bool, Nullable, SmallInt, Text};

use super::error::Fault;
use super::row::{Decoded, Id, count};
use super::statement::{query, statement};
use crate::types::{
    DefinitionId, Failure, ItemRecord, Json, MapRow, MapState, TaskStatus, Timestamp,
};

/// Declares a query that returns rows of maps.
macro_rules! maps_query {
    ($name:ident { $($field:ident: $rust:ty => $sql:ty),* } $condition:literal) => {
        query! {
            $name<'a> { $($field: $rust => $sql),* } -> (
                Binary, BigInt, BigInt, BigInt, SmallInt, BigInt, BigInt, BigInt, BigInt, BigInt, Nullable<BigInt>,
                Nullable<BigInt>, BigInt, SmallInt, Nullable<Text>,
                (Nullable<BigInt>, Bool, BigInt),
            );
            concat!(
                "SELECT execution_id, ordinal, definition_id, generation, state, width, admitted, running, done, failed, \
                 parallel, max_failed, queue, priority, detail, source, has_all, skipped FROM cloacina_maps ",
                $condition
            )
        }
    };
}

maps_query! { OneMap { execution_id: &'a [u8] => Binary, ordinal: i64 => BigInt } "WHERE execution_id = ? AND ordinal = ?" }
maps_query! { MapsOf { execution_id: &'a [u8] => Binary } "WHERE execution_id = ? ORDER BY ordinal" }

query! {
    DueMaps { now: i64 => BigInt } -> (Binary, BigInt, BigInt, BigInt);
    "SELECT execution_id, ordinal, definition_id, queue FROM cloacina_maps INDEXED BY cloacina_maps_due \
     WHERE due_at IS NOT NULL AND due_at <= ? ORDER BY priority DESC, execution_id, ordinal"
}

query! {
    NextDueMap { now: i64 => BigInt } -> Nullable<BigInt>;
    "SELECT min(due_at) FROM cloacina_maps WHERE due_at IS NOT NULL AND due_at > ?"
}

#[derive(Queryable)]
pub(super) struct MapColumns {
    execution: Id,
    ordinal: i64,
    definition: i64,
    generation: i64,
    state: i16,
    width: i64,
    admitted: i64,
    running: i64,
    done: i64,
    failed: i64,
    parallel: Option<i64>,
    max_failed: Option<i64>,
    queue: i64,
    priority: i16,
    detail: Option<Decoded<(u32, Failure)>>,
    /// The columns `source`, `has_all` and `skipped`. They are grouped, because Diesel supports at most 16 columns.
    aligned: (Option<i64>, bool, i64),
}

impl MapColumns {
    pub(super) fn row(self) -> Result<MapRow, Fault> {
        let optional = |name, value: Option<i64>| value.map(|value| count(name, value)).transpose();
        Ok(MapRow {
            execution: self.execution.into(),
            task: count("ordinal", self.ordinal)?,
            definition: DefinitionId(self.definition),
            generation: count("generation", self.generation)?,
            state: MapState::from_code(self.state).ok_or_else(|| {
                Fault::Corrupt(format!("a map has the invalid state {}", self.state))
            })?,
            width: count("width", self.width)?,
            source: optional("source", self.aligned.0)?,
            has_all: self.aligned.1,
            admitted: count("admitted", self.admitted)?,
            skipped: count("skipped", self.aligned.2)?,
            running: count("running", self.running)?,
            done: count("done", self.done)?,
            failed: count("failed", self.failed)?,
            parallel: optional("parallel", self.parallel)?,
            max_failed: optional("max_failed", self.max_failed)?,
            queue: self.queue,
            priority: self.priority,
            first_failure: self.detail.map(|detail| detail.0),
        })
    }
}

statement! {
    PutMap<'a> {
        execution_id: &'a [u8] => Binary,
        ordinal: i64 => BigInt,
        definition_id: i64 => BigInt,
        generation: i64 => BigInt,
        state: i16 => SmallInt,
        width: i64 => BigInt,
        admitted: i64 => BigInt,
        running: i64 => BigInt,
        done: i64 => BigInt,
        failed: i64 => BigInt,
        parallel: Option<i64> => Nullable<BigInt>,
        max_failed: Option<i64> => Nullable<BigInt>,
        queue: i64 => BigInt,
        priority: i16 => SmallInt,
        due_at: Option<i64> => Nullable<BigInt>,
        detail: Option<&'a str> => Nullable<Text>,
        source: Option<i64> => Nullable<BigInt>,
        has_all: bool => Bool,
        skipped: i64 => BigInt,
    }
    "INSERT INTO cloacina_maps (execution_id, ordinal, definition_id, generation, state, width, admitted, running, done, \
     failed, parallel, max_failed, queue, priority, due_at, detail, source, has_all, skipped) \
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) \
     ON CONFLICT (execution_id, ordinal) DO UPDATE SET definition_id = excluded.definition_id, \
     generation = excluded.generation, state = excluded.state, width = excluded.width, admitted = excluded.admitted, \
     running = excluded.running, done = excluded.done, failed = excluded.failed, parallel = excluded.parallel, \
     max_failed = excluded.max_failed, queue = excluded.queue, priority = excluded.priority, due_at = excluded.due_at, \
     detail = excluded.detail, source = excluded.source, has_all = excluded.has_all, \
     skipped = excluded.skipped"
}

statement! {
    DeleteItems<'a> { execution_id: &'a [u8] => Binary, ordinal: i64 => BigInt }
    "DELETE FROM cloacina_items WHERE execution_id = ? AND ordinal = ?"
}

statement! {
    DeleteItemSteps<'a> { execution_id: &'a [u8] => Binary, ordinal: i64 => BigInt }
    "DELETE FROM cloacina_steps WHERE execution_id = ? AND ordinal = ? AND item >= 0"
}

query! {
    /// For each ended item of the source map in a range, adds an item to an aligned map. The new item is ready if the
    /// source item completed, and skipped otherwise.
    FeedItems<'a> {
        follower: i64 => BigInt,
        ended_at: i64 => BigInt,
        execution_id: &'a [u8] => Binary,
        source: i64 => BigInt,
        first: i64 => BigInt,
        last: i64 => BigInt,
    } -> (BigInt, SmallInt);
    "INSERT INTO cloacina_items (execution_id, ordinal, item, state, attempt, uncounted, rescues, ready_at, ended_at) \
     SELECT execution_id, ?, item, iif(state = 3, 1, 5), 0, 0, 0, iif(state = 3, 0, NULL), iif(state = 3, NULL, ?) \
     FROM cloacina_items WHERE execution_id = ? AND ordinal = ? AND item BETWEEN ? AND ? AND state IN (3, 4, 5) \
     ON CONFLICT DO NOTHING RETURNING item, state"
}

statement! {
    DeleteSkipped<'a> { execution_id: &'a [u8] => Binary, ordinal: i64 => BigInt }
    "DELETE FROM cloacina_items WHERE execution_id = ? AND ordinal = ? AND state = 5"
}

statement! {
    /// Cancels a map's ready and running items.
    CancelItems<'a> { ended_at: i64 => BigInt, execution_id: &'a [u8] => Binary, ordinal: i64 => BigInt }
    "UPDATE cloacina_items SET state = 6, runner_id = NULL, ready_at = NULL, ended_at = ? \
     WHERE execution_id = ? AND ordinal = ? AND state IN (1, 2)"
}

statement! {
    /// Postpones, by the length of a pause, the items of a map that were not due yet when the pause began (D7).
    HoldItems<'a> { held: i64 => BigInt, execution_id: &'a [u8] => Binary, ordinal: i64 => BigInt, since: i64 => BigInt }
    "UPDATE cloacina_items SET ready_at = ready_at + ? \
     WHERE execution_id = ? AND ordinal = ? AND state = 1 AND ready_at > ?"
}

statement! {
    /// Makes each item of a map ready, unless the item has completed. Earlier attempts of these items no longer count.
    ReopenItems<'a> { ready_at: i64 => BigInt, execution_id: &'a [u8] => Binary, ordinal: i64 => BigInt }
    "UPDATE cloacina_items SET state = 1, runner_id = NULL, ready_at = ?, uncounted = attempt, rescues = 0, \
     started_at = NULL, ended_at = NULL WHERE execution_id = ? AND ordinal = ? AND state <> 3"
}

query! {
    /// Returns the children that were started by items in state 2 (running) or 6 (cancelled when the map ended).
    OpenChildren<'a> { execution_id: &'a [u8] => Binary, ordinal: i64 => BigInt } -> Nullable<Binary>;
    "SELECT child_id FROM cloacina_items WHERE execution_id = ? AND ordinal = ? AND state IN (2, 6) AND runner_id IS NULL \
     AND child_id IS NOT NULL ORDER BY item"
}

statement! {
    /// Removes the references to the children that [`OpenChildren`] returns. Their ends are no longer expected, and a
    /// retry starts new children.
    ForgetChildren<'a> { execution_id: &'a [u8] => Binary, ordinal: i64 => BigInt }
    "UPDATE cloacina_items SET child_id = NULL WHERE execution_id = ? AND ordinal = ? AND state IN (2, 6) \
     AND runner_id IS NULL AND child_id IS NOT NULL"
}

query! {
    FirstWaiting<'a> { execution_id: &'a [u8] => Binary, ordinal: i64 => BigInt } -> Nullable<BigInt>;
    "SELECT min(ready_at) FROM cloacina_items WHERE execution_id = ? AND ordinal = ? AND state = 1"
}

statement! {
    /// Writes an item. Updates no row if the item has another holder.
    EndItem<'a> {
        state: i16 => SmallInt,
        attempt: i64 => BigInt,
        uncounted: i64 => BigInt,
        rescues: i64 => BigInt,
        runner_id: Option<&'a [u8]> => Nullable<Binary>,
        child_id: Option<&'a [u8]> => Nullable<Binary>,
        ready_at: Option<i64> => Nullable<BigInt>,
        started_at: Option<i64> => Nullable<BigInt>,
        ended_at: Option<i64> => Nullable<BigInt>,
        result: Option<&'a str> => Nullable<Text>,
        error: Option<&'a str> => Nullable<Text>,
        execution_id: &'a [u8] => Binary,
        ordinal: i64 => BigInt,
        item: i64 => BigInt,
        holder: &'a [u8] => Binary,
        fence_attempt: Option<i64> => Nullable<BigInt>,
    }
    "UPDATE cloacina_items SET state = ?, attempt = ?, uncounted = ?, rescues = ?, runner_id = ?, child_id = ?, ready_at = ?, \
     started_at = ?, ended_at = ?, result = ?, error = ? \
     WHERE execution_id = ? AND ordinal = ? AND item = ? AND state = 2 AND coalesce(runner_id, child_id) = ? \
     AND attempt = coalesce(?, attempt)"
}

statement! {
    /// Inserts a recorded step. Inserts nothing if the item has a different claim or the step is already recorded.
    InsertItemStep<'a> {
        key: &'a str => Text,
        position: i64 => BigInt,
        kind: &'a str => Text,
        attempt: i64 => BigInt,
        started_at: i64 => BigInt,
        ended_at: i64 => BigInt,
        value: &'a str => Text,
        execution_id: &'a [u8] => Binary,
        ordinal: i64 => BigInt,
        item: i64 => BigInt,
        fence_runner: &'a [u8] => Binary,
        fence_attempt: i64 => BigInt,
    }
    "INSERT INTO cloacina_steps (execution_id, ordinal, item, key, position, kind, attempt, started_at, ended_at, value) \
     SELECT execution_id, ordinal, item, ?, ?, ?, ?, ?, ?, ? FROM cloacina_items \
     WHERE execution_id = ? AND ordinal = ? AND item = ? AND state = 2 AND runner_id = ? AND attempt = ? \
     ON CONFLICT DO NOTHING"
}

query! {
    HasClaim<'a> {
        execution_id: &'a [u8] => Binary,
        ordinal: i64 => BigInt,
        item: i64 => BigInt,
        runner: &'a [u8] => Binary,
        attempt: i64 => BigInt,
    } -> BigInt;
    "SELECT 1 FROM cloacina_items \
     WHERE execution_id = ? AND ordinal = ? AND item = ? AND state = 2 AND runner_id = ? AND attempt = ?"
}

statement! {
    InsertItem<'a> {
        execution_id: &'a [u8] => Binary,
        ordinal: i64 => BigInt,
        item: i64 => BigInt,
        runner_id: &'a [u8] => Binary,
    }
    "INSERT INTO cloacina_items (execution_id, ordinal, item, state, attempt, uncounted, rescues, runner_id) \
     VALUES (?, ?, ?, 2, 1, 0, 0, ?)"
}

/// Declares a query that returns rows of items.
macro_rules! items_query {
    ($name:ident { $($field:ident: $rust:ty => $sql:ty),* } $condition:literal) => {
        query! {
            $name<'a> { $($field: $rust => $sql),* } -> (
                BigInt, SmallInt, BigInt, BigInt, BigInt, Nullable<Binary>, Nullable<Binary>, Nullable<BigInt>, Nullable<BigInt>,
                Nullable<BigInt>, Nullable<Text>, Nullable<Text>,
            );
            concat!(
                "SELECT item, state, attempt, uncounted, rescues, runner_id, child_id, ready_at, started_at, ended_at, result, error \
                 FROM cloacina_items ",
                $condition
            )
        }
    };
}

items_query! {
    DueItems {
        execution_id: &'a [u8] => Binary, ordinal: i64 => BigInt, after: i64 => BigInt, now: i64 => BigInt, limit: i64 => BigInt
    }
    "INDEXED BY cloacina_items_waiting WHERE execution_id = ? AND ordinal = ? AND state = 1 AND ready_at > ? AND ready_at <= ? \
     ORDER BY ready_at, item LIMIT ?"
}
items_query! {
    ItemPage {
        execution_id: &'a [u8] => Binary, ordinal: i64 => BigInt, from: i64 => BigInt,
        every: Option<i16> => Nullable<SmallInt>, state: Option<i16> => Nullable<SmallInt>, limit: i64 => BigInt
    }
    "WHERE execution_id = ? AND ordinal = ? AND item >= ? AND (? IS NULL OR state = ?) ORDER BY item LIMIT ?"
}
items_query! {
    ItemPageBefore {
        execution_id: &'a [u8] => Binary, ordinal: i64 => BigInt, before: i64 => BigInt,
        every: Option<i16> => Nullable<SmallInt>, state: Option<i16> => Nullable<SmallInt>, limit: i64 => BigInt
    }
    "WHERE execution_id = ? AND ordinal = ? AND item < ? AND (? IS NULL OR state = ?) ORDER BY item DESC LIMIT ?"
}
query! {
    /// The number of items, and their results in the order of the list. SQLite joins them in the order of the subquery.
    JoinedResults<'a> {
        execution_id: &'a [u8] => Binary, ordinal: i64 => BigInt, from: i64 => BigInt, until: i64 => BigInt
    } -> (BigInt, Text);
    "SELECT count(*), coalesce(group_concat(coalesce(result, 'null'), ','), '') FROM (SELECT result FROM cloacina_items \
     WHERE execution_id = ? AND ordinal = ? AND item >= ? AND item < ? ORDER BY item)"
}

items_query! {
    ClaimedItemsOf { execution_id: &'a [u8] => Binary, ordinal: i64 => BigInt, runner: &'a [u8] => Binary, limit: i64 => BigInt }
    "WHERE execution_id = ? AND ordinal = ? AND state = 2 AND runner_id = ? ORDER BY item LIMIT ?"
}

query! {
    MapsWithClaims<'a> { runner: &'a [u8] => Binary } -> (Binary, BigInt);
    "SELECT DISTINCT execution_id, ordinal FROM cloacina_items INDEXED BY cloacina_items_claimed \
     WHERE state = 2 AND runner_id = ?"
}

statement! {
    ClaimItem<'a> {
        runner_id: &'a [u8] => Binary,
        execution_id: &'a [u8] => Binary,
        ordinal: i64 => BigInt,
        item: i64 => BigInt,
    }
    "UPDATE cloacina_items SET state = 2, attempt = attempt + 1, runner_id = ?, ready_at = NULL, started_at = NULL \
     WHERE execution_id = ? AND ordinal = ? AND item = ?"
}

query! {
    SelectItemSteps<'a> { execution_id: &'a [u8] => Binary, ordinal: i64 => BigInt, item: i64 => BigInt } -> (
        Text, BigInt, Text, BigInt, BigInt, BigInt, Text,
    );
    "SELECT key, position, kind, attempt, started_at, ended_at, coalesce(value, 'null') FROM cloacina_steps \
     WHERE execution_id = ? AND ordinal = ? AND item = ? ORDER BY position"
}

#[derive(Queryable)]
pub(super) struct ItemColumns {
    item: i64,
    state: i16,
    attempt: i64,
    uncounted: i64,
    rescues: i64,
    runner: Option<Id>,
    child: Option<Id>,
    ready_at: Option<i64>,
    started_at: Option<i64>,
    ended_at: Option<i64>,
    result: Option<Decoded<Json>>,
    error: Option<Decoded<Failure>>,
}

impl ItemColumns {
    pub(super) fn record(self) -> Result<ItemRecord, Fault> {
        Ok(ItemRecord {
            item: count("item", self.item)?,
            status: TaskStatus::from_code(self.state).ok_or_else(|| {
                Fault::Corrupt(format!("an item has the invalid state {}", self.state))
            })?,
            attempt: count("attempt", self.attempt)?,
            uncounted: count("uncounted", self.uncounted)?,
            rescues: count("rescues", self.rescues)?,
            runner: self.runner.map(Into::into),
            child: self.child.map(Into::into),
            ready_at: self.ready_at.map(Timestamp),
            started_at: self.started_at.map(Timestamp),
            ended_at: self.ended_at.map(Timestamp),
            result: self.result.map(|result| result.0),
            error: self.error.map(|error| error.0),
        })
    }
}

pub(super) fn records(rows: Vec<ItemColumns>) -> Result<Vec<ItemRecord>, Fault> {
    rows.into_iter().map(ItemColumns::record).collect()
}
