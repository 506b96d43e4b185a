//! Lists executions, for people and tools.

use super::Inspector;
use super::listing::{FullPage, ListFilter, ListPage, ListedExecution, Scanned};
use crate::runtime::WorkQueues;
use crate::store::{InputCondition, ListQuery, Listed, ScanBudget};
use crate::types::{
    DefinitionId, Error, ErrorCode, ExecutionId, ExecutionStatus, ExecutionSummary,
};

/// The number of digits of an execution's id.
const ID_DIGITS: usize = 32;

/// Returns the next higher id.
pub(super) fn successor(id: ExecutionId) -> ExecutionId {
    id_of(id.uuid().as_u128().saturating_add(1))
}

fn id_of(number: u128) -> ExecutionId {
    ExecutionId::from_bytes(number.to_be_bytes())
}

/// Returns the bounds of the ids that begin with `prefix`: the id below the lowest of them, and the id above the highest.
fn range_of(prefix: &str) -> Result<(ExecutionId, ExecutionId), Error> {
    let digits = prefix.replace('-', "").to_ascii_lowercase();
    let is_valid = (1..=ID_DIGITS).contains(&digits.len());
    let number = |digits: String| u128::from_str_radix(&digits, 16).ok();
    let lowest = number(format!("{digits:0<ID_DIGITS$}")).filter(|_| is_valid);
    let highest = number(format!("{digits:f<ID_DIGITS$}"));
    let (Some(lowest), Some(highest)) = (lowest, highest) else {
        let shown: String = prefix.chars().take(80).collect();
        return Err(Error::new(
            ErrorCode::Configuration,
            format!("'{shown}' is not the beginning of an execution id"),
        )
        .with_hint("an id is a UUID, like 0195f1c2-7d3a-7c11-b8a5-3f6f0d9c2e41"));
    };
    Ok((
        id_of(lowest.saturating_sub(1)),
        id_of(highest.saturating_add(1)),
    ))
}

/// Groups pairs of a name and a value by name, in the order in which the names first appear.
fn grouped(pairs: &[(String, String)]) -> Vec<(String, Vec<String>)> {
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for (name, value) in pairs {
        match groups.iter_mut().find(|(known, _)| known == name) {
            Some((_, values)) if values.contains(value) => {}
            Some((_, values)) => values.push(value.clone()),
            None => groups.push((name.clone(), vec![value.clone()])),
        }
    }
    groups
}

/// Returns the states that a filter allows. An empty list: all states. `None`: no state.
fn allowed_states(filter: &ListFilter) -> Option<Vec<ExecutionStatus>> {
    let is_free = filter.statuses.is_empty() && filter.not_statuses.is_empty();
    if is_free && filter.error.is_none() {
        return Some(Vec::new());
    }
    let allowed = |status: &ExecutionStatus| {
        (filter.statuses.is_empty() || filter.statuses.contains(status))
            && !filter.not_statuses.contains(status)
            // Only failed executions have an error.
            && (filter.error.is_none() || *status == ExecutionStatus::Failed)
    };
    let states: Vec<_> = (ExecutionStatus::ALL.iter().copied())
        .filter(allowed)
        .collect();
    (!states.is_empty()).then_some(states)
}

/// Removes duplicates, and texts that contain the NUL character. No stored value contains this character, and PostgreSQL
/// refuses it in a query.
fn storable(texts: &[String]) -> Vec<String> {
    let texts = texts.iter().filter(|text| !text.contains('\0'));
    let mut texts: Vec<String> = texts.cloned().collect();
    texts.sort_unstable();
    texts.dedup();
    texts
}

impl Inspector {
    /// Lists executions, newest first, page by page. The page contains only the rows and labels of executions: no tasks, no
    /// inputs, and only the beginning of each error.
    ///
    /// # Errors
    /// `Configuration` for an `id_prefix` that is not the beginning of an id; `Database` or `Connection`.
    pub fn list(&self, filter: &ListFilter) -> Result<ListPage, Error> {
        self.list_within(filter, 1)
    }

