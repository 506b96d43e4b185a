//! Reads the results of maps for tasks that use them (semantics K4, K9).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::runtime::step::Step;
use crate::store::{ItemQuery, StoreError};
use crate::types::{Context, ExecutionId, ItemRecord, Json, MapRow, Ordinal, TaskStatus};
use crate::workflow::{Parameter, TaskDefinition, Workflow};

/// Number of items that one query reads.
const PAGE: u32 = 1_000;

/// Maximum difference between the numbers of two consecutive needed items that one query reads together. Reading the
/// unneeded items between them is cheaper than a second query.
const MAX_GAP: u32 = 8;

impl Step {
    /// The results of other maps that a map takes as its lists.
    pub(super) fn results_for_map(
        &self,
        id: ExecutionId,
        ordinal: Ordinal,
    ) -> Result<Vec<(String, Json)>, StoreError> {
        let maps = (self.ledger.get(id)).map(|execution| execution.maps_it_reads(ordinal));
        let lists = maps.into_iter().flatten().map(|(key, map)| {
            let text = self.values_text(id, map)?;
            Ok((key, Json::from_encoder(text)))
        });
        lists.collect()
    }

    /// The results of other maps that a map needs to expand. An aligned map needs none, because it has as many items as its
    /// source.
    pub(super) fn results_for_expansion(
        &self,
        id: ExecutionId,
        ordinal: Ordinal,
    ) -> Result<Vec<(String, Json)>, StoreError> {
        let execution = self.ledger.get(id);
        match execution.and_then(|execution| execution.width_of_source(ordinal)) {
            Some(_) => Ok(Vec::new()),
            None => self.results_for_map(id, ordinal),
        }
    }

    /// The results of the given items of a map. All these items must have completed. The items are read in ranges without large
    /// gaps.
    pub(super) fn results_of_items(
        &self,
        execution: ExecutionId,
        task: Ordinal,
        items: impl IntoIterator<Item = u32>,
    ) -> Result<BTreeMap<u32, Json>, StoreError> {
        let mut items: Vec<u32> = items.into_iter().collect();
        items.sort_unstable();
        let mut results = BTreeMap::new();
        for range in items.chunk_by(|left, right| right - left <= MAX_GAP) {
            let (first, last) = (range[0], range[range.len() - 1]);
            let page = self.store.items(&ItemQuery {
                execution,
                task,
                status: None,
                from: first,
                limit: (last - first + 1) as usize,
            })?;
            let page = page
                .into_iter()
                .filter(|item| range.binary_search(&item.item).is_ok());
            results.extend(page.map(|item| {
                let value = item.result.unwrap_or_else(|| Json::from_encoder("null"));
                (item.item, value)
            }));
        }
        Ok(results)
    }

    /// K4, K9: adds to a task's context the results of the maps that the task's parameters name, and returns the
    /// context. The parameters of final tasks and compensations name maps of the execution that these tasks follow
    /// (Q2).
    ///
    /// # Errors
    /// Returns an error if the database does not answer.
    pub(in crate::runtime) fn with_map_results(
        &mut self,
        id: ExecutionId,
        ordinal: Ordinal,
        mut context: Arc<Context>,
    ) -> Result<Arc<Context>, StoreError> {
        let Some(execution) = self.ledger.get(id) else {
            return Ok(context);
        };
        let workflow = Arc::clone(execution.workflow());
        let task = workflow.task(ordinal);
        // A parameter for the elements of a list receives an element, not all results.
        let is_element = |parameter: &Parameter| {
            let over = task.over.as_ref();
            over.is_some_and(|spec| spec.lists.contains_key(&parameter.name))
        };
        let parameters: Vec<&Parameter> = (task.parameters.iter())
            .filter(|parameter| !is_element(parameter))
            .collect();
        let link = execution.record().parent.as_deref();
        let first = link.filter(|link| link.finale.is_some());
        if first.is_none() && parameters.iter().all(|parameter| parameter.task.is_none()) {
            return Ok(context);
        }
        let owner = first.map_or(id, |link| link.execution);
        let known = self.ledger.get(owner);
        if owner != id && known.is_none_or(|known| !known.record().status.is_terminal()) {
            self.ledger.remove(owner);
            self.load(&[owner])?;
        }
        let Some(execution) = self.ledger.get(owner) else {
            return Ok(context);
        };
        for parameter in parameters {
            let Some(map) = map_of(execution.workflow(), parameter, owner != id) else {
                continue;
            };
            let status = execution.task(map).status;
            let is_complete = status == TaskStatus::Completed;
            if status == TaskStatus::Skipped && parameter.default {
                continue; // J7: the parameter receives its default.
            }
            let text = if parameter.items {
                self.items_text(owner, map)?
            } else if is_complete {
                self.values_text(owner, map)?
            } else {
                continue;
            };
            let mut changed = (*context).clone();
            changed.set(parameter.key(), Json::from_encoder(text));
            context = Arc::new(changed);
        }
        Ok(context)
    }

