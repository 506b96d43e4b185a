//! The conditions of a listing that no index covers, checked row by row in the same way for every store.
//!
//! A store reads one index in order, only as far as needed. The other conditions are checked here instead of in SQL,
//! because the planners do not know the distribution of the rows.

use std::collections::{BTreeMap, HashSet};
use std::time::Instant;

use super::{ListQuery, Listed, ScanBudget};
use crate::types::{ExecutionId, ExecutionStatus, Failure, Json, ScheduleId, Timestamp};

/// Maximum difference in microseconds between the time in an id and the time of submission.
const ID_SLACK: i64 = 60_000_000;
/// Number of rows that a scan examines before it looks at the clock.
const ROWS_BETWEEN_CLOCKS: u64 = 256;
/// Number of rows that every scan may examine, however long they take.
const MIN_ROWS: u64 = 1_000;

/// A row that the index yields. Its optional columns are read only if the query has a condition on them.
pub(super) struct Candidate<'a> {
    pub(super) id: ExecutionId,
    pub(super) created_at: i64,
    pub(super) state: i16,
    pub(super) definition: i64,
    pub(super) has_start: bool,
    /// The error, as JSON.
    pub(super) error: Option<&'a str>,
    /// The input, as JSON.
    pub(super) input: Option<&'a str>,
    /// The pairs of name and value, as JSON.
    pub(super) labels: Option<&'a str>,
    /// Whether the wanted schedule has started it.
    pub(super) in_schedule: bool,
    /// Whether it is a child of another execution.
    pub(super) is_child: bool,
}

/// The index that a listing reads, the most selective one of its conditions.
pub(super) enum Index<'a> {
    Keys(&'a [String]),
    Ids(&'a [ExecutionId]),
    Label(&'a str, &'a [String]),
    Schedule(ScheduleId),
    /// The children of an execution.
    Parent(ExecutionId),
    /// The index of states, which has no completed executions.
    States(Vec<ExecutionStatus>),
    /// The index of definitions if the query has some, otherwise the index of ids.
    Other,
}

impl<'a> Index<'a> {
    pub(super) fn of(query: &'a ListQuery) -> Self {
        if let Some(parent) = query.parent {
            Self::Parent(parent)
        } else if let Some(keys) = &query.keys {
            Self::Keys(keys)
        } else if let Some(ids) = &query.ids {
            Self::Ids(ids)
        } else if let Some((name, values)) = query.labels.first() {
            Self::Label(name, values)
        } else if let Some(schedule) = query.schedule {
            Self::Schedule(schedule)
        } else {
            indexed_states(query).map_or(Self::Other, Self::States)
        }
    }
}

/// The states that a query reads from the index of states. `None` if it needs completed executions, because that index has none.
fn indexed_states(query: &ListQuery) -> Option<Vec<ExecutionStatus>> {
    if query.statuses.is_empty() || query.statuses.contains(&ExecutionStatus::Completed) {
        return None;
    }
    let mut states: HashSet<_> = query.statuses.iter().copied().collect();
    if states.contains(&ExecutionStatus::Pending) {
        // A claimed execution that has not started is stored as running.
        states.insert(ExecutionStatus::Running);
    }
    Some(states.into_iter().collect())
}

/// The optional columns that a query needs.
#[derive(Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "one flag per column")]
pub(super) struct Needs {
    pub(super) error: bool,
    pub(super) input: bool,
    pub(super) labels: bool,
    pub(super) schedule: bool,
}

impl Needs {
    /// The conditions that the index itself satisfies need no check.
    pub(super) fn of(query: &ListQuery, index: &Index<'_>) -> Self {
        let by_label = usize::from(matches!(index, Index::Label(..)));
        Self {
            error: query.error.is_some(),
            input: !query.inputs.is_empty(),
            labels: query.labels.len() > by_label,
            schedule: query.schedule.is_some() && !matches!(index, Index::Schedule(_)),
        }
    }
}

/// The ids between which a listing reads, both exclusive.
pub(super) fn bounds(query: &ListQuery) -> (ExecutionId, ExecutionId) {
    let after = query
        .after
        .unwrap_or_else(|| ExecutionId::from_bytes([0; 16]));
    let last = ExecutionId::from_bytes([0xFF; 16]);
    let before = query.before.unwrap_or(last);
    let until = query
        .until
        .map_or(last, |until| first_id_of(until + ID_SLACK));
    (after, before.min(until))
}

/// Returns an id below every id that was generated at or after this time.
fn first_id_of(time: Timestamp) -> ExecutionId {
    let milliseconds = u64::try_from(time.0 / 1000)
        .unwrap_or_default()
        .min((1 << 48) - 1);
    let mut bytes = [0; 16];
    bytes[..6].copy_from_slice(&milliseconds.to_be_bytes()[2..]);
    ExecutionId::from_bytes(bytes)
}

enum Verdict {
    Accepted,
    Rejected,
    /// Neither this row nor a later one is accepted.
    Exhausted,
}

/// A listing in progress. It reads one or more indexes one after the other, each in the order of the ids.
pub(super) struct Scan<'a> {
    query: &'a ListQuery,
    started: HashSet<ExecutionId>,
    definitions: Option<HashSet<i64>>,
    ids: Option<HashSet<ExecutionId>>,
    error: Option<String>,
    needs: Needs,
    /// The part of the budget that each index may use.
    budget: Option<ScanBudget>,
    begin: Instant,
    /// The number of rows of the present index that may still be accepted.
    wanted: usize,
    rows: u64,
    rejected: u64,
    found: Vec<ExecutionId>,
    examined: u64,
    /// The rows at which the budget ended an index early.
    stopped: Vec<(ExecutionId, Timestamp)>,
}

