//! The contents of a context: the values with which it was created, and the later writes.

use std::sync::Arc;

use rustc_hash::FxHashSet;

use super::{Context, Delta, Json};

/// A context that keeps its writes separate from the original values. A write does not copy these values, and a task's delta
/// is known without a comparison.
#[derive(Clone, Debug)]
pub struct Overlay {
    base: Arc<Context>,
    /// The values that were written, in the order of their first write.
    written: Delta,
    /// The keys of the base that were removed. A key that is set again is also in `written`, and moves to the end of the
    /// order.
    hidden: FxHashSet<Arc<str>>,
    /// Whether the context belongs to a task. The base must then stay unchanged, because the task's delta is relative to it.
    is_task: bool,
}

impl Overlay {
    /// Creates an overlay without writes.
    #[must_use]
    pub fn new(base: Arc<Context>, is_task: bool) -> Self {
        Self {
            base,
            written: Delta::default(),
            hidden: FxHashSet::default(),
            is_task,
        }
    }

    /// Returns the value of a key; `None` if the key is absent.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Json> {
        self.written.set.get(key).or_else(|| self.below(key))
    }

    /// Returns whether the key is present.
    #[must_use]
    pub fn contains(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Sets a key. A new key is appended at the end.
    pub fn set(&mut self, key: &str, value: Json) {
        match self.written.set.get_mut(key) {
            Some(current) => *current = value,
            None => {
                self.written.set.insert(key.into(), value);
            }
        }
    }

    /// Removes a key and returns its value.
    pub fn remove(&mut self, key: &str) -> Option<Json> {
        let below = self.below(key).cloned();
        if below.is_some() {
            self.hidden.insert(key.into());
        }
        self.written.set.shift_remove(key).or(below)
    }

    /// Removes every key.
    pub fn clear(&mut self) {
        self.written.set.clear();
        self.hidden = self.base.iter().map(|(key, _)| Arc::clone(key)).collect();
    }

    /// Returns the keys and values, in insertion order.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Json)> {
        let below = self
            .base
            .iter()
            .filter(|(key, _)| !self.hidden.contains(*key));
        let below = below.map(|(key, value)| (key, self.written.set.get(key).unwrap_or(value)));
        below.chain(
            self.written
                .set
                .iter()
                .filter(|(key, _)| self.below(key).is_none()),
        )
    }

    /// Returns whether the context has no keys.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// Returns the number of keys.
    #[must_use]
    pub fn len(&self) -> usize {
        let appended = self
            .written
            .set
            .keys()
            .filter(|key| self.below(key).is_none())
            .count();
        self.base.len() - self.hidden.len() + appended
    }

    /// Returns the last key in insertion order.
    #[must_use]
    pub fn last_key(&self) -> Option<Arc<str>> {
        let appended = self
            .written
            .set
            .keys()
            .rev()
            .find(|key| self.below(key).is_none());
        appended
            .or_else(|| self.iter().last().map(|(key, _)| key))
            .cloned()
    }

    /// Returns all keys and values as one context. If nothing was written, this is the shared base. Otherwise it
    /// becomes the new base, unless the overlay belongs to a task.
    pub fn snapshot(&mut self) -> Arc<Context> {
        if self.written.set.is_empty() && self.hidden.is_empty() {
            return Arc::clone(&self.base);
        }
        let pairs = self
            .iter()
            .map(|(key, value)| (Arc::clone(key), value.clone()));
        let all: Arc<Context> = Arc::new(pairs.collect());
        if !self.is_task {
            *self = Self::new(Arc::clone(&all), false);
        }
        all
    }

    /// Returns the writes: the keys that were set, and the keys that were removed and not set again.
    #[must_use]
    pub fn delta(&self) -> Delta {
        let gone = self
            .hidden
            .iter()
            .filter(|key| !self.written.set.contains_key(*key));
        let mut removed: Vec<Arc<str>> = gone.cloned().collect();
        removed.sort_unstable();
        Delta {
            set: self.written.set.clone(),
            removed,
        }
    }

    /// Replaces the contents with `other`. The differences between the base and `other` count as writes.
    pub fn replace_with(&mut self, other: &Context) {
        let delta = self.base.delta_to(other);
        self.hidden = delta.removed.iter().cloned().collect();
        self.written = Delta {
            set: delta.set,
            removed: Vec::new(),
        };
    }

    fn below(&self, key: &str) -> Option<&Json> {
        self.base.get(key).filter(|_| !self.hidden.contains(key))
    }
}
