//! Recorded steps of attempts that Python runs (semantics T).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cloacina::runner::EngineHandle;
use cloacina::runtime::{self, Answer, Assignment, EndedStep, Message, Reply, assured_reply};
use cloacina::types::{Error, ErrorCode, Json, Park, ParkKind, StepKind, StepRecord, Timestamp};
use pyo3::prelude::*;

use crate::call;
use crate::errors::Raise;
use crate::loop_waker::WakeHandle;
use crate::process_guard::ProcessGuard;
use crate::work::Work;

/// The steps of one attempt: the steps that are already recorded, and the keys that this attempt has used.
#[pyclass(frozen, module = "cloaca._core")]
#[derive(Default)]
pub struct StepLog {
    inner: Arc<runtime::StepLog>,
}

#[pymethods]
impl StepLog {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// Returns the key under which a step is recorded: `key`, made unique by a number. Python must call this method in the
    /// order of the steps.
    fn key(&self, key: &str) -> String {
        self.inner.key(key)
    }

    /// Returns what `key` returns, and what `recorded` returns for this key. One call is faster than two, and a loop may read
    /// thousands of steps again.
    fn replay(&self, key: &str) -> (String, Option<(&'static str, String)>) {
        let name = self.inner.key(key);
        let recorded = self.recorded(&name);
        (name, recorded)
    }

    /// Whether the recorded steps were read.
    #[getter]
    fn loaded(&self) -> bool {
        self.inner.is_loaded()
    }

    /// Returns the name of the call that recorded a step (`step`, `sleep`, `wait`, `run` or `run_many`) and the recorded value
    /// as JSON text; `None` if the step is not recorded.
    fn recorded(&self, key: &str) -> Option<(&'static str, String)> {
        let (call, value) = self.inner.recorded_with_call(key)?;
        Some((call.name(), value.to_string()))
    }

    /// Returns how each child of a call ended, as JSON texts; `None` if the call has not ended.
    fn recorded_children(&self, key: &str) -> Option<Vec<String>> {
        let ends = self.inner.recorded_children(key)?;
        Some(ends.iter().map(ToString::to_string).collect())
    }

    /// Returns the indexes (from 0, below `count`) of a call's children that have no recorded end.
    fn missing_children(&self, key: &str, count: u32) -> Vec<u32> {
        self.inner.missing_children(key, count)
    }

    /// Returns the position of the step that will record the end of a call with children. If the call runs several children,
    /// `count` is their number, and a position for each child is reserved too.
    fn reserve_children(
        &self,
        py: Python<'_>,
        work: &Bound<'_, Work>,
        key: &str,
        count: Option<u32>,
    ) -> PyResult<u32> {
        let Some(assignment) = work.get().assignment() else {
            return Ok(0);
        };
        let task = &assignment.workflow.task(assignment.task).id;
        let limit = assignment.max_context_bytes;
        let position = self.inner.reserve_children(task, key, count, limit);
        position
            .map_err(|failure| Error::new(ErrorCode::StepLimit, failure.message))
            .raise(py)
    }
}

/// A step that has ended, as Python reports it.
pub struct ReportedStep {
    key: String,
    kind: String,
    started_at_us: i64,
    value: String,
}

impl ReportedStep {
    /// Returns a step. `kind` is the name of the step's kind, and `value` is JSON text.
    pub const fn new(key: String, kind: String, started_at_us: i64, value: String) -> Self {
        Self {
            key,
            kind,
            started_at_us,
            value,
        }
    }
}

/// Returns the position of the step that will record the end of a sleep or a wait.
pub fn reserve(py: Python<'_>, work: &Work, log: &StepLog, key: &str) -> PyResult<u32> {
    let Some(assignment) = work.assignment() else {
        return Ok(0);
    };
    let task = &assignment.workflow.task(assignment.task).id;
    let position = log.inner.reserve(task, key, assignment.max_context_bytes);
    position
        .map_err(|failure| Error::new(ErrorCode::StepLimit, failure.message))
        .raise(py)
}

/// An attempt's request to load or record steps. Each method sends the request. Without a waker, the method blocks until
/// the answer arrives. With a waker, it returns a token at once, and the answer later wakes an event loop.
pub struct StepRequest<'a> {
    py: Python<'a>,
    engine: &'a EngineHandle,
    guard: ProcessGuard,
    work: &'a Work,
    log: &'a StepLog,
}

impl<'a> StepRequest<'a> {
    pub const fn new(
        py: Python<'a>,
        engine: &'a EngineHandle,
        guard: ProcessGuard,
        work: &'a Work,
        log: &'a StepLog,
    ) -> Self {
        Self {
            py,
            engine,
            guard,
            work,
            log,
        }
    }

    /// Reads the task's recorded steps into the attempt's log.
    pub fn load(self, waker: Option<WakeHandle>) -> PyResult<Option<u64>> {
        let Some(assignment) = self.work.assignment() else {
            return self.nothing(waker);
        };
        let message = |reply| load_message(assignment, reply);
        self.ask(waker, false, message, |log, steps: Vec<StepRecord>| {
            log.load(steps);
        })
    }

    /// Records a step.
    pub fn record(self, ended: ReportedStep, waker: Option<WakeHandle>) -> PyResult<Option<u64>> {
        let Some(assignment) = self.work.assignment() else {
            return self.nothing(waker);
        };
        let step = to_record(self.engine, assignment, self.log, ended).raise(self.py)?;
        let message = |reply| record_message(assignment, step, reply);
        self.ask(waker, true, message, |_, ()| {})
    }

