//! Simulates callers, which submit and control executions and wait until acknowledged executions have ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cloacina::runtime::{Control, Message, SubmitRequest};
use cloacina::store::Store;
use cloacina::types::{Error, ExecutionId, Labels, Monotonic, Timestamp};

use super::scenario::{ActionPlan, SECOND};
use super::timeline::Event;
use super::world::World;

/// A submission that a runner has acknowledged to a caller.
pub struct Acknowledgement {
    runner: usize,
    alive: Arc<AtomicBool>,
    ids: Vec<ExecutionId>,
}

impl World {
    pub(super) fn submit(&self, number: usize) {
        let plan = self.scenario.submissions[number].clone();
        let mut state = self.state.lock();
        let now = self.now();
        let Some(process) = &state.processes[plan.runner] else {
            state.schedule(now + SECOND, None, Event::Submit(number));
            return;
        };
        let alive = Arc::clone(&process.alive);
        let workflow = self.scenario.workflows[plan.workflow].name().to_owned();
        let skew = self.clocks[plan.runner].skew();
        let input = Arc::new(plan.input.clone().unwrap_or_default());
        let requests: Vec<SubmitRequest> = (0..plan.count)
            .map(|_| SubmitRequest {
                id: state.execution_id(now),
                workflow: workflow.clone(),
                input: Arc::clone(&input),
                key: plan.key.clone(),
                priority: plan.priority,
                start_at: plan.delay.map(|delay| Timestamp(now + skew + delay)),
                timeout: plan.timeout,
                labels: Labels::default(),
                trace: None,
            })
            .collect();
        let single = requests.len() == 1;
        let (oracle, acknowledgements, key) = (
            Arc::clone(&self.oracle),
            Arc::clone(&self.acknowledgements),
            plan.key,
        );
        let runner = plan.runner;
        let reply = move |answer: Result<Vec<ExecutionId>, Error>| {
            if !alive.load(Ordering::Relaxed) {
                return;
            }
            if let Ok(ids) = answer {
                let key = key.as_deref().filter(|_| single);
                oracle.lock().acknowledge(&ids, &workflow, key);
                acknowledgements
                    .lock()
                    .push(Acknowledgement { runner, alive, ids });
            }
        };
        let message = Message::Submit {
            requests,
            give_up: Monotonic(now + 5 * SECOND),
            reply: Box::new(reply),
        };
        state.send(runner, message);
        drop(state);
        self.wake(runner);
    }

    pub(super) fn control(&self, number: usize) {
        let plan = &self.scenario.controls[number];
        let runner = plan.runner % self.scenario.runners.len();
        let target = {
            let state = self.state.lock();
            let known = state.acknowledged.len();
            (known > 0).then(|| state.acknowledged[plan.target % known])
        };
        let Some(id) = target else { return };
        self.ask(runner, id, Self::action_of(plan.action));
    }

    pub(super) fn action_of(plan: ActionPlan) -> Control {
        match plan {
            ActionPlan::Cancel => Control::Cancel,
            ActionPlan::Pause => Control::Pause,
            ActionPlan::Resume => Control::Resume,
            ActionPlan::Retry => Control::Retry { from_task: None },
            ActionPlan::RetryFrom(task) => Control::Retry {
                from_task: Some(format!("t{}", task % 3)),
            },
        }
    }

    pub(super) fn ask(&self, runner: usize, id: ExecutionId, action: Control) {
        let mut state = self.state.lock();
        let Some(process) = &state.processes[runner] else {
            return;
        };
        let alive = Arc::clone(&process.alive);
        let oracle = Arc::clone(&self.oracle);
        let cancels = action == Control::Cancel;
        let message = Message::Control {
            execution: id,
            action,
            give_up: Monotonic(self.now() + 5 * SECOND),
            reply: Box::new(move |answer| {
                if answer.is_ok() && cancels && alive.load(Ordering::Relaxed) {
                    oracle.lock().acknowledge_cancel(id);
                }
            }),
        };
        state.send(runner, message);
        drop(state);
        self.wake(runner);
    }

    /// Makes callers wait until the newly acknowledged executions have ended.
    pub(super) fn await_acknowledged(&self) {
        let acknowledgements = std::mem::take(&mut *self.acknowledgements.lock());
        for Acknowledgement { runner, alive, ids } in acknowledgements {
            let subscriptions = {
                let mut state = self.state.lock();
                state.acknowledged.extend(&ids);
                let process = state.processes[runner].as_ref();
                process.map(|process| Arc::clone(&process.subscriptions))
            };
            let Some(subscriptions) = subscriptions else {
                continue;
            };
            for id in ids {
                let ends = Arc::clone(&self.ends);
                let subscription = subscriptions.subscribe(id, move |ended| {
                    if ended.is_ok() {
                        ends.lock().insert((runner, id));
                    }
                });
                // A caller subscribes first and then checks the status, like the public API.
                let ended = self
                    .store
                    .statuses(&[id])
                    .is_ok_and(|states| states.iter().any(|(_, status)| status.is_terminal()));
                if ended {
                    subscriptions.unsubscribe(subscription);
                } else {
                    self.awaited.lock().push((runner, Arc::clone(&alive), id));
                }
            }
        }
    }
}
