//! The content of a `Context`: JSON values, and the Python objects that reads have returned.

use std::sync::Arc;

use cloacina::types::{Json, Overlay};
use pyo3::prelude::*;
use rustc_hash::FxHashMap;

use crate::comparing::is_same;
use crate::decoding::decode;
use crate::encoding::encode;
use crate::parts::Parts;

/// JSON values, and the lists and dicts that reads have returned: a change inside one of them counts as written (semantics B8).
///
/// Callers must release the lock on the content before they drop returned objects, because dropping an object can run
/// Python code.
pub struct Content {
    pub values: Overlay,
    returned: FxHashMap<Arc<str>, Returned>,
}

/// A list or dict that a read has returned.
pub struct Returned {
    object: Py<PyAny>,
    /// The stored value that the object was decoded from.
    json: Json,
    /// The object's parts as they were decoded, if they are known.
    parts: Option<Arc<Parts>>,
}

impl Content {
    /// Returns a content that has not been read yet.
    pub fn new(values: Overlay) -> Self {
        Self {
            values,
            returned: FxHashMap::default(),
        }
    }

    /// Returns the object that a read has returned, if there is one.
    pub fn object(&self, py: Python<'_>, key: &str) -> Option<Py<PyAny>> {
        let returned = self.returned.get(key)?;
        Some(returned.object.clone_ref(py))
    }

    /// Whether no read has returned a list or dict.
    pub fn is_unread(&self) -> bool {
        self.returned.is_empty()
    }

    /// Keeps a list or dict that was decoded from the value of a key, and returns the object to use. `None` if the key has another
    /// value now.
    pub fn keep(
        &mut self,
        key: &str,
        json: &Json,
        object: &Bound<'_, PyAny>,
        parts: Option<Arc<Parts>>,
    ) -> Option<Py<PyAny>> {
        if self.values.get(key) != Some(json) {
            return None;
        }
        // Another thread may have decoded the value, too.
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

    /// Sets a key to an encoded object. An object that a read of this key has returned stays the key's object.
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

    /// Removes a key. Returns its value, and the object that a read has returned.
    pub fn remove(&mut self, key: &str) -> (Option<Json>, Option<Returned>) {
        (self.values.remove(key), self.returned.remove(key))
    }

    /// Forgets the objects that reads have returned.
    pub fn forget(&mut self) -> FxHashMap<Arc<str>, Returned> {
        std::mem::take(&mut self.returned)
    }

    /// Returns the objects that reads have returned, with their keys.
    pub fn objects(&self, py: Python<'_>) -> Vec<(Arc<str>, Returned)> {
        let pairs = self.returned.iter();
        pairs
            .map(|(key, returned)| (Arc::clone(key), returned.clone_ref(py)))
            .collect()
    }

    /// Stores the changed value of an object, unless the key was set meanwhile.
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
            visit(&returned.object)?;
            if let Some(parts) = &returned.parts {
                parts.visit(&mut visit)?;
            }
        }
        Ok(())
    }
}

impl Returned {
    /// Returns the object.
    pub fn into_object(self, py: Python<'_>) -> Bound<'_, PyAny> {
        self.object.into_bound(py)
    }

    /// Returns the stored value that the object was decoded from.
    pub const fn json(&self) -> &Json {
        &self.json
    }

    /// Encodes the object if it was changed.
    pub fn changed(&self, py: Python<'_>, key: &str) -> PyResult<Option<Json>> {
        if self
            .parts
            .as_ref()
            .is_some_and(|parts| parts.are_unchanged(py))
        {
            return Ok(None);
        }
        // Another order of keys, or an equal object in place of another one, is not a change.
        let object = self.object.bind(py);
        if is_same(&decode(py, &self.json)?, object)? {
            return Ok(None);
        }
        let now = encode(key, object)?;
        // A tuple is encoded like a list.
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
