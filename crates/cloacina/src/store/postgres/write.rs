//! Collects the rows of a batch as columns, for the statement that writes them.

use std::collections::HashSet;

use diesel::sql_types::{Array, BigInt, Text, Uuid as SqlUuid};
use uuid::Uuid;

use super::error::Fault;
use super::row::{encode, micros};
use super::statement::query;
use crate::store::{Advance, Submit, TaskWrite};
use crate::types::{ExecutionRecord, HistoryEvent, StepChanges, TaskStatus};

/// The rows that a batch writes, as one array for each column (see `write_statement`).
#[derive(Default)]
pub(super) struct WriteColumns<'a> {
    pub(super) runner: Uuid,
    pub(super) needs_runner: bool,

    pub(super) ids: Vec<Uuid>,
    pub(super) definitions: Vec<i64>,
    pub(super) workflows: Vec<&'a str>,
    pub(super) states: Vec<i16>,
    pub(super) revisions: Vec<i64>,
    pub(super) priorities: Vec<i16>,
    pub(super) keys: Vec<Option<&'a str>>,
    pub(super) created: Vec<i64>,
    pub(super) starts: Vec<Option<i64>>,
    pub(super) started: Vec<Option<i64>>,
    pub(super) ended: Vec<Option<i64>>,
    pub(super) timeouts: Vec<Option<i64>>,
    pub(super) deadlines: Vec<Option<i64>>,
    pub(super) paused: Vec<Option<i64>>,
    pub(super) errors: Vec<Option<String>>,

    pub(super) advance_ids: Vec<Uuid>,
    pub(super) advance_expected: Vec<i64>,
    pub(super) advance_states: Vec<i16>,
    pub(super) advance_revisions: Vec<i64>,
    pub(super) advance_started: Vec<Option<i64>>,
    pub(super) advance_ended: Vec<Option<i64>>,
    pub(super) advance_deadlines: Vec<Option<i64>>,
    pub(super) advance_paused: Vec<Option<i64>>,
    pub(super) advance_errors: Vec<Option<String>>,

    pub(super) input_ids: Vec<Uuid>,
    pub(super) inputs: Vec<String>,

    pub(super) label_names: Vec<&'a str>,
    pub(super) label_values: Vec<&'a str>,
    pub(super) label_ids: Vec<Uuid>,

    pub(super) insert_ids: Vec<Uuid>,
    pub(super) insert_ordinals: Vec<i64>,
    pub(super) insert_states: Vec<i16>,
    pub(super) insert_attempts: Vec<i64>,
    pub(super) insert_uncounted: Vec<i64>,
    pub(super) insert_rescues: Vec<i64>,
    pub(super) insert_runners: Vec<Option<Uuid>>,
    pub(super) insert_ready: Vec<Option<i64>>,
    pub(super) insert_queues: Vec<i64>,
    pub(super) insert_priorities: Vec<i16>,
    pub(super) insert_started: Vec<Option<i64>>,
    pub(super) insert_ended: Vec<Option<i64>>,
    pub(super) insert_deltas: Vec<Option<String>>,
    pub(super) insert_errors: Vec<Option<String>>,
    pub(super) insert_skips: Vec<Option<String>>,

    pub(super) update_states: Vec<i16>,
    pub(super) update_attempts: Vec<i64>,
    pub(super) update_uncounted: Vec<i64>,
    pub(super) update_rescues: Vec<i64>,
    pub(super) update_runners: Vec<Option<Uuid>>,
    pub(super) update_ready: Vec<Option<i64>>,
    pub(super) update_started: Vec<Option<i64>>,
    pub(super) update_ended: Vec<Option<i64>>,
    pub(super) update_deltas: Vec<Option<String>>,
    pub(super) update_errors: Vec<Option<String>>,
    pub(super) update_skips: Vec<Option<String>>,
    pub(super) update_ids: Vec<Uuid>,
    pub(super) update_ordinals: Vec<i64>,
    pub(super) fence_runners: Vec<Option<Uuid>>,
    pub(super) fence_attempts: Vec<Option<i64>>,

    pub(super) event_ids: Vec<Uuid>,
    pub(super) event_times: Vec<i64>,
    pub(super) event_kinds: Vec<&'a str>,
    pub(super) event_ordinals: Vec<Option<i64>>,
    pub(super) event_attempts: Vec<Option<i64>>,
    pub(super) event_runners: Vec<Option<Uuid>>,
    pub(super) event_data: Vec<Option<&'a str>>,

    pub(super) step_ids: Vec<Uuid>,
    pub(super) step_ordinals: Vec<i64>,
    pub(super) step_keys: Vec<&'a str>,
    pub(super) step_positions: Vec<i64>,
    pub(super) step_kinds: Vec<&'a str>,
    pub(super) step_attempts: Vec<i64>,
    pub(super) step_starts: Vec<i64>,
    pub(super) step_ends: Vec<i64>,
    pub(super) step_values: Vec<&'a str>,

    pub(super) drop_ids: Vec<Uuid>,
    pub(super) drop_ordinals: Vec<i64>,
    pub(super) drop_positions: Vec<i64>,
    pub(super) drop_ends: Vec<i64>,

    pub(super) end_ids: Vec<Uuid>,
    pub(super) end_states: Vec<i16>,
    pub(super) end_times: Vec<i64>,
    /// For each ended execution: its workflow, if the execution ends at its submission.
    pub(super) end_workflows: Vec<Option<&'a str>>,
    /// Whether the server must refuse the statement if any trigger fires at the end of executions.
    pub(super) refuses_followers: bool,

    /// The distinct definitions of the submitted executions. The server checks that they are stored.
    pub(super) known_definitions: Vec<i64>,
}

