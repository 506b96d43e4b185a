//! Simulates final tasks and compensations, and checks the rules of their executions (semantics Q). The forward execution is
//! the execution whose end starts the final tasks.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use cloacina::runtime::Assignment;
use cloacina::store::{Batch, Committed, FlowWrites, Store, StoreError, Submit, SubmitOutcome};
use cloacina::types::{
    Claim, ExecutionId, ExecutionRecord, ExecutionStatus, Ordinal, RetryPolicy, TaskStatus,
};
use cloacina::workflow::{FinalOn, FinalRole, TaskDefinition, TaskKind, Workflow};
use fastrand::Rng;

use super::observed::{ObservedStore, copy_advance, copy_schedule, copy_submit};
use super::oracle::{Coverage, Oracle};
use super::scenario::SECOND;
use super::timeline::WorldState;
use super::world::World;

/// Adds final tasks to a workflow, and compensations of some of its tasks.
pub fn with_finals(rng: &mut Rng, workflow: &Workflow) -> Workflow {
    let mut definition = workflow.definition().clone();
    let task = |rng: &mut Rng, id: String, role: FinalRole| TaskDefinition {
        id,
        role: Some(role),
        retry: RetryPolicy {
            max_attempts: rng.u32(1..4),
            initial_delay: rng.i64(0..3) * SECOND,
            ..RetryPolicy::default()
        },
        kind: if rng.bool() {
            TaskKind::Sync
        } else {
            TaskKind::Async
        },
        ..TaskDefinition::default()
    };
    let tasks = definition.tasks.iter();
    let mut finals: Vec<TaskDefinition> = tasks
        .filter(|task| !task.is_node() && task.over.is_none())
        .filter(|_| rng.u8(0..4) == 0)
        .map(|forward| forward.id.clone())
        .collect::<Vec<String>>()
        .into_iter()
        .map(|id| {
            let failed = rng.bool();
            task(rng, id, FinalRole::Compensation { failed })
        })
        .collect();
    for number in 0..rng.usize(1..3) {
        let on = [
            FinalOn::Always,
            FinalOn::Failure,
            FinalOn::Cancelled,
            FinalOn::Success,
        ][rng.usize(0..4)];
        let undoes = if rng.u8(0..3) == 0 {
            vec!["t0".to_owned()]
        } else {
            Vec::new()
        };
        let role = FinalRole::Final { on, undoes };
        let mut last = task(rng, format!("f{number}"), role);
        if number > 0 && rng.bool() {
            last.dependencies.push("f0".to_owned());
        }
        finals.push(last);
    }
    definition.finals = finals;
    Workflow::new(definition).expect("final tasks are valid")
}

/// The oracle's record of the executions of final tasks.
#[derive(Default)]
pub struct Finals {
    /// The started executions of final tasks, by the forward execution and the number of its end. (A retried execution
    /// ends again.)
    started: HashMap<(ExecutionId, u32), ExecutionId>,
    /// The attempts that were cancelled while they ran, because their execution ended.
    held: BTreeSet<(ExecutionId, Ordinal, u32)>,
    /// The executions of final tasks that the current transaction must store, each with its forward execution.
    expected: Vec<(ExecutionId, ExecutionId)>,
}

/// Returns whether the end of an execution must start final tasks, and whether it may start final tasks.
fn requires_finals(workflow: &Workflow, record: &ExecutionRecord) -> (bool, bool) {
    let status = record.status;
    let mut verdict = (false, false);
    for task in &workflow.definition().finals {
        let (certain, possible) = match &task.role {
            Some(FinalRole::Final { on, .. }) => {
                let matches = match on {
                    FinalOn::Always => true,
                    FinalOn::Failure => status == ExecutionStatus::Failed,
                    FinalOn::Cancelled => status == ExecutionStatus::Cancelled,
                    FinalOn::Success => status == ExecutionStatus::Completed,
                };
                (matches, matches)
            }
            Some(FinalRole::Compensation { failed }) => {
                let forward = workflow.ordinal(&task.id);
                let forward = forward.map(|ordinal| record.tasks[ordinal as usize].status);
                let is_done = forward == Some(TaskStatus::Completed);
                let undoes = status != ExecutionStatus::Completed;
                (undoes && is_done, undoes && (is_done || *failed))
            }
            None => (false, false),
        };
        verdict = (verdict.0 || certain, verdict.1 || possible);
    }
    verdict
}

