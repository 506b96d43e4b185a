//! The statement that writes a batch. It has only the parts that the batch needs: each costs the server a little, and a
//! connection soon has prepared the few combinations that occur.

use diesel::QueryResult;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{Array, BigInt, Nullable, SmallInt, Text, Uuid as SqlUuid};

use super::write::Write;
use crate::store::placeholder::pieces;

/// Appends a constant text whose `?` are bound to values.
macro_rules! part {
    ($out:ident, $text:literal $(, $value:expr => $sql:ty)* $(,)?) => {{
        const VALUES: &[&str] = &[$(stringify!($sql)),*];
        const PIECES: [&str; VALUES.len() + 1] = pieces($text);
        let mut pieces = PIECES.iter();
        $out.push_sql(pieces.next().copied().unwrap_or_default());
        $(
            $out.push_bind_param::<$sql, _>(&$value)?;
            $out.push_sql(pieces.next().copied().unwrap_or_default());
        )*
    }};
}

impl QueryId for Write<'_> {
    type QueryId = ();
    // Prepared once for each combination of parts: known by its text.
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl Query for Write<'_> {
    type SqlType = (SmallInt, Nullable<SqlUuid>);
}

// Everything in one statement, so that a batch costs one round trip and is atomic by itself.
//
// - `submitted` runs before `advanced` (the first reader of `applied` pulls them in this order), and both in the order of
//   their arrays, which are sorted: no two batches can wait for each other.
// - `(x IN (SELECT …)) IS TRUE` and not a join: the planner then looks up a hash table, whatever the join settings are.
// - The fence is written so that the planner takes it for anything but selective (see `benchmarks/limits`).
// - What is wrong makes the last cast fail, and with it the statement: see `error::Problem`.
impl QueryFragment<Pg> for Write<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("WITH ");
        if self.needs_runner {
            self.alive(out.reborrow())?;
        }
        if self.submits() {
            self.submitted(out.reborrow())?;
        }
        if self.advances() {
            self.advanced(out.reborrow())?;
        }
        out.push_sql(match (self.submits(), self.advances()) {
            (true, true) => {
                "applied AS MATERIALIZED (SELECT id FROM submitted UNION ALL SELECT id FROM advanced)"
            }
            (true, false) => "applied AS MATERIALIZED (SELECT id FROM submitted)",
            _ => "applied AS MATERIALIZED (SELECT id FROM advanced)",
        });
        if !self.input_ids.is_empty() {
            self.inputs(out.reborrow())?;
        }
        if !self.insert_ids.is_empty() {
            self.inserted(out.reborrow())?;
        }
        if self.updates() {
            self.updated(out.reborrow())?;
        }
        if !self.event_ids.is_empty() {
            self.events(out.reborrow())?;
        }
        self.verdict(out.reborrow());
        out.push_sql(match (self.submits(), self.advances()) {
            (true, true) => {
                " SELECT 1::smallint, id FROM submitted UNION ALL SELECT 2::smallint, id FROM advanced"
            }
            (true, false) => " SELECT 1::smallint, id FROM submitted",
            _ => " SELECT 2::smallint, id FROM advanced",
        });
        if self.may_be_wrong() {
            out.push_sql(
                " UNION ALL SELECT problem::smallint, NULL::uuid FROM verdict WHERE problem IS NOT NULL",
            );
        }
        Ok(())
    }
}

