//! The elements of a map's lists (semantics K1).

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::value::RawValue;

use super::path::{lookup, missing};
use crate::types::{Context, Json, JsonShape, MapSpec};

/// The elements of a map's lists, by item. Each list is split once. An element is copied only when [`item`](Self::item)
/// returns it.
#[derive(Clone, Debug)]
pub struct MapElements {
    lists: Vec<SplitList>,
    batch: Option<u32>,
    /// Only for an aligned map: its parameter, and the results that have been read from the items of its source.
    results: Option<(String, BTreeMap<u32, Json>)>,
}

#[derive(Clone, Debug)]
struct SplitList {
    parameter: String,
    text: Arc<str>,
    /// For each element, the positions of its first byte and of the byte after its end.
    bounds: Vec<(usize, usize)>,
}

impl MapElements {
    /// Splits the lists of a mapped task.
    ///
    /// # Errors
    /// Returns an error text if a list is missing, is not an array, or differs in length from another list. The text names the
    /// lists.
    pub fn split(task: &str, spec: &MapSpec, view: &Context) -> Result<Self, String> {
        let mut lists = Vec::with_capacity(spec.lists.len());
        for (parameter, path) in &spec.lists {
            let Some(value) = lookup(view, path) else {
                return Err(format!(
                    "task '{task}' runs over the list '{path}', but {}",
                    missing(view, path)
                ));
            };
            if value.shape() != JsonShape::Array {
                return Err(format!(
                    "task '{task}' runs over the list '{path}', but '{path}' is a JSON {}, not an array",
                    value.shape().name()
                ));
            }
            let text = value.text();
            let elements: Vec<&RawValue> = serde_json::from_str(&text)
                .map_err(|error| format!("task '{task}' cannot read the list '{path}': {error}"))?;
            let base = text.as_ptr() as usize;
            let bounds = elements.into_iter().map(|element| {
                let start = (element.get().as_ptr() as usize).saturating_sub(base);
                (start, start + element.get().len())
            });
            let bounds = bounds.collect();
            lists.push(SplitList {
                parameter: parameter.clone(),
                text,
                bounds,
            });
        }
        let lengths = |list: &SplitList| list.bounds.len();
        if let [first, rest @ ..] = lists.as_slice()
            && let Some(other) = rest.iter().find(|list| lengths(list) != lengths(first))
        {
            return Err(format!(
                "task '{task}' runs over lists of different lengths: {} elements for '{}', and {} for '{}'",
                lengths(first),
                first.parameter,
                lengths(other),
                other.parameter
            ));
        }
        Ok(Self {
            lists,
            batch: spec.batch,
            results: None,
        })
    }

    /// Returns the elements of an aligned map: results of its source's items.
    #[must_use]
    pub fn of_results(spec: &MapSpec, results: BTreeMap<u32, Json>) -> Self {
        let parameter = spec.lists.keys().next().cloned().unwrap_or_default();
        Self {
            lists: Vec::new(),
            batch: None,
            results: Some((parameter, results)),
        }
    }

    fn elements(&self) -> usize {
        self.lists.first().map_or(0, |list| list.bounds.len())
    }

    /// The number of items. Not known for an aligned map, for which this returns 0.
    #[must_use]
    pub fn width(&self) -> usize {
        let elements = self.elements();
        self.batch
            .map_or(elements, |batch| elements.div_ceil(batch.max(1) as usize))
    }

    /// The values of an item, by parameter.
    #[must_use]
    pub fn item(&self, index: u32) -> Vec<(&str, Json)> {
        if let Some((parameter, results)) = &self.results {
            let value = results.get(&index).cloned();
            return value
                .into_iter()
                .map(|value| (parameter.as_str(), value))
                .collect();
        }
        let index = index as usize;
        let values = self.lists.iter().filter_map(|list| {
            let text = match self.batch {
                None => {
                    let (start, end) = *list.bounds.get(index)?;
                    list.text.get(start..end)?.to_owned()
                }
                Some(batch) => {
                    let first = index * batch.max(1) as usize;
                    let end = (first + batch.max(1) as usize).min(list.bounds.len());
                    let (start, _) = *list.bounds.get(first)?;
                    let (_, end) = *list.bounds.get(end.checked_sub(1)?)?;
                    format!("[{}]", list.text.get(start..end)?)
                }
            };
            Some((list.parameter.as_str(), Json::from_encoder(text)))
        });
        values.collect()
    }
}
