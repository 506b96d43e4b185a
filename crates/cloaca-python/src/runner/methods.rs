//! The methods of `Runner` that Python calls.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cloacina::runner::{Begin, EngineHandle, OpenOptions, did_cancel};
use cloacina::runtime::{Control, Executor};
use cloacina::types::{Error, ExecutionId, Micros};
use pyo3::prelude::*;

use super::Runner;
use crate::call;
use crate::errors::Raise;
use crate::execution::Execution;
use crate::loop_waker::LoopWaker;
use crate::outcome::Outcome;
use crate::reads::Reads;
use crate::records::{Submitted, WorkLoad};
use crate::reports;
use crate::requests::{self, SubmitRequest, TaskHandler};
use crate::signals::{self, SentSignal};
use crate::steps::{self, StepLog};
use crate::waiting;
use crate::work::Work;
use crate::worker::{self, CancelNotice};
use crate::workflow::Workflow;

#[pymethods]
impl Runner {
    /// Opens a database and starts a runner. With `held`, the runner claims no tasks until `begin` is called.
    #[new]
    #[pyo3(signature = (database_url, config, schema=None, held=false))]
    fn new(
        py: Python<'_>,
        database_url: &str,
        config: &str,
        schema: Option<&str>,
        held: bool,
    ) -> PyResult<Self> {
        Self::open(py, config, |options| {
            let begin = if held {
                Begin::OnRequest
            } else {
                Begin::AtOnce
            };
            let options = OpenOptions { begin, ..options };
            EngineHandle::open_in_schema(database_url, schema, options)
        })
    }

    /// Begins to claim tasks, if the runner was opened with `held`. Does nothing if the runner has begun already.
    fn begin(&self, py: Python<'_>) -> PyResult<()> {
        self.guard().check(py)?;
        self.engine.begin();
        Ok(())
    }

    /// Whether the runner claims tasks.
    #[getter]
    fn begun(&self) -> bool {
        self.engine.is_begun()
    }

    /// Returns a runner for a tenant's schema. The new runner shares this runner's workers and connections.
    #[pyo3(signature = (schema, database_url=None))]
    fn tenant(&self, py: Python<'_>, schema: &str, database_url: Option<&str>) -> PyResult<Self> {
        self.open_tenant(py, schema, database_url)
    }

    /// The location of the database, without a password.
    #[getter]
    fn location(&self) -> String {
        self.engine.location()
    }

    #[getter]
    fn runner_id(&self) -> String {
        self.engine.runner_id().to_string()
    }

    #[getter]
    fn closed(&self) -> bool {
        self.engine.is_closed()
    }

    /// Registers a workflow with handlers by task id.
    fn register(
        &self,
        py: Python<'_>,
        workflow: &Bound<'_, Workflow>,
        handlers: BTreeMap<String, Bound<'_, TaskHandler>>,
    ) -> PyResult<()> {
        self.add_handlers(py, workflow.get(), handlers)
    }

    /// Registers a handler for an external task of a workflow that another program defines.
    fn serve(
        &self,
        py: Python<'_>,
        workflow: String,
        definition: &str,
        handler: &Bound<'_, TaskHandler>,
    ) -> PyResult<()> {
        self.add_service(py, workflow, definition, handler.get())
    }

    /// Submits executions; returns the results once all executions are durable. If one is refused, none is submitted.
    fn submit(
        &self,
        py: Python<'_>,
        requests: Vec<Bound<'_, SubmitRequest>>,
    ) -> PyResult<Vec<Submitted>> {
        let requests = requests::submissions(py, requests, self.engine.now())?;
        let own: Vec<ExecutionId> = requests.iter().map(|request| request.id).collect();
        let ids = waiting::submit(py, &self.engine, self.guard(), requests)?;
        Ok(requests::submitted(&own, &ids))
    }

    /// Submits executions, and wakes `waker` when they are durable or refused. If one is refused, none is submitted. Returns a
    /// token.
    fn begin_submit(
        &self,
        py: Python<'_>,
        waker: &Bound<'_, LoopWaker>,
        requests: Vec<Bound<'_, SubmitRequest>>,
    ) -> PyResult<u64> {
        self.guard().check(py)?;
        let requests = requests::submissions(py, requests, self.engine.now())?;
        let waker = waker.get().handle();
        Ok(self.subscriptions.submit(&self.engine, waker, requests))
    }

    /// Returns whether a task or a callback belongs to this runner, not to another runner that shares its workers.
    fn runs(&self, work: &Bound<'_, Work>) -> bool {
        let work = work.get();
        self.engine.owns(work.slot(), work.deferrals())
    }

