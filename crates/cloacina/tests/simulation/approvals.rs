//! Simulates people who decide approvals, and checks the rules of decisions (semantics L11).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use cloacina::runtime::{Control, Message};
use cloacina::types::{
    Approval, Error, ErrorCode, ExecutionId, ExecutionStatus, HistoryEvent, Json, Micros,
    Monotonic, Ordinal, TaskRecord, WaitEnd,
};
use cloacina::workflow::{TaskDefinition, TaskKind, Workflow};
use fastrand::Rng;

use super::conditions;
use super::oracle::{Coverage, Oracle};
use super::scenario::SECOND;
use super::timeline::Event;
use super::world::World;

/// The plan of one person's decision about an approval.
pub struct DecisionPlan {
    pub at: Micros,
    pub runner: usize,
    /// Selects the execution: this number, modulo the length of the list of acknowledged executions, is its index.
    pub target: usize,
    pub task: usize,
    pub approves: bool,
}

/// Returns an approval that replaces a task.
pub fn approval(rng: &mut Rng, task: &TaskDefinition) -> TaskDefinition {
    let ends = [WaitEnd::Fail, WaitEnd::Skip, WaitEnd::Continue];
    TaskDefinition {
        id: task.id.clone(),
        dependencies: task.dependencies.clone(),
        rule: task.rule.clone(),
        approval: Some(Approval {
            on_reject: ends[rng.usize(0..3)],
            ..Approval::default()
        }),
        wait_timeout: Some(conditions::timeout(rng)),
        on_timeout: ends[rng.usize(0..3)],
        kind: TaskKind::Engine,
        ..TaskDefinition::default()
    }
}

/// Returns random decisions. Up to three people decide the same approval at almost the same time.
pub fn decisions(rng: &mut Rng, heals_at: Micros) -> Vec<DecisionPlan> {
    let mut plans = Vec::new();
    for _ in 0..rng.usize(4..20) {
        let (at, target) = (rng.i64(0..heals_at + 10 * SECOND), rng.usize(..));
        let task = rng.usize(0..7);
        for _ in 0..rng.usize(1..4) {
            plans.push(DecisionPlan {
                at: at + rng.i64(0..SECOND / 1_000),
                runner: rng.usize(..),
                target,
                task,
                approves: rng.bool(),
            });
        }
    }
    plans
}

impl Oracle {
    /// Checks a transaction's decisions about a task: the approval was open, and each decision counts once. Returns whether the
    /// transaction decided the approval.
    pub(super) fn check_decided(
        &mut self,
        workflow: &Workflow,
        id: ExecutionId,
        ordinal: Ordinal,
        old: &TaskRecord,
        history: &[HistoryEvent],
    ) -> bool {
        #[derive(serde::Deserialize)]
        struct Decided {
            approved: bool,
            by: String,
        }
        let events = history.iter().filter(|event| event.task == Some(ordinal));
        let mut is_open = old.open_wait().is_some();
        let mut count = 0;
        for event in events {
            // A retry can open the approval again in the same transaction.
            is_open |= event.kind.as_str() == "waiting";
            if event.kind.as_str() != "decided" {
                continue;
            }
            count += 1;
            let decided: Option<Decided> = event.data.as_ref().and_then(|data| data.decode().ok());
            let Some(Decided { approved, by }) = decided else {
                self.check(false, || format!("a decision about {id} cannot be read"));
                continue;
            };
            self.cover(if approved {
                Coverage::Approved
            } else {
                Coverage::Rejected
            });
            let is_approval = workflow.task(ordinal).approval.is_some();
            self.check(is_approval && is_open, || {
                format!(
                    "task {ordinal} of {id} was decided by {by} but did not wait for a decision"
                )
            });
            let is_new = self.decisions.insert(by.clone(), (id, ordinal)).is_none();
            self.check(is_new, || {
                format!("the decision by {by} about task {ordinal} of {id} counts twice")
            });
        }
        self.check(count <= 1, || {
            format!("task {ordinal} of {id} was decided {count} times in one transaction")
        });
        count > 0
    }

    /// Checks the answer to a person's decision.
    fn answer_decision(
        &mut self,
        id: ExecutionId,
        ordinal: Ordinal,
        by: &str,
        answer: &Result<ExecutionStatus, Error>,
    ) {
        let counts = self.decisions.get(by) == Some(&(id, ordinal));
        match answer {
            Ok(_) => self.check(counts, || {
                format!("the decision by {by} about task {ordinal} of {id} was accepted but is not stored")
            }),
            Err(error) if error.code == ErrorCode::AlreadyDecided => {
                self.cover(Coverage::DecidedBefore);
                let others = self.decisions.iter();
                let mut others = others.filter(|(name, place)| {
                    **place == (id, ordinal) && error.message.contains(&format!(" by {name} at"))
                });
                let is_known = others.next().is_some();
                self.check(is_known && !counts, || {
                    format!(
                        "the decision by {by} about task {ordinal} of {id} was refused although it is stored, or the \
                         decision that it lost to is not: {error}"
                    )
                });
            }
            Err(_) => {}
        }
    }
}

impl World {
    /// Sends a person's decision to a runner.
    pub(super) fn decide(&self, number: usize) {
        let plan = &self.scenario.decisions[number];
        let runner = plan.runner % self.scenario.runners.len();
        let mut state = self.state.lock();
        let known = state.acknowledged.len();
        let Some(process) = &state.processes[runner] else {
            let again = self.now() + SECOND;
            return state.schedule(again, None, Event::Decide(number));
        };
        if known == 0 {
            return;
        }
        let alive = Arc::clone(&process.alive);
        let execution = state.acknowledged[plan.target % known];
        let (task, by) = (format!("t{}", plan.task), format!("person-{number}"));
        let ordinal = Ordinal::try_from(plan.task).expect("a task number fits in an ordinal");
        let action = if plan.approves {
            let null = Json::parse("null").expect("null is JSON");
            Control::approve(task, null, Some(by.clone()))
        } else {
            Control::reject(task, None, Some(by.clone()))
        };
        let oracle = Arc::clone(&self.oracle);
        let message = Message::Control {
            execution,
            action,
            give_up: Monotonic(self.now() + 5 * SECOND),
            reply: Box::new(move |answer| {
                if alive.load(Ordering::Relaxed) {
                    oracle
                        .lock()
                        .answer_decision(execution, ordinal, &by, &answer);
                }
            }),
        };
        state.send(runner, message);
        drop(state);
        self.wake(runner);
    }
}
