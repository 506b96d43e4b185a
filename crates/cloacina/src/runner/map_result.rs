//! `MapResult`: a parameter type with which a task receives all items of a map (semantics K9).

use serde::de::value::UnitDeserializer;
use serde::{Deserialize, Deserializer};

use super::error_info::ErrorInfo;
use crate::types::{TaskStatus, Timestamp};

/// All items of a map, in any final state. A parameter of this type, with the name of a map, also receives failed
/// items. With a parameter of type `Vec<T>`, the task fails if an item failed; with `Vec<Option<T>>`, it receives `None`
/// for this item.
///
/// ```
/// use cloacina::{MapResult, TaskError, task};
///
/// #[task(over = "urls", tolerate = 0.5)]
/// async fn fetch(url: String) -> Result<usize, TaskError> {
///     Ok(url.len())
/// }
///
/// #[task]
/// async fn report(fetch: MapResult<usize>) -> Result<(usize, usize), TaskError> {
///     Ok((fetch.values().sum(), fetch.errors().count()))
/// }
/// # fn main() {}
/// ```
///
/// Since 1.0.
#[derive(Clone, Debug)]
pub struct MapResult<T> {
    items: Vec<MapItem<T>>,
}

/// One item of a map.
///
/// Since 1.0.
#[derive(Clone, Debug)]
pub struct MapItem<T> {
    /// The index of the item in the list.
    pub index: u32,
    /// The state of the item. An item is cancelled if the map ended before the item ran.
    pub status: TaskStatus,
    /// The value that the function returned; `None` unless the item completed.
    pub value: Option<T>,
    /// The error of the item's last attempt; `None` if that attempt did not fail.
    pub error: Option<ErrorInfo>,
    /// The number of the item's attempts.
    pub attempts: u32,
    /// The time at which the item's last attempt started.
    pub started_at: Option<Timestamp>,
    /// The time at which the item ended.
    pub ended_at: Option<Timestamp>,
}

impl<T> MapResult<T> {
    /// Creates a result, for a test that calls a task's function. Since 1.0.
    #[must_use]
    pub const fn new(items: Vec<MapItem<T>>) -> Self {
        Self { items }
    }

    /// Returns the results of the completed items, in the order of the list. Since 1.0.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.items.iter().filter_map(|item| item.value.as_ref())
    }

    /// Returns the items that failed, in the order of the list. Since 1.0.
    pub fn errors(&self) -> impl Iterator<Item = &MapItem<T>> {
        let items = self.items.iter();
        items.filter(|item| item.status == TaskStatus::Failed)
    }

    /// Returns the number of items. Since 1.0.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.items.len()
    }

    /// Returns whether the list was empty. Since 1.0.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Returns all items, in the order of the list. Since 1.0.
    #[must_use]
    pub fn items(&self) -> &[MapItem<T>] {
        &self.items
    }
}

/// Returns whether a type is [`MapResult`]. It compares the names of types, because a `T` that is not `'static` has no
/// `TypeId`.
pub(super) fn is_map_result<T>() -> bool {
    let name = std::any::type_name::<T>();
    let own = std::any::type_name::<MapResult<()>>();
    let head = own.strip_suffix("<()>").unwrap_or(own);
    name.strip_prefix(head)
        .is_some_and(|rest| rest.starts_with('<'))
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for MapResult<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let items = Vec::<MapItem<T>>::deserialize(deserializer)?;
        Ok(Self { items })
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for MapItem<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// An item as the engine writes it.
        #[derive(Deserialize)]
        struct Stored<T> {
            index: u32,
            status: String,
            value: Option<T>,
            error: Option<ErrorInfo>,
            attempts: u32,
            started_at_us: Option<i64>,
            ended_at_us: Option<i64>,
        }
        let stored = Stored::deserialize(deserializer)?;
        let status: TaskStatus = stored.status.parse().map_err(|()| {
            let text = format!("'{}' is not a state of an item", stored.status);
            <D::Error as serde::de::Error>::custom(text)
        })?;
        let mut value = stored.value;
        if status == TaskStatus::Completed && value.is_none() {
            // The function returned null, for example `()`.
            value = Some(T::deserialize(UnitDeserializer::<D::Error>::new())?);
        }
        Ok(Self {
            index: stored.index,
            status,
            value,
            error: stored.error,
            attempts: stored.attempts,
            started_at: stored.started_at_us.map(Timestamp),
            ended_at: stored.ended_at_us.map(Timestamp),
        })
    }
}
