//! The asynchronous part of a `DefaultRunner`: waits for answers without blocking a thread, and registers the workflows that
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

/// An [`EngineHandle`] whose answers can be awaited. All clones of a [`DefaultRunner`](super::DefaultRunner) share one
/// `AsyncEngine`.
pub(super) struct AsyncEngine {
    handle: Arc<EngineHandle>,
    /// The revision of the process's registry of definitions. All workflows up to this revision are registered.
    registered_revision: tokio::sync::Mutex<u64>,
}

impl DefinitionListener for AsyncEngine {
    // Registers the workflow at once, because a runner that submits nothing must be able to run it too.
    fn on_defined(&self, workflow: &Workflow) {
        let name = workflow.name().to_owned();
        match self.registration(workflow) {
            Ok(registration) => {
                self.handle.note_own_handlers(&registration);
                self.handle.report(Message::Register {
                    registration,
                    reply: Box::new(move |result| {
                        // The next submission registers the workflow again. If that fails, its caller gets the error.
                        if let Err(error) = result
                            && error.code != ErrorCode::RunnerClosed
                        {
                            tracing::warn!(workflow = name, %error, "cannot register a workflow now; the next submission tries again");
                        }
                    }),
                });
            }
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
        // The runner must have the handlers before it claims waiting tasks.
        engine.register_new_definitions().await?;
        Ok(engine)
    }

    pub(super) const fn handle(&self) -> &Arc<EngineHandle> {
        &self.handle
    }

    /// Runs a blocking call of the handle, such as a database query, on a thread for blocking work.
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
            self.handle.note_own_handlers(&registration);
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
        // The send fails if the caller no longer waits. The result is then dropped.
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
        // `stop` blocks until the coordinator's thread has ended, and a thread of the caller's runtime must not block.
        let handle = Arc::clone(&self.handle);
        let end = std::thread::Builder::new().name("cloacina-end".to_owned());
        drop(end.spawn(move || handle.stop(Duration::ZERO)));
    }
}

/// Runs a query on a new thread and waits for the result. A PostgreSQL connection blocks on its own tokio runtime, which is
/// not allowed on a thread of another tokio runtime.
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
        call.join().map_err(|_| failed(&"the call panicked"))
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
