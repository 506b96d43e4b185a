//! Rows of executions and their tasks: one statement writes a whole batch.

use std::collections::HashSet;

use diesel::sql_types::{Array, BigInt, Bool, Nullable, SmallInt, Text, Uuid as SqlUuid};
use uuid::Uuid;

use super::error::Fault;
use super::row::{encode, micros};
use super::statement::query;
use crate::store::{Advance, Submit, TaskWrite};
use crate::types::{ExecutionRecord, HistoryEvent, TaskStatus};

// Everything in one statement, so that a batch costs one round trip and is atomic by itself.
//
// - `submitted` runs before `advanced` (the first reader of `applied` pulls them in this order), and both in the order of
//   their arrays, which are sorted: no two batches can wait for each other.
// - `(x IN (SELECT …)) IS TRUE` and not a join: the planner then looks up a hash table, whatever the join settings are.
// - The fence is written so that the planner takes it for anything but selective (see `benchmarks/limits`).
// - What is wrong makes the last cast fail, and with it the statement: see `error::Problem`.
query! {
    #[derive(Default)]
    Write<'a> {
        runner: Uuid => SqlUuid,
        needs_runner: bool => Bool,

        ids: Vec<Uuid> => Array<SqlUuid>,
        definitions: Vec<i64> => Array<BigInt>,
        workflows: Vec<&'a str> => Array<Text>,
        states: Vec<i16> => Array<SmallInt>,
        revisions: Vec<i64> => Array<BigInt>,
        priorities: Vec<i16> => Array<SmallInt>,
        keys: Vec<Option<&'a str>> => Array<Nullable<Text>>,
        created: Vec<i64> => Array<BigInt>,
        starts: Vec<Option<i64>> => Array<Nullable<BigInt>>,
        started: Vec<Option<i64>> => Array<Nullable<BigInt>>,
        ended: Vec<Option<i64>> => Array<Nullable<BigInt>>,
        timeouts: Vec<Option<i64>> => Array<Nullable<BigInt>>,
        deadlines: Vec<Option<i64>> => Array<Nullable<BigInt>>,
        paused: Vec<Option<i64>> => Array<Nullable<BigInt>>,
        errors: Vec<Option<String>> => Array<Nullable<Text>>,

        advance_ids: Vec<Uuid> => Array<SqlUuid>,
        advance_expected: Vec<i64> => Array<BigInt>,
        advance_states: Vec<i16> => Array<SmallInt>,
        advance_revisions: Vec<i64> => Array<BigInt>,
        advance_started: Vec<Option<i64>> => Array<Nullable<BigInt>>,
        advance_ended: Vec<Option<i64>> => Array<Nullable<BigInt>>,
        advance_deadlines: Vec<Option<i64>> => Array<Nullable<BigInt>>,
        advance_paused: Vec<Option<i64>> => Array<Nullable<BigInt>>,
        advance_errors: Vec<Option<String>> => Array<Nullable<Text>>,

        input_ids: Vec<Uuid> => Array<SqlUuid>,
        inputs: Vec<String> => Array<Text>,

        insert_ids: Vec<Uuid> => Array<SqlUuid>,
        insert_ordinals: Vec<i64> => Array<BigInt>,
        insert_states: Vec<i16> => Array<SmallInt>,
        insert_attempts: Vec<i64> => Array<BigInt>,
        insert_uncounted: Vec<i64> => Array<BigInt>,
        insert_rescues: Vec<i64> => Array<BigInt>,
        insert_runners: Vec<Option<Uuid>> => Array<Nullable<SqlUuid>>,
        insert_ready: Vec<Option<i64>> => Array<Nullable<BigInt>>,
        insert_queues: Vec<i64> => Array<BigInt>,
        insert_priorities: Vec<i16> => Array<SmallInt>,
        insert_started: Vec<Option<i64>> => Array<Nullable<BigInt>>,
        insert_ended: Vec<Option<i64>> => Array<Nullable<BigInt>>,
        insert_deltas: Vec<Option<String>> => Array<Nullable<Text>>,
        insert_errors: Vec<Option<String>> => Array<Nullable<Text>>,
        insert_skips: Vec<Option<String>> => Array<Nullable<Text>>,

        update_states: Vec<i16> => Array<SmallInt>,
        update_attempts: Vec<i64> => Array<BigInt>,
        update_uncounted: Vec<i64> => Array<BigInt>,
        update_rescues: Vec<i64> => Array<BigInt>,
        update_runners: Vec<Option<Uuid>> => Array<Nullable<SqlUuid>>,
        update_ready: Vec<Option<i64>> => Array<Nullable<BigInt>>,
        update_started: Vec<Option<i64>> => Array<Nullable<BigInt>>,
        update_ended: Vec<Option<i64>> => Array<Nullable<BigInt>>,
        update_deltas: Vec<Option<String>> => Array<Nullable<Text>>,
        update_errors: Vec<Option<String>> => Array<Nullable<Text>>,
        update_skips: Vec<Option<String>> => Array<Nullable<Text>>,
        update_ids: Vec<Uuid> => Array<SqlUuid>,
        update_ordinals: Vec<i64> => Array<BigInt>,
        fence_runners: Vec<Option<Uuid>> => Array<Nullable<SqlUuid>>,
        fence_attempts: Vec<Option<i64>> => Array<Nullable<BigInt>>,

        event_ids: Vec<Uuid> => Array<SqlUuid>,
        event_times: Vec<i64> => Array<BigInt>,
        event_kinds: Vec<&'a str> => Array<Text>,
        event_ordinals: Vec<Option<i64>> => Array<Nullable<BigInt>>,
        event_attempts: Vec<Option<i64>> => Array<Nullable<BigInt>>,
        event_runners: Vec<Option<Uuid>> => Array<Nullable<SqlUuid>>,
        event_data: Vec<Option<&'a str>> => Array<Nullable<Text>>,

        known_definitions: Vec<i64> => Array<BigInt>,
        checked_ids: Vec<Uuid> => Array<SqlUuid>,
        checked_ordinals: Vec<i64> => Array<BigInt>,
        needs_runner_again: bool => Bool,
    } -> (SmallInt, Nullable<SqlUuid>);
    "WITH alive AS MATERIALIZED (\
         SELECT r.id FROM cloacina_runners AS r WHERE r.id = ?::uuid AND r.dead_at IS NULL AND ?::boolean FOR SHARE\
     ), submitted AS (\
         INSERT INTO cloacina_executions (id, definition_id, workflow, state, revision, priority, execution_key, \
         created_at, start_at, started_at, ended_at, timeout, deadline, paused_at, error) \
         SELECT * FROM unnest(?::uuid[], ?::bigint[], ?::text[], ?::smallint[], ?::bigint[], ?::smallint[], ?::text[], \
         ?::bigint[], ?::bigint[], ?::bigint[], ?::bigint[], ?::bigint[], ?::bigint[], ?::bigint[], ?::text[]) \
         ON CONFLICT DO NOTHING RETURNING id\
     ), advanced AS (\
         UPDATE cloacina_executions AS e SET state = n.state, revision = n.revision, started_at = n.started_at, \
         ended_at = n.ended_at, deadline = n.deadline, paused_at = n.paused_at, error = n.error \
         FROM unnest(?::uuid[], ?::bigint[], ?::smallint[], ?::bigint[], ?::bigint[], ?::bigint[], ?::bigint[], \
         ?::bigint[], ?::text[]) \
         AS n (id, expected, state, revision, started_at, ended_at, deadline, paused_at, error) \
         WHERE e.id = n.id AND e.revision = n.expected RETURNING e.id\
     ), applied AS MATERIALIZED (\
         SELECT id FROM submitted UNION ALL SELECT id FROM advanced\
     ), inputs AS (\
         INSERT INTO cloacina_inputs (execution_id, input) \
         SELECT n.id, n.input FROM unnest(?::uuid[], ?::text[]) AS n (id, input) \
         WHERE (n.id IN (SELECT id FROM submitted)) IS TRUE\
     ), inserted AS (\
         INSERT INTO cloacina_tasks (execution_id, ordinal, state, attempt, uncounted, rescues, runner_id, ready_at, \
         queue, priority, started_at, ended_at, delta, error, skip) \
         SELECT n.* FROM unnest(?::uuid[], ?::bigint[], ?::smallint[], ?::bigint[], ?::bigint[], ?::bigint[], \
         ?::uuid[], ?::bigint[], ?::bigint[], ?::smallint[], ?::bigint[], ?::bigint[], ?::text[], ?::text[], \
         ?::text[]) AS n (id) WHERE (n.id IN (SELECT id FROM applied)) IS TRUE\
     ), updated AS (\
         UPDATE cloacina_tasks AS t SET state = n.state, attempt = n.attempt, uncounted = n.uncounted, \
         rescues = n.rescues, runner_id = n.runner_id, ready_at = n.ready_at, started_at = n.started_at, \
         ended_at = n.ended_at, delta = n.delta, error = n.error, skip = n.skip \
         FROM unnest(?::smallint[], ?::bigint[], ?::bigint[], ?::bigint[], ?::uuid[], ?::bigint[], ?::bigint[], \
         ?::bigint[], ?::text[], ?::text[], ?::text[], ?::uuid[], ?::bigint[], ?::uuid[], ?::bigint[]) \
         AS n (state, attempt, uncounted, rescues, runner_id, ready_at, started_at, ended_at, delta, error, skip, \
         execution_id, ordinal, fence_runner, fence_attempt) \
         WHERE t.execution_id = n.execution_id AND t.ordinal = n.ordinal \
         AND coalesce(n.fence_runner IS NULL \
             OR (t.state = 2 AND t.runner_id = n.fence_runner AND t.attempt = n.fence_attempt), false) \
         AND (n.execution_id IN (SELECT id FROM applied)) IS TRUE \
         RETURNING t.execution_id, t.ordinal\
     ), events AS (\
         INSERT INTO cloacina_events (execution_id, time, kind, ordinal, attempt, runner_id, data) \
         SELECT n.* FROM unnest(?::uuid[], ?::bigint[], ?::text[], ?::bigint[], ?::bigint[], ?::uuid[], ?::text[]) \
         AS n (id) WHERE (n.id IN (SELECT id FROM applied)) IS TRUE\
     ), unknown AS (\
         SELECT n.id FROM unnest(?::bigint[]) AS n (id) \
         WHERE NOT EXISTS (SELECT 1 FROM cloacina_definitions AS d WHERE d.id = n.id) LIMIT 1\
     ), missing AS (\
         SELECT n.execution_id, n.ordinal FROM unnest(?::uuid[], ?::bigint[]) AS n (execution_id, ordinal) \
         WHERE (n.execution_id IN (SELECT id FROM applied)) IS TRUE \
         AND ((n.execution_id, n.ordinal) IN (SELECT execution_id, ordinal FROM updated)) IS NOT TRUE LIMIT 1\
     ), verdict AS MATERIALIZED (\
         SELECT CASE WHEN ?::boolean AND NOT EXISTS (SELECT 1 FROM alive) THEN 'cloacina:runner' \
         ELSE coalesce((SELECT 'cloacina:definition:' || id FROM unknown), \
         (SELECT 'cloacina:task:' || ordinal || ' of execution ' || execution_id FROM missing)) END AS problem\
     ) \
     SELECT 1::smallint, id FROM submitted UNION ALL SELECT 2::smallint, id FROM advanced \
     UNION ALL SELECT problem::smallint, NULL::uuid FROM verdict WHERE problem IS NOT NULL"
}

