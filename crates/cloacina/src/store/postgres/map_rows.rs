//! The statements that read and write maps and their items, and the types of their rows.

use diesel::Queryable;
use diesel::sql_types::{Array, BigInt, Bool, Nullable, SmallInt, Text, Uuid as SqlUuid};
use uuid::Uuid;

use super::error::Fault;
use super::row::{Decoded, count};
use super::statement::{query, statement};
use crate::types::{
    DefinitionId, Failure, ItemRecord, Json, MapRow, MapState, TaskStatus, Timestamp,
};

/// Declares a query that returns rows of maps.
macro_rules! maps_query {
    ($name:ident { $($field:ident: $rust:ty => $sql:ty),* } $condition:literal) => {
        query! {
            $name { $($field: $rust => $sql),* } -> (
                SqlUuid, BigInt, BigInt, BigInt, SmallInt, BigInt, BigInt, BigInt, BigInt, BigInt, Nullable<BigInt>,
                Nullable<BigInt>, BigInt, SmallInt, Nullable<Text>,
                (Nullable<BigInt>, Bool, BigInt),
            );
            concat!(
                "SELECT execution_id, ordinal, definition_id, generation, state, width, admitted, running, done, failed,
                 parallel, max_failed, queue, priority, detail, source, has_all, skipped FROM cloacina_maps ",
                $condition
            )
        }
    };
}

maps_query! { LockMap { execution_id: Uuid => SqlUuid, ordinal: i64 => BigInt } "WHERE execution_id = $1 AND ordinal = $2 FOR UPDATE" }
maps_query! { LockFreeMap { execution_id: Uuid => SqlUuid, ordinal: i64 => BigInt }
"WHERE execution_id = $1 AND ordinal = $2 FOR UPDATE SKIP LOCKED" }
maps_query! { OneMap { execution_id: Uuid => SqlUuid, ordinal: i64 => BigInt } "WHERE execution_id = $1 AND ordinal = $2" }
maps_query! { MapsOf { ids: Vec<Uuid> => Array<SqlUuid> } "WHERE execution_id = ANY ($1) ORDER BY execution_id, ordinal" }

query! {
    IsAlive { id: Uuid => SqlUuid } -> BigInt;
    "SELECT 1::bigint FROM cloacina_runners WHERE id = $1 AND dead_at IS NULL FOR SHARE"
}

query! {
    DueMaps { now: i64 => BigInt, queues: Vec<i64> => Array<BigInt>, limit: i64 => BigInt } -> (SqlUuid, BigInt, BigInt, BigInt);
    "SELECT execution_id, ordinal, definition_id, queue FROM cloacina_maps
     WHERE due_at IS NOT NULL AND due_at <= $1 AND queue = ANY ($2)
     ORDER BY priority DESC, execution_id, ordinal LIMIT $3"
}

query! {
    NextDueMap { now: i64 => BigInt } -> Nullable<BigInt>;
    "SELECT min(due_at) FROM cloacina_maps WHERE due_at IS NOT NULL AND due_at > $1"
}

#[derive(Queryable)]
pub(super) struct MapColumns {
    execution: Uuid,
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
    PutMap {
        execution_id: Uuid => SqlUuid,
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
        detail: Option<String> => Nullable<Text>,
        source: Option<i64> => Nullable<BigInt>,
        has_all: bool => Bool,
        skipped: i64 => BigInt,
    }
    "INSERT INTO cloacina_maps (execution_id, ordinal, definition_id, generation, state, width, admitted, running, done,
     failed, parallel, max_failed, queue, priority, due_at, detail, source, has_all, skipped)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)
     ON CONFLICT (execution_id, ordinal) DO UPDATE SET definition_id = excluded.definition_id,
     generation = excluded.generation, state = excluded.state, width = excluded.width, admitted = excluded.admitted,
     running = excluded.running, done = excluded.done, failed = excluded.failed, parallel = excluded.parallel,
     max_failed = excluded.max_failed, queue = excluded.queue, priority = excluded.priority, due_at = excluded.due_at,
     detail = excluded.detail, source = excluded.source, has_all = excluded.has_all,
     skipped = excluded.skipped"
}

statement! {
    DeleteItems { execution_id: Uuid => SqlUuid, ordinal: i64 => BigInt }
    "DELETE FROM cloacina_items WHERE execution_id = $1 AND ordinal = $2"
}

statement! {
    DeleteItemSteps { execution_id: Uuid => SqlUuid, ordinal: i64 => BigInt }
    "DELETE FROM cloacina_steps WHERE execution_id = $1 AND ordinal = $2 AND item >= 0"
}

