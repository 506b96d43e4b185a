//! Maps: tasks that run once per element of a list, and their items, as they are stored (semantics K).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Claim, DefinitionId, ExecutionId, Failure, Json, Note, Ordinal, RunnerId, Timestamp};
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
    /// The number of failed items that a map of this width tolerates.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a u32 fits into a u32"
    )]
    pub fn of(self, width: u32) -> u32 {
        match self {
            Self::Count(count) => count,
            // 0.29 × 100 is a little below 29 in floating point.
            Self::Share(share) => (share * f64::from(width) + 1e-9).floor() as u32,
        }
    }
}

/// The lists of a mapped task, and how its items run (K).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MapSpec {
    /// By parameter of the function, the key of the context that holds its list. Several lists must have equal lengths.
    pub lists: BTreeMap<String, String>,
    /// Maximum number of items that run at once, over all runners (K5).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallel: Option<u32>,
    /// Maximum number of elements of one item, which is a list then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<u32>,
    /// Maximum number of failed items. `None`: all items run, and the map fails if any failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerate: Option<Tolerance>,
}

/// The state of a map's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i16)]
pub enum MapState {
    /// Items may be claimed.
    Open = 0,
    /// The execution is paused: running items may end, and none is claimed.
    Paused = 1,
    /// The map has ended. Nothing about its items is written any more.
    Ended = 2,
}

impl MapState {
    /// The state with a number in the database.
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

/// A map with the counters of its items: one row, whatever the width (K2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapRow {
    /// The execution.
    pub execution: ExecutionId,
    /// The mapped task.
    pub task: Ordinal,
    /// The version of the workflow.
    pub definition: DefinitionId,
    /// Rises when the list is read again. Writes about items of an earlier list are refused.
    pub generation: u32,
    /// The state.
    pub state: MapState,
    /// The number of items.
    pub width: u32,
    /// The map that this one is aligned with: item i gets a row when item i of that map has completed.
    pub source: Option<Ordinal>,
    /// Of an aligned map: the source has ended, so that no element comes any more.
    pub has_all: bool,
    /// The number of items that have a row, without skipped ones: items `0..admitted`, unless the map is aligned.
    pub admitted: u32,
    /// The number of items that are skipped, because the item of the source did not complete.
    pub skipped: u32,
    /// The number of items that are claimed.
    pub running: u32,
    /// The number of completed items.
    pub done: u32,
    /// The number of failed items.
    pub failed: u32,
    /// Maximum number of items that run at once.
    pub parallel: Option<u32>,
    /// Above this number of failed items, nothing more starts and the map fails.
    pub max_failed: Option<u32>,
    /// The number of the queue from which items are claimed.
    pub queue: i64,
    /// The priority of the items among claims.
    pub priority: i16,
    /// The failed item with the lowest index, and its error.
    pub first_failure: Option<(u32, Failure)>,
}

impl MapRow {
    /// Whether more items failed than the map tolerates (K8).
    #[must_use]
    pub fn is_exceeded(&self) -> bool {
        self.max_failed.is_some_and(|max| self.failed > max)
    }

    /// Whether the map ends now: no item runs, and none will (K6, K8).
    #[must_use]
    pub fn is_over(&self) -> bool {
        let ended = self.done + self.failed + self.skipped;
        let has_all = self.source.is_none() || self.has_all;
        self.state != MapState::Ended
            && self.running == 0
            && (self.is_exceeded() || (has_all && ended >= self.width))
    }

    /// The number of items without a row.
    #[must_use]
    pub const fn unstarted(&self) -> u32 {
        self.width
            .saturating_sub(self.admitted)
            .saturating_sub(self.skipped)
    }

    /// The number of items without a row that can be claimed. Those of an aligned map wait for the items of its source.
    #[must_use]
    pub const fn claimable(&self) -> u32 {
        match self.source {
            None => self.unstarted(),
            Some(_) => 0,
        }
    }

    /// The number of items that wait for another attempt; of an aligned map also those that wait for their first.
    #[must_use]
    pub const fn waiting(&self) -> u32 {
        self.admitted
            .saturating_sub(self.running)
            .saturating_sub(self.done)
            .saturating_sub(self.failed)
    }

    /// The number of items that will not run, because the map has ended without them.
    #[must_use]
    pub fn dropped(&self) -> u32 {
        match self.state {
            MapState::Ended => (self.width).saturating_sub(self.done + self.failed + self.skipped),
            _ => 0,
        }
    }

    /// The number of items in each state (K12). `Ready` items wait for another attempt; `Cancelled` ones will not run, because
    /// the map has ended without them.
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

    /// As [`states`](Self::states), without those that no item of this map can have: only items of aligned maps are skipped.
    pub fn possible_states(&self) -> impl Iterator<Item = (TaskStatus, u32)> {
        let is_aligned = self.source.is_some();
        let states = self.states().into_iter();
        states.filter(move |(state, _)| is_aligned || *state != TaskStatus::Skipped)
    }

