//! `Runner`: the engine on one database.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cloacina::runner::{EngineHandle, OpenOptions};
use cloacina::runtime::Executor;
use cloacina::types::{Error, ExecutionStatus, Micros};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::call;
use crate::errors::Raise;
use crate::events::{SupervisorEvent, SupervisorQueue};
use crate::execution::{Execution, Part};
use crate::inspector::{EventParts, Inspector};
use crate::logs::{self, LogQueue, Threshold};
use crate::loop_waker::LoopWaker;
use crate::process_guard::{ProcessGuard, ProcessOwned};
use crate::reports;
use crate::requests::{self, HandlerParts, SubmitParts};
use crate::settings::RunnerSettings;
use crate::waiting::{self, Subscriptions};
use crate::work::Work;
use crate::worker::{self, PythonWorkerHost};
use crate::workflow::Workflow;

/// The engine on one database, with its threads. It starts on construction.
///
/// The coordinator's thread never attaches to the interpreter, so dropping a runner may wait for it while attached.
#[pyclass(frozen, module = "cloaca._core")]
pub struct Runner {
    engine: ProcessOwned<EngineHandle>,
    supervisor: Arc<SupervisorQueue>,
    threshold: Threshold,
    loop_waker: Py<LoopWaker>,
    loop_wanted: AtomicBool,
    subscriptions: Subscriptions,
}

impl Runner {
    /// The engine, for the classes that are views of a runner.
    pub fn engine(&self) -> &EngineHandle {
        &self.engine
    }

    /// The process that the runner is of.
    pub const fn guard(&self) -> ProcessGuard {
        self.engine.guard()
    }

    /// Asks for the event loop's thread, once.
    pub fn want_loop(&self) {
        if !self.loop_wanted.swap(true, Ordering::AcqRel) {
            self.supervisor.push(SupervisorEvent::LoopWanted);
        }
    }

    /// A runner around the engine that `open` gives.
    pub fn assemble(
        py: Python<'_>,
        config: &str,
        open: impl FnOnce(OpenOptions) -> Result<EngineHandle, Error> + Send,
    ) -> PyResult<Self> {
        let guard = ProcessGuard::here();
        let settings = RunnerSettings::parse(config).raise(py)?;
        let waker = LoopWaker::new()?;
        let handle = waker.handle();
        let supervisor = Arc::new(SupervisorQueue::default());
        let threshold = Threshold::info();
        let options = OpenOptions {
            config: settings.config(),
            dispatch: Some(logs::dispatch(LogQueue::new(
                Arc::clone(&supervisor),
                threshold.clone(),
            ))),
            auto_migrate: settings.auto_migrate(),
        };
        let engine = call::detached(py, guard, || open(options))?;
        worker::connect(&engine, &supervisor, handle);
        worker::connect_polls(&engine, &supervisor);
        Ok(Self {
            engine: ProcessOwned::new(engine, guard),
            supervisor,
            threshold,
            loop_waker: Py::new(py, waker)?,
            loop_wanted: AtomicBool::new(false),
            subscriptions: Subscriptions::default(),
        })
    }
}

#[pymethods]
impl Runner {
    #[new]
    #[pyo3(signature = (database_url, config, schema=None))]
    fn new(
        py: Python<'_>,
        database_url: &str,
        config: &str,
        schema: Option<&str>,
    ) -> PyResult<Self> {
        Self::assemble(py, config, |options| {
            EngineHandle::open_in_schema(database_url, schema, options)
        })
    }