    /// Lists executions like [`list`](Self::list), as one of `parts` listings that together have the effort of one.
    pub(super) fn list_within(&self, filter: &ListFilter, parts: u32) -> Result<ListPage, Error> {
        let Some(mut query) = self.query(filter)? else {
            return Ok(ListPage::empty());
        };
        if let Some(budget) = &mut query.budget {
            budget.rows /= u64::from(parts);
            budget.time /= parts;
        }
        let Listed {
            mut ids,
            examined,
            reached,
        } = self.store.list(&query)?;
        let has_more = ids.len() > filter.limit;
        ids.truncate(filter.limit);
        let goes_on = if has_more {
            ids.last().copied()
        } else {
            reached.map(|(id, _)| id)
        };
        let came_from = if query.ascending {
            ids.reverse();
            filter.after
        } else {
            filter.before
        };
        let (next, prev) = if query.ascending {
            let older = filter.after.map(successor);
            (ids.last().copied().or(older), goes_on)
        } else {
            let newer = came_from.map(|id| ids.first().copied().unwrap_or_else(|| before(id)));
            (goes_on, newer)
        };
        Ok(ListPage {
            items: self.listed(self.store.summaries(&ids)?)?,
            next,
            prev,
            scanned: (reached.filter(|_| !has_more)).map(|(_, until)| Scanned { examined, until }),
        })
    }

    /// Lists executions like [`list`](Self::list), but with all their data.
    pub(super) fn list_with_contexts(&self, filter: &ListFilter) -> Result<FullPage, Error> {
        let page = self.list(filter)?;
        let ids: Vec<ExecutionId> = page.items.iter().map(|item| item.id).collect();
        Ok(FullPage {
            items: self.executions(&ids)?,
            next: page.next,
            scanned: page.scanned,
        })
    }

    /// Returns the rows of executions with their labels, in the order of `ids`. Unknown ids are left out.
    ///
    /// # Errors
    /// `Database` or `Connection` when the database fails or does not answer.
    pub fn summaries(&self, ids: &[ExecutionId]) -> Result<Vec<ListedExecution>, Error> {
        self.listed(self.store.summaries(ids)?)
    }

    fn listed(&self, summaries: Vec<ExecutionSummary>) -> Result<Vec<ListedExecution>, Error> {
        // A worker of this process may have just started a task of a pending execution. The database does not know about this
        // start yet.
        let is_any_pending = (summaries.iter()).any(|one| one.status == ExecutionStatus::Pending);
        let queues = self.queues.as_ref().filter(|_| is_any_pending);
        let started = queues.map(WorkQueues::started).unwrap_or_default();
        let listed = summaries.into_iter().map(|mut summary| {
            if summary.status == ExecutionStatus::Pending
                && started.contains(&summary.id)
                && let Some(known) = self.executions(&[summary.id])?.first()
            {
                summary.status = known.record().status;
                summary.started_at = known.record().started_at;
            }
            let workflow = self.definition_of(summary.definition, summary.id)?;
            Ok(ListedExecution { summary, workflow })
        });
        listed.collect()
    }

    /// Returns the query for a filter; `None` if no execution can satisfy the filter.
    fn query(&self, filter: &ListFilter) -> Result<Option<ListQuery>, Error> {
        let workflows = storable(&filter.workflows);
        let labels = grouped(&filter.labels);
        let is_unstorable = |(name, values): &(String, Vec<String>)| {
            name.contains('\0') || values.iter().any(|value| value.contains('\0'))
        };
        let names_none = workflows.is_empty() && !filter.workflows.is_empty();
        let is_keyed_child = filter.parent.is_some() && filter.keys.is_some();
        if names_none || is_keyed_child || labels.iter().any(is_unstorable) {
            return Ok(None);
        }
        let Some(statuses) = allowed_states(filter) else {
            return Ok(None);
        };
        let by_definition =
            !filter.tags.is_empty() || !filter.versions.is_empty() || workflows.len() > 1;
        let definitions = if by_definition {
            Some(self.matching_definitions(&workflows, filter)?)
        } else {
            None
        };
        let (mut after, mut before) = (filter.after, filter.before);
        if let Some(prefix) = &filter.id_prefix {
            let (low, high) = range_of(prefix)?;
            after = Some(after.map_or(low, |id| id.max(low)));
            before = Some(before.map_or(high, |id| id.min(high)));
        }
        let ids = filter.runner.map(|runner| self.store.claims_of(runner));
        let is_by_start = statuses.contains(&ExecutionStatus::Pending)
            != statuses.contains(&ExecutionStatus::Running);
        let queues = self.queues.as_ref().filter(|_| is_by_start);
        let inputs = filter.inputs.iter().map(|(path, value)| InputCondition {
            path: path.split('.').map(str::to_owned).collect(),
            value: value.clone(),
        });
        Ok(Some(ListQuery {
            workflow: workflows.into_iter().next().filter(|_| !by_definition),
            statuses,
            started: queues.map(WorkQueues::started).unwrap_or_default(),
            definitions,
            keys: filter.keys.as_deref().map(storable),
            labels,
            schedule: filter.schedule,
            ids: ids.transpose()?,
            error: filter.error.clone(),
            masking: filter.masking.clone(),
            inputs: inputs.collect(),
            roots: !filter.children && filter.parent.is_none(),
            parent: filter.parent,
            since: filter.since,
            until: filter.until,
            before,
            after,
            ascending: filter.after.is_some() && filter.before.is_none(),
            limit: filter.limit.saturating_add(1),
            budget: (!filter.unbounded).then(ScanBudget::default),
        }))
    }

