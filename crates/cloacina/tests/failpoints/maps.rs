//! The part of a run in which one task is mapped over a list, and a second task over the results of the first.

use cloacina::runner::EngineHandle;
use cloacina::store::{ItemQuery, Store};

use super::scenario::{end_of, retry, submit_once};

/// The state and the result of each item of the maps.
pub type Items = Vec<(String, Option<String>)>;

/// Runs the workflow `maps` and makes all requests about map items.
pub fn map_a_task(engine: &EngineHandle, store: &dyn Store) -> Items {
    let id = submit_once(engine, "maps", "maps");
    end_of(engine, id);
    assert!(!retry(|| Ok(store.set_map(id, 1, Some(1))?)));
    let unknown = cloacina::types::RunnerId::from_bytes([0; 16]);
    assert!(retry(|| Ok(store.items_of(unknown, 1)?)).is_empty());
    let steps = retry(|| Ok(store.item_steps(id, 1, 0)?));
    assert_eq!(steps.len(), 1);
    let first = retry(|| engine.inspector().items_before(id, "mapped", None, 1, 1));
    assert_eq!(first.len(), 1);
    let mut items = retry(|| engine.inspector().all_items(id, "mapped"));
    let page = ItemQuery {
        execution: id,
        task: 1,
        status: None,
        from: 0,
        limit: items.len(),
    };
    let (count, _) = retry(|| Ok(store.item_results(&page)?));
    assert_eq!(count as usize, items.len());
    items.extend(retry(|| engine.inspector().all_items(id, "aligned")));
    let states = items.into_iter().map(|item| {
        let result = item.result.map(|result| result.to_string());
        (item.status.to_string(), result)
    });
    states.collect()
}
