//! The thread that steps a coordinator, and the way for others to step it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use tracing::Dispatch;

use super::assignment::Executor;
use super::mailbox::Next;
use super::{Coordinator, Mailbox, Message, Waiters, WorkQueues};
use crate::types::sync::Mutex;
use crate::types::{Clock, Error, ErrorCode};

/// The parts that a coordinator's thread shares with callers and workers.
#[derive(Clone)]
pub struct Parts {
    /// The way in.
    pub mailbox: Arc<Mailbox>,
    /// The way out for work.
    pub queues: WorkQueues,
    /// The way out for ends.
    pub waiters: Arc<Waiters>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// A running coordinator.
pub struct Driver {
    stepper: Arc<Stepper>,
    thread: Option<JoinHandle<()>>,
}

/// A coordinator that is stepped by its own thread, and by threads that run a step inline.
pub struct Stepper {
    /// Held by the thread that runs a step. The mailbox lets one thread at a time, so no thread waits for it.
    coordinator: Mutex<Coordinator>,
    parts: Parts,
    dispatch: Option<Dispatch>,
    failed: AtomicBool,
}

impl Driver {
    /// Starts the thread. The coordinator's log events go to `dispatch` when one is given.
    ///
    /// # Errors
    /// If the operating system cannot start the thread.
    pub fn start(
        coordinator: Coordinator,
        parts: Parts,
        dispatch: Option<Dispatch>,
    ) -> Result<Self, Error> {
        let stepper = Arc::new(Stepper {
            coordinator: Mutex::new(coordinator),
            parts,
            dispatch,
            failed: AtomicBool::new(false),
        });
        let driven = Arc::clone(&stepper);
        let thread = thread::Builder::new()
            .name("cloacina".to_owned())
            .spawn(move || driven.drive())
            .map_err(|error| {
                Error::new(
                    ErrorCode::Configuration,
                    format!("cannot start the coordinator's thread: {error}"),
                )
            })?;
        Ok(Self {
            stepper,
            thread: Some(thread),
        })
    }

    /// The coordinator, for threads that lead.
    pub const fn stepper(&self) -> &Arc<Stepper> {
        &self.stepper
    }

    /// Waits for the thread's end, once it was told to stop.
    pub fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            // A panic was caught and logged inside.
            drop(thread.join());
        }
    }
}

impl Stepper {
    /// Gives a message to the coordinator, and runs the step inline if no other thread runs one.
    ///
    /// For a thread that would otherwise wait for the effect of the message. It may block for a commit, so it must not hold a
    /// lock or the interpreter lock, must not be the thread that handles signals, and must not drive the caller's futures.
    pub fn lead(&self, message: Message) {
        if self.parts.clock.is_watched() {
            return drop(self.parts.mailbox.send(message));
        }
        // A closed mailbox drops the message, and dropping it answers.
        if let Ok(Some(messages)) = self.parts.mailbox.lead(message) {
            self.step(messages);
        }
    }

    fn drive(&self) {
        while let Some(messages) = self.parts.mailbox.receive(&*self.parts.clock) {
            self.step(messages);
        }
        self.end();
    }

    fn step(&self, messages: Vec<Message>) {
        let mut coordinator = self.coordinator.lock();
        let stepped = catch_unwind(AssertUnwindSafe(|| match &self.dispatch {
            Some(dispatch) => {
                tracing::dispatcher::with_default(dispatch, || coordinator.step(messages))
            }
            None => coordinator.step(messages),
        }));
        let next = match stepped {
            Ok(due) if !coordinator.is_finished() => Next::At {
                due,
                calm: coordinator.is_calm(),
            },
            Ok(_) => Next::Never,
            Err(_) => {
                self.failed.store(true, Ordering::Release);
                Next::Never
            }
        };
        drop(coordinator);
        self.parts.mailbox.stepped(&next);
    }

    /// Answers all callers that still wait: no step will follow.
    fn end(&self) {
        let parts = &self.parts;
        let error = if self.failed.load(Ordering::Acquire) {
            let report = || {
                tracing::error!(
                    "the coordinator failed; the runner is closed. What is in the database is safe"
                );
            };
            match &self.dispatch {
                Some(dispatch) => tracing::dispatcher::with_default(dispatch, report),
                None => report(),
            }
            Error::new(ErrorCode::RunnerClosed, "the runner failed and is closed").with_hint(
                "start a new DefaultRunner: it takes up what is in the database; please report the log",
            )
        } else {
            Error::runner_closed()
        };
        for message in parts.mailbox.close() {
            match message {
                Message::Stop { reply, .. } => reply(Ok(())),
                other => other.refuse(&error),
            }
        }
        parts.waiters.give_up(&error);
        for executor in Executor::ALL {
            parts.queues.of(executor).close();
        }
        for reply in self.coordinator.lock().take_stop_replies() {
            reply(Ok(()));
        }
    }
}
