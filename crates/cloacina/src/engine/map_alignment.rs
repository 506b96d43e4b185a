//! Aligned maps. An aligned map runs over the results of another map, its source. Item i of the aligned map starts when item i
//! of the source has completed, and is skipped if item i of the source did not complete (semantics K).
//!
//! See docs/explanation/decisions/096-aligned-maps.md

use super::rule::{RuleInput, skip_cause};
use super::{Changes, Execution};
use crate::types::{MapRow, Ordinal, SkipCause, TaskRecord, TaskStatus, Timestamp};
use crate::workflow::TriggerRule;

impl Execution {
    /// The maps whose results a mapped task uses as its lists, each with the key of the list. A map can have the same key as
    /// its own list; only the maps that the task depends on have results when it expands.
    #[must_use]
    pub fn maps_it_reads(&self, ordinal: Ordinal) -> Vec<(String, Ordinal)> {
        let lists = self
            .definition(ordinal)
            .over
            .iter()
            .flat_map(|spec| spec.lists.values());
        let tasks = &self.workflow.definition().tasks;
        let graph = self.workflow.graph();
        let found = lists.filter_map(|path| {
            let map = (0..).zip(tasks).find(|(other, task)| {
                task.over.is_some()
                    && task.result_key() == path
                    && graph.is_ancestor(*other, ordinal)
            });
            map.map(|(ordinal, _)| (path.clone(), ordinal))
        });
        found.collect()
    }

    /// The maps that are aligned with the map `source`.
    pub(super) fn followers(&self, source: Ordinal) -> Vec<Ordinal> {
        let pairs = self.workflow.aligned_with(source).into_iter();
        pairs
            .filter(|(of, _)| *of == source)
            .map(|(_, follower)| follower)
            .collect()
    }

    /// Whether an aligned map can begin before its source ends. The source must have expanded, and all other dependencies must
    /// have completed or have been skipped in a way that the map's rule accepts.
    pub(super) fn may_follow(&self, ordinal: Ordinal) -> bool {
        let Some(source) = self.workflow.source_of(ordinal) else {
            return false;
        };
        let admits_skipped = self.workflow.task(ordinal).rule == TriggerRule::NoneFailed;
        let allows = |task: &TaskRecord| match &task.skip {
            Some(skip) => admits_skipped && skip.cause != SkipCause::Failure,
            None => task.status == TaskStatus::Completed,
        };
        let mut others = self.workflow.graph().dependencies(ordinal).iter();
        self.open_dependencies[ordinal as usize] == 1
            && self.has_open_map(source)
            && others.all(|task| *task == source || allows(self.task(*task)))
    }

    /// Begins the maps that are aligned with a map that has just expanded.
    pub(super) fn begin_followers(
        &mut self,
        source: Ordinal,
        now: Timestamp,
        changes: &mut Changes,
    ) {
        let followers = self.followers(source);
        if !followers.is_empty() {
            self.propagate(followers, now, changes);
        }
    }

    /// The number of items of an aligned map's source. `None` if the map is not aligned, or if its source has not expanded, for
    /// example because the source was skipped.
    #[must_use]
    pub fn width_of_source(&self, ordinal: Ordinal) -> Option<u32> {
        let source = self.workflow.source_of(ordinal)?;
        self.task_map(source)?.width
    }

    /// Whether the source of a map is still open and can produce more elements.
    pub(super) fn has_open_source(&self, map: &MapRow) -> bool {
        (map.source).is_some_and(|source| !self.task(source).status.is_terminal())
    }

    /// Whether the source of a map has ended without completing.
    pub(super) fn lacks_source(&self, map: &MapRow) -> bool {
        let status = map.source.map(|source| self.task(source).status);
        status.is_some_and(|status| status.is_terminal() && status != TaskStatus::Completed)
    }

    /// Skips an aligned map after its last item has ended, because its source did not complete.
    pub(super) fn skip_map(&mut self, ordinal: Ordinal, now: Timestamp, changes: &mut Changes) {
        let input = RuleInput {
            workflow: &self.workflow,
            record: &self.record,
            task: ordinal,
            view: None,
        };
        let skip = skip_cause(&self.workflow.task(ordinal).rule, &input);
        let task = self.task_mut(ordinal);
        task.status = TaskStatus::Skipped;
        task.ended_at = Some(now);
        task.skip = Some(skip);
        self.propagate_end(ordinal, now, changes);
    }
}
