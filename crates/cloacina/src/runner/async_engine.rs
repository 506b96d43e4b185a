//! The asynchronous side of a `DefaultRunner`: waits for answers without blocking a thread, and registers the workflows that
//! this process defines.
//!
//! See docs/explanation/decisions/071-async-rust.md

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::oneshot;

use super::definition::{DEFINITIONS, DefinitionListener};
use super::task::{TaskRun, task_function};
use super::{EngineHandle, Workflow};
use crate::runtime::{Control, Ended, Executor, Handler, Message, Registration, Reply};
use crate::types::{Error, ErrorCode, ExecutionId, ExecutionStatus};

/// An [`EngineHandle`] whose waits are asynchronous. All clones of a [`DefaultRunner`](super::DefaultRunner) share one.
pub(super) struct AsyncEngine {
    handle: Arc<EngineHandle>,
    /// The revision of the process's definitions up to which workflows are registered.
    registered_revision: tokio::sync::Mutex<u64>,
}

impl DefinitionListener for AsyncEngine {
    // Registers at once, so that a runner that submits nothing can still run the workflow.
    fn on_defined(&self, workflow: &Workflow) {
        let name = workflow.name().to_owned();
        match self.registration(workflow) {
            Ok(registration) => self.handle.report(Message::Register {
                registration,
                reply: Box::new(move |result| {
                    // The next submission registers again, and returns an error to its caller.
                    if let Err(error) = result
                        && error.code != ErrorCode::RunnerClosed
                    {
                        tracing::warn!(workflow = name, %error, "cannot register a workflow now; the next submission tries again");
                    }
                }),
            }),
            Err(error) => {
                tracing::warn!(workflow = name, %error, "cannot register a workflow now; the next submission tries again");
            }
        }
    }
}

impl AsyncEngine {
    /// Registers the workflows of this process with a runner that was just opened.
    pub(super) async fn start(handle: EngineHandle) -> Result<Arc<Self>, Error> {
        let engine = Arc::new(Self {
            handle: Arc::new(handle),
            registered_revision: tokio::sync::Mutex::new(0),
        });
        let listener: Weak<Self> = Arc::downgrade(&engine);
        DEFINITIONS.add_runner(listener);
        // The runner must have its handlers before it claims waiting tasks.
        engine.register_new_definitions().await?;
        Ok(engine)
    }

    pub(super) const fn handle(&self) -> &Arc<EngineHandle> {
        &self.handle
    }

    /// Runs a read from the database on a thread that may block.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&EngineHandle) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let handle = Arc::clone(&self.handle);
        blocking(move || work(&handle)).await?
    }

    pub(super) async fn execution(&self, execution: ExecutionId) -> Result<Ended, Error> {
        self.read(move |engine| engine.inspector().execution(execution))
            .await
    }

    pub(super) async fn control(
        &self,
        execution: ExecutionId,
        action: Control,
    ) -> Result<ExecutionStatus, Error> {
        let give_up = self.handle.give_up();
        self.ask(|reply| Message::Control {
            execution,
            action,
            give_up,
            reply,
        })
        .await
    }

    /// Registers the workflows that were defined since the last call.
    pub(super) async fn register_new_definitions(&self) -> Result<(), Error> {
        let mut registered_revision = self.registered_revision.lock().await;
        if *registered_revision == DEFINITIONS.revision() {
            return Ok(());
        }
        let (revision, workflows) = DEFINITIONS.since(*registered_revision);
        for workflow in workflows {
            let registration = self.registration(&workflow)?;
            self.ask(|reply| Message::Register {
                registration,
                reply,
            })
            .await?;
        }
        *registered_revision = revision;
        Ok(())
    }

    fn registration(&self, workflow: &Workflow) -> Result<Registration, Error> {
        let functions = workflow.functions().iter();
        let handlers = functions
            .map(|(id, run)| Ok((id.clone(), self.handler(*run)?)))
            .collect::<Result<BTreeMap<String, Handler>, Error>>()?;
        Ok(Registration {
            workflow: Arc::clone(workflow.inner()),
            handlers,
        })
    }

    pub(super) fn handler(&self, run: TaskRun) -> Result<Handler, Error> {
        Ok(Handler {
            executor: Executor::Futures,
            token: self.handle.tasks().add(task_function(run))?,
            on_success: false,
            on_failure: false,
        })
    }

    /// Sends a message to the coordinator and waits for its answer.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        message: impl FnOnce(Reply<T>) -> Message,
    ) -> Result<T, Error> {
        let (sender, answer) = oneshot::channel();
        // The send fails when the caller has stopped waiting.
        self.handle
            .report(message(Box::new(move |result| drop(sender.send(result)))));
        answer.await.unwrap_or_else(|_| Err(Error::runner_closed()))
    }
}

impl Drop for AsyncEngine {
    fn drop(&mut self) {
        if self.handle.is_closed() {
            return;
        }
        // Stopping waits for the coordinator's thread; a thread of the caller's runtime must not block for that.
        let handle = Arc::clone(&self.handle);
        let end = std::thread::Builder::new().name("cloacina-end".to_owned());
        drop(end.spawn(move || handle.stop(Duration::ZERO)));
    }
}

/// Runs a query on a thread of its own and waits for it: a connection to PostgreSQL must not block on a thread of a tokio
/// runtime.
pub(super) fn read_on_a_thread<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, Error> {
    let failed = |problem: &dyn fmt::Display| {
        let message = format!("cannot run a call to the database: {problem}");
        Error::new(ErrorCode::Database, message)
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("cloacina-call".to_owned());
        let call = thread
            .spawn_scoped(scope, work)
            .map_err(|error| failed(&error))?;
        call.join().map_err(|_| failed(&"it panicked"))
    })
}

/// Runs a blocking call on a thread of the caller's tokio runtime, or on a new thread where there is no runtime.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    let failed = |problem: &dyn fmt::Display| {
        Error::new(
            ErrorCode::Database,
            format!("cannot run a call to the database: {problem}"),
        )
    };
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        return runtime
            .spawn_blocking(work)
            .await
            .map_err(|error| failed(&error));
    }
    let (sender, answer) = oneshot::channel();
    std::thread::Builder::new()
        .name("cloacina-call".to_owned())
        .spawn(move || drop(sender.send(work())))
        .map_err(|error| failed(&error))?;
    answer.await.map_err(|error| failed(&error))
}
