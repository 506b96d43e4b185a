//! Simulates functions that sleep and wait between their steps, and checks the recorded sleeps and waits (semantics
//! T5). A function *parks* if it returns because its sleep or wait is not over. The task then waits, and its
//! function is called again when the sleep or wait is over.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use cloacina::engine::Outcome;
use cloacina::runtime::{Executor, Message};
use cloacina::types::{
    Claim, Clock, Condition, ExecutionId, ExecutionRecord, Leaf, Micros, OpenWait, Ordinal, Park,
    ParkKind, RunnerId, StepKind, StepRecord, TaskRecord, Timestamp, Topic,
};
use cloacina::workflow::Workflow;
use fastrand::Rng;

use super::conditions::{self, TakenSignal};
use super::oracle::{Coverage, Oracle};
use super::scenario::MILLISECOND;
use super::timeline::{FunctionSteps, WaitAnswer, WorldState};
use super::workers::EXECUTORS;
use super::world::World;

/// The step at which a function parks: the workflow, the task and the number of the step.
pub type ParkPlace = (usize, usize, u8);

/// The plan of a sleep or a wait that a function calls.
pub struct ParkPlan {
    kind: ParkKind,
    condition: Condition,
    timeout: Option<Micros>,
}

/// Returns random sleeps and waits that replace some steps of functions.
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

/// The action of a function at its next unrecorded step.
pub enum Parking {
    /// The function runs the step, because no sleep or wait replaces the step.
    Runs,
    /// The function has returned, and its task waits.
    Parked,
    /// The function keeps running. Either it has asked whether its sleep or wait is over and waits for the answer, or it knows
    /// that the sleep or wait is over.
    Continues,
}

impl World {
    /// T5: if a sleep or a wait replaces the function's next unrecorded step, asks the runner whether that sleep or wait has
    /// already ended, and parks the function if it has not.
    pub(super) fn function_parks(
        &self,
        state: &mut WorldState,
        runner: usize,
        executor: Executor,
        token: u64,
        place: ParkPlace,
        (key, position): (&str, u32),
    ) -> Parking {
        let Some(plan) = self.scenario.parks.get(&place) else {
            return Parking::Runs;
        };
        let index = usize::from(executor == EXECUTORS[1]);
        let Some(running) = state.function(runner, index, token) else {
            return Parking::Continues;
        };
        let Some(steps) = &mut running.steps else {
            return Parking::Runs;
        };
        let park = Box::new(Park {
            kind: plan.kind,
            key: key.to_owned(),
            position,
            condition: plan.condition.clone(),
            timeout: plan.timeout,
            runs: None,
        });
        let claim = running.claim;
        let answer = steps.answer.lock().take();
        match answer {
            None => {
                steps.next -= 1;
                let question = self.question(claim, park, steps);
                state.send(runner, question);
                Parking::Continues
            }
            Some(WaitAnswer::Over) => {
                steps.recorded += 1;
                Parking::Continues
            }
            Some(WaitAnswer::NotOver) => {
                let Some(process) = &mut state.processes[runner] else {
                    return Parking::Continues;
                };
                process.functions.remove(&(index, token));
                let queue = Arc::clone(process.queues.of(executor));
                self.oracle.lock().cover(Coverage::Parked);
                let now = self.clocks[runner].now();
                let outcome = Outcome::Park(park);
                self.report(state, runner, executor, token, outcome, now, &queue);
                Parking::Parked
            }
        }
    }

