//! A store with a named point before and after each verb, where a test may let it fail or end the process.
//!
//! It wraps any store and costs nothing where it is not used. `cloaca.testing`, the simulation and the crash tests
//! stand on it.

use std::fmt;
use std::sync::Arc;

pub use super::Verb;
use super::{Layer, Request, Response, Store, StoreError};

/// When a point is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Moment {
    /// Nothing of the verb was applied.
    Before,
    /// The verb was applied, and its caller has not heard of it.
    After,
}

/// A named point: `commit.before`, `commit.after`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Failpoint {
    /// The verb.
    pub verb: Verb,
    /// When.
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

/// Who decides what happens at a point.
pub trait Failpoints: Send + Sync {
    /// Called at each point.
    ///
    /// # Errors
    /// What the caller of the verb is to see. After [`Moment::After`] that means: failed although it was applied.
    fn reach(&self, point: Failpoint) -> Result<(), StoreError>;
}

/// A store whose verbs stop at the points.
pub struct FailpointStore<S: ?Sized> {
    points: Arc<dyn Failpoints>,
    inner: Arc<S>,
}

impl<S: Store + ?Sized> FailpointStore<S> {
    /// Puts points around a store.
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
