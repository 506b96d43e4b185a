//! Simulates functions that record steps, and checks the recorded steps (semantics T).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cloacina::runtime::{Assignment, Executor, Message};
use cloacina::types::sync::Mutex;
use cloacina::types::{
    Claim, ExecutionId, Json, Micros, Ordinal, RunnerId, StepChanges, StepKind, StepRecord,
    Timestamp,
};

use super::oracle::{Coverage, Oracle};
use super::parking::Parking;
use super::scenario::MILLISECOND;
use super::timeline::{Event, FunctionSteps, WorldState};
use super::workers::EXECUTORS;
use super::world::World;

impl World {
    /// Makes a function ask for its recorded steps, and schedules its first step. Returns `None` if the function has no
    /// steps, for an item of a map, and for a workflow that is not in the scenario.
    pub(super) fn begin_steps(
        &self,
        state: &mut WorldState,
        runner: usize,
        executor: Executor,
        token: u64,
        assignment: &Assignment,
        span: Micros,
    ) -> Option<FunctionSteps> {
        if assignment.claim.item.is_some() {
            return None;
        }
        let workflows = &self.scenario.workflows;
        let number = workflows
            .iter()
            .position(|known| known.name() == assignment.workflow.name())?;
        let count = self.scenario.steps[number][assignment.task as usize];
        if count == 0 {
            return None;
        }
        let loaded: Arc<Mutex<Option<Vec<StepRecord>>>> = Arc::default();
        let (seen, oracle) = (Arc::clone(&loaded), Arc::clone(&self.oracle));
        let (execution, task) = (assignment.execution, assignment.task);
        let reply = move |steps: Result<Vec<StepRecord>, _>| {
            if let Ok(steps) = steps {
                oracle.lock().check_loaded(execution, task, &steps);
                *seen.lock() = Some(steps);
            }
        };
        state.send(
            runner,
            Message::LoadSteps {
                item: None,
                execution,
                task,
                reply: Box::new(reply),
            },
        );
        let at = self.now() + span / (i64::from(count) + 1);
        state.schedule_for(runner, at, Event::Call(runner, executor, token));
        Some(FunctionSteps {
            workflow: number,
            count,
            next: 0,
            loaded,
            recorded: 0,
            is_answered: Arc::new(AtomicBool::new(true)),
            answer: Arc::default(),
            is_refused: Arc::default(),
            patience: 200,
        })
    }

    /// Runs a function's next step. A step that is already recorded is skipped.
    pub(super) fn function_calls_step(&self, runner: usize, executor: Executor, token: u64) {
        let index = usize::from(executor == EXECUTORS[1]);
        let mut state = self.state.lock();
        let pause = state.rng.i64(1..200) * MILLISECOND;
        state.marks += 1;
        let mark = state.marks;
        let Some(process) = &mut state.processes[runner] else {
            return;
        };
        let Some(running) = process.functions.get_mut(&(index, token)) else {
            return; // the function has returned or was cancelled
        };
        let (execution, task, claim) = running.claim;
        let Some(steps) = &mut running.steps else {
            return;
        };
        let loaded = steps.loaded.lock().clone();
        if steps.is_refused.load(Ordering::Relaxed) || steps.patience == 0 {
            return;
        }
        let is_waiting = loaded.is_none() || !steps.is_answered.load(Ordering::Relaxed);
        if is_waiting {
            steps.patience -= 1;
        } else {
            if steps.next == steps.count {
                return;
            }
            let key = format!("s{}", steps.next);
            steps.next += 1;
            let known = loaded.unwrap_or_default();
            if known.iter().any(|step| step.key == key) {
                self.oracle.lock().cover(Coverage::StepReplayed);
            } else {
                let position = u32::try_from(known.len()).expect("the number of steps fits in u32")
                    + steps.recorded;
                let place = (steps.workflow, task as usize, steps.next - 1);
                let step = (key.as_str(), position);
                match self.function_parks(&mut state, runner, executor, token, place, step) {
                    Parking::Runs => {}
                    Parking::Parked => {
                        drop(state);
                        return self.feed_workers(runner);
                    }
                    Parking::Continues => {
                        let at = self.now() + pause;
                        return state.schedule_for(
                            runner,
                            at,
                            Event::Call(runner, executor, token),
                        );
                    }
                }
                let Some(running) = state.function(runner, index, token) else {
                    return;
                };
                let Some(steps) = &mut running.steps else {
                    return;
                };
                self.oracle.lock().call_step(execution, task, claim, &key);
                steps.recorded += 1;
                steps.is_answered.store(false, Ordering::Relaxed);
                let now = Timestamp(self.now());
                let step = StepRecord {
                    key,
                    position,
                    kind: StepKind::Step,
                    attempt: claim.attempt,
                    started_at: now,
                    ended_at: now,
                    value: Json::parse(&mark.to_string()).expect("a number is JSON"),
                };
                let message = self.recording(execution, task, claim, step, steps);
                state.send(runner, message);
            }
        }
        let at = self.now() + pause;
        state.schedule_for(runner, at, Event::Call(runner, executor, token));
    }

