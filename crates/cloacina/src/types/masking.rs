//! The masking of secrets in texts that a caller reads or searches.

use std::fmt;
use std::sync::Arc;

/// Replaces the secrets in a text. A search must compare with the masked text, because otherwise the caller could find a
/// masked secret letter by letter, with one search for each guess.
#[derive(Clone)]
pub struct Masking(Arc<dyn Fn(&str) -> String + Send + Sync>);

impl Masking {
    /// Creates a masking from a function that returns a text with its secrets replaced. Since 1.0.
    pub fn new(mask: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        Self(Arc::new(mask))
    }

    /// Returns the text with its secrets replaced. Since 1.0.
    #[must_use]
    pub fn shown(&self, text: &str) -> String {
        (self.0)(text)
    }
}

impl fmt::Debug for Masking {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Masking")
    }
}
