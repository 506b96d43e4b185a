//! Simulates workers: the outcomes and run times of functions, and the reports about them.

use std::sync::Arc;

use cloacina::engine::{Finish, Outcome};
use cloacina::runtime::{Assignment, Completion, Executor, Message, Notice, Work, WorkQueue};
use cloacina::types::{Clock, Delta, Failure, Json, Timestamp};

use super::maps;
use super::observed::{Mutant, UNSTORABLE};
use super::oracle::Coverage;
use super::scenario::{MILLISECOND, SECOND};
use super::timeline::{Event, Running, WorldState};
use super::world::World;

pub(super) const EXECUTORS: [Executor; 2] = [Executor::Threads, Executor::Loop];

impl World {
    /// Makes free workers take dispatched tasks, and interrupts attempts that timed out or were cancelled.
    pub(super) fn feed_workers(&self, runner: usize) {
        let mut state = self.state.lock();
        let plan = &self.scenario.runners[runner];
        let limits = [
            plan.config.max_concurrent_tasks,
            plan.config.max_concurrent_async_tasks,
        ];
        let clock = &self.clocks[runner];
        let now = clock.now();
        for (index, executor) in EXECUTORS.into_iter().enumerate() {
            let Some(process) = &state.processes[runner] else {
                return;
            };
            let queue = Arc::clone(process.queues.of(executor));
            for notice in queue.notices(std::time::Duration::ZERO) {
                if let Notice::Overrun { token, .. } | Notice::Cancelled { token, .. } = notice {
                    let overrun = matches!(notice, Notice::Overrun { .. });
                    self.interrupt(&mut state, runner, index, token, overrun, now, &queue);
                }
            }
            while state.busy(runner, index) < limits[index] {
                let Some(taken) = queue.try_take(1, clock) else {
                    break;
                };
                if taken.poke {
                    state.send(runner, Message::Poke);
                }
                if let Work::Task(token, assignment) = taken.work {
                    self.enter(&mut state, runner, index, token, &assignment, now);
                }
            }
        }
        drop(state);
        self.wake(runner);
    }

    pub(super) fn enter(
        &self,
        state: &mut WorldState,
        runner: usize,
        index: usize,
        token: u64,
        assignment: &Assignment,
        now: Timestamp,
    ) {
        let (execution, task, claim) = (assignment.execution, assignment.task, assignment.claim);
        self.check_final_start(state, assignment);
        self.oracle
            .lock()
            .start(execution, task, claim, Timestamp(self.now()));
        if assignment.reports_start {
            state.send(
                runner,
                Message::Started {
                    execution,
                    task,
                    claim,
                    at: now,
                },
            );
        }
        let has_finals = assignment.workflow.finals().is_some();
        let stuck = assignment.timeout.is_some() && state.rng.u8(0..40) == 0;
        let span = match state.rng.u8(0..20) {
            // Final tasks wait until the functions of the forward execution have ended, so these functions must not run for
            // long.
            _ if stuck && has_finals => 300 * SECOND,
            _ if stuck => 100_000 * SECOND,
            0 => state.rng.i64(10..40) * SECOND,
            1..=5 => state.rng.i64(100..4_000) * MILLISECOND,
            _ => state.rng.i64(1..100) * MILLISECOND,
        };
        let outcome = self.outcome(state, assignment);
        let steps = self.begin_steps(state, runner, EXECUTORS[index], token, assignment, span);
        let at = self.now() + span;
        state.schedule_for(runner, at, Event::Return(runner, EXECUTORS[index], token));
        if let Some(process) = &mut state.processes[runner] {
            let running = Running {
                outcome,
                holds_slot: true,
                steps,
                claim: (execution, task, claim),
            };
            process.functions.insert((index, token), running);
        }
    }