    /// The counts in words, for example `12 of 100,000 items done, 1 failed, 8 run (bound 8), 2 wait for their retry`.
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
            let verb = if self.running == 1 { "runs" } else { "run" };
            let bound = self.parallel.map_or_else(String::new, |parallel| {
                format!(" (bound {})", grouped(parallel))
            });
            parts.push(format!("{} {verb}{bound}", grouped(self.running)));
            match (self.waiting(), self.source) {
                (0, _) => {}
                (1, None) => parts.push("1 waits for its retry".to_owned()),
                (more, None) => parts.push(format!("{} wait for their retry", grouped(more))),
                (1, Some(_)) => parts.push("1 waits for a worker or its retry".to_owned()),
                (more, Some(_)) => {
                    parts.push(format!(
                        "{} wait for a worker or their retry",
                        grouped(more)
                    ));
                }
            }
            if self.source.is_some() && self.unstarted() > 0 {
                parts.push(format!(
                    "{} wait for their element",
                    grouped(self.unstarted())
                ));
            }
        }
        if self.dropped() > 0 {
            parts.push(format!("{} will not run", grouped(self.dropped())));
        }
        parts.join(", ")
    }

    /// The number of items that may be claimed now, as far as the bound of the map allows (K5).
    #[must_use]
    pub fn room(&self) -> u32 {
        if self.state != MapState::Open || self.is_exceeded() {
            return 0;
        }
        self.parallel
            .map_or(u32::MAX, |parallel| parallel.saturating_sub(self.running))
    }

    /// Whether the time at which a waiting item is due decides when an item can be claimed.
    #[must_use]
    pub fn waits_for_items(&self) -> bool {
        self.waiting() > 0 && self.claimable() == 0 && self.room() > 0
    }

    /// The time at which an item can be claimed, or an aligned map ends whose last items were skipped. `None`: not before
    /// another item ends. `first_waiting`: the earliest time at which a waiting item is due.
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

    /// Whether a claimed item may start its child now: the map is not paused and has not failed meanwhile (K7, K8).
    #[must_use]
    pub fn may_start(&self) -> bool {
        self.state == MapState::Open && !self.is_exceeded()
    }

    /// Counts the end of a claimed item's attempt. An item whose child has started runs on.
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

    /// Counts the rows of items that run again: all that did not complete (K10).
    pub fn reopen(&mut self) {
        self.state = MapState::Open;
        self.running = 0;
        self.failed = 0;
        self.skipped = 0;
        self.has_all = false;
        self.first_failure = None;
    }

    /// Counts the rows of an aligned map that were added for ended items of its source.
    pub const fn count_fed(&mut self, ready: u32, skipped: u32) {
        self.admitted += ready;
        self.skipped += skipped;
    }

    /// Notes that the source of an aligned map has ended: the items whose elements did not come are skipped.
    pub const fn end_feed(&mut self) {
        self.skipped += self.unstarted();
        self.has_all = true;
    }

    /// The state of an item without a row.
    #[must_use]
    pub const fn rowless_state(&self) -> TaskStatus {
        match (self.has_all, self.state) {
            (true, _) => TaskStatus::Skipped,
            (false, MapState::Ended) => TaskStatus::Cancelled,
            (false, MapState::Open | MapState::Paused) => TaskStatus::Pending,
        }
    }
}

/// A number with a comma between its groups of three digits.
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
    /// Its index in the list.
    pub item: u32,
    /// The state: `Ready` while it waits for another attempt.
    pub status: TaskStatus,
    /// Number of attempts so far, the running one included. Never decreases while a late result could arrive.
    pub attempt: u32,
    /// Attempts that the retry policy does not count.
    pub uncounted: u32,
    /// Number of times that the item was rescued from a dead runner.
    pub rescues: u32,
    /// The runner that runs it now, or that has claimed it to start its child.
    pub runner: Option<RunnerId>,
    /// Of a map of children: the child that was started last, and that a retry runs again (M6).
    pub child: Option<ExecutionId>,
    /// Of a ready item: the earliest start.
    pub ready_at: Option<Timestamp>,
    /// Start of the last attempt.
    pub started_at: Option<Timestamp>,
    /// End of the item.
    pub ended_at: Option<Timestamp>,
    /// The value that the function returned.
    pub result: Option<Json>,
    /// The last failure.
    pub error: Option<Failure>,
}

impl ItemRecord {
    /// A new item that a runner has claimed for its first attempt.
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

    /// The item as readers get it: an object with its index, state, value, error, attempts and times.
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
        // The value is inserted as it is stored, so that its numbers keep all digits.
        format!(
            "{{\"value\":{value},{}",
            rest.strip_prefix('{').unwrap_or(&rest)
        )
    }

    /// An item without a row.
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

    /// The item without its claim, which did not become an attempt. It can be claimed again from `at` on.
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

    /// The claim under which the item runs; `None` unless it is running.
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

/// The meaning of a decision about an execution for one of its maps. It is applied if the change of the execution is.
#[derive(Clone, Debug, PartialEq)]
pub enum MapChange {
    /// The map expands (K1): its row replaces an earlier one, and rows of earlier items are deleted.
    Expand(Box<MapRow>),
    /// The map ends without its items: none is claimed afterwards, and running ones are cancelled (K7).
    Close(Ordinal),
    /// The execution is paused: no item is claimed.
    Pause(Ordinal),
    /// The execution is resumed after a pause.
    Resume(Ordinal),
    /// All items that did not complete run again (K10).
    Reopen(Ordinal),
    /// The children of the items are told something: those that run, and those that an earlier end of the map left. After a
    /// cancel their ends are not expected any more (M4).
    Tell(Ordinal, Note),
}

/// The map of a task, as it is stored with the task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskMap {
    /// The number of times that the list was read.
    pub generation: u32,
    /// The number of items. `None`: the list is to be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
}