impl<'a> Scan<'a> {
    /// Begins a listing that reads this number of indexes.
    pub(super) fn new(
        query: &'a ListQuery,
        definitions: Option<HashSet<i64>>,
        needs: Needs,
        indexes: usize,
    ) -> Self {
        let parts = u32::try_from(indexes.max(1)).unwrap_or(u32::MAX);
        Self {
            query,
            started: query.started.iter().copied().collect(),
            definitions,
            ids: (query.ids.as_ref()).map(|ids| ids.iter().copied().collect()),
            error: query.error.as_ref().map(|text| text.to_lowercase()),
            needs,
            budget: query.budget.map(|budget| ScanBudget {
                rows: budget.rows / u64::from(parts),
                time: budget.time / parts,
            }),
            begin: Instant::now(),
            wanted: query.limit,
            rows: 0,
            rejected: 0,
            found: Vec::new(),
            examined: 0,
            stopped: Vec::new(),
        }
    }

    /// Begins to read the next index.
    #[cfg(feature = "sqlite")]
    pub(super) fn next_index(&mut self) {
        self.begin = Instant::now();
        self.wanted = self.query.limit;
        self.rows = 0;
        self.rejected = 0;
    }

    /// Takes the next row of the present index. Returns `false` if no more rows of this index are needed.
    ///
    /// # Errors
    /// A sentence that says which value of the row is invalid.
    pub(super) fn take(&mut self, row: &Candidate<'_>) -> Result<bool, String> {
        if self.wanted == 0 {
            return Ok(false);
        }
        self.examined += 1;
        self.rows += 1;
        match self.judge(row)? {
            Verdict::Exhausted => return Ok(false),
            Verdict::Accepted => {
                self.found.push(row.id);
                self.wanted -= 1;
                return Ok(self.wanted > 0);
            }
            Verdict::Rejected => self.rejected += 1,
        }
        if self.is_over_budget() {
            self.stopped.push((row.id, Timestamp(row.created_at)));
            return Ok(false);
        }
        Ok(true)
    }

    fn is_over_budget(&self) -> bool {
        self.budget.is_some_and(|budget| {
            let looks_at_clock =
                self.rows >= MIN_ROWS && self.rows.is_multiple_of(ROWS_BETWEEN_CLOCKS);
            self.rejected >= budget.rows || (looks_at_clock && self.begin.elapsed() >= budget.time)
        })
    }

