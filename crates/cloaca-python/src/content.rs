//! The content of a `Context`: JSON values, and the Python objects that reads have returned.

use std::sync::Arc;

use cloacina::types::{Json, Overlay};
use pyo3::prelude::*;
use rustc_hash::FxHashMap;

use crate::comparing::is_same;
use crate::decoding::decode;
use crate::encoding::encode;
use crate::parts::DecodedParts;

/// JSON values, and the lists and dicts that reads have returned. A change inside such a list or dict counts as a write
/// (semantics B8).
///
/// Callers must release the lock on the content before they drop returned objects, because dropping an object can run
/// Python code.
pub struct Content {
    pub values: Overlay,
    returned: ReturnedObjects,
}

/// The lists and dicts that reads have returned, by key.
pub type ReturnedObjects = FxHashMap<Arc<str>, Returned>;

/// A list or dict that a read has returned.
pub struct Returned {
    object: Py<PyAny>,
    /// The key's stored value: the value that the object was decoded from, or was last encoded to.
    json: Json,
    /// The object's parts when it was decoded, to detect changes. `None` if Python's `json` decoded the object, or if the
    /// object was encoded since then.
    parts: Option<Arc<DecodedParts>>,
}

impl Content {
    /// Returns the content of a context that has not been read yet.
    pub fn new(values: Overlay) -> Self {
        Self {
            values,
            returned: ReturnedObjects::default(),
        }
    }

    /// Returns the object that a read of the key has returned, if there is one.
    pub fn object(&self, py: Python<'_>, key: &str) -> Option<Py<PyAny>> {
        let returned = self.returned.get(key)?;
        Some(returned.object.clone_ref(py))
    }

    /// Whether no returned list or dict is kept.
    pub fn is_unread(&self) -> bool {
        self.returned.is_empty()
    }

    /// Keeps a list or dict that was decoded from the value of a key, and returns the object to use. Returns `None` if the key
    /// was set to another value or removed in the meantime.
    pub fn keep(
        &mut self,
        key: &str,
        json: &Json,
        object: &Bound<'_, PyAny>,
        parts: Option<Arc<DecodedParts>>,
    ) -> Option<Py<PyAny>> {
        if self.values.get(key) != Some(json) {
            return None;
        }
        // Another thread may have decoded the same value first. In that case, the object of that thread is used.
        if let Some(object) = self.object(object.py(), key) {
            return Some(object);
        }
        let returned = Returned {
            object: object.clone().unbind(),
            json: json.clone(),
            parts,
        };
        self.returned.insert(key.into(), returned);
        Some(object.clone().unbind())
    }

    /// Sets a key to an encoded value. Returns the list or dict that a read of the key has returned, if there is one. If
    /// `object` is this list or dict, later reads still return it.
    pub fn set(
        &mut self,
        key: &str,
        json: Json,
        object: Option<&Bound<'_, PyAny>>,
    ) -> Option<Returned> {
        self.values.set(key, json.clone());
        let former = self.returned.remove(key)?;
        if let Some(object) = object.filter(|object| former.object.is(object)) {
            let returned = Returned {
                object: object.clone().unbind(),
                json,
                parts: None,
            };
            self.returned.insert(key.into(), returned);
        }
        Some(former)
    }

    /// Removes a key. Returns the key's value, and the list or dict that a read of the key has returned.
    pub fn remove(&mut self, key: &str) -> (Option<Json>, Option<Returned>) {
        (self.values.remove(key), self.returned.remove(key))
    }

    /// Forgets the objects that reads have returned, and passes them to the caller.
    pub fn forget(&mut self) -> ReturnedObjects {
        std::mem::take(&mut self.returned)
    }

    /// Returns the objects that reads have returned, with their keys.
    pub fn objects(&self, py: Python<'_>) -> Vec<(Arc<str>, Returned)> {
        let pairs = self.returned.iter();
        pairs
            .map(|(key, returned)| (Arc::clone(key), returned.clone_ref(py)))
            .collect()
    }

    /// Stores the new value of a changed object if the key's stored value is still `before`. Returns the object's former
    /// entry, which the caller drops.
    pub fn update(
        &mut self,
        py: Python<'_>,
        key: &str,
        before: &Json,
        now: Json,
    ) -> Option<Returned> {
        if self.values.get(key) != Some(before) {
            return None;
        }
        let returned = Returned {
            object: self.object(py, key)?,
            json: now.clone(),
            parts: None,
        };
        self.values.set(key, now);
        self.returned.insert(key.into(), returned)
    }

    /// Visits the objects, for Python's garbage collector.
    pub fn visit<E>(&self, mut visit: impl FnMut(&Py<PyAny>) -> Result<(), E>) -> Result<(), E> {
        for returned in self.returned.values() {
            // The parts hold only strings and numbers, which need no visit.
            visit(&returned.object)?;
        }
        Ok(())
    }
}

impl Returned {
    /// Returns the object.
    pub fn into_object(self, py: Python<'_>) -> Bound<'_, PyAny> {
        self.object.into_bound(py)
    }

    /// Returns the stored value that the object was decoded from, or was last encoded to.
    pub const fn json(&self) -> &Json {
        &self.json
    }

    /// Returns the object's new JSON if the object was changed.
    pub fn changed(&self, py: Python<'_>, key: &str) -> PyResult<Option<Json>> {
        let object = self.object.bind(py);
        let parts = self.parts.as_ref();
        if parts.is_some_and(|parts| parts.are_unchanged(object)) {
            return Ok(None);
        }
        // A new order of keys, or an equal object in place of another object, is not a change.
        if is_same(&decode(py, &self.json)?, object)? {
            return Ok(None);
        }
        let now = encode(key, object)?;
        // If a tuple with equal items replaced a list, the JSON is the same.
        Ok((now != self.json).then_some(now))
    }

    fn clone_ref(&self, py: Python<'_>) -> Self {
        Self {
            object: self.object.clone_ref(py),
            json: self.json.clone(),
            parts: self.parts.clone(),
        }
    }
}
