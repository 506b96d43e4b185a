//! Decides which tasks a retry runs again, and which of them start from scratch (semantics D7, K10, L13, Q5).

use super::Execution;
use crate::types::{Ordinal, SkipCause, TaskStatus};

/// The tasks that a retry runs again. The vectors of flags have an entry for each task.
pub(super) struct Rerun {
    /// Whether the task runs again.
    pub(super) runs: Vec<bool>,
    /// Whether the task starts from scratch: without its recorded steps and its earlier child.
    pub(super) starts_anew: Vec<bool>,
    /// Whether the task waits again for signals that it has already received.
    pub(super) waits_again: Vec<bool>,
    /// The tasks that start from scratch although the caller did not request it: tasks that a compensation or a final
    /// task undid, the completed descendants of these tasks (without waits and approvals), and maps with new lists.
    pub(super) undone: Vec<Ordinal>,
}

impl Execution {
    /// Decides what a retry runs again. `restarted`: the tasks that the caller asked to run again, and their descendants.
    pub(super) fn plan_rerun(&self, restarted: &[Ordinal]) -> Rerun {
        let mut undone = self.undone_by_finale();
        let (below, waits) = self.completed_below(&undone);
        undone.extend(&below);
        let mut rerun = self.rerun_by_retry(&[restarted, undone.as_slice()].concat());
        for ordinal in waits {
            rerun[ordinal as usize] = true;
        }
        let mut starts_anew = vec![false; rerun.len()];
        for ordinal in restarted.iter().chain(&undone) {
            starts_anew[*ordinal as usize] = true;
        }
        let mut maps = self.maps_with_new_lists(&rerun, |task| starts_anew[task as usize]);
        maps.retain(|map| !starts_anew[*map as usize]);
        for map in &maps {
            starts_anew[*map as usize] = true;
        }
        undone.append(&mut maps);
        // L13: a function that depends on an undone task does not wait again for a signal that it has already received.
        let mut waits_again = starts_anew.clone();
        for ordinal in below.iter().filter(|task| !restarted.contains(task)) {
            let definition = self.definition(*ordinal);
            let runs_after_wait = definition.wait_for.is_some()
                && definition.child.is_none()
                && definition.over.is_none();
            waits_again[*ordinal as usize] = !runs_after_wait;
        }
        Rerun {
            runs: rerun,
            starts_anew,
            waits_again,
            undone,
        }
    }

    /// Q5: returns the completed descendants of undone tasks, as two lists. The first list contains the tasks that may
    /// have used the effects or the results of undone tasks, so they run again from scratch. The second list contains
    /// the waits and approvals. They complete again with the same result when their dependencies have completed,
    /// because their signals and decisions are still valid. Neither list contains failed descendants, which continue as
    /// in any retry.
    fn completed_below(&self, undone: &[Ordinal]) -> (Vec<Ordinal>, Vec<Ordinal>) {
        let (mut below, mut waits) = (Vec::new(), Vec::new());
        if undone.is_empty() {
            return (below, waits);
        }
        let graph = self.workflow.graph();
        let mut is_affected = vec![false; self.record.tasks.len()];
        for ordinal in undone {
            is_affected[*ordinal as usize] = true;
        }
        for ordinal in graph.order().iter().copied() {
            let mut dependencies = graph.dependencies(ordinal).iter();
            if is_affected[ordinal as usize]
                || !dependencies.any(|task| is_affected[*task as usize])
            {
                continue;
            }
            is_affected[ordinal as usize] = true;
            if self.task(ordinal).status == TaskStatus::Completed {
                let only_waits = self.only_waits_at(ordinal);
                if only_waits { &mut waits } else { &mut below }.push(ordinal);
            }
        }
        (below, waits)
    }

    /// Whether a task is a wait or an approval without a function.
    pub(super) fn only_waits_at(&self, ordinal: Ordinal) -> bool {
        let definition = self.definition(ordinal);
        definition.is_node() && definition.child.is_none() && definition.over.is_none()
    }

    /// K10: the maps that run again and can get a new list, because one of their dependencies runs again. If the
    /// source of an aligned map runs again but does not start from scratch, the aligned map gets no new list, because
    /// the completed items of the source keep their results.
    fn maps_with_new_lists(
        &self,
        rerun: &[bool],
        is_new: impl Fn(Ordinal) -> bool,
    ) -> Vec<Ordinal> {
        let graph = self.workflow.graph();
        let mut new: Vec<Ordinal> = Vec::new();
        for ordinal in graph.order().iter().copied() {
            let source = self.workflow.source_of(ordinal);
            let has_new_list = graph.dependencies(ordinal).iter().any(|task| {
                rerun[*task as usize]
                    && (Some(*task) != source || is_new(*task) || new.contains(task))
            });
            if self.task_map(ordinal).is_some() && rerun[ordinal as usize] && has_new_list {
                new.push(ordinal);
            }
        }
        new
    }

    /// D7: returns, by ordinal, whether each task runs again. `restarted`: the tasks that the caller asked to run again, and
    /// their descendants.
    pub(super) fn rerun_by_retry(&self, restarted: &[Ordinal]) -> Vec<bool> {
        let graph = self.workflow.graph();
        let mut rerun = vec![false; self.record.tasks.len()];
        for (index, task) in self.record.tasks.iter().enumerate() {
            let upstream = task
                .skip
                .as_ref()
                .is_some_and(|skip| skip.cause != SkipCause::Rule);
            rerun[index] =
                upstream || matches!(task.status, TaskStatus::Failed | TaskStatus::Cancelled);
        }
        for ordinal in restarted {
            rerun[*ordinal as usize] = true;
        }
        // If a dependency of a skipped task runs again, the rule of the skipped task may hold this time.
        for ordinal in graph.order() {
            let skipped = self.task(*ordinal).status == TaskStatus::Skipped;
            let before = graph
                .dependencies(*ordinal)
                .iter()
                .any(|dependency| rerun[*dependency as usize]);
            rerun[*ordinal as usize] |= skipped && before;
        }
        rerun
    }
}