    /// Submits an execution and waits for its end.
    fn execute(&self, py: Python<'_>, request: &Bound<'_, SubmitRequest>) -> PyResult<Execution> {
        self.guard().check(py)?;
        let request = requests::submission(py, request.get(), self.engine.now())?;
        let (id, workflow) = (request.id, request.workflow.clone());
        let _blocked = self.enter_wait(py, id, Some(&workflow))?;
        let ended = waiting::execute(py, &self.engine, request)?;
        self.settle_logs(py);
        Ok(Execution::new(ended, self.reads.get().shared_database()))
    }

    /// The object that reads from the runner's database.
    #[getter]
    fn reads(&self, py: Python<'_>) -> Py<Reads> {
        self.reads.clone_ref(py)
    }

    /// Deletes at most `limit` executions that ended at least `older_than_us` ago, and other old rows. Returns the number of
    /// deleted executions, including children.
    fn prune(&self, py: Python<'_>, older_than_us: Micros, limit: usize) -> PyResult<usize> {
        self.reads.get().prune(py, older_than_us, limit)
    }

    /// Returns the runner's metrics in the text format of Prometheus.
    fn metrics(&self, py: Python<'_>) -> PyResult<String> {
        call::detached(py, self.guard(), || Ok(self.engine.metrics_text()))
    }

    /// Stores the progress of an attempt.
    fn note_progress(
        &self,
        py: Python<'_>,
        work: &Bound<'_, Work>,
        done: f64,
        total: f64,
        message: Option<String>,
    ) -> PyResult<()> {
        self.guard().check(py)?;
        reports::note_progress(&self.engine, work.get(), done, total, message);
        Ok(())
    }

    /// Stores log lines of an attempt. Each line is a tuple of `time_us`, level, logger and message; tuples are cheaper than
    /// objects, and an attempt can log many lines.
    fn note_logs(
        &self,
        py: Python<'_>,
        work: &Bound<'_, Work>,
        lines: Vec<(i64, i64, String, String)>,
    ) -> PyResult<()> {
        self.guard().check(py)?;
        reports::note_logs(&self.engine, work.get(), lines);
        Ok(())
    }

    /// The time on the runner's clock, in microseconds since 1970.
    #[getter]
    fn clock_us(&self) -> i64 {
        self.engine.now().0
    }

    /// Reads a task's recorded steps into the attempt's log. With a `waker`, returns a token at once, and wakes the waker when
    /// the steps have been read.
    fn load_steps(
        &self,
        py: Python<'_>,
        work: &Bound<'_, Work>,
        log: &Bound<'_, StepLog>,
        waker: Option<&Bound<'_, LoopWaker>>,
    ) -> PyResult<Option<u64>> {
        let request =
            steps::StepRequest::new(py, &self.engine, self.guard(), work.get(), log.get());
        request.load(waker.map(|waker| waker.get().handle()))
    }

