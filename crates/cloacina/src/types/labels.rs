//! The labels of an execution.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Error, ErrorCode};

/// Maximum number of labels of an execution.
const MAX_LABELS: usize = 32;
/// Maximum length of a label's name, in characters.
const MAX_NAME: usize = 128;
/// Maximum length of a label's value, in characters.
const MAX_VALUE: usize = 512;

/// The labels of an execution: names with values, by which callers find the execution later. They do not affect how the
/// execution runs.
///
/// Since 1.0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(Option<Arc<BTreeMap<String, String>>>);

impl Labels {
    /// No labels.
    pub const NONE: Self = Self(None);

    /// Creates labels from pairs of a name and a value. If a name occurs several times, its last value is used.
    ///
    /// # Errors
    /// Returns `Configuration` for more than 32 labels, a name that does not have 1 to 128 characters, a value of more
    /// than 512 characters, or a NUL character. Since 1.0.
    pub fn new<N: Into<String>, V: Into<String>>(
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Self, Error> {
        let pairs = pairs.into_iter();
        let labels: BTreeMap<String, String> = pairs
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        let refuse = |message: String| Err(Error::new(ErrorCode::Configuration, message));
        if labels.len() > MAX_LABELS {
            return refuse(format!(
                "an execution has at most {MAX_LABELS} labels, not {}",
                labels.len()
            ));
        }
        for (name, value) in &labels {
            let (name_length, value_length) = (name.chars().count(), value.chars().count());
            if !(1..=MAX_NAME).contains(&name_length) {
                return refuse(format!(
                    "the name of a label has 1 to {MAX_NAME} characters, not {name_length}"
                ));
            }
            if value_length > MAX_VALUE {
                return refuse(format!(
                    "the value of label '{name}' has {value_length} characters, more than {MAX_VALUE}"
                ));
            }
            if name.contains('\0') || value.contains('\0') {
                return refuse(format!(
                    "the name or the value of label {name:?} contains a NUL character"
                ));
            }
        }
        Ok(Self::stored(labels))
    }

    /// Creates labels that were read from a database.
    pub(crate) fn stored(labels: BTreeMap<String, String>) -> Self {
        Self((!labels.is_empty()).then(|| Arc::new(labels)))
    }

    /// Returns whether there are no labels.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Returns the number of labels.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |labels| labels.len())
    }

    /// Returns the value of a label.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.as_ref()?.get(name).map(String::as_str)
    }

    /// Returns the labels, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let labels = self.0.iter().flat_map(|labels| labels.iter());
        labels.map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Returns the number of bytes of all names and values.
    #[must_use]
    pub(crate) fn size(&self) -> usize {
        self.iter()
            .map(|(name, value)| name.len() + value.len())
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::Labels;

    #[test]
    fn labels_are_ordered_by_name() {
        let labels = Labels::new([("order", "4711"), ("customer", "9")]).unwrap();
        let pairs: Vec<_> = labels.iter().collect();
        assert_eq!(pairs, [("customer", "9"), ("order", "4711")]);
        assert_eq!(labels.get("order"), Some("4711"));
        assert!(Labels::new::<String, String>([]).unwrap().is_empty());
    }

    #[test]
    fn invalid_labels_are_refused() {
        let refused = |name: &str, value: &str| Labels::new([(name, value)]).is_err();
        assert!(refused("", "value"));
        assert!(refused(&"n".repeat(129), "value"));
        assert!(refused("name", &"v".repeat(513)));
        assert!(refused("na\0me", "value"));
        assert!(!refused("name", ""));
        let many = (0..33).map(|number| (number.to_string(), "value"));
        assert!(Labels::new(many).is_err());
    }
}
