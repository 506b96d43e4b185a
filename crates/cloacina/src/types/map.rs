//! The stored form of maps (tasks that run once per element of a list) and of their items (semantics K).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Claim, DefinitionId, ExecutionId, Failure, Json, Ordinal, RunnerId, Timestamp};
use crate::types::TaskStatus;

/// Maximum number of failed items that a map tolerates (K8).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Tolerance {
    /// A number of items.
    Count(u32),
    /// A share of all items, between 0 and 1.
    Share(f64),
}

impl Tolerance {
    /// Returns the number of failed items that a map with `width` items tolerates.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a u32 fits into a u32"
    )]
    pub fn of(self, width: u32) -> u32 {
        match self {
            Self::Count(count) => count,
            // The small addition corrects rounding: 0.29 × 100 is a little below 29 in floating point.
            Self::Share(share) => (share * f64::from(width) + 1e-9).floor() as u32,
        }
    }
}

/// The options of a mapped task: its lists, and how its items run (K).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MapSpec {
    /// The parameters of the function that receive elements, each with the context key of its list. Several lists must have
    /// equal lengths.
    pub lists: BTreeMap<String, String>,
    /// Maximum number of items that run at once, in all runners together (K5).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallel: Option<u32>,
    /// Maximum number of elements that one item receives, as a list. `None`: an item receives one element.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<u32>,
    /// Maximum number of failed items. `None`: all items run, and the map fails if any item failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerate: Option<Tolerance>,
}

/// The state of a map's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i16)]
pub enum MapState {
    /// Items can be claimed.
    Open = 0,
    /// The execution is paused: running items can finish, but no item is claimed.
    Paused = 1,
    /// The map has ended: its items neither run nor are claimed.
    Ended = 2,
}

impl MapState {
    /// Returns the state that the database stores as `code`.
    #[must_use]
    pub const fn from_code(code: i16) -> Option<Self> {
        match code {
            0 => Some(Self::Open),
            1 => Some(Self::Paused),
            2 => Some(Self::Ended),
            _ => None,
        }
    }
}

/// The row of a map, with the counters of its items. A map has one row, whatever its width (K2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapRow {
    /// The execution.
    pub execution: ExecutionId,
    /// The mapped task.
    pub task: Ordinal,
    /// The version of the workflow.
    pub definition: DefinitionId,
    /// How often the list has been read. Writes about items of an earlier list are refused.
    pub generation: u32,
    /// The state.
    pub state: MapState,
    /// The number of items.
    pub width: u32,
    /// If this map is aligned: the source, which is the map whose results are the elements. An item of this map gets
    /// its row when the item of the source with the same index has ended.
    pub source: Option<Ordinal>,
    /// Whether the source of an aligned map has ended. No more elements arrive then.
    pub has_all: bool,
    /// The number of items that have a row, excluding skipped items. Unless the map is aligned, these are the items
    /// `0..admitted`.
    pub admitted: u32,
    /// The number of items that are skipped, because the source's item with the same index did not complete.
    pub skipped: u32,
    /// The number of items that are claimed, or whose child is running.
    pub running: u32,
    /// The number of completed items.
    pub done: u32,
    /// The number of failed items.
    pub failed: u32,
    /// Maximum number of items that run at once.
    pub parallel: Option<u32>,
    /// Maximum number of failed items. If more items fail, no more items start and the map fails.
    pub max_failed: Option<u32>,
    /// The number of the queue from which items are claimed.
    pub queue: i64,
    /// The priority of the items: items with a higher priority are claimed first.
    pub priority: i16,
    /// The failed item with the lowest index, and its error.
    pub first_failure: Option<(u32, Failure)>,
}

impl MapRow {
    /// Returns whether more items failed than the map tolerates (K8).
    #[must_use]
    pub fn is_exceeded(&self) -> bool {
        self.max_failed.is_some_and(|max| self.failed > max)
    }

    /// Returns whether the map must end now: no item is running, and no more items will run (K6, K8).
    #[must_use]
    pub fn is_over(&self) -> bool {
        let ended = self.done + self.failed + self.skipped;
        let has_all = self.source.is_none() || self.has_all;
        self.state != MapState::Ended
            && self.running == 0
            && (self.is_exceeded() || (has_all && ended >= self.width))
    }

    /// Returns the number of items that have no row and are not skipped.
    #[must_use]
    pub const fn unstarted(&self) -> u32 {
        self.width
            .saturating_sub(self.admitted)
            .saturating_sub(self.skipped)
    }

    /// Returns how many of the [`unstarted`](Self::unstarted) items can be claimed. In an aligned map none of them can,
    /// because they wait for the items of the source.
    #[must_use]
    pub const fn claimable(&self) -> u32 {
        match self.source {
            None => self.unstarted(),
            Some(_) => 0,
        }
    }

    /// Returns the number of items that wait for another attempt. In an aligned map, this number includes the items that wait
    /// for their first attempt.
    #[must_use]
    pub const fn waiting(&self) -> u32 {
        self.admitted
            .saturating_sub(self.running)
            .saturating_sub(self.done)
            .saturating_sub(self.failed)
    }

