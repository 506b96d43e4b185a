//! The start of a child, and its input (M0, M1, M7).

use std::sync::Arc;

use crate::engine::path::{lookup, missing};
use crate::engine::waiting::record_of;
use crate::engine::{Changes, Execution, NEVER, NewExecution};
use crate::types::{
    Context, DefinitionId, ExecutionId, Failure, FailureKind, HistoryKind, Json, MAX_CHILD_DEPTH,
    Micros, NodeChild, Note, OpenWait, Ordinal, OwnTimeout, ParentEnd, ParentLink, Post,
    TaskStatus, Timestamp,
};
use crate::workflow::Workflow;

/// The shortest and the longest time, in microseconds, between two searches for a workflow that a waiting task needs.
const SEARCH: (Micros, Micros) = (1_000_000, 30_000_000);

/// The workflow that a new child runs.
#[derive(Clone, Debug)]
pub struct ChildFound {
    /// The id of the stored definition.
    pub definition: DefinitionId,
    /// The workflow.
    pub workflow: Arc<Workflow>,
    /// The timeout of executions that are submitted without one, in microseconds.
    pub default_timeout: Option<Micros>,
}

/// A child to submit in a transaction of its parent.
#[derive(Clone, Debug)]
pub struct ChildStart {
    /// The execution.
    pub new: NewExecution,
    /// Its link to the parent.
    pub parent: Arc<ParentLink>,
}

impl Execution {
    /// M1, M6: makes a node ready. Its child starts, or runs again if the node kept an earlier child. A new child starts in
    /// the same transaction, or later if the execution has a start time or the workflow is not known yet. If the child's
    /// input cannot be built, the node fails.
    pub(in crate::engine) fn register_child(
        &mut self,
        ordinal: Ordinal,
        now: Timestamp,
        changes: &mut Changes,
    ) {
        if let Err(problem) = self.child_input(ordinal, None) {
            let task = self.task_mut(ordinal);
            task.status = TaskStatus::Failed;
            task.ended_at = Some(now);
            task.error = Some(Failure::engine(FailureKind::Rule, problem));
            changes.ended_tasks.push(ordinal);
            return;
        }
        self.task_mut(ordinal).status = TaskStatus::Ready;
        let open = OpenWait {
            since: now,
            deadline: None,
            leaves: Vec::new(),
            park: None,
            title: None,
        };
        self.open_wait(ordinal, open, None, now, changes);
        let earlier = self.node_child(ordinal).map(|child| child.id);
        if let Some(child) = earlier {
            // M6: the node keeps its child, and the child runs again.
            self.change_child(ordinal, changes, |child| {
                child.status = None;
                child.end = None;
            });
            changes.flow.posts.push(Post {
                target: child,
                note: Note::Retry,
            });
            self.start_by_waiting(now, changes);
            return;
        }
        let start_at = self.record.start_at.filter(|at| *at > now);
        // If this transaction does not start the child, a runner finds the node once the node is due.
        self.task_mut(ordinal).ready_at = Some(start_at.unwrap_or(now));
        if start_at.is_none() {
            changes.flow.starts.insert(ordinal);
            self.start_by_waiting(now, changes);
        }
    }

    /// Starts the child of a node. `child`: a fresh id. Returns `None` if the node does not wait for the start of a
    /// child, or if the child cannot be started. In the second case, the node fails.
    pub fn start_child(
        &mut self,
        ordinal: Ordinal,
        found: &ChildFound,
        child: ExecutionId,
        now: Timestamp,
        changes: &mut Changes,
    ) -> Option<ChildStart> {
        if !self.wants_child(ordinal) {
            return None;
        }
        let definition = self.definition(ordinal);
        let (id, timeout) = (definition.id.clone(), definition.timeout);
        let depth = self.record.parent.as_ref().map_or(0, |link| link.depth) + 1;
        let input = if depth > MAX_CHILD_DEPTH {
            Err(format!(
                "task '{id}' cannot start workflow '{}': its child would be nested {depth} levels deep, and the maximum is {MAX_CHILD_DEPTH}",
                found.workflow.name()
            ))
        } else {
            self.child_input(ordinal, Some(&found.workflow))
        };
        let input = match input {
            Ok(input) => input,
            Err(problem) => {
                self.change_wait(ordinal, |wait| wait.open = None, changes);
                let failure = Failure::engine(FailureKind::Rule, problem);
                self.fail_task(ordinal, failure, now, changes);
                return None;
            }
        };
        let task = self.task_mut(ordinal);
        task.attempt += 1;
        task.started_at = Some(now);
        task.ready_at = Some(NEVER);
        let generation = task.attempt;
        self.change_wait(
            ordinal,
            |wait| {
                wait.child = Some(NodeChild {
                    id: child,
                    generation,
                    status: None,
                    end: None,
                    retry_delay: None,
                });
            },
            changes,
        );
        let data = serde_json::json!({ "child": child, "workflow": found.workflow.name() });
        record_of(changes, now, HistoryKind::ChildStarted, ordinal, &data);
        // M4: the child inherits the priority. Its timeout is shortened to the time that its parent has left, except
        // with `ParentEnd::Abandon`.
        let (timeout, own) = self.child_timeout(ordinal, timeout.or(found.default_timeout), now);
        Some(ChildStart {
            new: NewExecution {
                id: child,
                definition: found.definition,
                input: Arc::new(input),
                key: None,
                priority: self.priority(ordinal),
                start_at: None,
                timeout,
            },
            parent: Arc::new(ParentLink {
                execution: self.record.id,
                task: ordinal,
                generation,
                key: None,
                item: None,
                depth,
                paused: false,
                timeout: own,
                finale: None,
            }),
        })
    }