    /// Returns the position of the step that will record the end of a sleep or a wait.
    #[expect(
        clippy::unused_self,
        reason = "the other functions for steps are methods too"
    )]
    fn reserve_step(
        &self,
        py: Python<'_>,
        work: &Bound<'_, Work>,
        log: &Bound<'_, StepLog>,
        key: &str,
    ) -> PyResult<u32> {
        steps::reserve(py, work.get(), log.get(), key)
    }

    /// Records a step that has ended, and returns once it is durable. With a `waker`, returns a token at once, and wakes the
    /// waker when the step is durable or refused.
    #[expect(clippy::too_many_arguments, reason = "each is a part of the step")]
    fn record_step(
        &self,
        py: Python<'_>,
        work: &Bound<'_, Work>,
        log: &Bound<'_, StepLog>,
        waker: Option<&Bound<'_, LoopWaker>>,
        key: String,
        kind: String,
        started_at_us: i64,
        value: String,
    ) -> PyResult<Option<u64>> {
        let ended = steps::ReportedStep::new(key, kind, started_at_us, value);
        let request =
            steps::StepRequest::new(py, &self.engine, self.guard(), work.get(), log.get());
        request.record(ended, waker.map(|waker| waker.get().handle()))
    }

    /// If the condition of a wait already holds, records the end of the wait, and adds it to the log. `waker` works as for
    /// `record_step`.
    fn end_wait(
        &self,
        py: Python<'_>,
        work: &Bound<'_, Work>,
        log: &Bound<'_, StepLog>,
        waker: Option<&Bound<'_, LoopWaker>>,
        key: String,
        condition: &str,
    ) -> PyResult<Option<u64>> {
        let request =
            steps::StepRequest::new(py, &self.engine, self.guard(), work.get(), log.get());
        request.end_wait((key, condition), waker.map(|waker| waker.get().handle()))
    }

    /// Makes `supervise` return an `ExecutionEnded` when an execution ends, or at once if it has ended already.
    fn announce_end(&self, py: Python<'_>, execution_id: &str) -> PyResult<()> {
        let id = requests::execution_id(execution_id).raise(py)?;
        let supervisor = Arc::clone(&self.supervisor);
        call::detached(py, self.guard(), || {
            reports::announce_end(&self.engine, id, supervisor)
        })
    }

    /// Waits for the end of an execution; returns `None` after the timeout.
    fn wait(
        &self,
        py: Python<'_>,
        execution_id: &str,
        timeout_us: Option<Micros>,
    ) -> PyResult<Option<Execution>> {
        let id = requests::execution_id(execution_id).raise(py)?;
        self.await_end(py, id, timeout_us)
    }

    /// Returns an execution that has ended recently and has no final tasks, without a wait. Otherwise returns `None`.
    fn recent_end(&self, py: Python<'_>, execution_id: &str) -> PyResult<Option<Execution>> {
        let id = requests::execution_id(execution_id).raise(py)?;
        self.end_without_wait(py, id)
    }

    /// Wakes `waker` when an execution ends, or at once if it has ended already. Returns a token.
    fn subscribe(
        &self,
        py: Python<'_>,
        waker: &Bound<'_, LoopWaker>,
        execution_id: &str,
    ) -> PyResult<u64> {
        let id = requests::execution_id(execution_id).raise(py)?;
        let waker = waker.get().handle();
        call::detached(py, self.guard(), || {
            let database = self.reads.get().shared_database();
            self.subscriptions.open(&self.engine, database, waker, id)
        })
    }

    /// Cancels a subscription by its token.
    fn unsubscribe(&self, py: Python<'_>, token: u64) -> PyResult<()> {
        self.guard().check(py)?;
        self.subscriptions.close(&self.engine, token);
        Ok(())
    }

    /// Cancels, pauses, resumes or retries an execution; returns its new state once the change is durable.
    #[pyo3(signature = (execution_id, action, from_task=None, from_step=None))]
    fn control(
        &self,
        py: Python<'_>,
        execution_id: &str,
        action: &str,
        from_task: Option<String>,
        from_step: Option<String>,
    ) -> PyResult<&'static str> {
        let id = requests::execution_id(execution_id).raise(py)?;
        let action = requests::control(action, from_task, from_step).raise(py)?;
        let status = call::answer(py, self.guard(), || self.engine.begin_control(id, action))?;
        Ok(status.name())
    }

    /// Sends a signal with JSON data; returns the signal's number once the signal is durable.
    #[pyo3(signature = (name, data, key=None, to=None, id=None, sender=None))]
    #[expect(clippy::too_many_arguments, reason = "each is a part of the signal")]
    fn send(
        &self,
        py: Python<'_>,
        name: String,
        data: &str,
        key: Option<String>,
        to: Option<&str>,
        id: Option<String>,
        sender: Option<String>,
    ) -> PyResult<SentSignal> {
        let signal = signals::new_signal(name, data, key, to, id, sender).raise(py)?;
        let sent = call::answer(py, self.guard(), || self.engine.begin_send(vec![signal]))?;
        signals::sent(&sent)
    }

    /// Approves or rejects an approval; returns the state of the execution once the decision is durable.
    #[pyo3(signature = (execution_id, task, approved, data, by=None, reason=None))]
    #[expect(clippy::too_many_arguments, reason = "each is a part of the decision")]
    fn decide(
        &self,
        py: Python<'_>,
        execution_id: &str,
        task: String,
        approved: bool,
        data: &str,
        by: Option<String>,
        reason: Option<String>,
    ) -> PyResult<&'static str> {
        let id = requests::execution_id(execution_id).raise(py)?;
        let action = signals::decision(task, approved, data, by, reason).raise(py)?;
        let status = call::answer(py, self.guard(), || self.engine.begin_control(id, action))?;
        Ok(status.name())
    }

    /// Moves the due time of a timer or of a retry delay to `at_us`, or to `after_us` from now if `at_us` is `None`. Returns
    /// the state of the execution once the change is durable.
    #[pyo3(signature = (execution_id, task, at_us=None, after_us=0))]
    fn reschedule(
        &self,
        py: Python<'_>,
        execution_id: &str,
        task: String,
        at_us: Option<i64>,
        after_us: i64,
    ) -> PyResult<&'static str> {
        let id = requests::execution_id(execution_id).raise(py)?;
        let action = signals::reschedule(task, at_us, after_us, self.engine.now());
        let status = call::answer(py, self.guard(), || self.engine.begin_control(id, action))?;
        Ok(status.name())
    }

    /// Cancels an execution; returns whether it was open, once the cancellation is durable.
    fn cancel(&self, py: Python<'_>, execution_id: &str) -> PyResult<bool> {
        let id = requests::execution_id(execution_id).raise(py)?;
        self.guard().check(py)?;
        let answer = self.engine.begin_control(id, Control::CancelOpen);
        let cancelled = call::wait(py, None, |patience| answer.wait(patience))?;
        did_cancel(cancelled.unwrap_or_else(|| Err(Error::runner_closed()))).raise(py)
    }

    /// Returns the number of this runner's running tasks, and the number of its tasks and callbacks that wait for a
    /// worker.
    fn load(&self) -> WorkLoad {
        let loads = Executor::ALL.map(|executor| self.engine.queues().of(executor).load());
        WorkLoad {
            running: loads.iter().map(|load| load.0).sum(),
            waiting: loads.iter().map(|load| load.1).sum(),
        }
    }

    /// Waits for work and returns it. After `None`, the worker thread must end.
    fn next_work(&self, py: Python<'_>, worker: u64) -> PyResult<Option<Work>> {
        self.guard().check_fast(py)?;
        let work = worker::next(py, &self.engine, &self.supervisor, worker);
        self.blocked_waits.note_work(&self.engine, work.as_ref());
        Ok(work)
    }

    /// Reports an outcome and returns the next work. Detaches from the interpreter only when no work is queued. After `None`,
    /// the worker thread must end.
    fn finish_and_next(
        &self,
        py: Python<'_>,
        worker: u64,
        work: &Bound<'_, Work>,
        outcome: &Bound<'_, Outcome>,
    ) -> PyResult<Option<Work>> {
        self.guard().check_fast(py)?;
        let work = work.get();
        let outcome = work.outcome(py, outcome.get());
        let (engine, supervisor) = (&self.engine, &self.supervisor);
        let next = worker::finish_and_next(py, engine, supervisor, worker, work, outcome);
        self.blocked_waits.note_work(engine, next.as_ref());
        Ok(next)
    }

    /// Reports that the interrupt for a timeout reached a thread after the function had returned. The thread must end.
    fn interrupted(&self, work: &Bound<'_, Work>) {
        worker::interrupted(&self.engine, work.get());
    }

    /// Waits for events for the supervisor thread and returns them. Returns an empty list once the runner has ended, and a
    /// `SuperviseTimeout` after the timeout.
    #[pyo3(signature = (timeout_us=None))]
    fn supervise<'py>(
        &self,
        py: Python<'py>,
        timeout_us: Option<u64>,
    ) -> PyResult<Vec<Bound<'py, PyAny>>> {
        self.guard().check_fast(py)?;
        self.await_events(py, timeout_us.map(Duration::from_micros))
    }

    /// Sets the lowest level of log records that `supervise` returns, as `logging` numbers it. The initial level is 20. A
    /// higher level applies only to the records about executions and attempts.
    fn set_log_level(&self, level: i64) {
        self.threshold.set(level);
    }

    /// The waker of the event loop. Its descriptor is readable when `take_async`, `async_notices` or the waker's `completed`
    /// has something to return.
    #[getter]
    fn loop_waker(&self, py: Python<'_>) -> Py<LoopWaker> {
        self.loop_waker.clone_ref(py)
    }

    /// Takes at most `limit` items of queued work for the event loop. The waker does not signal again for the remaining items.
    fn take_async(&self, py: Python<'_>, limit: usize) -> PyResult<Vec<Work>> {
        self.guard().check_fast(py)?;
        Ok(worker::take_for_loop(&self.engine, limit))
    }

    /// Returns the coroutines that the event loop must cancel.
    fn async_notices(&self, py: Python<'_>) -> PyResult<Vec<CancelNotice>> {
        self.guard().check_fast(py)?;
        Ok(worker::loop_notices(&self.engine))
    }

    /// Reports the outcome of a coroutine. The outcome of a coroutine that timed out or was cancelled is dropped.
    fn finish_async(
        &self,
        py: Python<'_>,
        work: &Bound<'_, Work>,
        outcome: &Bound<'_, Outcome>,
    ) -> PyResult<()> {
        self.guard().check_fast(py)?;
        let work = work.get();
        worker::finish_async(&self.engine, work, work.outcome(py, outcome.get()));
        Ok(())
    }

    /// Shuts down gracefully, and returns when the runner has ended. A second call can shorten the grace period.
    ///
    /// Returns the number of executions that stay open without a live runner, counted up to `count_open`.
    #[pyo3(signature = (grace_us, count_open=0))]
    fn stop(&self, py: Python<'_>, grace_us: Micros, count_open: usize) -> PyResult<usize> {
        self.guard().check(py)?;
        let grace_us = u64::try_from(grace_us).unwrap_or(0);
        self.shut_down(py, Duration::from_micros(grace_us), count_open)
    }
}
