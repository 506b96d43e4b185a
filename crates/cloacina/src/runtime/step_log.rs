//! The steps of one attempt: the steps that earlier attempts recorded, and the steps that this attempt has recorded so far.

use std::fmt;

use rustc_hash::FxHashMap;

use crate::engine::{MAX_STEPS, StepTooMuch, StepTotals, item_key, step_key};
use crate::types::sync::Mutex;
use crate::types::{Failure, FailureKind, Json, StepKind, StepRecord, Timestamp};

/// The steps of one attempt of a task. The methods can be called from several threads.
#[derive(Debug, Default)]
pub struct StepLog {
    state: Mutex<StepState>,
}

#[derive(Debug, Default)]
struct StepState {
    /// Whether the recorded steps have been read from the database.
    is_loaded: bool,
    /// The recorded steps, by key.
    recorded: FxHashMap<String, Recorded>,
    /// The number of calls of this attempt, by key.
    used: FxHashMap<String, u32>,
    totals: StepTotals,
    /// The position of the next step.
    next: u32,
}

#[derive(Debug)]
struct Recorded {
    position: u32,
    kind: StepKind,
    value: Json,
}

/// The kind of a call in a task's function. The result or the end of such a call is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepCall {
    /// `step`.
    Step,
    /// `sleep`.
    Sleep,
    /// `wait`.
    Wait,
    /// `run`.
    Run,
    /// `run_many`.
    RunMany,
}

impl StepCall {
    /// The name of the call, as it appears in the code of a task.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Step => "step",
            Self::Sleep => "sleep",
            Self::Wait => "wait",
            Self::Run => "run",
            Self::RunMany => "run_many",
        }
    }

    /// Returns the call that recorded a step.
    fn of(step: &Recorded) -> Self {
        match step.kind {
            StepKind::Sleep => Self::Sleep,
            StepKind::Wait => Self::Wait,
            StepKind::Run if child_count(&step.value).is_some() => Self::RunMany,
            // The key of a child's end is never the key of a call, so `Child` does not occur here.
            StepKind::Run | StepKind::Child => Self::Run,
            StepKind::Step => Self::Step,
        }
    }
}

/// The error of a call whose key is already recorded for another kind of call. This happens if the code has changed
/// since an earlier attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherCall {
    /// The key.
    pub key: String,
    /// The call that recorded the key.
    pub recorded: StepCall,
    /// The call that the code makes now.
    pub made: StepCall,
}

impl fmt::Display for OtherCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (recorded, made) = (self.recorded.name(), self.made.name());
        write!(
            f,
            "an earlier attempt recorded the key '{}' with `{recorded}`, and the code now calls `{made}` with it; \
             use another key, or retry the execution from the step '{}'",
            self.key, self.key
        )
    }
}

impl OtherCall {
    /// Returns the failure of the task. A retry would fail in the same way.
    #[must_use]
    pub fn failure(&self) -> Failure {
        Failure::engine(FailureKind::Rule, self.to_string())
    }
}

/// A step that has ended in this attempt but is not recorded yet.
#[derive(Clone, Debug)]
pub struct EndedStep {
    /// The key, as [`StepLog::key`] returned it.
    pub key: String,
    /// The kind of the call.
    pub kind: StepKind,
    /// The number of the attempt.
    pub attempt: u32,
    /// The time at which the step began.
    pub started_at: Timestamp,
    /// The time at which the step ended.
    pub ended_at: Timestamp,
    /// The result of the step.
    pub value: Json,
}

impl StepState {
    fn add(&mut self, step: StepRecord) {
        // A call that started several children counts as one step. The ends of its children are not counted.
        self.totals.count += u32::from(step.kind != StepKind::Child);
        self.totals.bytes += step.size() as u64;
        self.next = self.next.max(step.position + 1);
        let recorded = Recorded {
            position: step.position,
            kind: step.kind,
            value: step.value,
        };
        self.recorded.insert(step.key, recorded);
    }
}

impl StepLog {
    /// Returns the key under which a call is recorded (T1). This method must be called in the order of the calls, because
    /// repeated keys are numbered.
    pub fn key(&self, key: &str) -> String {
        step_key(key, &mut self.state.lock().used)
    }

    /// Whether the recorded steps have been read.
    pub fn is_loaded(&self) -> bool {
        self.state.lock().is_loaded
    }

    /// Sets the recorded steps of the task. Only the first call has an effect.
    pub fn load(&self, steps: Vec<StepRecord>) {
        let mut state = self.state.lock();
        if std::mem::replace(&mut state.is_loaded, true) {
            return;
        }
        for step in steps {
            state.add(step);
        }
    }

