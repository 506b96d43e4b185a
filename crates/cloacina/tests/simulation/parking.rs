//! Functions that sleep and wait between their steps, and the invariants of what is recorded about them (semantics T5).

use std::collections::BTreeMap;

use cloacina::engine::Outcome;
use cloacina::runtime::Executor;
use cloacina::types::{
    Clock, Condition, ExecutionId, Micros, Ordinal, Park, ParkKind, StepKind, StepRecord,
    TaskRecord,
};
use cloacina::workflow::Workflow;
use fastrand::Rng;

use super::conditions;
use super::oracle::{Coverage, Oracle};
use super::scenario::MILLISECOND;
use super::timeline::WorldState;
use super::workers::EXECUTORS;
use super::world::World;

/// The step at which a function parks: workflow, task and number of the step.
pub type ParkPlace = (usize, usize, u8);

/// A sleep or a wait of a function.
pub struct ParkPlan {
    kind: ParkKind,
    condition: Condition,
    timeout: Option<Micros>,
}

/// Returns random sleeps and waits, which take the place of some steps of functions.
pub fn parks(rng: &mut Rng, steps: &[Vec<u8>]) -> BTreeMap<ParkPlace, ParkPlan> {
    let mut plans = BTreeMap::new();
    for (workflow, tasks) in steps.iter().enumerate() {
        for (task, count) in tasks.iter().enumerate() {
            for step in 0..*count {
                if rng.bool() {
                    plans.insert((workflow, task, step), park(rng));
                }
            }
        }
    }
    plans
}

fn park(rng: &mut Rng) -> ParkPlan {
    if rng.u8(0..3) == 0 {
        return ParkPlan {
            kind: ParkKind::Sleep,
            condition: Condition::Delay {
                duration: rng.i64(0..10_000) * MILLISECOND,
            },
            timeout: None,
        };
    }
    ParkPlan {
        kind: ParkKind::Wait,
        condition: conditions::random(rng),
        timeout: Some(conditions::timeout(rng)),
    }
}

impl World {
    /// Parks a function if a sleep or a wait takes the place of its next unrecorded step. Returns whether the function parked.
    pub(super) fn function_parks(
        &self,
        state: &mut WorldState,
        runner: usize,
        executor: Executor,
        token: u64,
        place: ParkPlace,
        (key, position): (&str, u32),
    ) -> bool {
        let Some(plan) = self.scenario.parks.get(&place) else {
            return false;
        };
        let index = usize::from(executor == EXECUTORS[1]);
        let Some(process) = &mut state.processes[runner] else {
            return false;
        };
        process.functions.remove(&(index, token));
        let queue = std::sync::Arc::clone(process.queues.of(executor));
        let outcome = Outcome::Park(Box::new(Park {
            kind: plan.kind,
            key: key.to_owned(),
            position,
            condition: plan.condition.clone(),
            timeout: plan.timeout,
            runs: None,
        }));
        self.oracle.lock().cover(Coverage::Parked);
        let now = self.clocks[runner].now();
        self.report(state, runner, executor, token, outcome, now, &queue);
        true
    }
}

impl Oracle {
    /// T5: checks that a task was waiting for a sleep or a wait when a transaction recorded its end.
    pub(super) fn check_parked_step(&mut self, id: ExecutionId, task: Ordinal, step: &StepRecord) {
        self.cover(Coverage::ParkEnded);
        let record = self.mirror.get(&id);
        let open = record.and_then(|record| record.tasks[task as usize].open_wait());
        let park = open.and_then(|open| open.park.as_ref());
        let kind = park.map(|park| match park.kind {
            ParkKind::Sleep => StepKind::Sleep,
            _ => StepKind::Wait,
        });
        let is_asked_for = park.is_some_and(|park| {
            park.key == step.key && park.position == step.position && kind == Some(step.kind)
        });
        self.check(is_asked_for, || {
            format!(
                "the end of {} of task {task} of {id} was recorded, but the task was not waiting for it",
                step.key
            )
        });
    }

    /// The condition of an open wait: from the function's call, or else from the task's declaration.
    pub(super) fn condition_of(
        workflow: &Workflow,
        ordinal: Ordinal,
        task: &TaskRecord,
    ) -> Option<Condition> {
        let park = task.open_wait().and_then(|open| open.park.as_ref());
        match park {
            Some(park) => Some(park.condition.clone()),
            None => workflow.task(ordinal).wait_for.clone(),
        }
    }
}