/// A row of the answer: the part of the statement that wrote the execution ([`SUBMITTED`] or [`ADVANCED`]), and the
/// execution.
pub(super) type WrittenRow = (i16, Option<Uuid>);
pub(super) const SUBMITTED: i16 = 1;
pub(super) const ADVANCED: i16 = 2;

query! {
    /// Returns the executions with these keys, each with the position (`place`) of its key in the request.
    #[derive(Default)]
    ExecutionsOfKeys {
        places: Vec<i64> => Array<BigInt>,
        workflows: Vec<String> => Array<Text>,
        keys: Vec<String> => Array<Text>,
    } -> (BigInt, SqlUuid);
    "SELECT n.place, e.id
     FROM unnest($1::bigint[], $2::text[], $3::text[]) AS n (place, workflow, execution_key)
     CROSS JOIN LATERAL (
         SELECT x.id FROM cloacina_executions AS x
         WHERE x.workflow = n.workflow AND x.execution_key = n.execution_key OFFSET 0
     ) AS e"
}

impl<'a> WriteColumns<'a> {
    pub(super) fn new(runner: Uuid, needs_runner: bool) -> Self {
        Self {
            runner,
            needs_runner,
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
        for (name, value) in submit.labels.iter() {
            self.label_names.push(name);
            self.label_values.push(value);
            self.label_ids.push(id);
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
        if let Some(changes) = advance.steps {
            self.steps(id, changes);
        }
        Ok(())
    }

    /// Adds the end of an execution, to be stored for the triggers that must be called for this end.
    pub(super) fn end(&mut self, record: &ExecutionRecord, workflow: Option<&'a str>) {
        self.end_ids.push(record.id.uuid());
        self.end_states.push(record.status.code());
        let ended_at = record.ended_at.unwrap_or(record.created_at);
        self.end_times.push(ended_at.0);
        self.end_workflows.push(workflow);
    }

    fn tasks(&mut self, record: &ExecutionRecord, writes: &[TaskWrite]) -> Result<(), Fault> {
        let id = record.id.uuid();
        for write in writes {
            let Some(task) = record.tasks.get(write.ordinal as usize) else {
                return Err(Fault::Corrupt(format!(
                    "execution {} has no task {}; no part of the batch was written",
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
            }
        }
        Ok(())
    }

    fn steps(&mut self, id: Uuid, changes: &'a StepChanges) {
        for (task, step) in &changes.recorded {
            self.step_ids.push(id);
            self.step_ordinals.push((*task).into());
            self.step_keys.push(&step.key);
            self.step_positions.push(step.position.into());
            self.step_kinds.push(step.kind.name());
            self.step_attempts.push(step.attempt.into());
            self.step_starts.push(step.started_at.0);
            self.step_ends.push(step.ended_at.0);
            self.step_values.push(step.value.as_str());
        }
        for dropped in &changes.dropped {
            self.drop_ids.push(id);
            self.drop_ordinals.push(dropped.task.into());
            self.drop_positions.push(dropped.from.into());
            self.drop_ends.push(dropped.until.into());
        }
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

/// A submission or an advance, by its index in the batch.
#[derive(Clone, Copy)]
pub(super) enum Change {
    Submit(usize),
    Advance(usize),
}

/// Splits the changes of a batch into one group per statement. A statement does not see its own writes, so a group
/// cannot contain two changes of the same execution.
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
        // The change goes into the first group after all groups that change this execution.
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
    // All writers lock rows and unique keys in the same order, so that they cannot deadlock. The sort is stable, so of
    // two submissions with the same key, the first stays first.
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

/// Returns whether other runners must be notified of a change: a task to claim, an end, a pause, a cancellation or a
/// retry.
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
