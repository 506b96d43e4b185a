//! Builds the statement that writes a batch. The statement contains only the parts that the batch needs, because each
//! part costs time on the server. Few combinations occur, so a connection soon has a prepared statement for each.
//!
//! See docs/explanation/decisions/011-postgres-commits.md

use std::borrow::Cow;
use std::fmt::Write as _;

use diesel::pg::Pg;
use diesel::serialize::ToSql;
use diesel::sql_types::{Array, BigInt, HasSqlType, Nullable, SmallInt, Text, Uuid as SqlUuid};

use super::driver::{Parameters, Statement};
use super::error::Fault;
use super::write::WriteColumns;

/// The text and the parameters of a statement under construction.
#[derive(Default)]
struct StatementBuilder {
    text: String,
    parameters: Parameters,
}

impl StatementBuilder {
    fn push_sql(&mut self, text: &str) {
        self.text.push_str(text);
    }

    fn push_bind_param<S, T: ToSql<S, Pg> + ?Sized>(&mut self, value: &T) -> Result<(), Fault>
    where
        Pg: HasSqlType<S>,
    {
        self.parameters.push::<S, T>(value)?;
        // Writing to a String cannot fail.
        let _ = write!(self.text, "${}", self.parameters.last());
        Ok(())
    }
}

/// Appends a table with the values of columns: arrays or, for a single row, `VALUES`, which costs the server far less.
macro_rules! rows {
    ($out:ident, $is_one:expr, $($column:ident . $name:ident : $sql:ty as $cast:literal),* $(,)?) => {{
        $out.push_sql(if $is_one { "(VALUES (" } else { "unnest(" });
        let mut separator = "";
        $(
            $out.push_sql(separator);
            match $column.$name.first() {
                Some(value) if $is_one => {
                    $out.push_bind_param::<$sql, _>(value)?;
                    $out.push_sql(concat!("::", $cast));
                }
                _ => {
                    $out.push_bind_param::<Array<$sql>, _>(&$column.$name)?;
                    $out.push_sql(concat!("::", $cast, "[]"));
                }
            }
            separator = ", ";
        )*
        $out.push_sql(if $is_one { "))" } else { ")" });
        let _ = separator;
    }};
}

// One statement writes everything, so that a batch costs one round trip and is atomic without an explicit transaction.
//
// - `submitted` runs before `advanced`, because `applied` reads these two parts in this order. Both parts process their
//   arrays in order. The arrays are sorted, so two batches cannot deadlock.
// - `(x IN (SELECT …)) IS TRUE` instead of a join makes the planner use a hash table, whatever the join settings are.
// - The check of claims is written in a form that the planner does not consider selective (see `benchmarks/limits`).
// - The start of an attempt can be stored after the runner has read the execution. The end of the attempt (states from
//   3) therefore keeps the stored start.
// - `cloacina_refuse` raises an error if a check fails. The error rolls back the statement and its transaction.
impl Statement for WriteColumns<'_> {
    type Row = (SmallInt, Nullable<SqlUuid>);

    fn encode(&self) -> Result<(Cow<'static, str>, Parameters), Fault> {
        let mut builder = StatementBuilder::default();
        let out = &mut builder;
        let is_one = self.is_one();
        out.push_sql("WITH ");
        if self.needs_runner {
            self.alive(out)?;
        }
        if self.submits() {
            self.submitted(out, is_one)?;
        }
        if self.advances() {
            self.advanced(out, is_one)?;
        }
        out.push_sql(match (self.submits(), self.advances()) {
            (true, true) => {
                "applied AS MATERIALIZED (SELECT id FROM submitted UNION ALL SELECT id FROM advanced)"
            }
            (true, false) => "applied AS MATERIALIZED (SELECT id FROM submitted)",
            _ => "applied AS MATERIALIZED (SELECT id FROM advanced)",
        });
        if !self.input_ids.is_empty() {
            self.inputs(out, is_one)?;
        }
        if !self.label_ids.is_empty() {
            self.labels(out)?;
        }
        if !self.insert_ids.is_empty() {
            self.inserted(out, is_one)?;
        }
        if self.updates() {
            self.updated(out, is_one)?;
        }
        if !self.event_ids.is_empty() {
            self.events(out, is_one)?;
        }
        if !self.drop_ids.is_empty() {
            self.dropped_steps(out, is_one)?;
        }
        if !self.step_ids.is_empty() {
            self.recorded_steps(out, is_one)?;
        }
        if !self.end_ids.is_empty() {
            self.ended(out)?;
        }
        out.push_sql(match (self.submits(), self.advances()) {
            (true, true) => {
                " SELECT 1::smallint, id FROM submitted UNION ALL SELECT 2::smallint, id FROM advanced"
            }
            (true, false) => " SELECT 1::smallint, id FROM submitted",
            _ => " SELECT 2::smallint, id FROM advanced",
        });
        self.checks(out, is_one)?;
        Ok((builder.text.into(), builder.parameters))
    }
}

