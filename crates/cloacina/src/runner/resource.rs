//! Resources, the shared objects that tasks receive as parameters. A runner creates each resource once, at its first use
//! (semantics J10).
//!
//! `#[task]` expands to calls of [`resource`].

use std::marker::PhantomData;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::{Mutex, OwnedMutexGuard};

use super::{TaskError, TaskHandle};

/// A function that creates a resource. It has no parameters and returns a `Result`. `Kind` says whether it is `async` or
/// blocking.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot make a resource",
    label = "must be a function like `async fn open() -> Result<Smtp, TaskError>`",
    note = "the function takes no parameters, may be async or not, and returns a `Result` whose `Ok` type is `Send + Sync`"
)]
pub trait ResourceFunction<Kind>: Send + 'static {
    /// The type of the resource.
    type Resource: Send + Sync + 'static;

    /// Calls the function, and ends `call` with the returned value.
    fn open(
        self,
        call: OpenCall<Self::Resource>,
    ) -> impl Future<Output = Result<Arc<Self::Resource>, TaskError>> + Send;
}

/// The kind of an `async` function.
#[doc(hidden)]
#[derive(Debug)]
pub enum Asynchronous {}

/// The kind of a function that is not `async` and can block.
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

    async fn open(self, call: OpenCall<T>) -> Result<Arc<T>, TaskError> {
        call.end(self().await.map_err(Into::into))
    }
}

impl<F, T, E> ResourceFunction<Blocking> for F
where
    F: FnOnce() -> Result<T, E> + Send + 'static,
    T: Send + Sync + 'static,
    E: Into<TaskError> + 'static,
{
    type Resource = T;

    async fn open(self, call: OpenCall<T>) -> Result<Arc<T>, TaskError> {
        // The thread itself ends the call, because only the thread continues if the attempt is aborted.
        let open = move || call.end(self().map_err(Into::into));
        if tokio::runtime::Handle::try_current().is_err() {
            return open();
        }
        match tokio::task::spawn_blocking(open).await {
            Ok(made) => made,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                Err(error) => Err(error.into()),
            },
        }
    }
}

/// A slot for the resource that one function creates.
struct Slot<F, T> {
    state: Arc<SlotState<T>>,
    of: PhantomData<fn(F)>,
}

#[derive(Debug)]
struct SlotState<T> {
    made: OnceLock<Arc<T>>,
    /// The error of the last call of the function. The lock is held during a call.
    error: Arc<Mutex<Option<TaskError>>>,
    /// The number of calls that failed.
    failures: AtomicU64,
}

impl<F, T> Default for Slot<F, T> {
    fn default() -> Self {
        let state = SlotState {
            made: OnceLock::new(),
            error: Arc::default(),
            failures: AtomicU64::new(0),
        };
        Self {
            state: Arc::new(state),
            of: PhantomData,
        }
    }
}

/// A call of a slot's function. The next call can begin only after this value is dropped.
#[doc(hidden)]
#[derive(Debug)]
pub struct OpenCall<T> {
    state: Arc<SlotState<T>>,
    last: OwnedMutexGuard<Option<TaskError>>,
}

impl<T> OpenCall<T> {
    /// Stores the resource or the error, for the tasks that wait for this call.
    fn end(mut self, result: Result<T, TaskError>) -> Result<Arc<T>, TaskError> {
        match result {
            Ok(made) => Ok(Arc::clone(self.state.made.get_or_init(|| Arc::new(made)))),
            Err(error) => {
                *self.last = Some(error.again());
                self.state.failures.fetch_add(1, Ordering::Release);
                Err(error)
            }
        }
    }
}

impl<F, T> Slot<F, T> {
    /// Returns the resource. The first caller creates it while other callers wait. If the first caller fails, the callers
    /// that waited fail with the same error, and the next caller tries again.
    async fn get<K>(&self, open: F) -> Result<Arc<T>, TaskError>
    where
        F: ResourceFunction<K, Resource = T>,
    {
        let state = &self.state;
        if let Some(made) = state.made.get() {
            return Ok(Arc::clone(made));
        }
        let failures = state.failures.load(Ordering::Acquire);
        let last = Arc::clone(&state.error).lock_owned().await;
        if let Some(made) = state.made.get() {
            return Ok(Arc::clone(made));
        }
        if let Some(error) = &*last
            && state.failures.load(Ordering::Acquire) != failures
        {
            return Err(error.again());
        }
        let state = Arc::clone(state);
        open.open(OpenCall { state, last }).await
    }
}

/// Returns the resource that the function `open` creates for the runner of a task. The first call creates the resource.
///
/// A value whose type is not unique, such as a function pointer, is refused:
///
/// ```compile_fail,E0080
/// use std::sync::Arc;
///
/// use cloacina::{TaskError, task, workflow};
///
/// const OPEN: fn() -> Result<u8, TaskError> = || Ok(1);
///
/// #[task]
/// async fn read(#[resource(OPEN)] one: Arc<u8>) -> Result<u8, TaskError> {
///     Ok(*one)
/// }
///
/// let _ = workflow! { name: "shared_type", tasks: [read] };
/// ```
///
/// # Errors
/// The error of the function.
#[doc(hidden)]
pub async fn resource<F, K>(handle: &TaskHandle, open: F) -> Result<Arc<F::Resource>, TaskError>
where
    F: ResourceFunction<K>,
{
    const {
        // The slot is found by the type `F`. A function pointer, and a closure that captures variables, can have the same
        // type as another value, so they are refused.
        assert!(
            size_of::<F>() == 0,
            "`#[resource(…)]` takes the name of a function, not a function pointer or a capturing closure; \
             hint: #[resource(open_smtp)]"
        );
    };
    let slot = handle.resources.slot::<Slot<F, F::Resource>>();
    slot.get(open).await
}
