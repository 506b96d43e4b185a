//! `OpenCallback`: a task's callback that has not returned yet.

use std::fmt;

use crate::types::sync::Mutex;

/// A task's callback that has not returned yet. Callers that wait for the end of the execution are answered only after the
/// callback has returned.
pub struct OpenCallback(Mutex<Option<Box<dyn FnOnce() + Send>>>);

impl OpenCallback {
    pub(super) fn new(on_return: impl FnOnce() + Send + 'static) -> Self {
        Self(Mutex::new(Some(Box::new(on_return))))
    }

    /// Records that the callback has returned. Only the first call has an effect. Dropping the object has the same effect.
    pub fn end(&self) {
        let on_return = self.0.lock().take();
        if let Some(on_return) = on_return {
            on_return();
        }
    }
}

impl Drop for OpenCallback {
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Debug for OpenCallback {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("OpenCallback")
    }
}