    /// Returns the workflow versions that a filter allows.
    fn matching_definitions(
        &self,
        workflows: &[String],
        filter: &ListFilter,
    ) -> Result<Vec<DefinitionId>, Error> {
        let tags = grouped(&filter.tags);
        let mut ids = Vec::new();
        for stored in self.store.definitions(DefinitionId(0))? {
            let versions = &filter.versions;
            let is_named = workflows.is_empty() || workflows.contains(&stored.workflow);
            let is_version = versions.is_empty()
                || versions
                    .iter()
                    .any(|version| stored.version.starts_with(version));
            if !is_named || !is_version {
                continue;
            }
            if !tags.is_empty() {
                let definition = super::inspector::parse(&stored.body)?;
                let has_tag = |(name, values): &(String, Vec<String>)| {
                    let own = definition.tags.get(name);
                    own.is_some_and(|own| values.contains(own))
                };
                if !tags.iter().all(has_tag) {
                    continue;
                }
            }
            ids.push(stored.id);
        }
        Ok(ids)
    }
}

/// Returns the next lower id.
pub(super) fn before(id: ExecutionId) -> ExecutionId {
    id_of(id.uuid().as_u128().saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::{allowed_states, grouped, range_of};
    use crate::runner::ListFilter;
    use crate::types::ExecutionStatus::{Completed, Failed, Running};

    #[test]
    fn prefix_matches_a_range_of_ids() {
        let (low, high) = range_of("0195f1c2-7d").unwrap();
        assert_eq!(low.to_string(), "0195f1c2-7cff-ffff-ffff-ffffffffffff");
        assert_eq!(high.to_string(), "0195f1c2-7e00-0000-0000-000000000000");
        assert!(range_of("").is_err());
        assert!(range_of("etl").is_err());
        assert!(range_of(&"0".repeat(33)).is_err());
    }

    #[test]
    fn error_filter_allows_only_failed_executions() {
        let filter = ListFilter {
            error: Some("refused".to_owned()),
            ..ListFilter::default()
        };
        assert_eq!(allowed_states(&filter), Some(vec![Failed]));
        let running = ListFilter {
            statuses: vec![Running],
            ..filter
        };
        assert_eq!(allowed_states(&running), None);
    }

    #[test]
    fn excluded_states_are_removed_from_the_allowed_states() {
        let filter = ListFilter {
            statuses: vec![Completed, Failed],
            not_statuses: vec![Completed],
            ..ListFilter::default()
        };
        assert_eq!(allowed_states(&filter), Some(vec![Failed]));
    }

    #[test]
    fn values_of_one_name_are_grouped_without_duplicates() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let pairs = [
            pair("a", "1"),
            pair("b", "2"),
            pair("a", "3"),
            pair("a", "1"),
        ];
        let expected = vec![
            ("a".to_owned(), vec!["1".to_owned(), "3".to_owned()]),
            ("b".to_owned(), vec!["2".to_owned()]),
        ];
        assert_eq!(grouped(&pairs), expected);
    }
}