    /// Checks whether the condition of a wait already holds. If so, records the end of the wait, and adds it to the log.
    pub fn end_wait(
        self,
        wait: (String, &str),
        waker: Option<WakeHandle>,
    ) -> PyResult<Option<u64>> {
        let park = park_of(self.log, wait).raise(self.py)?;
        let (Some(assignment), Some(park)) = (self.work.assignment(), park) else {
            return self.nothing(waker);
        };
        let message = |reply| end_message(assignment, park, reply);
        self.ask(waker, true, message, |log, ended: Option<StepRecord>| {
            if let Some(step) = ended {
                log.add(step);
            }
        })
    }

    /// Answers a request that has nothing to load or record, for example in a callback.
    fn nothing(&self, waker: Option<WakeHandle>) -> PyResult<Option<u64>> {
        self.guard.check(self.py)?;
        Ok(waker.map(|waker| {
            let token = next_token();
            waker.stepped(token, Ok(()));
            token
        }))
    }

    /// Sends a message to the coordinator. The calling thread runs the coordinator's step inline on three conditions: the
    /// message is a write, so that the thread would wait for the commit anyway; `waker` is `None`; and the runner does not
    /// share its workers.
    fn ask<T: Send + 'static>(
        self,
        waker: Option<WakeHandle>,
        is_write: bool,
        message: impl FnOnce(Reply<T>) -> Message + Send,
        take: impl FnOnce(&runtime::StepLog, T) + Send + 'static,
    ) -> PyResult<Option<u64>> {
        let (engine, work) = (self.engine, self.work);
        let Some(waker) = waker else {
            let ask = || {
                let (answer, reply) = Answer::new();
                let message = message(reply);
                match work.slot() {
                    Some(slot) => slot.report(message),
                    None if is_write => engine.report_inline(message),
                    None => engine.report(message),
                }
                answer
            };
            let answer = if is_write {
                call::answer_inline(self.py, self.guard, ask)?
            } else {
                call::answer(self.py, self.guard, ask)?
            };
            take(&self.log.inner, answer);
            return Ok(None);
        };
        self.guard.check(self.py)?;
        let (token, log) = (next_token(), Arc::clone(&self.log.inner));
        let message = message(assured_reply(move |answer: Result<T, Error>| {
            waker.stepped(token, answer.map(|answer| take(&log, answer)));
        }));
        match work.slot() {
            Some(slot) => slot.report(message),
            None => engine.report(message),
        }
        Ok(Some(token))
    }
}

/// Returns a wait with the given key and condition, or `None` if the task has reached its maximum number of steps.
fn park_of(log: &StepLog, (key, condition): (String, &str)) -> Result<Option<Box<Park>>, Error> {
    let condition = serde_json::from_str(condition).map_err(|error| {
        let text = format!("cannot read the condition of step '{key}': {error}");
        Error::new(ErrorCode::ContextInvalid, text)
    })?;
    Ok(log.inner.take_position().map(|position| {
        Box::new(Park {
            kind: ParkKind::Wait,
            key,
            position,
            condition,
            timeout: None,
            runs: None,
        })
    }))
}

fn end_message(
    assignment: &Assignment,
    park: Box<Park>,
    reply: Reply<Option<StepRecord>>,
) -> Message {
    Message::EndWait {
        execution: assignment.execution,
        task: assignment.task,
        claim: assignment.claim,
        park,
        is_recorded: false,
        reply,
    }
}

fn to_record(
    engine: &EngineHandle,
    assignment: &Assignment,
    log: &StepLog,
    ended: ReportedStep,
) -> Result<StepRecord, Error> {
    let task = &assignment.workflow.task(assignment.task).id;
    let invalid = |problem: String| {
        Error::new(
            ErrorCode::ContextInvalid,
            format!("step '{}' of task '{task}': {problem}", ended.key),
        )
    };
    let kind = StepKind::from_name(&ended.kind)
        .ok_or_else(|| invalid(format!("'{}' is not a kind of step", ended.kind)))?;
    let value = Json::parse(&ended.value)
        .map_err(|error| invalid(format!("the value is not JSON: {error}")))?;
    let ended = EndedStep {
        key: ended.key,
        kind,
        attempt: assignment.claim.attempt,
        started_at: Timestamp(ended.started_at_us),
        ended_at: engine.now(),
        value,
    };
    let step = log.inner.end(task, ended, assignment.max_context_bytes);
    step.map_err(|failure| Error::new(ErrorCode::StepLimit, failure.message))
}

fn load_message(assignment: &Assignment, reply: Reply<Vec<StepRecord>>) -> Message {
    Message::LoadSteps {
        execution: assignment.execution,
        task: assignment.task,
        item: assignment.claim.item,
        reply,
    }
}

fn record_message(assignment: &Assignment, step: StepRecord, reply: Reply<()>) -> Message {
    Message::RecordStep {
        execution: assignment.execution,
        task: assignment.task,
        claim: assignment.claim,
        step,
        reply,
    }
}

/// Returns a new token for a request about a step. Tokens are unique in the process, because the event loops of all runners share
/// one table of tokens.
fn next_token() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}