impl Write<'_> {
    const fn submits(&self) -> bool {
        !self.ids.is_empty()
    }

    const fn advances(&self) -> bool {
        !self.advance_ids.is_empty()
    }

    const fn updates(&self) -> bool {
        !self.update_ids.is_empty()
    }

    /// Whether there is anything that a caller may have got wrong.
    const fn may_be_wrong(&self) -> bool {
        self.needs_runner || self.submits() || self.updates()
    }

    fn alive<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        part!(
            out,
            "alive AS MATERIALIZED (\
                 SELECT r.id FROM cloacina_runners AS r WHERE r.id = ?::uuid AND r.dead_at IS NULL FOR SHARE\
             ), ",
            self.runner => SqlUuid,
        );
        Ok(())
    }

    /// The executions that are new, and the definitions that nobody has stored.
    fn submitted<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        part!(
            out,
            "submitted AS (\
                 INSERT INTO cloacina_executions (id, definition_id, workflow, state, revision, priority, execution_key, \
                 created_at, start_at, started_at, ended_at, timeout, deadline, paused_at, error) \
                 SELECT * FROM unnest(?::uuid[], ?::bigint[], ?::text[], ?::smallint[], ?::bigint[], ?::smallint[], \
                 ?::text[], ?::bigint[], ?::bigint[], ?::bigint[], ?::bigint[], ?::bigint[], ?::bigint[], ?::bigint[], \
                 ?::text[]) ON CONFLICT DO NOTHING RETURNING id\
             ), unknown AS (\
                 SELECT n.id FROM unnest(?::bigint[]) AS n (id) \
                 WHERE NOT EXISTS (SELECT 1 FROM cloacina_definitions AS d WHERE d.id = n.id) LIMIT 1\
             ), ",
            self.ids => Array<SqlUuid>,
            self.definitions => Array<BigInt>,
            self.workflows => Array<Text>,
            self.states => Array<SmallInt>,
            self.revisions => Array<BigInt>,
            self.priorities => Array<SmallInt>,
            self.keys => Array<Nullable<Text>>,
            self.created => Array<BigInt>,
            self.starts => Array<Nullable<BigInt>>,
            self.started => Array<Nullable<BigInt>>,
            self.ended => Array<Nullable<BigInt>>,
            self.timeouts => Array<Nullable<BigInt>>,
            self.deadlines => Array<Nullable<BigInt>>,
            self.paused => Array<Nullable<BigInt>>,
            self.errors => Array<Nullable<Text>>,
            self.known_definitions => Array<BigInt>,
        );
        Ok(())
    }

    fn advanced<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        part!(
            out,
            "advanced AS (\
                 UPDATE cloacina_executions AS e SET state = n.state, revision = n.revision, started_at = n.started_at, \
                 ended_at = n.ended_at, deadline = n.deadline, paused_at = n.paused_at, error = n.error \
                 FROM unnest(?::uuid[], ?::bigint[], ?::smallint[], ?::bigint[], ?::bigint[], ?::bigint[], ?::bigint[], \
                 ?::bigint[], ?::text[]) \
                 AS n (id, expected, state, revision, started_at, ended_at, deadline, paused_at, error) \
                 WHERE e.id = n.id AND e.revision = n.expected RETURNING e.id\
             ), ",
            self.advance_ids => Array<SqlUuid>,
            self.advance_expected => Array<BigInt>,
            self.advance_states => Array<SmallInt>,
            self.advance_revisions => Array<BigInt>,
            self.advance_started => Array<Nullable<BigInt>>,
            self.advance_ended => Array<Nullable<BigInt>>,
            self.advance_deadlines => Array<Nullable<BigInt>>,
            self.advance_paused => Array<Nullable<BigInt>>,
            self.advance_errors => Array<Nullable<Text>>,
        );
        Ok(())
    }

    fn inputs<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        part!(
            out,
            ", inputs AS (\
                 INSERT INTO cloacina_inputs (execution_id, input) \
                 SELECT n.id, n.input FROM unnest(?::uuid[], ?::text[]) AS n (id, input) \
                 WHERE (n.id IN (SELECT id FROM submitted)) IS TRUE\
             )",
            self.input_ids => Array<SqlUuid>,
            self.inputs => Array<Text>,
        );
        Ok(())
    }

    fn inserted<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        part!(
            out,
            ", inserted AS (\
                 INSERT INTO cloacina_tasks (execution_id, ordinal, state, attempt, uncounted, rescues, runner_id, \
                 ready_at, queue, priority, started_at, ended_at, delta, error, skip) \
                 SELECT n.* FROM unnest(?::uuid[], ?::bigint[], ?::smallint[], ?::bigint[], ?::bigint[], ?::bigint[], \
                 ?::uuid[], ?::bigint[], ?::bigint[], ?::smallint[], ?::bigint[], ?::bigint[], ?::text[], ?::text[], \
                 ?::text[]) AS n (id) WHERE (n.id IN (SELECT id FROM applied)) IS TRUE\
             )",
            self.insert_ids => Array<SqlUuid>,
            self.insert_ordinals => Array<BigInt>,
            self.insert_states => Array<SmallInt>,
            self.insert_attempts => Array<BigInt>,
            self.insert_uncounted => Array<BigInt>,
            self.insert_rescues => Array<BigInt>,
            self.insert_runners => Array<Nullable<SqlUuid>>,
            self.insert_ready => Array<Nullable<BigInt>>,
            self.insert_queues => Array<BigInt>,
            self.insert_priorities => Array<SmallInt>,
            self.insert_started => Array<Nullable<BigInt>>,
            self.insert_ended => Array<Nullable<BigInt>>,
            self.insert_deltas => Array<Nullable<Text>>,
            self.insert_errors => Array<Nullable<Text>>,
            self.insert_skips => Array<Nullable<Text>>,
        );
        Ok(())
    }

    /// The tasks that change, and those that should have changed and did not.
    fn updated<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        part!(
            out,
            ", updated AS (\
                 UPDATE cloacina_tasks AS t SET state = n.state, attempt = n.attempt, uncounted = n.uncounted, \
                 rescues = n.rescues, runner_id = n.runner_id, ready_at = n.ready_at, started_at = n.started_at, \
                 ended_at = n.ended_at, delta = n.delta, error = n.error, skip = n.skip \
                 FROM unnest(?::smallint[], ?::bigint[], ?::bigint[], ?::bigint[], ?::uuid[], ?::bigint[], ?::bigint[], \
                 ?::bigint[], ?::text[], ?::text[], ?::text[], ?::uuid[], ?::bigint[], ?::uuid[], ?::bigint[]) \
                 AS n (state, attempt, uncounted, rescues, runner_id, ready_at, started_at, ended_at, delta, error, \
                 skip, execution_id, ordinal, fence_runner, fence_attempt) \
                 WHERE t.execution_id = n.execution_id AND t.ordinal = n.ordinal \
                 AND coalesce(n.fence_runner IS NULL \
                     OR (t.state = 2 AND t.runner_id = n.fence_runner AND t.attempt = n.fence_attempt), false) \
                 AND (n.execution_id IN (SELECT id FROM applied)) IS TRUE \
                 RETURNING t.execution_id, t.ordinal\
             ), missing AS (\
                 SELECT n.execution_id, n.ordinal FROM unnest(?::uuid[], ?::bigint[]) AS n (execution_id, ordinal) \
                 WHERE (n.execution_id IN (SELECT id FROM applied)) IS TRUE \
                 AND ((n.execution_id, n.ordinal) IN (SELECT execution_id, ordinal FROM updated)) IS NOT TRUE LIMIT 1\
             )",
            self.update_states => Array<SmallInt>,
            self.update_attempts => Array<BigInt>,
            self.update_uncounted => Array<BigInt>,
            self.update_rescues => Array<BigInt>,
            self.update_runners => Array<Nullable<SqlUuid>>,
            self.update_ready => Array<Nullable<BigInt>>,
            self.update_started => Array<Nullable<BigInt>>,
            self.update_ended => Array<Nullable<BigInt>>,
            self.update_deltas => Array<Nullable<Text>>,
            self.update_errors => Array<Nullable<Text>>,
            self.update_skips => Array<Nullable<Text>>,
            self.update_ids => Array<SqlUuid>,
            self.update_ordinals => Array<BigInt>,
            self.fence_runners => Array<Nullable<SqlUuid>>,
            self.fence_attempts => Array<Nullable<BigInt>>,
            self.update_ids => Array<SqlUuid>,
            self.update_ordinals => Array<BigInt>,
        );
        Ok(())
    }

    fn events<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        part!(
            out,
            ", events AS (\
                 INSERT INTO cloacina_events (execution_id, time, kind, ordinal, attempt, runner_id, data) \
                 SELECT n.* FROM unnest(?::uuid[], ?::bigint[], ?::text[], ?::bigint[], ?::bigint[], ?::uuid[], \
                 ?::text[]) AS n (id) WHERE (n.id IN (SELECT id FROM applied)) IS TRUE\
             )",
            self.event_ids => Array<SqlUuid>,
            self.event_times => Array<BigInt>,
            self.event_kinds => Array<Text>,
            self.event_ordinals => Array<Nullable<BigInt>>,
            self.event_attempts => Array<Nullable<BigInt>>,
            self.event_runners => Array<Nullable<SqlUuid>>,
            self.event_data => Array<Nullable<Text>>,
        );
        Ok(())
    }

    /// What is wrong, if anything.
    fn verdict(&self, mut out: AstPass<'_, '_, Pg>) {
        const DEFINITION: &str = "(SELECT 'cloacina:definition:' || id FROM unknown)";
        const TASK: &str =
            "(SELECT 'cloacina:task:' || ordinal || ' of execution ' || execution_id FROM missing)";
        if !self.may_be_wrong() {
            return;
        }
        out.push_sql(", verdict AS MATERIALIZED (SELECT ");
        if self.needs_runner {
            out.push_sql("CASE WHEN NOT EXISTS (SELECT 1 FROM alive) THEN 'cloacina:runner' ELSE ");
        }
        match (self.submits(), self.updates()) {
            (true, true) => {
                out.push_sql("coalesce(");
                out.push_sql(DEFINITION);
                out.push_sql(", ");
                out.push_sql(TASK);
                out.push_sql(")");
            }
            (true, false) => out.push_sql(DEFINITION),
            (false, true) => out.push_sql(TASK),
            (false, false) => out.push_sql("NULL::text"),
        }
        if self.needs_runner {
            out.push_sql(" END");
        }
        out.push_sql(" AS problem)");
    }
}