    /// A runner for a tenant's schema, which shares this one's workers and connections.
    #[pyo3(signature = (schema, database_url=None))]
    fn tenant(&self, py: Python<'_>, schema: &str, database_url: Option<&str>) -> PyResult<Self> {
        let supervisor = Arc::clone(&self.supervisor);
        let waker = self.loop_waker.get().handle();
        let engine = call::detached(py, self.guard(), || {
            self.engine.open_tenant(schema, database_url, || {
                Some(Arc::new(PythonWorkerHost::new(supervisor, waker)))
            })
        })?;
        worker::connect_polls(&engine, &self.supervisor);
        Ok(Self {
            engine: ProcessOwned::new(engine, self.guard()),
            supervisor: Arc::clone(&self.supervisor),
            threshold: self.threshold.clone(),
            loop_waker: self.loop_waker.clone_ref(py),
            loop_wanted: AtomicBool::new(false),
            subscriptions: Subscriptions::default(),
        })
    }

    /// The database, without a password.
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

    /// Makes a workflow known, with handlers by task id: executor, handler number, `on_success`, `on_failure`.
    fn register(
        &self,
        py: Python<'_>,
        workflow: &Bound<'_, Workflow>,
        handlers: BTreeMap<String, HandlerParts>,
    ) -> PyResult<()> {
        let workflow = workflow.get().inner();
        let (registration, wants_loop) = requests::registration(workflow, handlers).raise(py)?;
        call::answer(py, self.guard(), || {
            self.engine.begin_register(registration)
        })?;
        if wants_loop {
            self.want_loop();
        }
        Ok(())
    }

    /// Takes a handler for an external task of a workflow that another program defines.
    fn serve(
        &self,
        py: Python<'_>,
        workflow: String,
        definition: &str,
        handler: HandlerParts,
    ) -> PyResult<()> {
        let (service, wants_loop) = requests::service(workflow, definition, handler).raise(py)?;
        call::answer(py, self.guard(), || self.engine.begin_serve(service))?;
        if wants_loop {
            self.want_loop();
        }
        Ok(())
    }

    /// Starts executions, all or none; they are durable when this returns. Of the traces each is kept with its own.
    #[pyo3(signature = (requests, traces=None))]
    fn submit(
        &self,
        py: Python<'_>,
        requests: Vec<SubmitParts<'_>>,
        traces: Option<Vec<Option<String>>>,
    ) -> PyResult<Vec<String>> {
        let now = self.engine.now();
        let mut traces = traces.into_iter().flatten();
        let requests = requests.into_iter().map(|parts| {
            let trace = traces.next().flatten();
            requests::submit_request(parts, now, trace.as_deref())
        });
        let requests = requests.collect::<Result<Vec<_>, _>>().raise(py)?;
        let ids = if call::may_be_main() {
            call::answer(py, self.guard(), || self.engine.begin_submit(requests))
        } else {
            call::answer_inline(py, self.guard(), || self.engine.submit_inline(requests))
        }?;
        Ok(ids.iter().map(ToString::to_string).collect())
    }

    /// Submits and waits for the end.
    #[pyo3(signature = (request, trace=None))]
    fn execute(
        &self,
        py: Python<'_>,
        request: SubmitParts<'_>,
        trace: Option<&str>,
    ) -> PyResult<Execution> {
        self.guard().check(py)?;
        let request = requests::submit_request(request, self.engine.now(), trace).raise(py)?;
        waiting::execute(py, &self.engine, request).map(Execution::new)
    }

    /// What looks at the runner's database.
    fn inspector(&self) -> Inspector {
        let own = self.engine.own_offers();
        Inspector::of_runner(self.engine.inspector().clone(), self.guard(), own)
    }

    /// The counters in the text format of Prometheus.
    fn metrics(&self, py: Python<'_>) -> PyResult<String> {
        call::detached(py, self.guard(), || Ok(self.engine.metrics_text()))
    }

    /// Takes note of how far an attempt is.
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

    /// Takes log lines of an attempt: `time_us`, level, logger, message.
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

    /// Has the supervisor thread told of the end of an execution.
    fn announce_end(&self, py: Python<'_>, execution_id: &str) -> PyResult<()> {
        let id = requests::execution_id(execution_id).raise(py)?;
        let supervisor = Arc::clone(&self.supervisor);
        call::detached(py, self.guard(), || {
            reports::announce_end(&self.engine, id, supervisor)
        })
    }

