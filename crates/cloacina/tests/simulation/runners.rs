//! Simulates the processes of runners: their start, crash, shutdown and suspension.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};

use cloacina::runtime::{
    Control, Coordinator, Executor, Handler, Message, Registration, RunnerConfig, Subscriptions,
    WorkQueues,
};
use cloacina::store::failpoint::FailpointStore;
use cloacina::types::{ExecutionId, ExecutionStatus};
use cloacina::workflow::{FinalRole, TaskKind, TriggerRule, Workflow};

use super::observed::Mutant;
use super::oracle::Coverage;
use super::points::Points;
use super::scenario::{MILLISECOND, SECOND};
use super::timeline::{Event, Process, WorldState};
use super::world::World;

impl World {
    pub(super) fn start(&self, runner: usize) {
        let mut state = self.state.lock();
        if state.processes[runner].is_some() {
            return;
        }
        state.incarnations[runner] += 1;
        state.crashing[runner] = false;
        state.deferred[runner].clear();
        let (queues, subscriptions) = (WorkQueues::default(), Arc::new(Subscriptions::default()));
        let alive = Arc::new(AtomicBool::new(true));
        let seed = state.rng.u64(..);
        drop(state);
        let points = Points {
            world: Weak::clone(&self.me),
            runner,
            alive: Arc::clone(&alive),
        };
        let plan = &self.scenario.runners[runner];
        let started = Coordinator::start(
            Arc::new(FailpointStore::new(
                Arc::new(self.store.share()),
                Arc::new(points),
            )),
            Arc::new(self.clocks[runner].clone()),
            self.config(runner),
            queues.clone(),
            Arc::clone(&subscriptions),
            seed,
        );
        let mut state = self.state.lock();
        let Ok(coordinator) = started else {
            let again = self.now() + SECOND;
            state.schedule(again, None, Event::Start(runner));
            return;
        };
        let healed = state.healed;
        let knows = plan.knows.iter().map(|knows| *knows || healed);
        let inbox = self
            .scenario
            .workflows
            .iter()
            .zip(knows)
            .filter(|(_, knows)| *knows);
        let inbox = inbox
            .map(|(workflow, _)| self.registration(workflow))
            .collect();
        state.processes[runner] = Some(Process {
            queues,
            subscriptions,
            inbox,
            functions: BTreeMap::new(),
            next_wake: 0,
            alive,
        });
        *self.coordinators[runner].lock() = Some(Box::new(coordinator));
        drop(state);
        self.wake(runner);
    }

    pub(super) fn config(&self, runner: usize) -> RunnerConfig {
        let mut config = self.scenario.runners[runner].config.clone();
        match self.mutant {
            Some(Mutant::TakeTooMuch) => {
                config.max_concurrent_tasks *= 20;
                config.max_concurrent_async_tasks *= 20;
            }
            Some(Mutant::RescueForever) => config.max_rescues = 1000,
            Some(Mutant::NeverEvict) => config.cache_bytes = usize::MAX,
            _ => {}
        }
        config
    }

    pub(super) fn registration(&self, workflow: &Arc<Workflow>) -> Message {
        let mut definition = workflow.definition().clone();
        for task in &mut definition.tasks {
            match self.mutant {
                Some(Mutant::IgnoreDependencies) => {
                    task.dependencies.clear();
                    task.rule = TriggerRule::Always;
                }
                Some(Mutant::IgnoreRules) => task.rule = TriggerRule::Always,
                Some(Mutant::NeverGiveUp) => task.retry.max_attempts += 10,
                _ => {}
            }
        }
        let functions = definition.tasks.iter().filter(|task| !task.is_node());
        let functions = functions.chain(&definition.finals);
        let handlers = functions.map(|task| {
            let executor = match task.kind {
                TaskKind::Sync => Executor::Threads,
                _ => Executor::Loop,
            };
            let handler = Handler {
                executor,
                token: 0,
                on_success: false,
                on_failure: false,
            };
            let is_compensation = matches!(task.role, Some(FinalRole::Compensation { .. }));
            let suffix = if is_compensation { "~final" } else { "" };
            (format!("{}{suffix}", task.id), handler)
        });
        let handlers = handlers.collect();
        let workflow = if self.mutant.is_some() {
            Arc::new(Workflow::new(definition).expect("the altered workflow is valid"))
        } else {
            Arc::clone(workflow)
        };
        Message::Register {
            registration: Registration { workflow, handlers },
            reply: Box::new(|_| {}),
        }
    }

