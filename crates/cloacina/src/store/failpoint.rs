//! A store with a failpoint before and after each request. At a failpoint, a test can make the request fail or end the
//! process.
//!
//! This wrapper works with any store. A store without the wrapper has no overhead. `cloaca.testing`, the simulation
//! and the crash tests use the wrapper.

use std::fmt;
use std::sync::Arc;

pub use super::Verb;
use super::{Layer, Request, Response, Store, StoreError};

/// The position of a failpoint relative to its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Moment {
    /// Before the request: the request was not applied.
    Before,
    /// After the request: the request was applied, but its caller has no answer yet.
    After,
}

/// A failpoint. Its display text is, for example, `commit.before`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Failpoint {
    /// The kind of request.
    pub verb: Verb,
    /// The position relative to the request.
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
    /// Decides what happens at a failpoint. The store calls this method at each failpoint.
    ///
    /// # Errors
    /// Returns the error that the caller of the request receives. At [`Moment::After`], the request was applied
    /// nevertheless.
    fn reach(&self, point: Failpoint) -> Result<(), StoreError>;
}

/// A store with failpoints around each request of another store.
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
