//! The contexts that tasks see, and the final context (semantics B2–B4).

use std::sync::Arc;

use indexmap::IndexMap;
use rustc_hash::FxBuildHasher;

use super::Execution;
use crate::types::{
    Context, Delta, ExecutionRecord, Json, Ordinal, TaskStatus, Write, lost_write, merge_writes,
};
use crate::workflow::{Graph, Parameter, Workflow};

/// Maximum number of cached contexts of an execution.
const KEPT: usize = 4;

/// A cache of recently assembled contexts of one execution. Tasks that have the same task as their only dependency
/// share a context. In a chain, a task's context is the previous task's context with the previous task's writes.
#[derive(Clone, Debug, Default)]
pub struct Views {
    /// Pairs of a task and the context after it: the context that the task saw, with the task's own writes. A dependent
    /// that has no other dependency sees this context.
    after: Vec<(Ordinal, Arc<Context>)>,
}

impl Execution {
    /// The keys with a lost value: two tasks wrote the key, and neither task depends on the other (B3). Each key comes with the
    /// task whose value the final context contains, and with a task whose value was lost.
    #[must_use]
    pub fn lost_values(&self) -> Vec<(Arc<str>, Ordinal, Ordinal)> {
        let graph = self.workflow.graph();
        let task_at = |place: usize| graph.order()[place];
        let writes = writes_of(&self.record, graph.order()).into_iter();
        let lost = writes.filter(|(_, writes)| writes.len() > 1);
        lost.filter_map(|(key, writes)| {
            let (kept, lost) = lost_write(&placed(graph, &writes))?;
            Some((Arc::clone(key), task_at(kept.place), task_at(lost.place)))
        })
        .collect()
    }
}

impl Execution {
    /// J7: returns the reason why the context of `task` has no value at `path`, if the path leads into the result of a task
    /// that did not complete.
    pub(super) fn absent_result(&self, task: Ordinal, path: &str) -> Option<String> {
        let is_at_path = |key: &str| {
            let rest = path.strip_prefix(key);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let ancestors = self.workflow.graph().ancestors(task).into_iter();
        let reasons = ancestors.filter(|from| is_at_path(self.definition(*from).result_key()));
        let mut reasons = reasons.filter_map(|from| {
            let reason = match self.task(from).status {
                TaskStatus::Skipped => "was skipped",
                TaskStatus::Failed => "failed",
                TaskStatus::Cancelled => "was cancelled",
                _ => return None,
            };
            let id = &self.definition(from).id;
            Some(format!("task '{id}' has no result, because it {reason}"))
        });
        reasons.next_back()
    }
}

impl Views {
    /// Clears the cache. This is needed when completed tasks run again.
    pub fn clear(&mut self) {
        self.after.clear();
    }

    /// The context that a task sees (B2, J7).
    pub fn view(
        &mut self,
        workflow: &Workflow,
        record: &ExecutionRecord,
        task: Ordinal,
    ) -> Arc<Context> {
        let context = self.complete_view(workflow, record, task);
        without_absent(workflow, record, task, context)
    }

    fn complete_view(
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

/// Removes the keys of parameters that take the result of a task that did not complete (J7). These keys must be
/// absent even if the input contains keys with the same names.
fn without_absent(
    workflow: &Workflow,
    record: &ExecutionRecord,
    task: Ordinal,
    context: Arc<Context>,
) -> Arc<Context> {
    let is_absent = |parameter: &&Parameter| {
        let from = parameter.task.as_deref();
        let from = from.and_then(|id| workflow.graph().ordinal(id));
        from.is_some_and(|from| record.tasks[from as usize].status != TaskStatus::Completed)
            && context.get(parameter.key()).is_some()
    };
    let parameters = workflow.task(task).parameters.iter();
    let absent: Vec<&Parameter> = parameters.filter(is_absent).collect();
    if absent.is_empty() {
        return context;
    }
    let mut context = Arc::unwrap_or_clone(context);
    for parameter in absent {
        context.remove(parameter.key());
    }
    Arc::new(context)
}

/// For each key, the writes by completed tasks, in the order of the tasks.
type Writes<'a> = IndexMap<&'a Arc<str>, Vec<(Ordinal, Option<&'a Json>)>, FxBuildHasher>;

fn writes_of<'a>(record: &'a ExecutionRecord, tasks: &[Ordinal]) -> Writes<'a> {
    let mut writes = Writes::default();
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
    writes
}

fn placed<'a>(graph: &'a Graph, writes: &[(Ordinal, Option<&'a Json>)]) -> Vec<Write<'a>> {
    let write = |(task, value): &(Ordinal, Option<&'a Json>)| Write {
        place: graph.place(*task),
        seen: graph.ancestor_places(*task),
        value: *value,
    };
    writes.iter().map(write).collect()
}

/// Returns the input overlaid with the deltas of `tasks`, which must be in topological order (B2, B3).
#[must_use]
pub fn overlay(
    input: &Context,
    graph: &Graph,
    record: &ExecutionRecord,
    tasks: &[Ordinal],
) -> Context {
    let mut context = input.clone();
    for (key, writes) in writes_of(record, tasks) {
        let value = if let [(_, only)] = writes.as_slice() {
            only.cloned()
        } else {
            merge_writes(input.get(key), &placed(graph, &writes))
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

/// The final context: the input overlaid with the deltas of all completed tasks (B4).
pub(super) fn final_context(workflow: &Workflow, record: &ExecutionRecord) -> Context {
    overlay(
        &record.input,
        workflow.graph(),
        record,
        workflow.graph().order(),
    )
}