    /// Waits for the end of an execution; `None` when the time is over.
    fn wait(
        &self,
        py: Python<'_>,
        execution_id: &str,
        timeout_us: Option<Micros>,
    ) -> PyResult<Option<Execution>> {
        let id = requests::execution_id(execution_id).raise(py)?;
        let ended = waiting::wait(py, &self.engine, self.guard(), id, timeout_us)?;
        Ok(ended.map(Execution::new))
    }

    /// Has `port` told of the end of an execution, also when it has ended already.
    fn subscribe(
        &self,
        py: Python<'_>,
        port: &Bound<'_, LoopWaker>,
        execution_id: &str,
    ) -> PyResult<u64> {
        let id = requests::execution_id(execution_id).raise(py)?;
        let waker = port.get().handle();
        call::detached(py, self.guard(), || {
            self.subscriptions.open(&self.engine, waker, id)
        })
    }

    fn unsubscribe(&self, py: Python<'_>, token: u64) -> PyResult<()> {
        self.guard().check(py)?;
        self.subscriptions.close(&self.engine, token);
        Ok(())
    }

    fn status(&self, py: Python<'_>, execution_id: &str) -> PyResult<&'static str> {
        let id = requests::execution_id(execution_id).raise(py)?;
        call::detached(py, self.guard(), || self.engine.inspector().status(id))
            .map(ExecutionStatus::name)
    }

    fn execution(&self, py: Python<'_>, execution_id: &str) -> PyResult<Execution> {
        let id = requests::execution_id(execution_id).raise(py)?;
        call::detached(py, self.guard(), || self.engine.inspector().execution(id))
            .map(Execution::new)
    }

    /// Executions, newest first, and where the next part starts.
    #[expect(clippy::too_many_arguments, reason = "Python's side names them")]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "arguments of Python come as values"
    )]
    fn list(
        &self,
        py: Python<'_>,
        workflow: Option<String>,
        statuses: Vec<String>,
        tags: Option<BTreeMap<String, String>>,
        since_us: Option<i64>,
        limit: usize,
        cursor: Option<&str>,
    ) -> PyResult<Part> {
        let filter = requests::list_filter(workflow, &statuses, tags, since_us, limit, cursor);
        let filter = filter.raise(py)?;
        let page = call::detached(py, self.guard(), || self.engine.inspector().list(&filter))?;
        let inspector = self.engine.inspector().clone();
        let place = Py::new(
            py,
            Inspector::of_runner(inspector, self.guard(), Vec::new()),
        )?;
        Ok(Execution::page(py, &place, page))
    }

    /// The history of an execution, oldest first.
    fn events(&self, py: Python<'_>, execution_id: &str) -> PyResult<Vec<EventParts>> {
        let id = requests::execution_id(execution_id).raise(py)?;
        let (execution, events) =
            call::detached(py, self.guard(), || self.engine.inspector().history(id))?;
        let parts = events.into_iter().map(|event| {
            (
                event.time.0,
                event.kind,
                id.to_string(),
                event
                    .task
                    .map(|task| execution.workflow().task(task).id.clone()),
                event.attempt,
                event.runner.map(|runner| runner.to_string()),
                event.data.map(|data| data.to_string()),
            )
        });
        Ok(parts.collect())
    }

    /// Does `cancel`, `pause`, `resume` or `retry`; the state after it is durable.
    #[pyo3(signature = (execution_id, action, from_task=None))]
    fn control(
        &self,
        py: Python<'_>,
        execution_id: &str,
        action: &str,
        from_task: Option<String>,
    ) -> PyResult<&'static str> {
        let id = requests::execution_id(execution_id).raise(py)?;
        let action = requests::control(action, from_task).raise(py)?;
        let status = call::answer(py, self.guard(), || self.engine.begin_control(id, action))?;
        Ok(status.name())
    }

    /// Tasks that run and that wait for a worker, in this process.
    fn load(&self) -> (usize, usize) {
        let loads = Executor::ALL.map(|executor| self.engine.queues().of(executor).load());
        loads
            .iter()
            .fold((0, 0), |sum, load| (sum.0 + load.0, sum.1 + load.1))
    }

    /// Waits for work; `None` means: end this thread.
    fn next_work(&self, py: Python<'_>, worker: u64) -> PyResult<Option<Work>> {
        self.guard().check_fast(py)?;
        Ok(worker::next(py, &self.engine, &self.supervisor, worker))
    }

    /// Reports and takes the next work; detaches only when none waits. `None` means: end this thread.
    fn finish_and_next(
        &self,
        py: Python<'_>,
        worker: u64,
        work: &Bound<'_, Work>,
        outcome: &Bound<'_, PyTuple>,
    ) -> PyResult<Option<Work>> {
        self.guard().check_fast(py)?;
        let work = work.get();
        let outcome = work.outcome(outcome)?;
        let (engine, supervisor) = (&self.engine, &self.supervisor);
        Ok(worker::finish_and_next(
            py, engine, supervisor, worker, work, outcome,
        ))
    }

    /// Waits for what the supervisor thread has to do. Empty list: end. With a timeout, `("timeout",)` when it is over.
    #[pyo3(signature = (timeout_us=None))]
    fn supervise<'py>(
        &self,
        py: Python<'py>,
        timeout_us: Option<u64>,
    ) -> PyResult<Vec<Bound<'py, PyAny>>> {
        self.guard().check_fast(py)?;
        let end = timeout_us.map(|timeout| Instant::now() + Duration::from_micros(timeout));
        let events = call::wait(py, end, |patience| self.supervisor.wait(patience))?;
        events
            .unwrap_or_else(|| vec![SupervisorEvent::Timeout])
            .into_iter()
            .map(|event| event.into_tuple(py))
            .collect()
    }

    /// Queues log events of this level (as `logging` numbers it) and above for `supervise`; 20 at first.
    fn set_log_level(&self, level: i64) {
        self.threshold.set(level);
    }

    /// Readable when there is something for `take_async` or `async_notices`.
    #[getter]
    fn loop_waker(&self, py: Python<'_>) -> Py<LoopWaker> {
        self.loop_waker.clone_ref(py)
    }

    fn take_async(&self, py: Python<'_>, limit: usize) -> PyResult<Vec<Work>> {
        self.guard().check_fast(py)?;
        Ok(worker::take_for_loop(&self.engine, limit))
    }

    /// ("overrun" | "cancelled", token) for coroutines to cancel.
    fn async_notices(&self, py: Python<'_>) -> PyResult<Vec<(&'static str, u64)>> {
        self.guard().check_fast(py)?;
        Ok(worker::loop_notices(&self.engine))
    }

    fn finish_async(
        &self,
        py: Python<'_>,
        work: &Bound<'_, Work>,
        outcome: &Bound<'_, PyTuple>,
    ) -> PyResult<()> {
        self.guard().check_fast(py)?;
        let work = work.get();
        worker::finish_async(&self.engine, work, work.outcome(outcome)?);
        Ok(())
    }

    /// Graceful shutdown; waits. A second call with a shorter grace shortens the first.
    fn stop(&self, py: Python<'_>, grace_us: Micros) -> PyResult<()> {
        self.guard().check(py)?;
        let grace = Duration::from_micros(u64::try_from(grace_us).unwrap_or(0));
        let answer = self.engine.begin_stop(grace);
        // A refusal means that the coordinator has ended already.
        let _ = call::wait(py, None, |patience| answer.wait(patience))?;
        py.detach(|| self.engine.end_stop());
        Ok(())
    }
}
