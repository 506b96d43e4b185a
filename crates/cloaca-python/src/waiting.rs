//! Waiting for the end of executions: blocking, and through a port.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cloacina::runner::EngineHandle;
use cloacina::runtime::{Ended, OneShot, SubmitRequest, Subscription};
use cloacina::types::sync::Mutex;
use cloacina::types::{Error, ExecutionId, Micros};
use pyo3::prelude::*;
use rustc_hash::FxHashMap;

use crate::errors::Raise;
use crate::gate::{self, Birthplace};
use crate::port::Bell;

/// Takes a subscription back when nobody waits any more.
struct Subscribed<'a> {
    engine: &'a EngineHandle,
    subscription: Subscription,
}

impl Drop for Subscribed<'_> {
    fn drop(&mut self) {
        self.engine.forget(self.subscription);
    }
}

type End = OneShot<Result<Ended, Error>>;

fn subscribe(engine: &EngineHandle, id: ExecutionId, end: &End) -> Result<Subscription, Error> {
    let end = end.clone();
    engine.when_ended(id, move |ended| end.set(ended))
}

/// Submits and waits for the end.
pub fn execute(py: Python<'_>, engine: &EngineHandle, request: SubmitRequest) -> PyResult<Ended> {
    let id = request.id;
    let end = End::default();
    let told = end.clone();
    let subscription = engine.when_new_ended(id, move |ended| told.set(ended));
    let _own = Subscribed {
        engine,
        subscription,
    };
    // The main thread asks at once and waits; another one asks detached, since it may make the step itself.
    let mut asking = Some(vec![request]);
    let mut answer = None;
    if gate::may_be_main() {
        answer = asking.take().map(|requests| engine.begin_submit(requests));
    }
    let mut is_durable = false;
    // The key may name an earlier execution: then it is that one's end.
    let mut earlier: Option<Subscribed<'_>> = None;
    // One wait for both answers, so that the thread does not attach in between.
    let ended = gate::wait(py, None, |patience| {
        if let Some(requests) = asking.take() {
            answer = Some(engine.submit_leading(requests));
        }
        if !is_durable {
            match answer.as_ref()?.wait(patience)? {
                Ok(ids) => {
                    for stored in ids.into_iter().filter(|stored| *stored != id) {
                        match subscribe(engine, stored, &end) {
                            Ok(subscription) => {
                                earlier = Some(Subscribed {
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
        .unwrap_or_else(|| Err(cloacina::types::Error::runner_closed()))
        .raise(py)
}

/// Waits for the end of an execution; `None` when the time is over.
pub fn wait(
    py: Python<'_>,
    engine: &EngineHandle,
    birthplace: Birthplace,
    id: ExecutionId,
    timeout: Option<Micros>,
) -> PyResult<Option<Ended>> {
    let patience = timeout.map(|micros| Duration::from_micros(u64::try_from(micros).unwrap_or(0)));
    let until = patience.and_then(|patience| Instant::now().checked_add(patience));
    let end = End::default();
    let subscription = gate::call(py, birthplace, || subscribe(engine, id, &end))?;
    let _own = Subscribed {
        engine,
        subscription,
    };
    gate::wait(py, until, |patience| end.wait(patience))?
        .transpose()
        .raise(py)
}

/// Who waits through a port.
#[derive(Default)]
pub struct Subscriptions {
    last: AtomicU64,
    /// By token; `None` for the moment in which the engine has not answered.
    open: Arc<Mutex<FxHashMap<u64, Option<Subscription>>>>,
}

impl Subscriptions {
    /// Has a port told of an execution's end, at once if it has ended.
    pub fn open(&self, engine: &EngineHandle, bell: Bell, id: ExecutionId) -> Result<u64, Error> {
        let token = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        self.open.lock().insert(token, None);
        let open = Arc::clone(&self.open);
        let subscribed = engine.when_ended(id, move |ended| {
            open.lock().remove(&token);
            bell.ended(token, ended.ok());
        });
        let mut open = self.open.lock();
        match subscribed {
            Ok(subscription) => {
                if let Some(place) = open.get_mut(&token) {
                    *place = Some(subscription);
                }
                Ok(token)
            }
            Err(error) => {
                open.remove(&token);
                Err(error)
            }
        }
    }

    /// Takes a subscription back.
    pub fn close(&self, engine: &EngineHandle, token: u64) {
        let closed = self.open.lock().remove(&token);
        if let Some(Some(subscription)) = closed {
            engine.forget(subscription);
        }
    }
}
