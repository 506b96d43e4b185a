//! The claimed tasks that wait for a worker, in the order of dispatch, and the callbacks, which are dispatched before them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};

use crate::runtime::assignment::{Assignment, Callback};
use crate::types::{ExecutionId, Ordinal};

/// The sort key of dispatch: tasks with a higher priority come first, then tasks of older executions.
type DispatchKey = (Reverse<i16>, ExecutionId, TaskOrItem);

/// A task, or an item of a mapped task.
pub(in crate::runtime) type TaskOrItem = (Ordinal, Option<u32>);

/// Number of tasks that are taken before an item of the same priority, if both wait. A map counts as one entry of the queue, so
/// its items, of which there can be thousands, must not delay other executions (K2). The limit ensures that the items are taken
/// even if tasks never stop arriving.
const TASKS_PER_ITEM: u32 = 16;

/// The tasks, items of maps, and callbacks that wait for a worker.
#[derive(Default)]
pub(super) struct ReadyQueue {
    tasks: BTreeMap<DispatchKey, Assignment>,
    items: BTreeMap<DispatchKey, Assignment>,
    /// The number of tasks that were taken before an item of the same priority, since an item was last taken before a task.
    tasks_since_item: u32,
    callbacks: VecDeque<Callback>,
}

fn key_of(assignment: &Assignment) -> DispatchKey {
    let task = (assignment.task, assignment.claim.item);
    (Reverse(assignment.priority), assignment.execution, task)
}

impl ReadyQueue {
    pub(super) fn add(&mut self, assignments: Vec<Assignment>, callbacks: Vec<Callback>) {
        for assignment in assignments {
            let entries = match assignment.claim.item {
                None => &mut self.tasks,
                Some(_) => &mut self.items,
            };
            entries.insert(key_of(&assignment), assignment);
        }
        self.callbacks.extend(callbacks);
    }

    pub(super) fn pop_callback(&mut self) -> Option<Callback> {
        self.callbacks.pop_front()
    }

    /// Takes the next task or item (C6, K2).
    pub(super) fn pop_task(&mut self) -> Option<Assignment> {
        let first = |entries: &BTreeMap<DispatchKey, Assignment>| {
            let (priority, ..) = entries.first_key_value()?.0;
            Some(*priority)
        };
        let takes_item = match (first(&self.tasks), first(&self.items)) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(task), Some(item)) if task == item => {
                let takes_item = self.tasks_since_item >= TASKS_PER_ITEM;
                self.tasks_since_item = if takes_item {
                    0
                } else {
                    self.tasks_since_item + 1
                };
                takes_item
            }
            (Some(task), Some(item)) => item < task,
        };
        let entries = if takes_item {
            &mut self.items
        } else {
            &mut self.tasks
        };
        entries.pop_first().map(|(_, assignment)| assignment)
    }

    /// Takes up to `count` tasks and items from the end of the queue, starting with the last one.
    pub(super) fn pop_last(&mut self, count: usize) -> Vec<Assignment> {
        let last = std::iter::from_fn(|| {
            let task = self.tasks.last_key_value().map(|(key, _)| key.0);
            let item = self.items.last_key_value().map(|(key, _)| key.0);
            let entries = if item >= task {
                &mut self.items
            } else {
                &mut self.tasks
            };
            entries.pop_last()
        });
        last.take(count).map(|(_, assignment)| assignment).collect()
    }

    /// Removes a task. Returns `false` if it is not in the queue.
    pub(super) fn remove(
        &mut self,
        execution: ExecutionId,
        task: TaskOrItem,
        priority: i16,
    ) -> bool {
        let entries = match task.1 {
            None => &mut self.tasks,
            Some(_) => &mut self.items,
        };
        let key = (Reverse(priority), execution, task);
        entries.remove(&key).is_some()
    }

    pub(super) fn drain_tasks(&mut self) -> Vec<Assignment> {
        let tasks = std::mem::take(&mut self.tasks).into_values();
        tasks
            .chain(std::mem::take(&mut self.items).into_values())
            .collect()
    }

    pub(super) fn lowest_priority(&self) -> Option<i16> {
        let lowest = |entries: &BTreeMap<DispatchKey, Assignment>| {
            let (Reverse(priority), ..) = entries.last_key_value()?.0;
            Some(*priority)
        };
        let (task, item) = (lowest(&self.tasks), lowest(&self.items));
        task.into_iter().chain(item).min()
    }

    pub(super) fn has_callbacks(&self) -> bool {
        !self.callbacks.is_empty()
    }

    pub(super) fn has_tasks(&self) -> bool {
        !(self.tasks.is_empty() && self.items.is_empty())
    }

    /// The number of items.
    pub(super) fn items(&self) -> usize {
        self.items.len()
    }

    pub(super) fn len(&self) -> usize {
        self.tasks.len() + self.items.len() + self.callbacks.len()
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

    fn item(priority: i16, item: u32) -> Assignment {
        let mut assignment = assignment(priority);
        assignment.claim.item = Some(item);
        assignment
    }

    #[test]
    fn k2_items_of_an_older_map_do_not_delay_tasks() {
        let mut queue = ReadyQueue::default();
        let items = (0..3).map(|number| item(0, number)).collect();
        queue.add(items, Vec::new());
        let tasks: Vec<_> = (0..20).map(|_| assignment(0)).collect();
        queue.add(tasks, Vec::new());
        assert_eq!(queue.len(), 23);
        let order: Vec<bool> = std::iter::from_fn(|| queue.pop_task())
            .map(|taken| taken.claim.item.is_some())
            .collect();
        let first_item = TASKS_PER_ITEM as usize;
        assert_eq!(order.iter().position(|is_item| *is_item), Some(first_item));
        assert_eq!(order.len(), 23);
        assert!(order[21] && order[22], "the tasks are taken");
    }

    #[test]
    fn c6_urgent_items_precede_tasks() {
        let mut queue = ReadyQueue::default();
        queue.add(vec![assignment(0), item(5, 0), assignment(9)], Vec::new());
        assert_eq!(queue.lowest_priority(), Some(0));
        let order = std::iter::from_fn(|| queue.pop_task()).map(|taken| taken.priority);
        assert_eq!(order.collect::<Vec<_>>(), [9, 5, 0]);
    }

    #[test]
    fn c6_pop_last_takes_items_before_tasks_of_equal_priority() {
        let mut queue = ReadyQueue::default();
        let (task, last) = (assignment(0), item(0, 7));
        assert!(!queue.has_tasks());
        queue.add(vec![task.clone(), last.clone()], Vec::new());
        assert_eq!(queue.pop_last(1)[0].claim.item, Some(7));
        queue.add(vec![last.clone()], Vec::new());
        assert!(queue.remove(last.execution, (0, Some(7)), 0));
        assert_eq!(queue.drain_tasks()[0].execution, task.execution);
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