    fn recording(
        &self,
        execution: ExecutionId,
        task: Ordinal,
        claim: Claim,
        step: StepRecord,
        steps: &FunctionSteps,
    ) -> Message {
        let oracle = Arc::clone(&self.oracle);
        let answered = Arc::clone(&steps.is_answered);
        let refused = Arc::clone(&steps.is_refused);
        let recorded = step.clone();
        let reply = move |answer: Result<(), _>| {
            if answer.is_ok() {
                answered.store(true, Ordering::Relaxed);
                oracle
                    .lock()
                    .acknowledge_step(execution, task, claim, &recorded);
            } else {
                refused.store(true, Ordering::Relaxed);
                oracle.lock().cover(Coverage::StepRefused);
            }
        };
        Message::RecordStep {
            execution,
            task,
            claim,
            step,
            reply: Box::new(reply),
        }
    }
}

impl Oracle {
    /// Checks the steps that a transaction changes, and records them in the oracle. Must be called before the oracle
    /// updates its copy of the execution that the transaction changes.
    pub fn record_steps(&mut self, writer: RunnerId, id: ExecutionId, changes: &StepChanges) {
        for dropped in &changes.dropped {
            self.cover(Coverage::StepDropped);
            if let Some(steps) = self.steps.get_mut(&(id, dropped.task)) {
                steps.retain(|_, (position, _)| *position < dropped.from);
            }
        }
        for (task, step) in &changes.recorded {
            self.cover(Coverage::StepRecorded);
            if matches!(step.kind, StepKind::Sleep | StepKind::Wait) {
                self.check_parked_step(writer, id, *task, step);
                let steps = self.steps.entry((id, *task)).or_default();
                let value = (step.position, step.value.to_string());
                let earlier = steps.insert(step.key.clone(), value);
                self.check(earlier.is_none(), || {
                    format!(
                        "the end of '{}' of task {task} of {id} was recorded twice",
                        step.key
                    )
                });
                continue;
            }
            let held = self
                .mirror
                .get(&id)
                .map(|record| &record.tasks[*task as usize]);
            let claim = held.and_then(cloacina::types::TaskRecord::claim);
            let own = Claim {
                runner: writer,
                attempt: step.attempt,
                item: None,
            };
            self.check(claim == Some(own), || {
                format!("step {} of task {task} of {id} was recorded by {own:?}, but the claim is {claim:?}", step.key)
            });
            let value = step.value.to_string();
            let steps = self.steps.entry((id, *task)).or_default();
            let (_, known) = steps
                .entry(step.key.clone())
                .or_insert((step.position, value.clone()));
            let known = known.clone();
            self.check(known == value, || {
                format!(
                    "step {} of task {task} of {id} was recorded with the values {known} and {value}",
                    step.key
                )
            });
        }
    }

    /// T2: checks that the attempt with the current claim does not call a step that is already recorded.
    pub fn call_step(&mut self, id: ExecutionId, task: Ordinal, claim: Claim, key: &str) {
        let held = self
            .mirror
            .get(&id)
            .map(|record| &record.tasks[task as usize]);
        let is_current = held.and_then(cloacina::types::TaskRecord::claim) == Some(claim);
        let steps = self.steps.get(&(id, task));
        let is_recorded = steps.is_some_and(|steps| steps.contains_key(key));
        self.check(!(is_current && is_recorded), || {
            format!(
                "step {key} of task {task} of {id} is recorded but was called again under {claim:?}"
            )
        });
    }

    /// Checks that an acknowledged step is stored.
    pub fn acknowledge_step(
        &mut self,
        id: ExecutionId,
        task: Ordinal,
        claim: Claim,
        step: &StepRecord,
    ) {
        let steps = self.steps.get(&(id, task));
        let known = steps.and_then(|steps| steps.get(&step.key)).cloned();
        let expected = Some((step.position, step.value.to_string()));
        self.check(known == expected, || {
            format!("step {} of task {task} of {id} was acknowledged under {claim:?} as {expected:?}, but {known:?} is stored", step.key)
        });
    }

    /// Checks the recorded steps that an attempt has read.
    pub fn check_loaded(&mut self, id: ExecutionId, task: Ordinal, loaded: &[StepRecord]) {
        let steps = self.steps.get(&(id, task)).cloned().unwrap_or_default();
        let read = loaded
            .iter()
            .map(|step| (step.key.clone(), (step.position, step.value.to_string())))
            .collect();
        self.check(steps == read, || {
            format!("task {task} of {id} has read the steps {read:?}, but {steps:?} are stored")
        });
    }
}
