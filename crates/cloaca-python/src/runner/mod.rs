//! `Runner`: the engine on one database.

mod methods;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cloacina::runner::{Begin, EngineHandle, OpenOptions};
use cloacina::types::{Error, ExecutionId, Micros};
use pyo3::prelude::*;

use crate::blocked_waits::{self, BlockedWait, BlockedWaits, ThreadTasks};
use crate::call;
use crate::errors::Raise;
use crate::event_classes::event_object;
use crate::events::{SupervisorEvent, SupervisorQueue};
use crate::execution::Execution;
use crate::logs::{self, LogQueue, Threshold};
use crate::loop_waker::LoopWaker;
use crate::process_guard::{ProcessGuard, ProcessOwned};
use crate::reads::Reads;
use crate::requests::{self, TaskHandler};
use crate::settings::RunnerSettings;
use crate::waiting::{self, Subscriptions};
use crate::worker::{self, PythonWorkerHost};
use crate::workflow::Workflow;

/// The engine on one database, with its threads. Creating a runner starts it.
///
/// Dropping a runner waits for the coordinator's thread. The dropping thread can stay attached to the interpreter, because the
/// coordinator's thread never attaches.
#[pyclass(frozen, module = "cloaca._core")]
pub struct Runner {
    engine: Arc<ProcessOwned<EngineHandle>>,
    reads: Py<Reads>,
    supervisor: Arc<SupervisorQueue>,
    threshold: Threshold,
    loop_waker: Py<LoopWaker>,
    loop_wanted: AtomicBool,
    subscriptions: Subscriptions,
    /// The waits of worker threads. All runners of a tenant group share this object and the workers.
    blocked_waits: Arc<BlockedWaits>,
    thread_tasks: ThreadTasks,
}

impl Runner {
    /// Returns the engine.
    pub fn engine(&self) -> &EngineHandle {
        &self.engine
    }

    /// Returns the guard of the process that opened the runner.
    pub fn guard(&self) -> ProcessGuard {
        self.engine.guard()
    }

    /// Requests that Python start the event loop's thread. Only the first call sends a request.
    pub fn want_loop(&self) {
        if !self.loop_wanted.swap(true, Ordering::AcqRel) {
            self.supervisor.push(SupervisorEvent::LoopWanted);
        }
    }

    /// Registers a wait of the current thread, if the thread is a worker of this runner.
    fn enter_wait(
        &self,
        py: Python<'_>,
        id: ExecutionId,
        workflow: Option<&str>,
    ) -> PyResult<Option<BlockedWait>> {
        // Most callers are not workers. For them, this function does not detach: when other threads want the interpreter, to
        // attach again takes long.
        if !blocked_waits::is_worker() {
            return Ok(None);
        }
        call::detached(py, self.guard(), || {
            (self.blocked_waits).enter(&self.engine, &self.thread_tasks, id, workflow)
        })
    }

