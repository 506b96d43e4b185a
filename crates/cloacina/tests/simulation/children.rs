//! Simulates nodes that run child executions, and checks the messages between parents and children (semantics M).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use cloacina::store::{
    Advance, Batch, Committed, FlowWrites, InboxKind, InboxMessage, Store, StoreError,
};
use cloacina::types::{
    ChildSpec, ExecutionId, ExecutionRecord, ExecutionStatus, Micros, NodeChild, Ordinal,
    ParentEnd, RetryPolicy, TaskStatus, Timestamp,
};
use cloacina::workflow::{TaskDefinition, TaskKind, Workflow, WorkflowDefinition};
use fastrand::Rng;

use super::observed::{ObservedStore, copy_advance, copy_schedule, copy_submit};
use super::oracle::{Coverage, Oracle, TaskKey};
use super::scenario::{ControlPlan, SECOND, action};
use super::world::World;

/// Replaces some tasks with nodes that run workflows with lower numbers, and adds the workflow `parent`, which has one to four
/// nodes and no other tasks.
pub fn add_children(rng: &mut Rng, workflows: &mut Vec<Arc<Workflow>>) {
    for (number, workflow) in workflows.iter_mut().enumerate().skip(1) {
        let mut definition = workflow.definition().clone();
        for task in &mut definition.tasks {
            let is_plain = task.over.is_none() && task.wait_for.is_none();
            if is_plain && rng.u8(0..5) == 0 {
                let child = rng.usize(0..number);
                *task = node(rng, task, child);
            }
        }
        *workflow = Arc::new(Workflow::new(definition).expect("children are valid"));
    }
    let tasks = (0..rng.usize(1..5)).map(|index| {
        let task = TaskDefinition {
            id: format!("t{index}"),
            dependencies: (0..index)
                .filter(|_| rng.u8(0..4) == 0)
                .map(|task| format!("t{task}"))
                .collect(),
            timeout: (rng.u8(0..4) == 0).then(|| rng.i64(1..20) * SECOND),
            retry: RetryPolicy {
                max_attempts: rng.u32(1..4),
                initial_delay: rng.i64(0..3) * SECOND,
                ..RetryPolicy::default()
            },
            ..TaskDefinition::default()
        };
        let child = rng.usize(0..workflows.len());
        node(rng, &task, child)
    });
    let definition = WorkflowDefinition {
        name: "parent".into(),
        tenant: "public".into(),
        package: "embedded".into(),
        tasks: tasks.collect(),
        ..WorkflowDefinition::default()
    };
    workflows.push(Arc::new(
        Workflow::new(definition).expect("children are valid"),
    ));
}

fn node(rng: &mut Rng, task: &TaskDefinition, child: usize) -> TaskDefinition {
    TaskDefinition {
        id: task.id.clone(),
        dependencies: task.dependencies.clone(),
        rule: task.rule.clone(),
        timeout: task.timeout,
        priority: task.priority,
        retry: if rng.bool() {
            task.retry.clone()
        } else {
            RetryPolicy {
                max_attempts: 1,
                ..RetryPolicy::default()
            }
        },
        kind: TaskKind::Engine,
        child: Some(ChildSpec {
            workflow: format!("w{child}"),
            input: None,
            on_parent_end: if rng.u8(0..4) == 0 {
                ParentEnd::Abandon
            } else {
                ParentEnd::Cancel
            },
        }),
        ..TaskDefinition::default()
    }
}

/// Returns random actions of callers on children and their parents.
pub fn controls(rng: &mut Rng, heals_at: Micros) -> Vec<ControlPlan> {
    (0..rng.usize(0..6))
        .map(|_| ControlPlan {
            at: rng.i64(0..heals_at + 20 * SECOND),
            runner: rng.usize(..),
            target: rng.usize(..),
            action: action(rng),
        })
        .collect()
}