    /// Returns the number of items that had not ended when the map ended; 0 for a map that has not ended.
    #[must_use]
    pub fn dropped(&self) -> u32 {
        match self.state {
            MapState::Ended => (self.width).saturating_sub(self.done + self.failed + self.skipped),
            _ => 0,
        }
    }

    /// Returns the number of items in each state (K12). `Ready` items wait for an attempt. `Cancelled` items had not
    /// ended when the map ended.
    #[must_use]
    pub fn states(&self) -> [(TaskStatus, u32); 7] {
        let if_open = |count| match self.state {
            MapState::Ended => 0,
            MapState::Open | MapState::Paused => count,
        };
        [
            (TaskStatus::Pending, if_open(self.unstarted())),
            (TaskStatus::Ready, if_open(self.waiting())),
            (TaskStatus::Running, if_open(self.running)),
            (TaskStatus::Completed, self.done),
            (TaskStatus::Failed, self.failed),
            (TaskStatus::Skipped, self.skipped),
            (TaskStatus::Cancelled, self.dropped()),
        ]
    }

    /// Returns the [`states`](Self::states) that items of this map can have. Only items of aligned maps can be skipped.
    pub fn possible_states(&self) -> impl Iterator<Item = (TaskStatus, u32)> {
        let is_aligned = self.source.is_some();
        let states = self.states().into_iter();
        states.filter(move |(state, _)| is_aligned || *state != TaskStatus::Skipped)
    }

    /// Returns the counts as text: `12 of 100,000 items done, 1 failed, 8 running (limit 8), 2 waiting for a retry`.
    #[must_use]
    pub fn counts_text(&self) -> String {
        let mut parts = vec![format!(
            "{} of {} items done",
            grouped(self.done),
            grouped(self.width)
        )];
        if self.failed > 0 {
            parts.push(format!("{} failed", grouped(self.failed)));
        }
        if self.skipped > 0 {
            parts.push(format!("{} skipped", grouped(self.skipped)));
        }
        if self.state != MapState::Ended {
            let limit = self.parallel.map_or_else(String::new, |parallel| {
                format!(" (limit {})", grouped(parallel))
            });
            parts.push(format!("{} running{limit}", grouped(self.running)));
            match (self.waiting(), self.source) {
                (0, _) => {}
                (count, None) => parts.push(format!("{} waiting for a retry", grouped(count))),
                (count, Some(_)) => {
                    parts.push(format!(
                        "{} waiting for a worker or a retry",
                        grouped(count)
                    ));
                }
            }
            if self.source.is_some() && self.unstarted() > 0 {
                parts.push(format!(
                    "{} waiting for an item of the source map",
                    grouped(self.unstarted())
                ));
            }
        }
        if self.dropped() > 0 {
            parts.push(format!("{} will not run", grouped(self.dropped())));
        }
        parts.join(", ")
    }

    /// Returns how many more items can be claimed now under the map's limit (K5).
    #[must_use]
    pub fn room(&self) -> u32 {
        if self.state != MapState::Open || self.is_exceeded() {
            return 0;
        }
        self.parallel
            .map_or(u32::MAX, |parallel| parallel.saturating_sub(self.running))
    }

    /// Returns whether the next claim of an item depends on the time at which a waiting item is due.
    #[must_use]
    pub fn waits_for_items(&self) -> bool {
        self.waiting() > 0 && self.claimable() == 0 && self.room() > 0
    }

    /// Returns the time at which a runner must process the map, because an item can be claimed or the map must end.
    /// `None`: nothing needs to be done until an item ends or the map's row changes. `first_waiting`: the earliest time
    /// at which a waiting item is due.
    #[must_use]
    pub fn due_at(&self, first_waiting: Option<Timestamp>) -> Option<Timestamp> {
        if self.state == MapState::Open && self.is_over() {
            Some(Timestamp(0))
        } else if self.room() == 0 {
            None
        } else if self.claimable() > 0 {
            Some(Timestamp(0))
        } else {
            first_waiting
        }
    }

    /// Returns whether a claimed item can start its child now: the map is not paused, and not too many items have failed
    /// since the claim (K7, K8).
    #[must_use]
    pub fn may_start(&self) -> bool {
        self.state == MapState::Open && !self.is_exceeded()
    }

    /// Counts the end of a claimed item's attempt. Does not count an item whose child has started and is still running.
    pub fn count_end(&mut self, item: &ItemRecord) {
        if item.status == TaskStatus::Running {
            return;
        }
        self.running = self.running.saturating_sub(1);
        match item.status {
            TaskStatus::Completed => self.done += 1,
            TaskStatus::Failed => {
                self.failed += 1;
                let is_first = self
                    .first_failure
                    .as_ref()
                    .is_none_or(|(index, _)| item.item < *index);
                if let (true, Some(error)) = (is_first, &item.error) {
                    self.first_failure = Some((item.item, error.clone()));
                }
            }
            _ => {}
        }
    }