impl Oracle {
    /// Q1, Q5: checks that an execution that ends starts its final tasks, and that it is not retried before
    /// these tasks have ended.
    pub fn note_finals(
        &mut self,
        workflow: &Workflow,
        before: Option<&ExecutionRecord>,
        after: &ExecutionRecord,
        is_retried: bool,
    ) {
        let id = after.id;
        let link = after.parent.as_ref().filter(|link| link.finale.is_some());
        if let (Some(link), None) = (link, before) {
            self.cover(Coverage::FinalsStarted);
            let end = (link.execution, link.generation);
            let first = self.finals.started.insert(end, id);
            self.check(first.is_none(), || {
                format!("the final tasks of {end:?} were started as {first:?} and {id}")
            });
        }
        if workflow.definition().finals.is_empty() {
            return;
        }
        let finale = |record: &ExecutionRecord| {
            let finale = record.finale.as_ref()?.finale.as_ref()?;
            Some(finale.id)
        };
        let earlier = before.and_then(finale);
        if is_retried && let Some(earlier) = earlier {
            let status = self.mirror.get(&earlier).map(|record| record.status);
            self.check(status.is_none_or(ExecutionStatus::is_terminal), || {
                format!("{id} was retried, but its final tasks {earlier} are {status:?}")
            });
        }
        if is_retried {
            self.finals.held.retain(|(held, ..)| *held != id);
        }
        let was_open = before.is_none_or(|before| !before.status.is_terminal()) || is_retried;
        if !was_open || !after.status.is_terminal() {
            return;
        }
        let now = finale(after);
        let is_new = now != earlier;
        let (certain, possible) = requires_finals(workflow, after);
        self.check(is_new || !certain, || {
            format!("{id} ended as {} without its final tasks", after.status)
        });
        self.check(possible || !is_new, || {
            format!("the final tasks of {id} were started, but its end does not require any")
        });
        self.finals.expected.extend(now.map(|now| (id, now)));
        if !is_new {
            // Final tasks wait only for attempts that were interrupted by the same end that started the final tasks.
            return;
        }
        let attempts = before
            .into_iter()
            .flat_map(|before| (0..).zip(&before.tasks));
        let claims = attempts.filter_map(|(ordinal, task)| Some((ordinal, task.claim()?)));
        for (ordinal, claim) in claims {
            // An attempt that ends in the same transaction as its execution, for example by a timeout, no longer runs.
            if after.tasks[ordinal as usize].status != TaskStatus::Cancelled {
                continue;
            }
            self.finals.held.insert((id, ordinal, claim.attempt));
        }
    }
}

impl Oracle {
    /// Q1: checks that a transaction has stored the final tasks of the executions that it ended.
    pub fn check_finals(&mut self) {
        for (forward, id) in std::mem::take(&mut self.finals.expected) {
            let is_stored = self.mirror.contains_key(&id);
            self.check(is_stored, || {
                format!("the final tasks {id} of {forward} are not stored")
            });
        }
    }
}

impl World {
    /// Q2: checks the start of a final task. The attempts that were interrupted by the end of the forward execution must no
    /// longer run on registered runners.
    pub(super) fn check_final_start(&self, state: &WorldState, assignment: &Assignment) {
        let mut oracle = self.oracle.lock();
        let record = oracle.mirror.get(&assignment.execution);
        let link = record.and_then(|record| record.parent.clone());
        let Some(link) = link.filter(|link| link.finale.is_some()) else {
            return;
        };
        let forward = link.execution;
        let functions = state.processes.iter().flatten();
        let running: Vec<(Ordinal, Claim)> = functions
            .flat_map(|process| process.functions.values())
            .filter(|running| running.claim.0 == forward)
            .map(|running| (running.claim.1, running.claim.2))
            .filter(|(task, claim)| {
                let attempt = (forward, *task, claim.attempt);
                oracle.finals.held.contains(&attempt)
            })
            .collect();
        if running.is_empty() {
            return;
        }
        let living = self
            .store
            .inner
            .runners()
            .expect("this store has no faults");
        let still = running
            .iter()
            .find(|(_, claim)| living.iter().any(|row| row.id == claim.runner));
        oracle.check(still.is_none(), || {
            format!("a final task of {forward} starts while {still:?} runs")
        });
    }
}

impl ObservedStore {
    /// Commits a batch without its executions of final tasks, for the mutant `ForgetFinals`.
    pub(super) fn commit_without_finals(&self, batch: &Batch) -> Result<Committed, StoreError> {
        let is_final = |submit: &&Submit<'_>| {
            let link = submit.record.parent.as_ref();
            link.is_some_and(|link| link.finale.is_some())
        };
        let is_dropped = |id: &ExecutionId| {
            let mut dropped = batch.submits.iter().filter(is_final);
            dropped.any(|submit| submit.record.id == *id)
        };
        let kept = batch.submits.iter().filter(|submit| !is_final(submit));
        let changed = Batch {
            runner: batch.runner,
            now: batch.now,
            submits: kept.map(copy_submit).collect(),
            advances: batch.advances.iter().map(copy_advance).collect(),
            schedules: batch.schedules.iter().map(copy_schedule).collect(),
            flow: FlowWrites {
                links: (batch.flow.links.iter())
                    .filter(|write| !is_dropped(&write.child))
                    .cloned()
                    .collect(),
                waits: (batch.flow.waits.iter())
                    .filter(|write| !is_dropped(&write.execution))
                    .cloned()
                    .collect(),
                ..batch.flow.clone()
            },
            claim: batch.claim.clone(),
        };
        let mut committed = self.inner.commit(&changed)?;
        self.observe(&changed, &committed)?;
        for (index, submit) in batch.submits.iter().enumerate() {
            if is_final(&submit) {
                committed.submits.insert(index, SubmitOutcome::Accepted);
            }
        }
        Ok(committed)
    }

    /// Returns the workflow that has this name: a workflow of the scenario, or the workflow of its final tasks.
    pub(super) fn known_workflow(workflows: &[Arc<Workflow>], name: &str) -> Option<Arc<Workflow>> {
        let own = workflows.iter();
        let finals = workflows.iter().filter_map(|workflow| workflow.finals());
        own.chain(finals)
            .find(|known| known.name() == name)
            .cloned()
    }
}
