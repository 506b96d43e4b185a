//! Aligned maps: a map over the results of another one starts item i when item i of that one, its source, has completed, and skips
//! it when that one did not complete (semantics K).
//!
//! See docs/explanation/decisions/096-aligned-maps.md

use super::rule::{RuleInput, skip_cause};
use super::{Changes, Execution};
use crate::types::{MapRow, Ordinal, SkipCause, TaskRecord, TaskStatus, Timestamp};
use crate::workflow::TriggerRule;

impl Execution {
    /// The maps that are aligned with a map.
    pub(super) fn followers(&self, source: Ordinal) -> Vec<Ordinal> {
        let pairs = self.workflow.aligned_with(source).into_iter();
        pairs
            .filter(|(of, _)| *of == source)
            .map(|(_, follower)| follower)
            .collect()
    }

    /// Whether a map may begin before its source has ended: the source has expanded, and all other dependencies have completed.
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

    /// Begins the maps that are aligned with one that has expanded.
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

    /// The number of items of a map's source, if it has expanded. A source that its rule has skipped gives no elements.
    #[must_use]
    pub fn width_of_source(&self, ordinal: Ordinal) -> Option<u32> {
        let source = self.workflow.source_of(ordinal)?;
        self.task_map(source)?.width
    }

    /// Whether the source of a map may still give it elements.
    pub(super) fn has_open_source(&self, map: &MapRow) -> bool {
        (map.source).is_some_and(|source| !self.task(source).status.is_terminal())
    }

    /// Whether the source of a map has ended without completing. The items whose elements were there have run.
    pub(super) fn lacks_source(&self, map: &MapRow) -> bool {
        let status = map.source.map(|source| self.task(source).status);
        status.is_some_and(|status| status.is_terminal() && status != TaskStatus::Completed)
    }

    /// Skips an aligned map after its last item, because its source did not complete.
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
