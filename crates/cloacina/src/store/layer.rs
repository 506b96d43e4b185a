//! Stores that wrap other stores.

use std::sync::Arc;

use super::{Request, Response, Store, StoreError};

/// A store that wraps another store and passes requests on to it.
pub trait Layer: Send + Sync {
    /// The type of the wrapped store.
    type Below: Store + ?Sized;

    /// Returns the wrapped store.
    fn below(&self) -> &Self::Below;

    /// Answers a request, usually by passing it to the store below.
    ///
    /// # Errors
    /// Returns an error of the store below, or of the layer itself.
    fn pass(&self, request: Request<'_>) -> Result<Response, StoreError>;
}

impl<L: Layer> Store for L {
    fn call(&self, request: Request<'_>) -> Result<Response, StoreError> {
        self.pass(request)
    }

    fn location(&self) -> String {
        self.below().location()
    }

    fn on_change(&self, wake: Arc<dyn Fn() + Send + Sync>) {
        self.below().on_change(wake);
    }

    fn close(&self) {
        self.below().close();
    }
}
