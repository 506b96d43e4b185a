//! What stands in front of a store, and is one.

use std::sync::Arc;

use super::{Request, Response, Store, StoreError};

/// A store that passes requests on to another one.
pub trait Layer: Send + Sync {
    /// The store behind it.
    type Below: Store + ?Sized;

    /// The store behind it.
    fn below(&self) -> &Self::Below;

    /// Answers a request, usually by having the store behind answer it.
    ///
    /// # Errors
    /// The store's, or the layer's own.
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
