//! Parameters of tasks that are resources: a runner makes each once, at its first use (semantics J10).
//!
//! `#[task]` expands to calls of [`resource`].

use std::marker::PhantomData;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::{TaskError, TaskHandle};

/// A function that makes a resource: without parameters, `async` or not, and returning a `Result`. `Kind` tells the two kinds of
/// functions apart.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot make a resource",
    label = "must be a function like `async fn open() -> Result<Smtp, TaskError>`",
    note = "the function takes no parameters, may be async or not, and returns a `Result` with a type that is `Send + Sync`"
)]
pub trait ResourceFunction<Kind>: Send + 'static {
    /// The type of the object.
    type Resource: Send + Sync + 'static;

    /// Calls the function.
    fn open(self) -> impl Future<Output = Result<Self::Resource, TaskError>> + Send;
}

/// The kind of an `async` function.
#[doc(hidden)]
#[derive(Debug)]
pub enum Asynchronous {}

/// The kind of a function that may block.
#[doc(hidden)]
#[derive(Debug)]
pub enum Blocking {}

impl<F, R, T, E> ResourceFunction<Asynchronous> for F
where
    F: FnOnce() -> R + Send + 'static,
    R: Future<Output = Result<T, E>> + Send,
    T: Send + Sync + 'static,
    E: Into<TaskError>,
{
    type Resource = T;

    async fn open(self) -> Result<T, TaskError> {
        self().await.map_err(Into::into)
    }
}

impl<F, T, E> ResourceFunction<Blocking> for F
where
    F: FnOnce() -> Result<T, E> + Send + 'static,
    T: Send + Sync + 'static,
    E: Into<TaskError> + 'static,
{
    type Resource = T;

    async fn open(self) -> Result<T, TaskError> {
        let call = move || self().map_err(Into::into);
        if tokio::runtime::Handle::try_current().is_err() {
            return call();
        }
        match tokio::task::spawn_blocking(call).await {
            Ok(made) => made,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                Err(error) => Err(error.into()),
            },
        }
    }
}

/// The resource of one function.
struct Slot<F, T> {
    made: OnceLock<Arc<T>>,
    /// Held by the task that calls the function; the error of the last call.
    error: tokio::sync::Mutex<Option<TaskError>>,
    /// The number of calls that failed.
    failures: AtomicU64,
    of: PhantomData<fn(F)>,
}

impl<F, T> Default for Slot<F, T> {
    fn default() -> Self {
        Self {
            made: OnceLock::new(),
            error: tokio::sync::Mutex::new(None),
            failures: AtomicU64::new(0),
            of: PhantomData,
        }
    }
}

impl<F, T> Slot<F, T> {
    /// Returns the resource, which the first caller makes while others wait. If that fails, those that were waiting fail too,
    /// and the next caller tries again.
    async fn get<K>(&self, open: F) -> Result<Arc<T>, TaskError>
    where
        F: ResourceFunction<K, Resource = T>,
    {
        if let Some(made) = self.made.get() {
            return Ok(Arc::clone(made));
        }
        let failures = self.failures.load(Ordering::Acquire);
        let mut last = self.error.lock().await;
        if let Some(made) = self.made.get() {
            return Ok(Arc::clone(made));
        }
        if let Some(error) = &*last
            && self.failures.load(Ordering::Acquire) != failures
        {
            return Err(error.again());
        }
        match open.open().await {
            Ok(made) => Ok(Arc::clone(self.made.get_or_init(|| Arc::new(made)))),
            Err(error) => {
                *last = Some(error.again());
                self.failures.fetch_add(1, Ordering::Release);
                Err(error)
            }
        }
    }
}

/// Returns the resource that a function makes for the runner of a task. The first call makes it.
///
/// # Errors
/// That of the function.
#[doc(hidden)]
pub async fn resource<F, K>(handle: &TaskHandle, open: F) -> Result<Arc<F::Resource>, TaskError>
where
    F: ResourceFunction<K>,
{
    let slot = handle.resources.slot::<Slot<F, F::Resource>>();
    slot.get(open).await
}