/// Returns the SQL condition for "the execution of this row was written". If the batch has only one execution, the
/// condition only tests whether any execution was written.
const fn is_applied(is_one: bool, of_many: &'static str) -> &'static str {
    if is_one {
        "EXISTS (SELECT 1 FROM applied)"
    } else {
        of_many
    }
}

const OF_APPLIED: &str = "(n.id IN (SELECT id FROM applied)) IS TRUE";

impl WriteColumns<'_> {
    const fn submits(&self) -> bool {
        !self.ids.is_empty()
    }

    const fn advances(&self) -> bool {
        !self.advance_ids.is_empty()
    }

    const fn updates(&self) -> bool {
        !self.update_ids.is_empty()
    }

    /// Returns whether the batch has only one execution, with at most one row in each part.
    const fn is_one(&self) -> bool {
        self.ids.len() + self.advance_ids.len() == 1
            && self.insert_ids.len() <= 1
            && self.update_ids.len() <= 1
            && self.event_ids.len() <= 1
            && self.step_ids.len() <= 1
            && self.drop_ids.len() <= 1
    }

    /// Returns whether the batch ends an attempt (states from 3) and the runner does not know the attempt's start. The
    /// stored start is then kept.
    fn needs_stored_starts(&self) -> bool {
        let mut ends = self.update_states.iter().zip(&self.update_started);
        ends.any(|(state, started)| *state >= 3 && started.is_none())
    }

    /// Returns whether the statement needs a check that can refuse it.
    const fn needs_checks(&self) -> bool {
        self.needs_runner || self.refuses_followers || self.submits() || self.updates()
    }

    fn alive(&self, out: &mut StatementBuilder) -> Result<(), Fault> {
        out.push_sql("alive AS MATERIALIZED (SELECT r.id FROM cloacina_runners AS r WHERE r.id = ");
        out.push_bind_param::<SqlUuid, _>(&self.runner)?;
        out.push_sql("::uuid AND r.dead_at IS NULL FOR SHARE), ");
        Ok(())
    }

    /// Appends the part that inserts executions, and the check for definitions that are not stored.
    fn submitted(&self, out: &mut StatementBuilder, is_one: bool) -> Result<(), Fault> {
        out.push_sql(
            "submitted AS (
             INSERT INTO cloacina_executions (id, definition_id, workflow, state, revision, priority, execution_key,
             created_at, start_at, started_at, ended_at, timeout, deadline, paused_at, error) SELECT n.* FROM ",
        );
        rows!(
            out,
            is_one,
            self.ids: SqlUuid as "uuid",
            self.definitions: BigInt as "bigint",
            self.workflows: Text as "text",
            self.states: SmallInt as "smallint",
            self.revisions: BigInt as "bigint",
            self.priorities: SmallInt as "smallint",
            self.keys: Nullable<Text> as "text",
            self.created: BigInt as "bigint",
            self.starts: Nullable<BigInt> as "bigint",
            self.started: Nullable<BigInt> as "bigint",
            self.ended: Nullable<BigInt> as "bigint",
            self.timeouts: Nullable<BigInt> as "bigint",
            self.deadlines: Nullable<BigInt> as "bigint",
            self.paused: Nullable<BigInt> as "bigint",
            self.errors: Nullable<Text> as "text",
        );
        out.push_sql(
            " AS n ON CONFLICT DO NOTHING RETURNING id), unknown AS (SELECT n.id FROM unnest(",
        );
        out.push_bind_param::<Array<BigInt>, _>(&self.known_definitions)?;
        out.push_sql(
            "::bigint[]) AS n (id)
             WHERE NOT EXISTS (SELECT 1 FROM cloacina_definitions AS d WHERE d.id = n.id) LIMIT 1), ",
        );
        Ok(())
    }

    fn advanced(&self, out: &mut StatementBuilder, is_one: bool) -> Result<(), Fault> {
        out.push_sql(
            "advanced AS (
             UPDATE cloacina_executions AS e SET state = n.state, revision = n.revision,
             started_at = least(e.started_at, n.started_at), ended_at = n.ended_at, deadline = n.deadline, paused_at = n.paused_at, error = n.error FROM ",
        );
        rows!(
            out,
            is_one,
            self.advance_ids: SqlUuid as "uuid",
            self.advance_expected: BigInt as "bigint",
            self.advance_states: SmallInt as "smallint",
            self.advance_revisions: BigInt as "bigint",
            self.advance_started: Nullable<BigInt> as "bigint",
            self.advance_ended: Nullable<BigInt> as "bigint",
            self.advance_deadlines: Nullable<BigInt> as "bigint",
            self.advance_paused: Nullable<BigInt> as "bigint",
            self.advance_errors: Nullable<Text> as "text",
        );
        out.push_sql(
            " AS n (id, expected, state, revision, started_at, ended_at, deadline, paused_at, error)
             WHERE e.id = n.id AND e.revision = n.expected RETURNING e.id), ",
        );
        Ok(())
    }

    fn inputs(&self, out: &mut StatementBuilder, is_one: bool) -> Result<(), Fault> {
        out.push_sql(
            ", inputs AS (INSERT INTO cloacina_inputs (execution_id, input) SELECT n.id, n.input FROM ",
        );
        rows!(
            out,
            is_one,
            self.input_ids: SqlUuid as "uuid",
            self.inputs: Text as "text",
        );
        out.push_sql(" AS n (id, input) WHERE ");
        out.push_sql(is_applied(
            is_one,
            "(n.id IN (SELECT id FROM submitted)) IS TRUE",
        ));
        out.push_sql(")");
        Ok(())
    }

    fn inserted(&self, out: &mut StatementBuilder, is_one: bool) -> Result<(), Fault> {
        out.push_sql(
            ", inserted AS (
             INSERT INTO cloacina_tasks (execution_id, ordinal, state, attempt, uncounted, rescues, runner_id, ready_at,
             queue, priority, started_at, ended_at, delta, error, skip) SELECT n.* FROM ",
        );
        rows!(
            out,
            is_one,
            self.insert_ids: SqlUuid as "uuid",
            self.insert_ordinals: BigInt as "bigint",
            self.insert_states: SmallInt as "smallint",
            self.insert_attempts: BigInt as "bigint",
            self.insert_uncounted: BigInt as "bigint",
            self.insert_rescues: BigInt as "bigint",
            self.insert_runners: Nullable<SqlUuid> as "uuid",
            self.insert_ready: Nullable<BigInt> as "bigint",
            self.insert_queues: BigInt as "bigint",
            self.insert_priorities: SmallInt as "smallint",
            self.insert_started: Nullable<BigInt> as "bigint",
            self.insert_ended: Nullable<BigInt> as "bigint",
            self.insert_deltas: Nullable<Text> as "text",
            self.insert_errors: Nullable<Text> as "text",
            self.insert_skips: Nullable<Text> as "text",
        );
        out.push_sql(" AS n (id) WHERE ");
        out.push_sql(is_applied(is_one, OF_APPLIED));
        out.push_sql(")");
        Ok(())
    }

    /// Appends the part that updates tasks.
    fn updated(&self, out: &mut StatementBuilder, is_one: bool) -> Result<(), Fault> {
        out.push_sql(
            ", updated AS (
             UPDATE cloacina_tasks AS t SET state = n.state, attempt = n.attempt, uncounted = n.uncounted,
             rescues = n.rescues, runner_id = n.runner_id, ready_at = n.ready_at, started_at = ",
        );
        out.push_sql(if self.needs_stored_starts() {
            "coalesce(n.started_at, CASE WHEN n.state >= 3 AND n.attempt = t.attempt THEN t.started_at END)"
        } else {
            "n.started_at"
        });
        out.push_sql(
            ", ended_at = n.ended_at, delta = n.delta, error = n.error, skip = n.skip FROM ",
        );
        rows!(
            out,
            is_one,
            self.update_states: SmallInt as "smallint",
            self.update_attempts: BigInt as "bigint",
            self.update_uncounted: BigInt as "bigint",
            self.update_rescues: BigInt as "bigint",
            self.update_runners: Nullable<SqlUuid> as "uuid",
            self.update_ready: Nullable<BigInt> as "bigint",
            self.update_started: Nullable<BigInt> as "bigint",
            self.update_ended: Nullable<BigInt> as "bigint",
            self.update_deltas: Nullable<Text> as "text",
            self.update_errors: Nullable<Text> as "text",
            self.update_skips: Nullable<Text> as "text",
            self.update_ids: SqlUuid as "uuid",
            self.update_ordinals: BigInt as "bigint",
            self.fence_runners: Nullable<SqlUuid> as "uuid",
            self.fence_attempts: Nullable<BigInt> as "bigint",
        );
        out.push_sql(
            " AS n (state, attempt, uncounted, rescues, runner_id, ready_at, started_at, ended_at, delta, error, skip,
             id, ordinal, fence_runner, fence_attempt) WHERE t.execution_id = n.id AND t.ordinal = n.ordinal
             AND coalesce(n.fence_runner IS NULL
                 OR (t.state = 2 AND t.runner_id = n.fence_runner AND t.attempt = n.fence_attempt), false) AND ",
        );
        out.push_sql(is_applied(is_one, OF_APPLIED));
        out.push_sql(" RETURNING t.execution_id, t.ordinal)");
        Ok(())
    }

    /// Appends the check that all tasks of written executions were updated.
    fn check_updated(&self, out: &mut StatementBuilder, is_one: bool) -> Result<(), Fault> {
        out.push_sql(
            ", (SELECT cloacina_refuse('ZC003', n.ordinal || ' of execution ' || n.id) FROM ",
        );
        rows!(
            out,
            is_one,
            self.update_ids: SqlUuid as "uuid",
            self.update_ordinals: BigInt as "bigint",
        );
        out.push_sql(" AS n (id, ordinal) WHERE ");
        out.push_sql(is_applied(is_one, OF_APPLIED));
        out.push_sql(if is_one {
            " AND NOT EXISTS (SELECT 1 FROM updated))"
        } else {
            " AND ((n.id, n.ordinal) IN (SELECT execution_id, ordinal FROM updated)) IS NOT TRUE LIMIT 1)"
        });
        Ok(())
    }

    /// Appends the part that inserts labels. It always uses arrays, because a single execution can have several labels.
    fn labels(&self, out: &mut StatementBuilder) -> Result<(), Fault> {
        out.push_sql(
            ", labels AS (INSERT INTO cloacina_labels (name, value, execution_id) SELECT n.* FROM ",
        );
        rows!(
            out,
            false,
            self.label_names: Text as "text",
            self.label_values: Text as "text",
            self.label_ids: SqlUuid as "uuid",
        );
        out.push_sql(" AS n (name, value, id) WHERE ");
        out.push_sql(OF_APPLIED);
        out.push_sql(")");
        Ok(())
    }

    fn events(&self, out: &mut StatementBuilder, is_one: bool) -> Result<(), Fault> {
        out.push_sql(
            ", events AS (
             INSERT INTO cloacina_events (execution_id, time, kind, ordinal, attempt, runner_id, data)
             SELECT n.* FROM ",
        );
        rows!(
            out,
            is_one,
            self.event_ids: SqlUuid as "uuid",
            self.event_times: BigInt as "bigint",
            self.event_kinds: Text as "text",
            self.event_ordinals: Nullable<BigInt> as "bigint",
            self.event_attempts: Nullable<BigInt> as "bigint",
            self.event_runners: Nullable<SqlUuid> as "uuid",
            self.event_data: Nullable<Text> as "text",
        );
        out.push_sql(" AS n (id) WHERE ");
        out.push_sql(is_applied(is_one, OF_APPLIED));
        out.push_sql(")");
        Ok(())
    }

    fn dropped_steps(&self, out: &mut StatementBuilder, is_one: bool) -> Result<(), Fault> {
        out.push_sql(", dropped_steps AS (DELETE FROM cloacina_steps AS s USING ");
        rows!(
            out,
            is_one,
            self.drop_ids: SqlUuid as "uuid",
            self.drop_ordinals: BigInt as "bigint",
            self.drop_positions: BigInt as "bigint",
            self.drop_ends: BigInt as "bigint",
        );
        out.push_sql(
            " AS n (id, ordinal, position, until)
             WHERE s.execution_id = n.id AND s.ordinal = n.ordinal AND s.position BETWEEN n.position AND n.until AND ",
        );
        out.push_sql(is_applied(is_one, OF_APPLIED));
        out.push_sql(")");
        Ok(())
    }

    /// Appends the part that inserts recorded steps. The item number is `-1`, because these steps do not belong to
    /// items of maps.
    fn recorded_steps(&self, out: &mut StatementBuilder, is_one: bool) -> Result<(), Fault> {
        out.push_sql(
            ", recorded_steps AS (
             INSERT INTO cloacina_steps (execution_id, ordinal, key, position, kind, attempt, started_at, ended_at, value, item)
             SELECT n.*, -1 FROM ",
        );
        rows!(
            out,
            is_one,
            self.step_ids: SqlUuid as "uuid",
            self.step_ordinals: BigInt as "bigint",
            self.step_keys: Text as "text",
            self.step_positions: BigInt as "bigint",
            self.step_kinds: Text as "text",
            self.step_attempts: BigInt as "bigint",
            self.step_starts: BigInt as "bigint",
            self.step_ends: BigInt as "bigint",
            self.step_values: Text as "text",
        );
        out.push_sql(" AS n (id) WHERE ");
        out.push_sql(is_applied(is_one, OF_APPLIED));
        out.push_sql(" ON CONFLICT DO NOTHING)");
        Ok(())
    }

    /// Appends the part that stores the ends of executions for which triggers must be called (G4).
    fn ended(&self, out: &mut StatementBuilder) -> Result<(), Fault> {
        out.push_sql(
            ", ends AS (
             INSERT INTO cloacina_ends (schedule_id, execution_id, ended_at, due_at, attempts)
             SELECT f.schedule_id, n.id, n.ended_at, n.ended_at, 0 FROM ",
        );
        rows!(
            out,
            false,
            self.end_ids: SqlUuid as "uuid",
            self.end_states: SmallInt as "smallint",
            self.end_times: BigInt as "bigint",
            self.end_workflows: Nullable<Text> as "text",
        );
        out.push_sql(
            " AS n (id, state, ended_at, workflow) JOIN cloacina_follows AS f ON f.state = n.state AND f.workflow =
             coalesce(n.workflow, (SELECT e.workflow FROM cloacina_executions AS e WHERE e.id = n.id)) WHERE ",
        );
        out.push_sql(OF_APPLIED);
        out.push_sql(" ON CONFLICT DO NOTHING)");
        Ok(())
    }

    /// Appends the checks, which raise an error to refuse the statement. Their condition is never true, so they add no row.
    fn checks(&self, out: &mut StatementBuilder, is_one: bool) -> Result<(), Fault> {
        if !self.needs_checks() {
            return Ok(());
        }
        out.push_sql(" UNION ALL SELECT 0::smallint, NULL::uuid WHERE coalesce(NULL::boolean");
        if self.needs_runner {
            out.push_sql(", (SELECT cloacina_refuse('ZC001', ");
            out.push_bind_param::<SqlUuid, _>(&self.runner)?;
            out.push_sql("::text) WHERE NOT EXISTS (SELECT 1 FROM alive))");
        }
        if self.submits() {
            out.push_sql(", (SELECT cloacina_refuse('ZC002', u.id::text) FROM unknown AS u)");
        }
        if self.updates() {
            self.check_updated(out, is_one)?;
        }
        if self.refuses_followers {
            out.push_sql(", (SELECT cloacina_refuse('ZC004', '') FROM cloacina_follows LIMIT 1)");
        }
        out.push_sql(")");
        Ok(())
    }
}
