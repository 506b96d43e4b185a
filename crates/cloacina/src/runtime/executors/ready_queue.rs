//! The claimed tasks that wait for a worker, in the order of dispatch, and the callbacks, which are dispatched before them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};

use crate::runtime::assignment::{Assignment, Callback};
use crate::types::{ExecutionId, Ordinal};

/// The sort key of dispatch: tasks with a higher priority come first, then tasks of older executions.
type DispatchKey = (Reverse<i16>, ExecutionId, TaskOrItem);

/// A task, or an item of a mapped task.
pub(in crate::runtime) type TaskOrItem = (Ordinal, Option<u32>);

/// The tasks and callbacks that wait for a worker.
#[derive(Default)]
pub(super) struct ReadyQueue {
    tasks: BTreeMap<DispatchKey, Assignment>,
    callbacks: VecDeque<Callback>,
}

impl ReadyQueue {
    pub(super) fn add(&mut self, assignments: Vec<Assignment>, callbacks: Vec<Callback>) {
        self.tasks.extend(assignments.into_iter().map(|assignment| {
            let priority = Reverse(assignment.priority);
            let task = (assignment.task, assignment.claim.item);
            ((priority, assignment.execution, task), assignment)
        }));
        self.callbacks.extend(callbacks);
    }

    pub(super) fn pop_callback(&mut self) -> Option<Callback> {
        self.callbacks.pop_front()
    }

    pub(super) fn pop_task(&mut self) -> Option<Assignment> {
        self.tasks.pop_first().map(|(_, assignment)| assignment)
    }

    /// Takes up to `count` tasks from the end of the queue, starting with the last task.
    pub(super) fn pop_last(&mut self, count: usize) -> Vec<Assignment> {
        let last = std::iter::from_fn(|| self.tasks.pop_last());
        last.take(count).map(|(_, assignment)| assignment).collect()
    }

    /// Removes a task. Returns `false` if it is not in the queue.
    pub(super) fn remove(
        &mut self,
        execution: ExecutionId,
        task: TaskOrItem,
        priority: i16,
    ) -> bool {
        self.tasks
            .remove(&(Reverse(priority), execution, task))
            .is_some()
    }

    pub(super) fn drain_tasks(&mut self) -> Vec<Assignment> {
        std::mem::take(&mut self.tasks).into_values().collect()
    }

    pub(super) fn lowest_priority(&self) -> Option<i16> {
        self.tasks.last_key_value().map(|(key, _)| key.0.0)
    }

    pub(super) fn has_callbacks(&self) -> bool {
        !self.callbacks.is_empty()
    }

    pub(super) fn has_tasks(&self) -> bool {
        !self.tasks.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.tasks.len() + self.callbacks.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{assignment, callback};
    use super::*;

    #[test]
    fn c6_tasks_are_taken_by_priority_and_then_by_age() {
        let mut queue = ReadyQueue::default();
        let (first, second, urgent) = (assignment(0), assignment(0), assignment(5));
        let order = [urgent.execution, first.execution, second.execution];
        queue.add(vec![second, first, urgent], Vec::new());
        assert_eq!(queue.lowest_priority(), Some(0));
        let left = std::iter::from_fn(|| queue.pop_task()).map(|task| task.execution);
        assert_eq!(left.collect::<Vec<_>>(), order);
        assert!(queue.is_empty());
    }

    #[test]
    fn c6_pop_last_takes_tasks_from_the_end_of_the_queue() {
        let mut queue = ReadyQueue::default();
        let all = [assignment(1), assignment(0), assignment(-1)];
        queue.add(all.to_vec(), vec![callback()]);
        let last = queue.pop_last(2).into_iter().map(|task| task.execution);
        assert_eq!(
            last.collect::<Vec<_>>(),
            [all[2].execution, all[1].execution]
        );
        assert_eq!(queue.len(), 2, "a task and a callback are left");
        assert!(
            !queue.remove(all[0].execution, (0, None), 7),
            "the task has another priority"
        );
        assert!(queue.remove(all[0].execution, (0, None), 1));
        assert!(!queue.has_tasks());
    }
}
