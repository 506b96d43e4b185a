//! Stores numbered ids of children as ranges. With ranges, the state of a task that waits for thousands of children
//! takes only a few bytes.
//!
//! Children that start together have consecutive ids, in the order of their numbers. A range consists of the first number,
//! the count, and the first id.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serializer};
use uuid::Uuid;

use super::ExecutionId;

type Range = (u32, u32, ExecutionId);

/// Maximum number of ids that are read. The limit keeps an invalid row from filling the memory.
const MAX: u64 = 10_000_000;

/// Returns the id that is higher than `id` by `count`.
fn id_after(id: ExecutionId, count: u32) -> ExecutionId {
    let number = id.uuid().as_u128().wrapping_add(count.into());
    Uuid::from_u128(number).into()
}

pub(super) fn serialize<S: Serializer>(
    ids: &BTreeMap<u32, ExecutionId>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut ranges: Vec<Range> = Vec::new();
    for (number, id) in ids {
        match ranges.last_mut() {
            Some((first, count, first_id))
                if first.checked_add(*count) == Some(*number)
                    && id_after(*first_id, *count) == *id =>
            {
                *count += 1;
            }
            _ => ranges.push((*number, 1, *id)),
        }
    }
    serializer.collect_seq(ranges)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<u32, ExecutionId>, D::Error> {
    /// The stored form: ranges, or a map from numbers to ids, which earlier releases wrote.
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Stored {
        Ranges(Vec<Range>),
        Ids(BTreeMap<String, ExecutionId>),
    }
    let numbered = |(first, count, id): Range| {
        (0..count).map(move |offset| (first + offset, id_after(id, offset)))
    };
    match Stored::deserialize(deserializer)? {
        Stored::Ranges(ranges) => {
            let counts = ranges.iter().map(|(_, count, _)| u64::from(*count));
            let fits = |(first, count, _): &Range| first.checked_add(*count).is_some();
            if counts.sum::<u64>() > MAX || !ranges.iter().all(fits) {
                return Err(serde::de::Error::custom(format_args!(
                    "the ranges of children have more than {MAX} ids, or a number above {}",
                    u32::MAX
                )));
            }
            Ok(ranges.into_iter().flat_map(numbered).collect())
        }
        Stored::Ids(ids) => {
            let ids = ids.into_iter().map(|(number, id)| {
                let number = number.parse().map_err(serde::de::Error::custom)?;
                Ok((number, id))
            });
            ids.collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::id_after;
    use crate::types::{ExecutionId, Runs};

    fn runs(open: BTreeMap<u32, ExecutionId>) -> Runs {
        Runs {
            open,
            ..Runs::default()
        }
    }

    #[test]
    fn consecutive_ids_are_stored_as_ranges() {
        let first = ExecutionId::generate();
        let mut open: BTreeMap<u32, ExecutionId> = (0..1000)
            .map(|number| (number, id_after(first, number)))
            .collect();
        open.remove(&500);
        open.insert(2000, ExecutionId::generate());
        let text = serde_json::to_string(&runs(open.clone())).unwrap();
        assert!(text.len() < 300, "{text}");
        let read: Runs = serde_json::from_str(&text).unwrap();
        assert_eq!(read.open, open);
    }

    #[test]
    fn too_long_ranges_are_refused() {
        let id = ExecutionId::generate();
        for range in ["0,4294967295", "4294967295,2"] {
            let text = format!(r#"{{"workflow":"w","generation":1,"open":[[{range},"{id}"]]}}"#);
            assert!(serde_json::from_str::<Runs>(&text).is_err(), "{range}");
        }
    }

    #[test]
    fn form_of_earlier_releases_is_read() {
        let id = ExecutionId::generate();
        let text = format!(r#"{{"workflow":"w","generation":1,"open":{{"3":"{id}"}}}}"#);
        let read: Runs = serde_json::from_str(&text).unwrap();
        assert_eq!(read.open, BTreeMap::from([(3, id)]));
    }
}
