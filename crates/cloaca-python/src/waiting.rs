//! Waiting for the end of executions: with a blocked thread, or with a waker of an event loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cloacina::runner::{EngineHandle, Inspector};
use cloacina::runtime::{Answer, Ended, OneShot, SubmitRequest, Subscription, assured_reply};
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

/// Submits executions, and waits until they are durable. Returns their ids.
pub fn submit(
    py: Python<'_>,
    engine: &EngineHandle,
    guard: ProcessGuard,
    requests: Vec<SubmitRequest>,
) -> PyResult<Vec<ExecutionId>> {
    if call::may_be_main() || requests.is_empty() {
        return call::answer(py, guard, || engine.begin_submit(requests));
    }
    call::answer_inline(py, guard, || {
        let (answer, reply) = Answer::new();
        engine.submit_inline(requests, reply);
        answer
    })
}

/// An event that a thread in [`execute`] waits for.
enum Event {
    /// The request's key belongs to an earlier execution.
    Earlier(ExecutionId),
    /// The execution has ended, or it was not submitted.
    Ended(Result<Ended, Error>),
}

/// Submits an execution and waits for its end.
pub fn execute(py: Python<'_>, engine: &EngineHandle, request: SubmitRequest) -> PyResult<Ended> {
    let id = request.id;
    let events = OneShot::<Event>::default();
    let end = events.clone();
    let subscription = engine.when_new_ended(id, move |ended| end.set(Event::Ended(ended)));
    let _guard = SubscriptionGuard {
        engine,
        subscription,
    };
    // A successful submission does not wake this thread. Each wake-up takes time from the worker that runs the first task.
    let answer = events.clone();
    let reply = assured_reply(
        move |stored: Result<Vec<ExecutionId>, Error>| match stored {
            Ok(ids) => {
                if let Some(earlier) = ids.into_iter().find(|stored| *stored != id) {
                    answer.set(Event::Earlier(earlier));
                }
            }
            Err(error) => answer.set(Event::Ended(Err(error))),
        },
    );
    // The main thread sends the request here. Any other thread sends the request below, while detached, because such a
    // thread can run the coordinator's step inline.
    let mut unsent = Some((vec![request], reply));
    if call::may_be_main()
        && let Some((requests, reply)) = unsent.take()
    {
        engine.submit_and_reply(requests, reply);
    }
    let mut earlier: Option<SubscriptionGuard<'_>> = None;
    let ended = call::wait(py, None, |patience| {
        if let Some((requests, reply)) = unsent.take() {
            engine.submit_inline(requests, reply);
        }
        loop {
            let stored = match events.wait(patience)? {
                Event::Ended(ended) => return Some(ended),
                Event::Earlier(stored) => stored,
            };
            // Refuses a wait that would never end: the key can belong to the execution whose task makes this call.
            if let Err(error) = refuse_own(stored) {
                return Some(Err(error));
            }
            let end = events.clone();
            match engine.when_ended(stored, move |ended| end.set(Event::Ended(ended))) {
                Ok(subscription) => {
                    earlier = Some(SubscriptionGuard {
                        engine,
                        subscription,
                    });
                }
                Err(error) => return Some(Err(error)),
            }
        }
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
        let own: Vec<ExecutionId> = requests.iter().map(|request| request.id).collect();
        let reply = assured_reply(move |result: Result<Vec<ExecutionId>, Error>| {
            waker.submitted(
                token,
                result.map(|stored| requests::submitted(&own, &stored)),
            );
        });
        engine.submit_and_reply(requests, reply);
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