    /// The recorded value of a step (T2).
    pub fn recorded(&self, key: &str) -> Option<Json> {
        let state = self.state.lock();
        state.recorded.get(key).map(|step| step.value.clone())
    }

    /// The call that recorded a step, and the recorded value. `None`: no step is recorded under this key.
    pub fn recorded_with_call(&self, key: &str) -> Option<(StepCall, Json)> {
        let state = self.state.lock();
        let step = state.recorded.get(key)?;
        Some((StepCall::of(step), step.value.clone()))
    }

    /// The recorded value of a call (T2).
    ///
    /// # Errors
    /// Returns an error if another kind of call recorded the key.
    pub fn recorded_by(&self, call: StepCall, key: &str) -> Result<Option<Json>, OtherCall> {
        match self.recorded_with_call(key) {
            Some((recorded, _)) if recorded != call => Err(OtherCall {
                key: key.to_owned(),
                recorded,
                made: call,
            }),
            recorded => Ok(recorded.map(|(_, value)| value)),
        }
    }

    /// The recorded ends of the children that a call started together. `None` if the call has not ended.
    pub fn recorded_children(&self, key: &str) -> Option<Vec<Json>> {
        let count = child_count(&self.recorded(key)?)?;
        (0..count)
            .map(|index| self.recorded(&item_key(key, index)))
            .collect()
    }

    /// Returns the numbers of the children whose ends are not recorded, among the first `count` children of a call.
    pub fn missing_children(&self, key: &str, count: u32) -> Vec<u32> {
        let state = self.state.lock();
        (0..count)
            .filter(|index| !state.recorded.contains_key(&item_key(key, *index)))
            .collect()
    }

    /// Reserves the position at which the end of a call with children will be recorded. If the call runs several
    /// children, also reserves the next `count` positions for their ends. If the ends of some children are already
    /// recorded, the call keeps its earlier position.
    ///
    /// # Errors
    /// Returns an error if the task has too many steps, or if the steps are too large (T9).
    pub fn reserve_children(
        &self,
        task: &str,
        key: &str,
        count: Option<u32>,
        max_bytes: u64,
    ) -> Result<u32, Failure> {
        let position = self.reserve(task, key, max_bytes)?;
        let Some(count) = count else {
            return Ok(position);
        };
        let mut state = self.state.lock();
        let earlier = (0..count).find_map(|index| {
            let child = state.recorded.get(&item_key(key, index))?;
            child.position.checked_sub(index + 1)
        });
        let fits = |earlier: &u32| earlier.saturating_add(count) < position;
        if let Some(earlier) = earlier.filter(fits) {
            return Ok(earlier);
        }
        state.next = state.next.saturating_add(count);
        Ok(position)
    }

    /// Takes the position for the next step. A position at which no step is recorded stays unused. Returns `None` if
    /// the task already has the maximum number of steps (T9).
    pub fn take_position(&self) -> Option<u32> {
        let mut state = self.state.lock();
        if state.totals.count >= MAX_STEPS {
            return None;
        }
        let position = state.next;
        state.next += 1;
        Some(position)
    }

    /// Adds a step that the runner has recorded.
    pub fn add(&self, step: StepRecord) {
        self.state.lock().add(step);
    }

    /// Reserves and returns the position at which the end of a sleep, a wait or a call with children will be recorded
    /// (T5).
    ///
    /// # Errors
    /// Returns an error if the task has too many steps, or if the steps are too large (T9).
    pub fn reserve(&self, task: &str, key: &str, max_bytes: u64) -> Result<u32, Failure> {
        let mut state = self.state.lock();
        let added = state.totals.add(task, key.len(), max_bytes);
        state.totals = added.map_err(|StepTooMuch(failure)| failure)?;
        let position = state.next;
        state.next += 1;
        Ok(position)
    }

    /// Returns the step to record for a call that has ended.
    ///
    /// # Errors
    /// Returns an error if the task has too many steps, or if the steps are too large (T9).
    pub fn end(&self, task: &str, ended: EndedStep, max_bytes: u64) -> Result<StepRecord, Failure> {
        let mut state = self.state.lock();
        let step = StepRecord {
            key: ended.key,
            position: state.next,
            kind: ended.kind,
            attempt: ended.attempt,
            started_at: ended.started_at,
            ended_at: ended.ended_at,
            value: ended.value,
        };
        let added = state.totals.add(task, step.size(), max_bytes);
        state.totals = added.map_err(|StepTooMuch(failure)| failure)?;
        state.next += 1;
        Ok(step)
    }
}

/// The number of children in the recorded end of a call that started several children.
fn child_count(end: &Json) -> Option<u32> {
    #[derive(serde::Deserialize)]
    struct Ended {
        count: u32,
    }
    end.decode().ok().map(|Ended { count }| count)
}
