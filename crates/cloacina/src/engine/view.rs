//! The contexts that tasks see, and the final context (semantics B2–B4).

use std::sync::Arc;

use indexmap::IndexMap;
use rustc_hash::FxBuildHasher;

use crate::types::{
    Context, Delta, ExecutionRecord, Json, Ordinal, TaskStatus, Write, merge_writes,
};
use crate::workflow::{Graph, Workflow};

/// Maximum number of cached views of an execution.
const KEPT: usize = 4;

/// A cache of recently assembled contexts of one execution. Tasks that depend on one task alone share its context, and a chain
/// extends that of its last task.
#[derive(Clone, Debug, Default)]
pub struct Views {
    /// By task, the context that a task which depends on it alone sees: the task's own view with its delta.
    after: Vec<(Ordinal, Arc<Context>)>,
}

impl Views {
    /// Clears the cache, because completed tasks run again.
    pub fn clear(&mut self) {
        self.after.clear();
    }

    /// The context that a task sees (B2).
    pub fn view(
        &mut self,
        workflow: &Workflow,
        record: &ExecutionRecord,
        task: Ordinal,
    ) -> Arc<Context> {
        match workflow.graph().dependencies(task) {
            [] => Arc::clone(&record.input),
            [only] => self.after(workflow, record, *only),
            _ => {
                let ancestors = workflow.graph().ancestors(task);
                Arc::new(overlay(&record.input, workflow.graph(), record, &ancestors))
            }
        }
    }

    fn after(
        &mut self,
        workflow: &Workflow,
        record: &ExecutionRecord,
        task: Ordinal,
    ) -> Arc<Context> {
        if let Some((_, context)) = self.after.iter().find(|(known, _)| *known == task) {
            return Arc::clone(context);
        }
        let graph = workflow.graph();
        let before = match graph.dependencies(task) {
            [] => Some(Arc::clone(&record.input)),
            [only] => self
                .after
                .iter()
                .find(|(known, _)| known == only)
                .map(|(_, context)| Arc::clone(context)),
            _ => None,
        };
        let context = if let Some(before) = before {
            match completed_delta(record, task) {
                None => before,
                Some(delta) => {
                    let mut context = (*before).clone();
                    context.apply(delta);
                    Arc::new(context)
                }
            }
        } else {
            let mut path = graph.ancestors(task);
            path.push(task);
            Arc::new(overlay(&record.input, graph, record, &path))
        };
        if self.after.len() == KEPT {
            self.after.remove(0);
        }
        self.after.push((task, Arc::clone(&context)));
        context
    }
}

pub(super) fn completed_delta(record: &ExecutionRecord, task: Ordinal) -> Option<&Delta> {
    let task = &record.tasks[task as usize];
    let delta = (task.status == TaskStatus::Completed)
        .then_some(task.delta.as_deref())
        .flatten();
    delta.filter(|delta| !delta.is_empty())
}

/// Returns the input overlaid by the deltas of tasks, which must be in topological order (B2, B3).
#[must_use]
pub fn overlay(
    input: &Context,
    graph: &Graph,
    record: &ExecutionRecord,
    tasks: &[Ordinal],
) -> Context {
    type Writes<'a> = Vec<(Ordinal, Option<&'a Json>)>;
    let mut writes: IndexMap<&Arc<str>, Writes, FxBuildHasher> = IndexMap::default();
    for task in tasks {
        let Some(delta) = completed_delta(record, *task) else {
            continue;
        };
        for (key, value) in &delta.set {
            writes.entry(key).or_default().push((*task, Some(value)));
        }
        for key in &delta.removed {
            writes.entry(key).or_default().push((*task, None));
        }
    }
    let mut context = input.clone();
    for (key, writes) in writes {
        let value = if let [(_, only)] = writes.as_slice() {
            only.cloned()
        } else {
            let writes: Vec<Write> = writes
                .iter()
                .map(|(task, value)| Write {
                    place: graph.place(*task),
                    seen: graph.ancestor_places(*task),
                    value: *value,
                })
                .collect();
            merge_writes(input.get(key), &writes)
        };
        match value {
            Some(value) => context.set(Arc::clone(key), value),
            None => {
                context.remove(key);
            }
        }
    }
    context
}

/// The final context: the input overlaid by the deltas of all completed tasks (B4).
pub(super) fn final_context(workflow: &Workflow, record: &ExecutionRecord) -> Context {
    overlay(
        &record.input,
        workflow.graph(),
        record,
        workflow.graph().order(),
    )
}
