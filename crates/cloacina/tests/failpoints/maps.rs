//! The part of a run that maps a task over a list, and another one over its results.

use cloacina::runner::EngineHandle;
use cloacina::store::Store;

use super::scenario::{end_of, retry, submit_once};

/// The states and the results of a map's items.
pub type Items = Vec<(String, Option<String>)>;

/// Runs a map, and makes the requests about its items.
pub fn map_a_task(engine: &EngineHandle, store: &dyn Store) -> Items {
    let id = submit_once(engine, "maps", "maps");
    end_of(engine, id);
    assert!(!retry(|| Ok(store.set_map(id, 1, Some(1))?)));
    let nobody = cloacina::types::RunnerId::from_bytes([0; 16]);
    assert!(retry(|| Ok(store.items_of(nobody, 1)?)).is_empty());
    let steps = retry(|| Ok(store.item_steps(id, 1, 0)?));
    assert_eq!(steps.len(), 1);
    let first = retry(|| engine.inspector().items_before(id, "mapped", None, 1, 1));
    assert_eq!(first.len(), 1);
    let mut items = retry(|| engine.inspector().all_items(id, "mapped"));
    items.extend(retry(|| engine.inspector().all_items(id, "aligned")));
    let told = items.into_iter().map(|item| {
        let result = item.result.map(|result| result.to_string());
        (item.status.to_string(), result)
    });
    told.collect()
}