/// The oracle's record of nodes and their children. It determines the messages that parents and children must send each other.
#[derive(Default)]
pub struct Family {
    /// The started children, by node and generation. A node starts at most one child of each generation.
    started: HashMap<(TaskKey, u32), ExecutionId>,
    /// The child of each node, while the node waits for it and has not yet learned of its end.
    waiting: BTreeMap<TaskKey, ExecutionId>,
    /// The children that must be cancelled, because their node was cancelled or skipped.
    cancelled: BTreeSet<ExecutionId>,
}

fn is_of(message: &InboxMessage, kind: InboxKind, target: ExecutionId) -> bool {
    message.kind == kind.name() && message.target.as_deref() == Some(&target.to_string())
}

fn open_child(record: &ExecutionRecord, ordinal: Ordinal) -> Option<&NodeChild> {
    let task = &record.tasks[ordinal as usize];
    let child = task.wait.as_ref()?.child.as_ref()?;
    (task.is_waiting() && child.status.is_none() && child.end.is_none()).then_some(child)
}

impl Oracle {
    /// Updates `Family` for an execution that a transaction changed.
    pub fn note_family(
        &mut self,
        workflow: &Workflow,
        before: Option<&ExecutionRecord>,
        after: &ExecutionRecord,
    ) {
        let id = after.id;
        let link = after.parent.as_ref().filter(|link| link.finale.is_none());
        if let (Some(link), None) = (link, before) {
            self.cover(Coverage::ChildStarted);
            let node = (link.execution, link.task);
            let first = self.family.started.insert((node, link.generation), id);
            self.check(first.is_none(), || {
                format!(
                    "child {} of node {node:?} was started as {first:?} and {id}",
                    link.generation
                )
            });
        }
        let nodes = (0..).zip(&workflow.definition().tasks);
        for (ordinal, definition) in nodes {
            let Some(spec) = &definition.child else {
                continue;
            };
            let task = &after.tasks[ordinal as usize];
            let was_open = before.and_then(|before| open_child(before, ordinal));
            match open_child(after, ordinal) {
                Some(child) => self.family.waiting.insert((id, ordinal), child.id),
                None => self.family.waiting.remove(&(id, ordinal)),
            };
            let is_left = matches!(task.status, TaskStatus::Cancelled | TaskStatus::Skipped);
            if let Some(child) = was_open.filter(|_| is_left)
                && spec.on_parent_end == ParentEnd::Cancel
            {
                self.cover(Coverage::ChildLeft);
                self.family.cancelled.insert(child.id);
            }
            let old = before.map(|before| before.tasks[ordinal as usize].status);
            if old != Some(task.status) && task.status == TaskStatus::Completed {
                self.cover(Coverage::ChildCompleted);
            }
            if old != Some(task.status) && task.status == TaskStatus::Failed {
                self.cover(Coverage::ChildFailed);
            }
        }
    }

    /// M4: returns whether a child is still paused by its parent although the parent runs.
    fn is_paused_by_running_parent(&self, child: ExecutionId) -> bool {
        let Some(record) = self.mirror.get(&child) else {
            return false;
        };
        let link = record.parent.as_ref().filter(|link| link.paused);
        let parent = link.and_then(|link| self.mirror.get(&link.execution));
        record.status == ExecutionStatus::Paused
            && parent.is_some_and(|parent| parent.status == ExecutionStatus::Running)
    }

    /// Returns whether an execution has ended or is no longer stored.
    fn has_ended(&self, id: ExecutionId) -> bool {
        let record = self.mirror.get(&id);
        record.is_none_or(|record| record.status.is_terminal())
    }
}