/// A row of the answer: which part wrote it, and the execution.
pub(super) type Written = (i16, Option<Uuid>);
pub(super) const SUBMITTED: i16 = 1;
pub(super) const ADVANCED: i16 = 2;

query! {
    ExecutionOfKey { workflow: String => Text, execution_key: String => Text } -> SqlUuid;
    "SELECT id FROM cloacina_executions WHERE workflow = ? AND execution_key = ?"
}

impl<'a> Write<'a> {
    pub(super) fn new(runner: Uuid, needs_runner: bool) -> Self {
        Self {
            runner,
            needs_runner,
            needs_runner_again: needs_runner,
            ..Self::default()
        }
    }

    pub(super) fn submit(&mut self, submit: &Submit<'a>) -> Result<(), Fault> {
        let record = submit.record;
        let id = record.id.uuid();
        self.ids.push(id);
        self.definitions.push(record.definition.0);
        if !self.known_definitions.contains(&record.definition.0) {
            self.known_definitions.push(record.definition.0);
        }
        self.workflows.push(submit.workflow);
        self.states.push(record.status.code());
        self.revisions.push(record.revision);
        self.priorities.push(record.priority);
        self.keys.push(record.key.as_deref());
        self.created.push(record.created_at.0);
        self.starts.push(micros(record.start_at));
        self.started.push(micros(record.started_at));
        self.ended.push(micros(record.ended_at));
        self.timeouts.push(record.timeout);
        self.deadlines.push(micros(record.deadline));
        self.paused.push(micros(record.paused_at));
        self.errors
            .push(record.error.as_ref().map(encode).transpose()?);
        if !record.input.is_empty() {
            self.input_ids.push(id);
            self.inputs.push(record.input.to_json());
        }
        self.tasks(record, &submit.tasks)?;
        self.history(id, submit.history);
        Ok(())
    }