query! {
    /// For each given item of the source map, if the item has ended, adds an item to an aligned map. The new item is
    /// ready if the source item completed, and skipped otherwise.
    FeedItems {
        execution_id: Uuid => SqlUuid,
        source: i64 => BigInt,
        follower: i64 => BigInt,
        items: Vec<i64> => Array<BigInt>,
        ended_at: i64 => BigInt,
    } -> (BigInt, SmallInt);
    "INSERT INTO cloacina_items (execution_id, ordinal, item, state, attempt, uncounted, rescues, ready_at, ended_at)
     SELECT $1, $3, n.item, CASE k.state WHEN 3 THEN 1 ELSE 5 END, 0, 0, 0, CASE k.state WHEN 3 THEN 0 END,
     CASE k.state WHEN 3 THEN NULL ELSE $5 END
     FROM unnest($4::bigint[]) AS n (item) CROSS JOIN LATERAL (
         SELECT x.state FROM cloacina_items AS x
         WHERE x.execution_id = $1 AND x.ordinal = $2 AND x.item = n.item AND x.state IN (3, 4, 5) OFFSET 0
     ) AS k
     ON CONFLICT DO NOTHING RETURNING item, state"
}

query! {
    /// Like [`FeedItems`], but for all ended items of the source map.
    FeedAllItems {
        execution_id: Uuid => SqlUuid,
        source: i64 => BigInt,
        follower: i64 => BigInt,
        ended_at: i64 => BigInt,
    } -> (BigInt, SmallInt);
    "INSERT INTO cloacina_items (execution_id, ordinal, item, state, attempt, uncounted, rescues, ready_at, ended_at)
     SELECT $1, $3, item, CASE state WHEN 3 THEN 1 ELSE 5 END, 0, 0, 0, CASE state WHEN 3 THEN 0 END,
     CASE state WHEN 3 THEN NULL ELSE $4 END
     FROM cloacina_items WHERE execution_id = $1 AND ordinal = $2 AND state IN (3, 4, 5)
     ON CONFLICT DO NOTHING RETURNING item, state"
}

statement! {
    DeleteSkipped { execution_id: Uuid => SqlUuid, ordinal: i64 => BigInt }
    "DELETE FROM cloacina_items WHERE execution_id = $1 AND ordinal = $2 AND state = 5"
}

statement! {
    /// Cancels a map's ready and running items.
    CancelItems { ended_at: i64 => BigInt, execution_id: Uuid => SqlUuid, ordinal: i64 => BigInt }
    "UPDATE cloacina_items SET state = 6, runner_id = NULL, ready_at = NULL, ended_at = $1
     WHERE execution_id = $2 AND ordinal = $3 AND state IN (1, 2)"
}

statement! {
    /// Postpones, by the length of a pause, the items of a map that were not due yet when the pause began (D7).
    HoldItems { held: i64 => BigInt, execution_id: Uuid => SqlUuid, ordinal: i64 => BigInt, since: i64 => BigInt }
    "UPDATE cloacina_items SET ready_at = ready_at + $1
     WHERE execution_id = $2 AND ordinal = $3 AND state = 1 AND ready_at > $4"
}

statement! {
    /// Makes each item of a map ready, unless the item has completed. Earlier attempts of these items no longer count.
    ReopenItems { ready_at: i64 => BigInt, execution_id: Uuid => SqlUuid, ordinal: i64 => BigInt }
    "UPDATE cloacina_items SET state = 1, runner_id = NULL, ready_at = $1, uncounted = attempt, rescues = 0,
     started_at = NULL, ended_at = NULL WHERE execution_id = $2 AND ordinal = $3 AND state <> 3"
}

query! {
    /// Returns the children that were started by items in state 2 (running) or 6 (cancelled when the map ended).
    OpenChildren { execution_id: Uuid => SqlUuid, ordinal: i64 => BigInt } -> Nullable<SqlUuid>;
    "SELECT child_id FROM cloacina_items WHERE execution_id = $1 AND ordinal = $2 AND state IN (2, 6)
     AND runner_id IS NULL AND child_id IS NOT NULL ORDER BY item"
}

statement! {
    /// Removes the references to the children that [`OpenChildren`] returns. Their ends are no longer expected, and a
    /// retry starts new children.
    ForgetChildren { execution_id: Uuid => SqlUuid, ordinal: i64 => BigInt }
    "UPDATE cloacina_items SET child_id = NULL WHERE execution_id = $1 AND ordinal = $2 AND state IN (2, 6)
     AND runner_id IS NULL AND child_id IS NOT NULL"
}

query! {
    FirstWaiting { execution_id: Uuid => SqlUuid, ordinal: i64 => BigInt } -> Nullable<BigInt>;
    "SELECT min(ready_at) FROM cloacina_items WHERE execution_id = $1 AND ordinal = $2 AND state = 1"
}