    /// Kills a runner's process. Its rows stay in the database.
    pub(super) fn kill(&self, runner: usize) {
        // A process that is running a step dies at the end of this step.
        let busy = self.coordinators[runner].lock().take().is_none();
        let mut state = self.state.lock();
        if busy && state.processes[runner].is_some() {
            state.crash(runner);
            return;
        }
        state.remove_process(runner);
        let again = self.now() + state.rng.i64(0..20_000) * MILLISECOND;
        state.schedule(again, None, Event::Start(runner));
    }

    pub(super) fn stop(&self, runner: usize) {
        let mut state = self.state.lock();
        let grace = state.rng.i64(0..10) * SECOND;
        if let Some(process) = &mut state.processes[runner] {
            process.inbox.push(Message::Stop {
                grace,
                reply: Box::new(|_| {}),
            });
            drop(state);
            self.oracle.lock().cover(Coverage::Stopped);
            self.wake(runner);
        }
    }

    pub(super) fn pause(&self, runner: usize, paused: bool) {
        let mut state = self.state.lock();
        state.paused[runner] = paused;
        if !paused {
            self.reschedule_deferred(&mut state, runner);
        }
    }

    pub(super) fn reschedule_deferred(&self, state: &mut WorldState, runner: usize) {
        for (incarnation, event) in std::mem::take(&mut state.deferred[runner]) {
            state.schedule(self.now(), incarnation, event);
        }
    }

    /// Ends all faults.
    pub(super) fn heal(&self) {
        let mut state = self.state.lock();
        state.healed = true;
        state.outage = None;
        let now = self.now();
        for runner in 0..state.paused.len() {
            state.paused[runner] = false;
            self.reschedule_deferred(&mut state, runner);
            match &mut state.processes[runner] {
                Some(process) => {
                    let workflows = &self.scenario.workflows;
                    process
                        .inbox
                        .extend(workflows.iter().map(|workflow| self.registration(workflow)));
                    state.wake(runner, now);
                }
                None => state.schedule(now, None, Event::Start(runner)),
            }
        }
        state.schedule(now + 30 * SECOND, None, Event::ResumeAll);
        drop(state);
        // Without faults and with a slot for every task, no due task may wait longer than the longest poll interval
        // plus 100 ms.
        if self.scenario.faults.is_fault_free() {
            let polls = self
                .scenario
                .runners
                .iter()
                .map(|plan| plan.config.poll_interval);
            let poll = polls.max().unwrap_or_default();
            let submitted: usize = self
                .scenario
                .submissions
                .iter()
                .map(|plan| plan.count)
                .sum();
            // A workflow has at most 7 tasks. The fastest schedule fires every three seconds for at most 70 seconds, so
            // each schedule has at most 30 executions.
            let most = 8 * (submitted + 30 * self.scenario.schedules.len());
            let roomy = self.scenario.runners.iter().all(|plan| {
                let config = &plan.config;
                config
                    .max_concurrent_tasks
                    .min(config.max_concurrent_async_tasks)
                    >= most
            });
            let is_counted = !self.scenario.has_more_tasks();
            if roomy && is_counted && self.mutant != Some(Mutant::TakeTooMuch) {
                self.oracle.lock().max_wait = Some(
                    i64::try_from(poll.as_micros()).expect("the interval fits in i64")
                        + 100 * MILLISECOND,
                );
            }
        }
    }

    /// Resumes all paused executions so that they can end, and repeats this after 30 seconds.
    pub(super) fn resume_all(&self) {
        let paused: Vec<ExecutionId> = {
            let oracle = self.oracle.lock();
            let records = oracle.mirror.values();
            records
                .filter(|record| record.status == ExecutionStatus::Paused)
                .map(|record| record.id)
                .collect()
        };
        let runner = self.state.lock().rng.usize(0..self.scenario.runners.len());
        for id in paused {
            self.ask(runner, id, Control::Resume);
        }
        let again = self.now() + 30 * SECOND;
        self.state.lock().schedule(again, None, Event::ResumeAll);
    }
}