    pub(super) fn advance(&mut self, advance: &Advance<'a>) -> Result<(), Fault> {
        let record = advance.record;
        let id = record.id.uuid();
        self.advance_ids.push(id);
        self.advance_expected.push(advance.expected);
        self.advance_states.push(record.status.code());
        self.advance_revisions.push(record.revision);
        self.advance_started.push(micros(record.started_at));
        self.advance_ended.push(micros(record.ended_at));
        self.advance_deadlines.push(micros(record.deadline));
        self.advance_paused.push(micros(record.paused_at));
        self.advance_errors
            .push(record.error.as_ref().map(encode).transpose()?);
        self.tasks(record, &advance.tasks)?;
        self.history(id, advance.history);
        Ok(())
    }

    fn tasks(&mut self, record: &ExecutionRecord, writes: &[TaskWrite]) -> Result<(), Fault> {
        let id = record.id.uuid();
        for write in writes {
            let Some(task) = record.tasks.get(write.ordinal as usize) else {
                return Err(Fault::Corrupt(format!(
                    "execution {} has no task {}; nothing of the batch was written",
                    record.id, write.ordinal
                )));
            };
            let delta = task.delta.as_ref().map(|delta| delta.to_json());
            let error = task.error.as_ref().map(encode).transpose()?;
            let skip = task.skip.as_ref().map(encode).transpose()?;
            let runner = task.runner.map(|runner| runner.uuid());
            if write.insert {
                self.insert_ids.push(id);
                self.insert_ordinals.push(write.ordinal.into());
                self.insert_states.push(task.status.code());
                self.insert_attempts.push(task.attempt.into());
                self.insert_uncounted.push(task.uncounted.into());
                self.insert_rescues.push(task.rescues.into());
                self.insert_runners.push(runner);
                self.insert_ready.push(micros(task.ready_at));
                self.insert_queues.push(write.queue.0);
                self.insert_priorities.push(write.priority);
                self.insert_started.push(micros(task.started_at));
                self.insert_ended.push(micros(task.ended_at));
                self.insert_deltas.push(delta);
                self.insert_errors.push(error);
                self.insert_skips.push(skip);
            } else {
                self.update_states.push(task.status.code());
                self.update_attempts.push(task.attempt.into());
                self.update_uncounted.push(task.uncounted.into());
                self.update_rescues.push(task.rescues.into());
                self.update_runners.push(runner);
                self.update_ready.push(micros(task.ready_at));
                self.update_started.push(micros(task.started_at));
                self.update_ended.push(micros(task.ended_at));
                self.update_deltas.push(delta);
                self.update_errors.push(error);
                self.update_skips.push(skip);
                self.update_ids.push(id);
                self.update_ordinals.push(write.ordinal.into());
                self.fence_runners
                    .push(write.fence.map(|fence| fence.runner.uuid()));
                self.fence_attempts
                    .push(write.fence.map(|fence| fence.attempt.into()));
                self.checked_ids.push(id);
                self.checked_ordinals.push(write.ordinal.into());
            }
        }
        Ok(())
    }