    /// The results of a map's items as a JSON array, in the order of the list. An item without a result is `null`.
    fn values_text(&self, id: ExecutionId, map: Ordinal) -> Result<String, StoreError> {
        if let Some(text) = self.joined_results(id, map)? {
            return Ok(text);
        }
        let mut text = String::from("[");
        self.each_item(id, map, |item| {
            if text.len() > 1 {
                text.push(',');
            }
            text.push_str(item.result.as_ref().map_or("null", Json::as_str));
        })?;
        text.push(']');
        Ok(text)
    }

    /// Like [`values_text`](Self::values_text), but the database joins the results, which takes a fraction of the time that it
    /// takes to read the items. Returns `None` if an item has no row, or if the database cannot join the results, for example
    /// because together they are larger than its largest text.
    fn joined_results(&self, id: ExecutionId, map: Ordinal) -> Result<Option<String>, StoreError> {
        let Some(row) = self.current_row(id, map)? else {
            return Ok(None);
        };
        let mut text = String::from("[");
        let mut from = 0;
        while from < row.width {
            let page = ItemQuery {
                execution: id,
                task: map,
                status: None,
                from,
                limit: PAGE as usize,
            };
            let Ok((found, results)) = self.store.item_results(&page) else {
                return Ok(None);
            };
            let until = row.width.min(from + PAGE);
            if found != until - from {
                return Ok(None);
            }
            if from > 0 {
                text.push(',');
            }
            text.push_str(&results);
            from = until;
        }
        text.push(']');
        Ok(Some(text))
    }

    /// The row of a map that has read its current list.
    fn current_row(
        &self,
        execution: ExecutionId,
        task: Ordinal,
    ) -> Result<Option<MapRow>, StoreError> {
        let known = self.ledger.get(execution);
        let map = known.and_then(|known| known.task_map(task));
        // Until the map reads its new list, items of the earlier list are still stored. They do not count.
        let Some(map) = map.filter(|map| map.width.is_some()) else {
            return Ok(None);
        };
        let rows = self.store.maps(&[execution])?;
        let is_present = |row: &MapRow| row.task == task && row.generation == map.generation;
        Ok(rows.into_iter().find(is_present))
    }

    /// The items of a map as a JSON array of objects, in the order of the list.
    fn items_text(&self, id: ExecutionId, map: Ordinal) -> Result<String, StoreError> {
        let mut text = String::from("[");
        self.each_item(id, map, |item| {
            if text.len() > 1 {
                text.push(',');
            }
            text.push_str(&item.to_json());
        })?;
        text.push(']');
        Ok(text)
    }

    /// Calls `visit` for each item of a map, in the order of the list, including items without a row. Reads page by page.
    fn each_item(
        &self,
        execution: ExecutionId,
        task: Ordinal,
        mut visit: impl FnMut(&ItemRecord),
    ) -> Result<(), StoreError> {
        let Some(row) = self.current_row(execution, task)? else {
            return Ok(());
        };
        let mut from = 0;
        while from < row.width {
            let items = self.store.items(&ItemQuery {
                execution,
                task,
                status: None,
                from,
                limit: PAGE as usize,
            })?;
            for item in &items {
                // Items of an aligned map have no row if the source never produced their elements.
                (from..item.item).for_each(|missing| visit(&without_row(&row, missing)));
                visit(item);
                from = item.item + 1;
            }
            if items.len() < PAGE as usize {
                break;
            }
        }
        (from..row.width).for_each(|missing| visit(&without_row(&row, missing)));
        Ok(())
    }
}

/// Returns an item that has no row and will not get one, because its map has ended.
fn without_row(map: &MapRow, item: u32) -> ItemRecord {
    let status = match map.rowless_state() {
        TaskStatus::Skipped => TaskStatus::Skipped,
        _ => TaskStatus::Cancelled,
    };
    ItemRecord {
        status,
        ..ItemRecord::unstarted(item)
    }
}

/// Returns the map that a parameter names, or `None` if it does not name a map. `by_key`: whether the parameter belongs to a
/// final task or a compensation. Such a parameter names the map by its result key in `workflow`.
fn map_of(workflow: &Workflow, parameter: &Parameter, by_key: bool) -> Option<Ordinal> {
    let map = if by_key {
        let tasks = &workflow.definition().tasks;
        let is_named =
            |task: &TaskDefinition| task.over.is_some() && task.result_key() == parameter.key();
        tasks
            .iter()
            .find(|task| is_named(task))
            .map(|task| task.id.as_str())
    } else {
        parameter.task.as_deref()
    };
    let map = workflow.graph().ordinal(map?)?;
    workflow.task(map).over.is_some().then_some(map)
}
