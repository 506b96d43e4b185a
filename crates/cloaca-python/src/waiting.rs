//! Waiting for the end of executions: blocking, and through a port.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cloacina::runner::EngineHandle;
use cloacina::runtime::{Ended, OneShot, SubmitRequest, Subscription};
use cloacina::types::{Error, ErrorCode, ExecutionId};
use parking_lot::Mutex;
use pyo3::prelude::*;
use rustc_hash::FxHashMap;

use crate::errors::Raise;
use crate::gate;
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
    let _own = Subscribed { engine, subscription };
    let answer = engine.begin_submit(vec![request]);
    let mut durable = false;
    let mut duplicate = None;
    // One wait for both, so that the thread does not attach in between.
    let ended = gate::wait(py, None, |patience| {
        if !durable {
            match answer.wait(patience)? {
                Ok(ids) => durable = true & ids.iter().all(|stored| *stored == id),
                Err(error) => return Some(Err(error)),
            }
        }
        end.wait(patience)
    })?;
    drop(duplicate.take().unwrap_or(()));
    finished(py, ended)
}

fn finished(py: Python<'_>, ended: Option<Result<Ended, Error>>) -> PyResult<Ended> {
    let never = || Err(Error::new(ErrorCode::RunnerClosed, "the runner is shut down"));
    ended.unwrap_or_else(never).raise(py)
}