    fn history(&mut self, id: Uuid, history: &'a [HistoryEvent]) {
        for event in history {
            self.event_ids.push(id);
            self.event_times.push(event.time.0);
            self.event_kinds.push(&event.kind);
            self.event_ordinals.push(event.task.map(i64::from));
            self.event_attempts.push(event.attempt.map(i64::from));
            self.event_runners
                .push(event.runner.map(|runner| runner.uuid()));
            self.event_data
                .push(event.data.as_ref().map(crate::types::Json::as_str));
        }
    }
}

/// One write of a batch, with its place among its kind.
#[derive(Clone, Copy)]
pub(super) enum Change {
    Submit(usize),
    Advance(usize),
}

/// Cuts a batch into statements: one sees the database as it was before it, so it cannot hold two changes of one execution.
pub(super) fn rounds(submits: &[Submit], advances: &[Advance]) -> Vec<Vec<Change>> {
    let mut rounds: Vec<(HashSet<Uuid>, Vec<Change>)> = Vec::new();
    let submitted = submits
        .iter()
        .enumerate()
        .map(|(index, submit)| (submit.record.id, Change::Submit(index)));
    let advanced = advances
        .iter()
        .enumerate()
        .map(|(index, advance)| (advance.record.id, Change::Advance(index)));
    for (id, change) in submitted.chain(advanced) {
        // After the last round that has the execution.
        let after = rounds
            .iter()
            .rposition(|(ids, _)| ids.contains(&id.uuid()))
            .map_or(0, |index| index + 1);
        if after == rounds.len() {
            rounds.push((HashSet::new(), Vec::new()));
        }
        rounds[after].0.insert(id.uuid());
        rounds[after].1.push(change);
    }
    let mut rounds: Vec<Vec<Change>> = rounds.into_iter().map(|(_, changes)| changes).collect();
    // Row locks and unique keys are waited for in one order by everybody. The sort is stable: of two submissions with one
    // key, the first stays the first.
    for changes in &mut rounds {
        changes.sort_by_key(|change| match change {
            Change::Submit(index) => {
                let submit = &submits[*index];
                (
                    0,
                    submit
                        .record
                        .key
                        .as_deref()
                        .map(|key| (submit.workflow, key)),
                    None,
                )
            }
            Change::Advance(index) => (1, None, Some(advances[*index].record.id)),
        });
    }
    rounds
}

/// Whether another runner could want to know of a change: something to claim, something that ended, or an act of control.
pub(super) fn concerns_others(record: &ExecutionRecord, tasks: &[TaskWrite]) -> bool {
    record.status.is_terminal()
        || record.paused_at.is_some()
        || tasks.iter().any(|write| {
            let task = record.tasks.get(write.ordinal as usize);
            task.is_some_and(|task| {
                matches!(
                    task.status,
                    TaskStatus::Ready | TaskStatus::Cancelled | TaskStatus::Pending
                )
            })
        })
}