    /// Returns the message with which a function asks whether its sleep or wait has already ended.
    fn question(
        &self,
        (execution, task, claim): (ExecutionId, Ordinal, Claim),
        park: Box<Park>,
        steps: &FunctionSteps,
    ) -> Message {
        steps.is_answered.store(false, Ordering::Relaxed);
        let answered = Arc::clone(&steps.is_answered);
        let (slot, refused) = (Arc::clone(&steps.answer), Arc::clone(&steps.is_refused));
        let oracle = Arc::clone(&self.oracle);
        let asked = (claim, (*park).clone());
        oracle.lock().asked.insert((execution, task), asked);
        let reply = move |answer: Result<Option<StepRecord>, _>| match answer {
            Ok(step) => {
                *slot.lock() = Some(match step {
                    Some(step) => {
                        let mut oracle = oracle.lock();
                        oracle.cover(Coverage::WaitEndedAtOnce);
                        oracle.acknowledge_step(execution, task, claim, &step);
                        WaitAnswer::Over
                    }
                    None => WaitAnswer::NotOver,
                });
                answered.store(true, Ordering::Relaxed);
            }
            Err(_) => refused.store(true, Ordering::Relaxed),
        };
        Message::EndWait {
            execution,
            task,
            claim,
            park,
            is_recorded: false,
            reply: Box::new(reply),
        }
    }
}

impl Oracle {
    /// T5, T8: checks the recorded end of a sleep or a wait. The end may be recorded if the function is parked in this
    /// sleep or wait, or if a running attempt has asked whether this sleep or wait is over, and still has its claim.
    pub(super) fn check_parked_step(
        &mut self,
        writer: RunnerId,
        id: ExecutionId,
        task: Ordinal,
        step: &StepRecord,
    ) {
        let own = Claim {
            runner: writer,
            attempt: step.attempt,
            item: None,
        };
        let held = (self.mirror.get(&id)).and_then(|record| record.tasks[task as usize].claim());
        let asked = self.asked.get(&(id, task)).filter(|(claim, park)| {
            *claim == own
                && held == Some(own)
                && (&park.key, park.position) == (&step.key, step.position)
        });
        if let Some((_, park)) = asked.cloned() {
            self.ended_at_once.insert((id, task), park);
            return;
        }
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
                "the end of '{}' of task {task} of {id} was recorded, but the task was not waiting for it",
                step.key
            )
        });
    }

    /// L3, T5: checks a running function's wait that ended at once: each part must have taken the first signal that it may
    /// take, and the condition must hold.
    pub(super) fn check_ended_at_once(
        &mut self,
        workflow: &Workflow,
        record: &ExecutionRecord,
        ordinal: Ordinal,
        taken: &[TakenSignal],
        now: Timestamp,
    ) {
        let id = record.id;
        let Some(park) = self.ended_at_once.remove(&(id, ordinal)) else {
            let is_without = taken.is_empty();
            return self.check(is_without, || {
                format!("task {ordinal} of {id} took signals, but it was not waiting")
            });
        };
        let parts = park.condition.leaves();
        let leaves = parts.iter().map(|part| match part {
            Condition::Signal {
                name, key_value, ..
            } => {
                let mut topics = vec![Topic::keyed(name, key_value.as_deref())];
                if key_value.is_none() {
                    topics.push(Topic::mailbox(name, id));
                }
                let cursor = |topic| self.expected_cursor(workflow, record, ordinal, part, topic);
                Leaf::Signal {
                    name: name.clone(),
                    key: key_value.clone(),
                    cursors: topics.into_iter().map(cursor).collect(),
                    taken: None,
                }
            }
            Condition::Delay { duration } => timer(now + *duration),
            Condition::Until { at, .. } => timer(at.unwrap_or(now)),
            Condition::AnyOf { .. } | Condition::AllOf { .. } => timer(Timestamp(i64::MAX)),
        });
        let open = OpenWait {
            since: now,
            deadline: None,
            leaves: leaves.collect(),
            park: None,
            title: None,
        };
        let taken = self.check_taken(id, ordinal, &open, taken);
        self.check_held(id, ordinal, Some(&park.condition), &open, &taken, now);
        for (leaf, seq) in open.leaves.iter().zip(taken) {
            self.note_taken((id, ordinal), leaf, seq);
        }
    }

    /// Returns the condition of an open wait. If the task's function has parked, this is the condition that the function waits
    /// for. Otherwise it is the condition in the task's options.
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

const fn timer(at: Timestamp) -> Leaf {
    Leaf::Timer {
        at,
        shifts: false,
        fired: false,
    }
}
