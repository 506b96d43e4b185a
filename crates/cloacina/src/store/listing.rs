//! Checks, row by row, the conditions of a listing that its index does not cover. The check is the same for every
//! store.
//!
//! A store reads one or more ranges of one index, each in the order of the ids, and only as many rows as needed. The
//! conditions that the index does not cover are checked here instead of in SQL, because query planners do not know the
//! distribution of the rows.

use std::collections::{BTreeMap, HashSet};
use std::time::Instant;

use super::{ListQuery, Listed, ScanBudget};
use crate::types::{ExecutionId, ExecutionStatus, Failure, Json, ScheduleId, Timestamp};

/// Maximum difference in microseconds between the time in an id and the time of submission.
const ID_SLACK: i64 = 60_000_000;
/// Number of rows that a scan examines between two checks of its time limit.
const ROWS_BETWEEN_CLOCKS: u64 = 256;
/// Number of rows that a scan examines before its time limit applies.
const MIN_ROWS: u64 = 1_000;

/// A row that an index yields. Its optional columns are read only if the query has conditions on them.
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
    /// The labels, as JSON: pairs of name and value.
    pub(super) labels: Option<&'a str>,
    /// Whether the execution was started by the schedule that the query selects. `true` if this needs no check.
    pub(super) in_schedule: bool,
    /// Whether the execution is a child of another execution.
    pub(super) is_child: bool,
}

/// The index that a listing reads. If the query has conditions for several indexes, [`Index::of`] chooses the index that
/// is usually the most selective.
pub(super) enum Index<'a> {
    Keys(&'a [String]),
    Ids(&'a [ExecutionId]),
    Label(&'a str, &'a [String]),
    Schedule(ScheduleId),
    /// The children of an execution.
    Parent(ExecutionId),
    /// The index of states, which does not contain completed executions.
    States(Vec<ExecutionStatus>),
    /// The index of definitions if the query selects definitions, otherwise the index of ids.
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

/// Returns the states that a query reads from the index of states. `None` if the query needs completed executions,
/// which that index does not contain.
fn indexed_states(query: &ListQuery) -> Option<Vec<ExecutionStatus>> {
    if query.statuses.is_empty() || query.statuses.contains(&ExecutionStatus::Completed) {
        return None;
    }
    let mut states: HashSet<_> = query.statuses.iter().copied().collect();
    if states.contains(&ExecutionStatus::Pending) {
        // An execution that is claimed but not started is reported as pending, and stored as running.
        states.insert(ExecutionStatus::Running);
    }
    Some(states.into_iter().collect())
}

/// The optional columns that a query needs.
#[derive(Clone, Copy)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each flag stands for one column"
)]
pub(super) struct Needs {
    pub(super) error: bool,
    pub(super) input: bool,
    pub(super) labels: bool,
    pub(super) schedule: bool,
}

impl Needs {
    /// Returns the columns that must be checked. A condition that the index covers needs no check.
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

/// Returns the ids between which a listing reads. Both ids are excluded.
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
    /// The row is rejected, and so are all later ones.
    Exhausted,
}

/// A listing in progress. Reads one or more ranges of an index in turn, each in the order of the ids.
pub(super) struct Scan<'a> {
    query: &'a ListQuery,
    started: HashSet<ExecutionId>,
    definitions: Option<HashSet<i64>>,
    ids: Option<HashSet<ExecutionId>>,
    error: Option<String>,
    needs: Needs,
    /// The share of the budget that each range can use.
    budget: Option<ScanBudget>,
    begin: Instant,
    /// The number of rows of the current range that can still be accepted.
    wanted: usize,
    rows: u64,
    rejected: u64,
    accepted: Vec<ExecutionId>,
    examined: u64,
    /// The rows at which the scan of a range stopped because its budget was used up.
    stopped: Vec<(ExecutionId, Timestamp)>,
}