    /// Resets the counters for a retry, in which all items that did not complete run again (K10).
    pub fn reopen(&mut self) {
        self.state = MapState::Open;
        self.running = 0;
        self.failed = 0;
        self.skipped = 0;
        self.has_all = false;
        self.first_failure = None;
    }

    /// Counts the rows that an aligned map got for ended items of its source.
    pub const fn count_fed(&mut self, ready: u32, skipped: u32) {
        self.admitted += ready;
        self.skipped += skipped;
    }

    /// Records that the source of an aligned map has ended. The items whose elements have not arrived are skipped.
    pub const fn end_feed(&mut self) {
        self.skipped += self.unstarted();
        self.has_all = true;
    }

    /// Returns the state of the items without a row.
    #[must_use]
    pub const fn rowless_state(&self) -> TaskStatus {
        match (self.has_all, self.state) {
            (true, _) => TaskStatus::Skipped,
            (false, MapState::Ended) => TaskStatus::Cancelled,
            (false, MapState::Open | MapState::Paused) => TaskStatus::Pending,
        }
    }
}

/// Formats a number with a comma between groups of three digits.
fn grouped(number: u32) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The state of one item of a map.
#[derive(Clone, Debug, PartialEq)]
pub struct ItemRecord {
    /// The index of the item in the list.
    pub item: u32,
    /// The state. `Ready`: the item waits for an attempt.
    pub status: TaskStatus,
    /// The number of attempts so far, including the running attempt. This number does not decrease while a late result
    /// of an earlier attempt can still arrive.
    pub attempt: u32,
    /// The number of attempts that the retry policy does not count.
    pub uncounted: u32,
    /// The number of lost runners that count towards `max_rescues`.
    pub rescues: u32,
    /// The runner that is running the item, or that has claimed the item to start its child.
    pub runner: Option<RunnerId>,
    /// If the map starts children: the child that the item started last. A retry runs this child again (M6).
    pub child: Option<ExecutionId>,
    /// The earliest time at which a ready item can be claimed.
    pub ready_at: Option<Timestamp>,
    /// The time at which the last attempt started.
    pub started_at: Option<Timestamp>,
    /// The time at which the item ended.
    pub ended_at: Option<Timestamp>,
    /// The value that the function returned.
    pub result: Option<Json>,
    /// The last failure.
    pub error: Option<Failure>,
}

impl ItemRecord {
    /// Creates an item that a runner has claimed for its first attempt.
    #[must_use]
    pub const fn claimed(item: u32, runner: RunnerId) -> Self {
        Self {
            item,
            status: TaskStatus::Running,
            attempt: 1,
            uncounted: 0,
            rescues: 0,
            runner: Some(runner),
            child: None,
            ready_at: None,
            started_at: None,
            ended_at: None,
            result: None,
            error: None,
        }
    }

    /// Returns the item in the form that tasks and callers receive: an object with its index, state, value, error, attempts
    /// and times.
    #[must_use]
    pub fn to_json(&self) -> String {
        let error = self.error.as_ref().map(|error| {
            serde_json::json!({ "type": error.kind, "message": error.message, "traceback": error.traceback })
        });
        let rest = serde_json::json!({
            "index": self.item,
            "status": self.status.name(),
            "error": error,
            "attempts": self.attempt,
            "started_at_us": self.started_at.map(|at| at.0),
            "ended_at_us": self.ended_at.map(|at| at.0),
        });
        let rest = rest.to_string();
        let value = self.result.as_ref().map_or("null", Json::as_str);
        // The stored text of the value is inserted unchanged, so its numbers keep all digits.
        format!(
            "{{\"value\":{value},{}",
            rest.strip_prefix('{').unwrap_or(&rest)
        )
    }

    /// Creates the record of an item that has no row.
    #[must_use]
    pub const fn unstarted(item: u32) -> Self {
        Self {
            item,
            status: TaskStatus::Pending,
            attempt: 0,
            uncounted: 0,
            rescues: 0,
            runner: None,
            child: None,
            ready_at: None,
            started_at: None,
            ended_at: None,
            result: None,
            error: None,
        }
    }

    /// Returns the item as it is after a runner has returned its claim, because the attempt did not start. The item can
    /// be claimed again from `at` on.
    #[must_use]
    pub fn returned(&self, at: Timestamp) -> Self {
        Self {
            status: TaskStatus::Ready,
            uncounted: self.uncounted + 1,
            runner: None,
            ready_at: Some(at),
            started_at: None,
            ..self.clone()
        }
    }

    /// Returns the claim under which a runner holds the item; `None` if the item is not running, or if its child is
    /// running.
    #[must_use]
    pub fn claim(&self) -> Option<Claim> {
        match (self.status, self.runner) {
            (TaskStatus::Running, Some(runner)) => Some(Claim {
                runner,
                attempt: self.attempt,
                item: Some(self.item),
            }),
            _ => None,
        }
    }
}

/// The data about a map that is stored with its task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskMap {
    /// How often the list has been read.
    pub generation: u32,
    /// The number of items. `None`: the list must still be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
}