// The planner does not know how many items a map has, and would therefore read all of them in each statement. The
// lateral subqueries look up each item by its key, and `OFFSET 0` prevents the planner from reordering them. The lock
// on the map's row keeps the row addresses (`ctid`) valid.
query! {
    /// Updates each given item if it still has the given holder (a runner or a child) and the given attempt (null: any
    /// attempt). Returns the updated items.
    #[derive(Default)]
    EndItems {
        execution_id: Uuid => SqlUuid,
        ordinal: i64 => BigInt,
        items: Vec<i64> => Array<BigInt>,
        states: Vec<i16> => Array<SmallInt>,
        attempts: Vec<i64> => Array<BigInt>,
        uncounted: Vec<i64> => Array<BigInt>,
        rescues: Vec<i64> => Array<BigInt>,
        runners: Vec<Option<Uuid>> => Array<Nullable<SqlUuid>>,
        children: Vec<Option<Uuid>> => Array<Nullable<SqlUuid>>,
        ready_at: Vec<Option<i64>> => Array<Nullable<BigInt>>,
        started_at: Vec<Option<i64>> => Array<Nullable<BigInt>>,
        ended_at: Vec<Option<i64>> => Array<Nullable<BigInt>>,
        results: Vec<Option<String>> => Array<Nullable<Text>>,
        errors: Vec<Option<String>> => Array<Nullable<Text>>,
        holders: Vec<Uuid> => Array<SqlUuid>,
        fence_attempts: Vec<Option<i64>> => Array<Nullable<BigInt>>,
    } -> BigInt;
    "UPDATE cloacina_items AS i SET state = n.state, attempt = n.attempt, uncounted = n.uncounted, rescues = n.rescues,
     runner_id = n.runner, child_id = n.child, ready_at = n.ready_at, started_at = n.started_at, ended_at = n.ended_at,
     result = n.result, error = n.error
     FROM unnest($3::bigint[], $4::smallint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::uuid[], $9::uuid[],
         $10::bigint[], $11::bigint[], $12::bigint[], $13::text[], $14::text[], $15::uuid[], $16::bigint[])
         AS n (item, state, attempt, uncounted, rescues, runner, child, ready_at, started_at, ended_at, result, error, holder, fence)
     CROSS JOIN LATERAL (
         SELECT x.ctid AS place FROM cloacina_items AS x
         WHERE x.execution_id = $1 AND x.ordinal = $2 AND x.item = n.item AND x.state = 2
         AND coalesce(x.runner_id, x.child_id) = n.holder AND x.attempt = coalesce(n.fence, x.attempt) OFFSET 0
     ) AS k
     WHERE i.ctid = k.place RETURNING i.item"
}

query! {
    /// Records each given step if its item still has the given claim. Returns the items that have the given claim.
    #[derive(Default)]
    InsertItemSteps {
        execution_id: Uuid => SqlUuid,
        ordinal: i64 => BigInt,
        items: Vec<i64> => Array<BigInt>,
        keys: Vec<String> => Array<Text>,
        positions: Vec<i64> => Array<BigInt>,
        kinds: Vec<String> => Array<Text>,
        attempts: Vec<i64> => Array<BigInt>,
        started_at: Vec<i64> => Array<BigInt>,
        ended_at: Vec<i64> => Array<BigInt>,
        values: Vec<String> => Array<Text>,
        runners: Vec<Uuid> => Array<SqlUuid>,
        fences: Vec<i64> => Array<BigInt>,
    } -> BigInt;
    "WITH new AS (
         SELECT n.* FROM unnest($3::bigint[], $4::text[], $5::bigint[], $6::text[], $7::bigint[], $8::bigint[],
             $9::bigint[], $10::text[], $11::uuid[], $12::bigint[])
             AS n (item, key, position, kind, attempt, started_at, ended_at, value, runner, fence)
         CROSS JOIN LATERAL (
             SELECT 1 FROM cloacina_items AS x WHERE x.execution_id = $1 AND x.ordinal = $2 AND x.item = n.item AND x.state = 2
             AND x.runner_id = n.runner AND x.attempt = n.fence OFFSET 0
         ) AS i
     ), added AS (
         INSERT INTO cloacina_steps (execution_id, ordinal, item, key, position, kind, attempt, started_at, ended_at, value)
         SELECT $1, $2, item, key, position, kind, attempt, started_at, ended_at, value FROM new ON CONFLICT DO NOTHING
     )
     SELECT item FROM new"
}

statement! {
    InsertItems { execution_id: Uuid => SqlUuid, ordinal: i64 => BigInt, first: i64 => BigInt, last: i64 => BigInt, runner: Uuid => SqlUuid }
    "INSERT INTO cloacina_items (execution_id, ordinal, item, state, attempt, uncounted, rescues, runner_id)
     SELECT $1, $2, n.item, 2, 1, 0, 0, $5 FROM generate_series($3::bigint, $4::bigint) AS n (item)"
}