    /// Returns a runner for the engine that `open` returns. `config` is the JSON text of the settings.
    pub fn open(
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
            begin: Begin::AtOnce,
        };
        let engine = call::detached(py, guard, || open(options))?;
        worker::connect(&engine, &supervisor, handle);
        worker::connect_polls(&engine, &supervisor, guard);
        let waker = Py::new(py, waker)?;
        Self::assemble(
            py,
            ProcessOwned::new(engine, guard),
            supervisor,
            threshold,
            waker,
            Arc::default(),
        )
    }

    fn assemble(
        py: Python<'_>,
        engine: ProcessOwned<EngineHandle>,
        supervisor: Arc<SupervisorQueue>,
        threshold: Threshold,
        loop_waker: Py<LoopWaker>,
        blocked_waits: Arc<BlockedWaits>,
    ) -> PyResult<Self> {
        let engine = Arc::new(engine);
        Ok(Self {
            reads: Py::new(py, Reads::of_runner(&engine))?,
            engine,
            supervisor,
            threshold,
            loop_waker,
            loop_wanted: AtomicBool::new(false),
            subscriptions: Subscriptions::default(),
            blocked_waits,
            thread_tasks: ThreadTasks::default(),
        })
    }

    /// Returns a runner for a tenant's schema. The new runner shares this runner's workers and connections.
    fn open_tenant(
        &self,
        py: Python<'_>,
        schema: &str,
        database_url: Option<&str>,
    ) -> PyResult<Self> {
        let supervisor = Arc::clone(&self.supervisor);
        let waker = self.loop_waker.get().handle();
        let engine = call::detached(py, self.guard(), || {
            self.engine.open_tenant(schema, database_url, || {
                Some(Arc::new(PythonWorkerHost::new(supervisor, waker)))
            })
        })?;
        worker::connect_polls(&engine, &self.supervisor, self.guard());
        Self::assemble(
            py,
            ProcessOwned::new(engine, self.guard()),
            Arc::clone(&self.supervisor),
            self.threshold.clone(),
            self.loop_waker.clone_ref(py),
            Arc::clone(&self.blocked_waits),
        )
    }

    /// Registers a workflow with its handlers, and starts the event loop's thread if a handler needs it.
    fn add_handlers(
        &self,
        py: Python<'_>,
        workflow: &Workflow,
        handlers: BTreeMap<String, Bound<'_, TaskHandler>>,
    ) -> PyResult<()> {
        let workflow = workflow.inner();
        let parts = (handlers.iter()).map(|(task, handler)| (task.as_str(), handler.get()));
        blocked_waits::note_handlers(&self.thread_tasks, workflow.name(), parts);
        let (registration, wants_loop) = requests::registration(workflow, handlers).raise(py)?;
        call::answer(py, self.guard(), || {
            self.engine.begin_register(registration)
        })?;
        if wants_loop {
            self.want_loop();
        }
        Ok(())
    }

    /// Registers the handler of an external task, and starts the event loop's thread if the handler needs it.
    fn add_service(
        &self,
        py: Python<'_>,
        workflow: String,
        definition: &str,
        handler: &TaskHandler,
    ) -> PyResult<()> {
        blocked_waits::note_service(&self.thread_tasks, &workflow, definition, handler);
        let (service, wants_loop) = requests::service(workflow, definition, handler).raise(py)?;
        call::answer(py, self.guard(), || self.engine.begin_serve(service))?;
        if wants_loop {
            self.want_loop();
        }
        Ok(())
    }

    /// Waits for the end of an execution; returns `None` after the timeout.
    fn await_end(
        &self,
        py: Python<'_>,
        id: ExecutionId,
        timeout_us: Option<Micros>,
    ) -> PyResult<Option<Execution>> {
        // With a timeout of 0 the call does not wait, so it blocks no worker.
        let returns_at_once = timeout_us == Some(0);
        let _blocked = if returns_at_once {
            None
        } else {
            self.enter_wait(py, id, None)?
        };
        let ended = waiting::wait(py, &self.engine, self.guard(), id, timeout_us)?;
        self.settle_logs(py);
        Ok(ended.map(|ended| Execution::new(ended, self.reads.get().shared_database())))
    }

    /// Returns an execution whose result a caller can get without a wait: its end is remembered, no callbacks of its tasks are
    /// running, and no final tasks follow.
    fn end_without_wait(&self, py: Python<'_>, id: ExecutionId) -> PyResult<Option<Execution>> {
        self.guard().check(py)?;
        let ended =
            (self.engine.recent_end(id)).filter(|ended| ended.workflow().finals().is_none());
        self.settle_logs(py);
        Ok(ended.map(|ended| Execution::new(ended, self.reads.get().shared_database())))
    }

    /// Waits until the engine's log records so far are written. Without queued records, this costs two loads.
    fn settle_logs(&self, py: Python<'_>) {
        if self.supervisor.has_queued_logs() {
            py.detach(|| self.supervisor.settle_logs());
        }
    }

    /// Waits for events for the supervisor thread. After the timeout, returns one `SuperviseTimeout`.
    fn await_events<'py>(
        &self,
        py: Python<'py>,
        timeout: Option<Duration>,
    ) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let end = timeout.map(|timeout| Instant::now() + timeout);
        let events = call::wait(py, end, |patience| self.supervisor.wait(patience))?;
        events
            .unwrap_or_else(|| vec![SupervisorEvent::Timeout])
            .into_iter()
            .map(|event| event_object(py, event))
            .collect()
    }

    /// Shuts down and returns the number of executions that stay open without a live runner, counted up to `count_open`.
    fn shut_down(&self, py: Python<'_>, grace: Duration, count_open: usize) -> PyResult<usize> {
        let answer = self.engine.begin_stop(grace);
        // A refusal means that the coordinator has already ended.
        let _ = call::wait(py, None, |patience| answer.wait(patience))?;
        Ok(py.detach(|| {
            // The count is for a message, so a database that does not answer is not an error here.
            let open = match count_open {
                0 => 0,
                limit => self.engine.count_left_open(limit).unwrap_or_default(),
            };
            self.engine.end_stop();
            open
        }))
    }
}
