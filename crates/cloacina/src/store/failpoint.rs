//! A store with a failpoint before and after each request, where a test can make it fail or end the process.
//!
//! It wraps any store and costs nothing where it is not used. `cloaca.testing`, the simulation and the crash tests use
//! it.

use std::fmt;
use std::sync::Arc;

pub use super::Verb;
use super::{Layer, Request, Response, Store, StoreError};

/// The position of a failpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Moment {
    /// Before the request: nothing was applied.
    Before,
    /// After the request: it was applied, and its caller has no answer yet.
    After,
}

/// A failpoint, displayed as `commit.before` or `commit.after`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Failpoint {
    /// The kind of request.
    pub verb: Verb,
    /// Its position.
    pub moment: Moment,
}

impl fmt::Display for Failpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = match self.moment {
            Moment::Before => "before",
            Moment::After => "after",
        };
        write!(f, "{}.{moment}", self.verb.name())
    }
}

/// Decides what happens at each failpoint.
pub trait Failpoints: Send + Sync {
    /// Called at each failpoint.
    ///
    /// # Errors
    /// The error that the caller of the request gets. At [`Moment::After`] the request was applied nevertheless.
    fn reach(&self, point: Failpoint) -> Result<(), StoreError>;
}

/// A store whose requests pass failpoints.
pub struct FailpointStore<S: ?Sized> {
    points: Arc<dyn Failpoints>,
    inner: Arc<S>,
}

impl<S: Store + ?Sized> FailpointStore<S> {
    /// Wraps a store.
    pub fn new(inner: Arc<S>, points: Arc<dyn Failpoints>) -> Self {
        Self { points, inner }
    }
}

impl<S: Store + ?Sized> Layer for FailpointStore<S> {
    type Below = S;

    fn below(&self) -> &S {
        &self.inner
    }

    fn pass(&self, request: Request<'_>) -> Result<Response, StoreError> {
        let verb = request.verb();
        let reach = |moment| self.points.reach(Failpoint { verb, moment });
        reach(Moment::Before)?;
        let answer = self.inner.call(request)?;
        reach(Moment::After)?;
        Ok(answer)
    }
}