impl<'a> Scan<'a> {
    /// Creates a listing that reads this number of ranges.
    pub(super) fn new(
        query: &'a ListQuery,
        definitions: Option<HashSet<i64>>,
        needs: Needs,
        ranges: usize,
    ) -> Self {
        let shares = u32::try_from(ranges.max(1)).unwrap_or(u32::MAX);
        Self {
            query,
            started: query.started.iter().copied().collect(),
            definitions,
            ids: (query.ids.as_ref()).map(|ids| ids.iter().copied().collect()),
            error: query.error.as_ref().map(|text| text.to_lowercase()),
            needs,
            budget: query.budget.map(|budget| ScanBudget {
                rows: budget.rows / u64::from(shares),
                time: budget.time / shares,
            }),
            begin: Instant::now(),
            wanted: query.limit,
            rows: 0,
            rejected: 0,
            accepted: Vec::new(),
            examined: 0,
            stopped: Vec::new(),
        }
    }

    /// Moves on to the next range.
    #[cfg(feature = "sqlite")]
    pub(super) fn next_range(&mut self) {
        self.begin = Instant::now();
        self.wanted = self.query.limit;
        self.rows = 0;
        self.rejected = 0;
    }

    /// Examines the next row of the current range. Returns `false` if no more rows of this range are needed, or if the
    /// budget is used up.
    ///
    /// # Errors
    /// Returns a sentence that says which value of the row is invalid.
    pub(super) fn take(&mut self, row: &Candidate<'_>) -> Result<bool, String> {
        if self.wanted == 0 {
            return Ok(false);
        }
        self.examined += 1;
        self.rows += 1;
        match self.judge(row)? {
            Verdict::Exhausted => return Ok(false),
            Verdict::Accepted => {
                self.accepted.push(row.id);
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
            let has_wanted = |text: &str| text.to_lowercase().contains(wanted);
            let masking = self.query.masking.as_ref();
            has_wanted(&failure.kind)
                || (has_wanted(&failure.message)
                    && masking.is_none_or(|masking| has_wanted(&masking.shown(&failure.message))))
        })
    }

    fn has_inputs(&self, stored: Option<&str>) -> bool {
        // Several values of one path are alternatives.
        self.query.inputs.iter().all(|condition| {
            let mut alternatives = self
                .query
                .inputs
                .iter()
                .filter(|other| other.path == condition.path);
            stored.is_some_and(|text| {
                alternatives.any(|other| value_at(text, &other.path, &other.value))
            })
        })
    }

    /// Returns the result of the listing.
    pub(super) fn finish(self) -> Listed {
        let Self {
            query,
            mut accepted,
            mut stopped,
            examined,
            ..
        } = self;
        if query.ascending {
            accepted.sort_unstable();
            stopped.sort_unstable();
        } else {
            accepted.sort_unstable_by(|left, right| right.cmp(left));
            stopped.sort_unstable_by(|left, right| right.cmp(left));
        }
        accepted.dedup();
        accepted.truncate(query.limit);
        // If the scan of a range stopped early, the rows after that point are missing. The list is therefore complete
        // only up to the earliest such point.
        let mut reached = stopped.first().copied();
        if let Some((stop, _)) = reached {
            let is_before = |id: &ExecutionId| {
                if query.ascending {
                    *id <= stop
                } else {
                    *id >= stop
                }
            };
            accepted.retain(is_before);
            if accepted.len() == query.limit {
                reached = None;
            }
        }
        Listed {
            ids: accepted,
            examined,
            reached,
        }
    }
}

/// Returns whether a JSON object has the wanted value at a path. The value must equal `wanted` as JSON text, or be a
/// string with this text.
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
    fn input_value_is_found_by_its_path() {
        let input = r#"{"user": {"id": 123, "tags": ["a", "b"]}, "n": 1.50, "s": "1.50"}"#;
        let has_value = |path: &str, value: &str| {
            let path: Vec<String> = path.split('.').map(str::to_owned).collect();
            value_at(input, &path, value)
        };
        assert!(has_value("user.id", "123"));
        assert!(has_value("user.tags.1", "b"));
        assert!(has_value("n", "1.50"));
        assert!(has_value("s", "1.50"));
        assert!(!has_value("n", "1.5"), "numbers are compared as text");
        assert!(!has_value("user.id.x", "123"));
        assert!(!has_value("user.tags.2", "b"));
        assert!(!has_value("missing", "null"));
    }
}