/// Declares a query that returns rows of items.
macro_rules! items_query {
    ($name:ident { $($field:ident: $rust:ty => $sql:ty),* } $condition:literal) => {
        query! {
            $name { $($field: $rust => $sql),* } -> (
                BigInt, SmallInt, BigInt, BigInt, BigInt, Nullable<SqlUuid>, Nullable<SqlUuid>, Nullable<BigInt>, Nullable<BigInt>,
                Nullable<BigInt>, Nullable<Text>, Nullable<Text>,
            );
            concat!(
                "SELECT item, state, attempt, uncounted, rescues, runner_id, child_id, ready_at, started_at, ended_at, result, error
                 FROM cloacina_items ",
                $condition
            )
        }
    };
}

items_query! {
    DueItems {
        execution_id: Uuid => SqlUuid, ordinal: i64 => BigInt, after: i64 => BigInt, now: i64 => BigInt, limit: i64 => BigInt
    }
    "WHERE execution_id = $1 AND ordinal = $2 AND state = 1 AND ready_at > $3 AND ready_at <= $4
     ORDER BY ready_at, item LIMIT $5"
}
items_query! {
    ItemPage {
        execution_id: Uuid => SqlUuid, ordinal: i64 => BigInt, from: i64 => BigInt,
        state: Option<i16> => Nullable<SmallInt>, limit: i64 => BigInt
    }
    "WHERE execution_id = $1 AND ordinal = $2 AND item >= $3 AND ($4::smallint IS NULL OR state = $4) ORDER BY item LIMIT $5"
}
items_query! {
    ItemPageBefore {
        execution_id: Uuid => SqlUuid, ordinal: i64 => BigInt, before: i64 => BigInt,
        state: Option<i16> => Nullable<SmallInt>, limit: i64 => BigInt
    }
    "WHERE execution_id = $1 AND ordinal = $2 AND item < $3 AND ($4::smallint IS NULL OR state = $4) ORDER BY item DESC
     LIMIT $5"
}
query! {
    /// The number of items, and their results in the order of the list.
    JoinedResults { execution_id: Uuid => SqlUuid, ordinal: i64 => BigInt, from: i64 => BigInt, until: i64 => BigInt } -> (BigInt, Text);
    "SELECT count(*), coalesce(string_agg(coalesce(result, 'null'), ',' ORDER BY item), '') FROM cloacina_items
     WHERE execution_id = $1 AND ordinal = $2 AND item >= $3 AND item < $4"
}

items_query! {
    ClaimedItemsOf { execution_id: Uuid => SqlUuid, ordinal: i64 => BigInt, runner: Uuid => SqlUuid, limit: i64 => BigInt }
    "WHERE execution_id = $1 AND ordinal = $2 AND state = 2 AND runner_id = $3 ORDER BY item LIMIT $4"
}

query! {
    MapsWithClaims { runner: Uuid => SqlUuid } -> (SqlUuid, BigInt);
    "SELECT DISTINCT execution_id, ordinal FROM cloacina_items WHERE state = 2 AND runner_id = $1"
}

statement! {
    ClaimItems { runner: Uuid => SqlUuid, execution_id: Uuid => SqlUuid, ordinal: i64 => BigInt, items: Vec<i64> => Array<BigInt> }
    "UPDATE cloacina_items AS i SET state = 2, attempt = i.attempt + 1, runner_id = $1, ready_at = NULL, started_at = NULL
     FROM unnest($4::bigint[]) AS n (item) CROSS JOIN LATERAL (
         SELECT x.ctid AS place FROM cloacina_items AS x
         WHERE x.execution_id = $2 AND x.ordinal = $3 AND x.item = n.item OFFSET 0
     ) AS k
     WHERE i.ctid = k.place"
}

query! {
    SelectItemSteps { execution_id: Uuid => SqlUuid, ordinal: i64 => BigInt, item: i64 => BigInt } -> (
        Text, BigInt, Text, BigInt, BigInt, BigInt, Text,
    );
    "SELECT key, position, kind, attempt, started_at, ended_at, coalesce(value, 'null') FROM cloacina_steps
     WHERE execution_id = $1 AND ordinal = $2 AND item = $3 ORDER BY position"
}

#[derive(Queryable)]
pub(super) struct ItemColumns {
    item: i64,
    state: i16,
    attempt: i64,
    uncounted: i64,
    rescues: i64,
    runner: Option<Uuid>,
    child: Option<Uuid>,
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

/// Returns the map of the first row, if there is one.
pub(super) fn first_row(rows: Vec<MapColumns>) -> Result<Option<MapRow>, Fault> {
    rows.into_iter().next().map(MapColumns::row).transpose()
}