impl ObservedStore {
    /// M3, M4: checks the messages in the inbox. If a node still waits for a child that has ended, the inbox must
    /// contain a message to the parent about the end, or a message that retries the child. Each open child that must be
    /// cancelled or resumed because of its parent must have a message, too.
    pub(super) fn check_family(&self) -> Result<(), StoreError> {
        let mut oracle = self.oracle.lock();
        if oracle.family.started.is_empty() {
            return Ok(());
        }
        let mut left = std::mem::take(&mut oracle.family.cancelled);
        left.retain(|child| !oracle.has_ended(*child));
        let waiting = oracle.family.waiting.iter();
        let ended_children: Vec<(TaskKey, ExecutionId)> = waiting
            .filter(|(_, child)| oracle.has_ended(**child))
            .map(|(node, child)| (*node, *child))
            .collect();
        let held: Vec<ExecutionId> = (oracle.family.started.values())
            .filter(|child| oracle.is_paused_by_running_parent(**child))
            .copied()
            .collect();
        if !(left.is_empty() && ended_children.is_empty() && held.is_empty()) {
            let inbox = self.inner.due_waits(Timestamp(0), 100_000)?.inbox;
            for ((parent, node), child) in ended_children {
                let name = child.to_string();
                let has_message = inbox.iter().any(|message| {
                    let body = message.body.as_deref().unwrap_or_default();
                    is_of(message, InboxKind::Retry, child)
                        || (is_of(message, InboxKind::ChildEnded, parent) && body.contains(&name))
                });
                oracle.check(has_message, || {
                    format!("child {child} has ended, but node {node} of {parent} gets no message")
                });
            }
            for child in held {
                let has_message = inbox
                    .iter()
                    .any(|message| is_of(message, InboxKind::Resume, child));
                oracle.check(has_message, || {
                    format!("the parent of {child} runs, but the paused child gets no message")
                });
            }
            for child in &left {
                let has_message = inbox
                    .iter()
                    .any(|message| is_of(message, InboxKind::Cancel, *child));
                oracle.check(has_message, || {
                    format!("the node of {child} was cancelled or skipped, but the child gets no message")
                });
            }
        }
        oracle.family.cancelled = left;
        Ok(())
    }

    /// Commits a batch without its messages of one kind, for the mutants `ForgetParent` and `ForgetChildren`.
    pub(super) fn commit_without(
        &self,
        batch: &Batch,
        kind: InboxKind,
    ) -> Result<Committed, StoreError> {
        let posts = batch.flow.posts.iter();
        let posts = posts.filter(|post| post.message.kind != kind.name());
        // A parent can also learn of its child's end in the batch that writes the end. Such a change of the parent gets a
        // requirement that is never met, so the change is not written.
        let never = [ExecutionId::from_bytes([0; 16])];
        let advances = batch.advances.iter().map(|advance| Advance {
            requires: match advance.requires {
                [] => &[],
                _ if kind == InboxKind::ChildEnded => &never,
                requires => requires,
            },
            ..copy_advance(advance)
        });
        let changed = Batch {
            runner: batch.runner,
            now: batch.now,
            submits: batch.submits.iter().map(copy_submit).collect(),
            advances: advances.collect(),
            schedules: batch.schedules.iter().map(copy_schedule).collect(),
            flow: FlowWrites {
                posts: posts.cloned().collect(),
                ..batch.flow.clone()
            },
            claim: batch.claim.clone(),
        };
        let committed = self.inner.commit(&changed)?;
        self.observe(&changed, &committed)?;
        Ok(committed)
    }
}

impl World {
    /// Sends a caller's action on a child or a parent.
    pub(super) fn control_family(&self, number: usize) {
        let plan = &self.scenario.family_controls[number];
        let target = {
            let oracle = self.oracle.lock();
            let parents: BTreeSet<ExecutionId> = oracle
                .family
                .started
                .keys()
                .map(|((id, _), _)| *id)
                .collect();
            let is_child = |record: &&ExecutionRecord| record.parent.is_some();
            let children = oracle.mirror.values().filter(is_child);
            let children: Vec<ExecutionId> = children.map(|record| record.id).collect();
            let known: Vec<ExecutionId> = parents.into_iter().chain(children).collect();
            (!known.is_empty()).then(|| known[plan.target % known.len()])
        };
        let Some(id) = target else { return };
        let runner = plan.runner % self.scenario.runners.len();
        self.ask(runner, id, Self::action_of(plan.action));
    }
}
