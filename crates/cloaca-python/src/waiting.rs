//! Waiting for the end of executions: with a blocked thread, or with a waker of an event loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cloacina::runner::{EngineHandle, Inspector};
use cloacina::runtime::{Ended, OneShot, SubmitRequest, Subscription};
use cloacina::types::sync::Mutex;
use cloacina::types::{Error, ExecutionId, Micros};
use pyo3::prelude::*;
use rustc_hash::FxHashMap;

use crate::blocked_waits::refuse_own;
use crate::call;
use crate::errors::Raise;
use crate::loop_waker::WakeHandle;
use crate::process_guard::{ProcessGuard, ProcessOwned};
use crate::requests;

/// Cancels a subscription when the waiting call returns.
struct SubscriptionGuard<'a> {
    engine: &'a EngineHandle,
    subscription: Subscription,
}

impl Drop for SubscriptionGuard<'_> {
    fn drop(&mut self) {
        self.engine.forget(self.subscription);
    }
}

/// A slot for the end of an execution.
type End = OneShot<Result<Ended, Error>>;

fn subscribe(engine: &EngineHandle, id: ExecutionId, end: &End) -> Result<Subscription, Error> {
    let end = end.clone();
    engine.when_ended(id, move |ended| end.set(ended))
}

/// Submits an execution and waits for its end.
pub fn execute(py: Python<'_>, engine: &EngineHandle, request: SubmitRequest) -> PyResult<Ended> {
    let id = request.id;
    let end = End::default();
    let reply = end.clone();
    let subscription = engine.when_new_ended(id, move |ended| reply.set(ended));
    let _guard = SubscriptionGuard {
        engine,
        subscription,
    };
    // The main thread sends the request here. Any other thread sends the request below, while detached, because such a
    // thread can run the coordinator's step inline.
    let mut unsent = Some(vec![request]);
    let mut answer = None;
    if call::may_be_main() {
        answer = unsent.take().map(|requests| engine.begin_submit(requests));
    }
    let mut is_durable = false;
    // If an earlier execution has the request's key, this call waits for the end of the earlier execution.
    let mut earlier: Option<SubscriptionGuard<'_>> = None;
    // One wait covers both answers (durable, and ended), so that the thread need not attach to the interpreter in between.
    let ended = call::wait(py, None, |patience| {
        if let Some(requests) = unsent.take() {
            answer = Some(engine.submit_inline(requests));
        }
        if !is_durable {
            match answer.as_ref()?.wait(patience)? {
                Ok(ids) => {
                    for stored in ids.into_iter().filter(|stored| *stored != id) {
                        // Refuses a wait that would never end: the key can belong to the execution whose task makes this call.
                        if let Err(error) = refuse_own(stored) {
                            return Some(Err(error));
                        }
                        match subscribe(engine, stored, &end) {
                            Ok(subscription) => {
                                earlier = Some(SubscriptionGuard {
                                    engine,
                                    subscription,
                                });
                            }
                            Err(error) => return Some(Err(error)),
                        }
                    }
                    is_durable = true;
                }
                Err(error) => return Some(Err(error)),
            }
        }
        end.wait(patience)
    })?;
    drop(earlier);
    ended
        .unwrap_or_else(|| Err(Error::runner_closed()))
        .raise(py)
}

/// Waits for the end of an execution; returns `None` after the timeout, which is in microseconds.
pub fn wait(
    py: Python<'_>,
    engine: &EngineHandle,
    guard: ProcessGuard,
    id: ExecutionId,
    timeout: Option<Micros>,
) -> PyResult<Option<Ended>> {
    let patience = timeout.map(|micros| Duration::from_micros(u64::try_from(micros).unwrap_or(0)));
    let until = patience.and_then(|patience| Instant::now().checked_add(patience));
    guard.check(py)?;
    let end = End::default();
    let mut subscription: Option<SubscriptionGuard<'_>> = None;
    // The subscription can read the database, so it is made while the thread is detached. The same detached call then waits:
    // to attach in between would cost as much as the rest of this function if other threads want the interpreter.
    call::wait(py, until, |patience| {
        if subscription.is_none() {
            match subscribe(engine, id, &end) {
                Ok(made) => {
                    subscription = Some(SubscriptionGuard {
                        engine,
                        subscription: made,
                    });
                }
                Err(error) => return Some(Err(error)),
            }
        }
        end.wait(patience)
    })?
    .transpose()
    .raise(py)
}

/// Passes a submission's answer on to an event loop. The answer is an error if the runner drops the request.
struct SubmissionReply {
    waker: WakeHandle,
    token: u64,
    /// The ids of the requests.
    own: Vec<ExecutionId>,
    is_sent: bool,
}

impl SubmissionReply {
    fn send(&mut self, result: Result<Vec<ExecutionId>, Error>) {
        self.is_sent = true;
        let own = std::mem::take(&mut self.own);
        self.waker.submitted(
            self.token,
            result.map(|stored| requests::submitted(&own, &stored)),
        );
    }
}

impl Drop for SubmissionReply {
    fn drop(&mut self) {
        if !self.is_sent {
            self.send(Err(Error::runner_closed()));
        }
    }
}

/// The open subscriptions of event loops, each to the end of one execution.
#[derive(Default)]
pub struct Subscriptions {
    last: AtomicU64,
    /// The subscriptions by token. An entry is `None` until the engine has returned the subscription.
    open: Arc<Mutex<FxHashMap<u64, Option<Subscription>>>>,
}

impl Subscriptions {
    /// Wakes an event loop when an execution ends, or at once if it has ended already. Returns the token of the subscription.
    pub fn open(
        &self,
        engine: &EngineHandle,
        database: Arc<ProcessOwned<Inspector>>,
        waker: WakeHandle,
        id: ExecutionId,
    ) -> Result<u64, Error> {
        let token = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        self.open.lock().insert(token, None);
        let open = Arc::clone(&self.open);
        let subscribed = engine.when_ended(id, move |ended| {
            open.lock().remove(&token);
            waker.ended(token, ended.ok(), database);
        });
        let mut open = self.open.lock();
        match subscribed {
            Ok(subscription) => {
                if let Some(entry) = open.get_mut(&token) {
                    *entry = Some(subscription);
                }
                Ok(token)
            }
            Err(error) => {
                open.remove(&token);
                Err(error)
            }
        }
    }

    /// Submits executions, and wakes an event loop with the answer. Returns the token of the answer.
    pub fn submit(
        &self,
        engine: &EngineHandle,
        waker: WakeHandle,
        requests: Vec<SubmitRequest>,
    ) -> u64 {
        let token = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let mut answer = SubmissionReply {
            waker,
            token,
            own: requests.iter().map(|request| request.id).collect(),
            is_sent: false,
        };
        engine.submit_and_reply(requests, Box::new(move |result| answer.send(result)));
        token
    }

    /// Cancels a subscription.
    pub fn close(&self, engine: &EngineHandle, token: u64) {
        let closed = self.open.lock().remove(&token);
        if let Some(Some(subscription)) = closed {
            engine.forget(subscription);
        }
    }
}
