//! Recorded steps of attempts that Python runs (semantics T).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cloacina::runner::EngineHandle;
use cloacina::runtime::{self, Answer, Assignment, EndedStep, Message, Reply, StepCall};
use cloacina::types::{Error, ErrorCode, Json, StepKind, StepRecord, Timestamp};
use pyo3::prelude::*;

use crate::call;
use crate::errors::Raise;
use crate::loop_waker::WakeHandle;
use crate::process_guard::ProcessGuard;
use crate::work::Work;

/// The steps of one attempt: what earlier attempts recorded, and the keys that this one has used.
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

    /// Returns the key under which a call is recorded. Call it in the order of the calls.
    fn key(&self, key: &str) -> String {
        self.inner.key(key)
    }

    /// Whether the recorded steps were read.
    #[getter]
    fn loaded(&self) -> bool {
        self.inner.is_loaded()
    }

    /// Returns the recorded value of a step as JSON text; `None` if it is not recorded.
    fn recorded(&self, key: &str) -> Option<String> {
        self.inner.recorded(key).map(|value| value.to_string())
    }

    /// Returns the name of the call that recorded a step: `step`, `sleep`, `wait`, `run` or `run_many`; `None` if it is not
    /// recorded.
    fn recorded_call(&self, key: &str) -> Option<&'static str> {
        self.inner.recorded_call(key).map(StepCall::name)
    }

    /// Returns the recorded ends of the children of a call as JSON texts; `None` if the call has not ended.
    fn recorded_children(&self, key: &str) -> Option<Vec<String>> {
        let ends = self.inner.recorded_children(key)?;
        Some(ends.iter().map(ToString::to_string).collect())
    }

    /// Returns the numbers of the children of a call, among the first `count`, whose ends are not recorded.
    fn missing_children(&self, key: &str, count: u32) -> Vec<u32> {
        self.inner.missing_children(key, count)
    }

    /// Returns the position of the step that will record the end of a call that runs children; `count` of them if it runs
    /// several.
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

/// A step that ended, as Python reports it.
pub struct Ended {
    key: String,
    kind: String,
    started_at_us: i64,
    value: String,
}

impl Ended {
    /// Returns the step from its parts: its key, its kind by name, its start, and its value as JSON text.
    pub const fn new(key: String, kind: String, started_at_us: i64, value: String) -> Self {
        Self {
            key,
            kind,
            started_at_us,
            value,
        }
    }
}

/// Reads the recorded steps of an attempt into its log, and waits for it.
pub fn load(
    py: Python<'_>,
    engine: &EngineHandle,
    guard: ProcessGuard,
    work: &Work,
    log: &StepLog,
) -> PyResult<()> {
    let Some(assignment) = work.assignment() else {
        return Ok(());
    };
    let steps = call::answer(py, guard, || {
        let (answer, reply) = Answer::new();
        send(engine, work, load_message(assignment, reply));
        answer
    })?;
    log.inner.load(steps);
    Ok(())
}

/// Does the same, and wakes a loop with the answer; returns its token.
pub fn begin_load(engine: &EngineHandle, work: &Work, log: &StepLog, waker: WakeHandle) -> u64 {
    let mut wake = WakeUp::new(waker);
    let token = wake.token;
    if let Some(assignment) = work.assignment() {
        let log = Arc::clone(&log.inner);
        let reply = move |steps: Result<Vec<StepRecord>, Error>| {
            wake.send(steps.map(|steps| log.load(steps)));
        };
        send(engine, work, load_message(assignment, Box::new(reply)));
    }
    token
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

/// Records a step, and waits until it is durable.
pub fn record(
    py: Python<'_>,
    engine: &EngineHandle,
    guard: ProcessGuard,
    work: &Work,
    log: &StepLog,
    ended: Ended,
) -> PyResult<()> {
    let Some(assignment) = work.assignment() else {
        return Ok(());
    };
    let step = to_record(engine, assignment, log, ended).raise(py)?;
    call::answer_inline(py, guard, || {
        let (answer, reply) = Answer::new();
        let message = record_message(assignment, step, reply);
        match work.slot() {
            Some(slot) => slot.report(message),
            // The thread only waits for the commit, so it may run the coordinator's step.
            None => engine.report_inline(message),
        }
        answer
    })
}

/// Records a step, and wakes a loop when it is durable or refused; returns the token of the answer.
pub fn begin_record(
    py: Python<'_>,
    engine: &EngineHandle,
    work: &Work,
    log: &StepLog,
    waker: WakeHandle,
    ended: Ended,
) -> PyResult<u64> {
    let mut wake = WakeUp::new(waker);
    let token = wake.token;
    if let Some(assignment) = work.assignment() {
        let step = match to_record(engine, assignment, log, ended).raise(py) {
            Ok(step) => step,
            Err(error) => {
                wake.is_sent = true; // the caller gets the error here
                return Err(error);
            }
        };
        let reply = move |answer| wake.send(answer);
        send(
            engine,
            work,
            record_message(assignment, step, Box::new(reply)),
        );
    }
    Ok(token)
}

fn to_record(
    engine: &EngineHandle,
    assignment: &Assignment,
    log: &StepLog,
    ended: Ended,
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
    let value = Json::parse(&ended.value).map_err(|error| invalid(error.to_string()))?;
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

fn send(engine: &EngineHandle, work: &Work, message: Message) {
    match work.slot() {
        Some(slot) => slot.report(message),
        None => engine.report(message),
    }
}

/// Wakes a loop with the answer about a step, with an error if the runner drops the request.
struct WakeUp {
    waker: WakeHandle,
    token: u64,
    is_sent: bool,
}

impl WakeUp {
    fn new(waker: WakeHandle) -> Self {
        /// The last token. Loops of all runners use one table of tokens.
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self {
            waker,
            token: LAST.fetch_add(1, Ordering::Relaxed) + 1,
            is_sent: false,
        }
    }

    fn send(&mut self, answer: Result<(), Error>) {
        self.is_sent = true;
        self.waker.stepped(self.token, answer);
    }
}

impl Drop for WakeUp {
    fn drop(&mut self) {
        if !self.is_sent {
            self.send(Err(Error::runner_closed()));
        }
    }
}