    fn judge(&self, row: &Candidate<'_>) -> Result<Verdict, String> {
        let query = self.query;
        if let Some(since) = query.since {
            if !query.ascending && row.created_at < since.0.saturating_sub(ID_SLACK) {
                return Ok(Verdict::Exhausted);
            }
            if row.created_at < since.0 {
                return Ok(Verdict::Rejected);
            }
        }
        if query.until.is_some_and(|until| row.created_at >= until.0) {
            return Ok(Verdict::Rejected);
        }
        let status = ExecutionStatus::from_code(row.state)
            .ok_or_else(|| format!("an execution has the invalid state {}", row.state))?;
        let is_claimed_only =
            status == ExecutionStatus::Running && !row.has_start && !self.started.contains(&row.id);
        let status = if is_claimed_only {
            ExecutionStatus::Pending
        } else {
            status
        };
        let is_accepted = (query.statuses.is_empty() || query.statuses.contains(&status))
            && self
                .definitions
                .as_ref()
                .is_none_or(|known| known.contains(&row.definition))
            && row.in_schedule
            && !(query.roots && row.is_child)
            && self.ids.as_ref().is_none_or(|ids| ids.contains(&row.id))
            && (!self.needs.labels || self.has_labels(row.labels))
            && self.has_error(row.error)
            && (!self.needs.input || self.has_inputs(row.input));
        Ok(if is_accepted {
            Verdict::Accepted
        } else {
            Verdict::Rejected
        })
    }

    fn has_labels(&self, stored: Option<&str>) -> bool {
        let pairs: Vec<(String, String)> = stored
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default();
        self.query.labels.iter().all(|(name, values)| {
            let mut own = pairs.iter().filter(|(own, _)| own == name);
            own.any(|(_, value)| values.contains(value))
        })
    }

    fn has_error(&self, stored: Option<&str>) -> bool {
        let Some(wanted) = &self.error else {
            return true;
        };
        let Some(text) = stored else {
            return false;
        };
        serde_json::from_str::<(Option<u32>, Failure)>(text).is_ok_and(|(_, failure)| {
            failure.kind.to_lowercase().contains(wanted)
                || failure.message.to_lowercase().contains(wanted)
        })
    }

    fn has_inputs(&self, stored: Option<&str>) -> bool {
        self.query.inputs.iter().all(|condition| {
            stored.is_some_and(|text| value_at(text, &condition.path, &condition.value))
        })
    }

    /// Returns the answer.
    pub(super) fn finish(self) -> Listed {
        let Self {
            query,
            mut found,
            mut stopped,
            examined,
            ..
        } = self;
        if query.ascending {
            found.sort_unstable();
            stopped.sort_unstable();
        } else {
            found.sort_unstable_by(|left, right| right.cmp(left));
            stopped.sort_unstable_by(|left, right| right.cmp(left));
        }
        found.dedup();
        found.truncate(query.limit);
        // The rows beyond the earliest stop are incomplete.
        let mut reached = stopped.first().copied();
        if let Some((stop, _)) = reached {
            let is_before = |id: &ExecutionId| {
                if query.ascending {
                    *id <= stop
                } else {
                    *id >= stop
                }
            };
            found.retain(is_before);
            if found.len() == query.limit {
                reached = None;
            }
        }
        Listed {
            ids: found,
            examined,
            reached,
        }
    }
}

/// Whether an object in JSON has a value at a path: equal to it as JSON, or a string with the same text.
fn value_at(text: &str, path: &[String], wanted: &str) -> bool {
    let Ok(mut at) = Json::parse(text) else {
        return false;
    };
    for step in path {
        let next = match step.parse::<usize>() {
            Ok(index) if at.as_str().starts_with('[') => at
                .decode::<Vec<Box<serde_json::value::RawValue>>>()
                .ok()
                .and_then(|items| Json::parse(items.get(index)?.get()).ok()),
            _ => at
                .decode::<BTreeMap<String, Box<serde_json::value::RawValue>>>()
                .ok()
                .and_then(|members| Json::parse(members.get(step)?.get()).ok()),
        };
        match next {
            Some(next) => at = next,
            None => return false,
        }
    }
    at.as_str() == wanted || at.decode::<String>().is_ok_and(|text| text == wanted)
}

#[cfg(test)]
mod tests {
    use super::value_at;

    #[test]
    fn a_value_of_the_input_is_found_by_its_path() {
        let input = r#"{"user": {"id": 123, "tags": ["a", "b"]}, "n": 1.50, "s": "1.50"}"#;
        let found = |path: &str, value: &str| {
            let path: Vec<String> = path.split('.').map(str::to_owned).collect();
            value_at(input, &path, value)
        };
        assert!(found("user.id", "123"));
        assert!(found("user.tags.1", "b"));
        assert!(found("n", "1.50"));
        assert!(found("s", "1.50"));
        assert!(!found("n", "1.5"), "numbers are compared by their text");
        assert!(!found("user.id.x", "123"));
        assert!(!found("user.tags.2", "b"));
        assert!(!found("missing", "null"));
    }
}