    /// Returns the outcome of a function, or `None` if the function crashes its process.
    fn outcome(&self, state: &mut WorldState, assignment: &Assignment) -> Option<Outcome> {
        let faults = &self.scenario.faults;
        if !state.healed && faults.crashes > 0.0 && state.rng.u8(0..50) == 0 {
            return None;
        }
        if let Some((workflow, task)) = self.scenario.poison
            && assignment.workflow.name() == self.scenario.workflows[workflow].name()
            && assignment.task as usize == task
        {
            return None;
        }
        let failure = Failure {
            kind: if state.rng.bool() {
                "ValueError"
            } else {
                "ConnectionError"
            }
            .into(),
            message: "it did not work".into(),
            traceback: None,
            retryable: state.rng.u8(0..10) > 0,
            lineage: Vec::new(),
        };
        let after = state.rng.i64(0..3) * SECOND;
        Some(match state.rng.u8(0..20) {
            0..=4 => Outcome::Failed(failure),
            5 => Outcome::Retry {
                after: state.rng.bool().then_some(after),
                failure,
            },
            6 => Outcome::Snooze { after },
            _ => {
                state.marks += 1;
                let mark = Json::parse(&state.marks.to_string()).expect("a number is JSON");
                let mut delta = Delta::default();
                delta
                    .set
                    .insert(format!("t{}", assignment.task).into(), mark);
                if let Some((workflow, task)) = self.scenario.unstorable
                    && assignment.workflow.name() == self.scenario.workflows[workflow].name()
                    && assignment.task as usize == task
                {
                    if assignment.claim.item.is_some() {
                        let key = format!("t{}", assignment.task);
                        delta.set.insert(key.into(), maps::unstorable());
                    }
                    let text = Json::parse("1").expect("a number is JSON");
                    delta.set.insert(UNSTORABLE.into(), text);
                }
                Outcome::Completed(Arc::new(delta))
            }
        })
    }

    pub(super) fn function_returns(&self, runner: usize, executor: Executor, token: u64) {
        let index = usize::from(executor == Executor::Loop);
        let now = self.clocks[runner].now();
        let mut state = self.state.lock();
        let Some(process) = &mut state.processes[runner] else {
            return;
        };
        let queue = Arc::clone(process.queues.of(executor));
        let Some(running) = process.functions.remove(&(index, token)) else {
            return; // the coroutine was cancelled, or the function has parked
        };
        let Some(outcome) = running.outcome else {
            drop(state);
            self.oracle.lock().cover(Coverage::Crashed);
            return self.kill(runner);
        };
        self.report(&mut state, runner, executor, token, outcome, now, &queue);
        self.oracle.lock().exit(running.claim);
        drop(state);
        self.feed_workers(runner);
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the arguments describe one call of a worker"
    )]
    pub(super) fn report(
        &self,
        state: &mut WorldState,
        runner: usize,
        executor: Executor,
        token: u64,
        outcome: Outcome,
        now: Timestamp,
        queue: &WorkQueue,
    ) {
        let Completion::Accepted(running) = queue.complete(token) else {
            self.oracle.lock().cover(Coverage::LateResult);
            return;
        };
        let (execution, task, claim) = (running.execution, running.task, running.claim);
        if let Outcome::Completed(delta) = &outcome {
            let mark = delta
                .set
                .values()
                .next()
                .map(|mark| mark.as_str().to_owned());
            let mark = mark.unwrap_or_default();
            self.oracle.lock().returned(execution, task, claim, mark);
        }
        if self.mutant == Some(Mutant::LoseResult) && state.rng.u8(0..10) == 0 {
            return;
        }
        let finish = Finish {
            task,
            claim,
            started_at: Some(running.started_at),
            outcome,
        };
        let message = Message::Finished {
            execution,
            finish,
            executor,
            ran: now.since(running.started_at).max(0),
        };
        state.send(runner, message);
    }

    /// Interrupts an attempt. A coroutine is cancelled. A function on a thread continues, but no longer occupies a slot if its
    /// timeout has passed, or if its queue no longer lists the attempt.
    #[expect(
        clippy::too_many_arguments,
        reason = "the arguments describe one notice of a queue"
    )]
    fn interrupt(
        &self,
        state: &mut WorldState,
        runner: usize,
        index: usize,
        token: u64,
        overrun: bool,
        now: Timestamp,
        queue: &WorkQueue,
    ) {
        let Some(process) = &mut state.processes[runner] else {
            return;
        };
        if index == 1 {
            if let Some(running) = process.functions.remove(&(index, token)) {
                let failure = Failure {
                    kind: "CancelledError".into(),
                    message: String::new(),
                    traceback: None,
                    retryable: true,
                    lineage: Vec::new(),
                };
                let outcome = Outcome::Failed(failure);
                self.report(state, runner, EXECUTORS[index], token, outcome, now, queue);
                self.oracle.lock().exit(running.claim);
            }
        } else if let Some(running) = process.functions.get_mut(&(index, token)) {
            let (execution, task, claim) = running.claim;
            let still_runs = queue.running().iter().any(|other| {
                (other.execution, other.task, other.claim) == (execution, task, claim)
            });
            running.holds_slot = !overrun && still_runs;
        }
    }
}