    /// M4: returns the timeout of a child, shortened to the remaining time of its parent. If the timeout was shortened,
    /// also returns the original timeout. With `ParentEnd::Abandon`, the timeout is not shortened, because the child
    /// continues after the parent's timeout.
    pub(in crate::engine) fn child_timeout(
        &self,
        ordinal: Ordinal,
        own: Option<Micros>,
        now: Timestamp,
    ) -> (Option<Micros>, Option<OwnTimeout>) {
        let child = self.definition(ordinal).child.as_ref();
        let continues = child.is_some_and(|child| child.on_parent_end == ParentEnd::Abandon);
        let deadline = self.record.deadline.filter(|_| !continues);
        let left = deadline.map(|at| at.since(now).max(1));
        match left.filter(|left| own.is_none_or(|own| *left < own)) {
            None => (own, None),
            Some(left) => {
                let own = OwnTimeout {
                    micros: own,
                    holds: false,
                };
                (Some(left), Some(own))
            }
        }
    }

    /// M4, M6: restores the original timeout of a child that is retried.
    pub(in crate::engine) fn restore_timeout(&mut self, changes: &mut Changes) {
        let own = self.record.parent.as_ref().and_then(|link| link.timeout);
        if let Some(own) = own.filter(|own| !own.holds)
            && let Some(link) = &mut self.record.parent
        {
            Arc::make_mut(link).timeout = Some(OwnTimeout { holds: true, ..own });
            self.record.timeout = own.micros;
            changes.flow.link = true;
        }
    }

    /// M7: keeps a task waiting because the workflow that it needs is not known, and schedules the next search for this
    /// workflow.
    pub fn await_workflow(&mut self, ordinal: Ordinal, now: Timestamp, changes: &mut Changes) {
        if self.wanted_workflow(ordinal).is_none() && !self.starts_children(ordinal) {
            return;
        }
        let since = (self.task(ordinal).open_wait()).map_or(now, |open| open.since);
        let pause = (now.since(since) / 4).clamp(SEARCH.0, SEARCH.1);
        self.task_mut(ordinal).ready_at = Some(now + pause);
        changes.touch(ordinal);
        changes.flow.waits.insert(ordinal);
    }

    /// Whether a node waits for the start of its child.
    #[must_use]
    pub fn wants_child(&self, ordinal: Ordinal) -> bool {
        let task = self.task(ordinal);
        self.definition(ordinal).child.is_some()
            && !self.starts_children(ordinal)
            && task.status == TaskStatus::Ready
            && task.is_waiting()
            && self.node_child(ordinal).is_none()
    }

    /// M0: builds the input of a node's child: the values at the paths that the definition names, or else the node's
    /// view. If `workflow` declares its input, the view is reduced to the declared fields.
    fn child_input(
        &mut self,
        ordinal: Ordinal,
        workflow: Option<&Workflow>,
    ) -> Result<Context, String> {
        let view = self.view(ordinal);
        self.child_input_from(ordinal, &view, workflow)
    }

    /// M0: like [`child_input`](Self::child_input), but from a given view, which can contain the element of a list.
    pub(super) fn child_input_from(
        &self,
        ordinal: Ordinal,
        view: &Context,
        workflow: Option<&Workflow>,
    ) -> Result<Context, String> {
        let definition = self.definition(ordinal);
        let Some(spec) = &definition.child else {
            return Ok(Context::new());
        };
        let Some(paths) = &spec.input else {
            let declared = workflow.and_then(declared_fields);
            let mut input = view.clone();
            if let Some(declared) = declared {
                input = Context::new();
                for name in declared {
                    if let Some(value) = view.get(&name) {
                        input.set(name, value.clone());
                    }
                }
            }
            return Ok(input);
        };
        let mut input = Context::new();
        for (name, path) in paths {
            let Some(value) = lookup(view, path) else {
                return Err(format!(
                    "task '{}' passes '{name}' to workflow '{}' from the path '{path}', but {}",
                    definition.id,
                    spec.workflow,
                    (self.absent_result(ordinal, path)).unwrap_or_else(|| missing(view, path))
                ));
            };
            input.set(name.as_str(), value.into_owned());
        }
        Ok(input)
    }
}

/// The fields that a workflow declares as its input. `None`: it declares no input, or an input that accepts any field.
fn declared_fields(workflow: &Workflow) -> Option<Vec<String>> {
    #[derive(serde::Deserialize)]
    struct Schema {
        properties: Option<std::collections::BTreeMap<String, Json>>,
    }
    let schema: Schema = workflow.definition().input.as_ref()?.decode().ok()?;
    Some(schema.properties?.into_keys().collect())
}
