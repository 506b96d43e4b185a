//! Reads maps and their items, and changes the parallelism of a running map (semantics K).

use std::collections::BTreeMap;

use super::Inspector;
use crate::engine::Execution;
use crate::store::ItemQuery;
use crate::types::{
    Error, ErrorCode, ExecutionId, ItemRecord, MapRow, MapState, Ordinal, TaskStatus,
};

/// Maximum number of items on a page.
const PAGE: usize = 1_000;

/// Number of items that one query reads from an aligned map. The elements of an aligned map are the results of another map,
/// and each item gets a row when its element is known. Items with a row and items without a row can therefore alternate.
const WINDOW: u32 = 1_000;

/// A page of a map's items.
#[derive(Clone, Debug, PartialEq)]
pub struct ItemPage {
    /// The items, in the order of the list.
    pub items: Vec<ItemRecord>,
    /// The index at which the next page starts; `None` on the last page.
    pub next: Option<u32>,
}

fn unstarted_item(map: &MapRow, item: u32) -> ItemRecord {
    ItemRecord {
        status: map.rowless_state(),
        ..ItemRecord::unstarted(item)
    }
}

/// The number of items in each state.
pub type ItemCounts = [(TaskStatus, u64); 7];

impl Inspector {
    /// Returns an execution, and the ordinal of its mapped task with the id `task`.
    fn map_task(&self, id: ExecutionId, task: &str) -> Result<(Execution, Ordinal), Error> {
        let execution = self.execution(id)?;
        let execution = (*execution).clone();
        let workflow = execution.workflow();
        let refuse = |what: &str| {
            let text = format!(
                "task '{task}' of execution {id} of workflow '{}' {what}",
                workflow.name()
            );
            Error::new(ErrorCode::TaskInvalid, text)
        };
        let Some(ordinal) = workflow.ordinal(task) else {
            return Err(refuse("does not exist"));
        };
        if workflow.task(ordinal).over.is_none() {
            return Err(refuse("is not a map: it has no over="));
        }
        Ok((execution, ordinal))
    }

    /// Returns a page of a map's items in the order of the list. An item that has not started is `Pending`. If the map ends
    /// before the item starts, the item is `Cancelled`; in an aligned map it is `Skipped` if the source never produced its
    /// element.
    ///
    /// `status`: returns only items in this state. `from`: the index at which the page starts. `limit`: the maximum number of
    /// items, from 1 to 1,000.
    ///
    /// # Errors
    /// `ExecutionNotFound`; `TaskInvalid` for a task that is not a map; `Database` or `Connection`.
    pub fn items(
        &self,
        id: ExecutionId,
        task: &str,
        status: Option<TaskStatus>,
        from: u32,
        limit: usize,
    ) -> Result<ItemPage, Error> {
        let (_, ordinal) = self.map_task(id, task)?;
        let row = self.map_row(id, ordinal)?;
        self.page_of(id, ordinal, row.as_ref(), status, from, limit)
    }

    /// Returns the last items of a map before an index, in the order of the list. See [`items`](Self::items).
    ///
    /// # Errors
    /// The errors of [`items`](Self::items).
    pub fn items_before(
        &self,
        id: ExecutionId,
        task: &str,
        status: Option<TaskStatus>,
        before: u32,
        limit: usize,
    ) -> Result<Vec<ItemRecord>, Error> {
        let (_, ordinal) = self.map_task(id, task)?;
        let Some(row) = self.map_row(id, ordinal)? else {
            return Ok(Vec::new());
        };
        let limit = limit.clamp(1, PAGE);
        let has_rows = |status: TaskStatus| status != row.rowless_state();
        if row.source.is_some() && !status.is_some_and(has_rows) {
            return self.aligned_items_before(&row, status, before, limit);
        }
        let mut unstarted = Vec::new();
        if status.is_none_or(|status| status == row.rowless_state()) {
            let all = (row.admitted..row.width.min(before)).rev().take(limit);
            unstarted.extend(all.map(|item| unstarted_item(&row, item)));
            unstarted.reverse();
        }
        let missing = limit - unstarted.len();
        if missing == 0 {
            return Ok(unstarted);
        }
        let mut items = self.store.items_before(&ItemQuery {
            execution: id,
            task: ordinal,
            status,
            from: match row.source {
                None => before.min(row.admitted),
                Some(_) => before,
            },
            limit: missing,
        })?;
        items.extend(unstarted);
        Ok(items)
    }

    fn map_row(&self, id: ExecutionId, task: Ordinal) -> Result<Option<MapRow>, Error> {
        let mut maps = self.store.maps(&[id])?.into_iter();
        Ok(maps.find(|row| row.task == task))
    }

    fn page_of(
        &self,
        execution: ExecutionId,
        task: Ordinal,
        row: Option<&MapRow>,
        status: Option<TaskStatus>,
        from: u32,
        limit: usize,
    ) -> Result<ItemPage, Error> {
        let limit = limit.clamp(1, PAGE);
        let mixes_rows = |row: &&MapRow| {
            row.source.is_some() && status.is_none_or(|status| status == row.rowless_state())
        };
        if let Some(row) = row.filter(mixes_rows) {
            return self.aligned_page(row, status, from, limit);
        }
        let mut items = self.store.items(&ItemQuery {
            execution,
            task,
            status,
            from,
            limit: limit + 1,
        })?;
        if let Some(row) =
            row.filter(|row| status.is_none_or(|status| status == row.rowless_state()))
        {
            let first = from.max(row.admitted);
            let missing = (limit + 1).saturating_sub(items.len());
            let unstarted = (first..row.width).take(missing);
            items.extend(unstarted.map(|item| unstarted_item(row, item)));
        }
        let next = items.get(limit).map(|item| item.item);
        items.truncate(limit);
        Ok(ItemPage { items, next })
    }

    /// Returns the items of an aligned map in a range, including the items that have no row.
    fn aligned_range(&self, row: &MapRow, first: u32, end: u32) -> Result<Vec<ItemRecord>, Error> {
        let stored = self.store.items(&ItemQuery {
            execution: row.execution,
            task: row.task,
            status: None,
            from: first,
            limit: (end - first) as usize,
        })?;
        let mut stored = stored.into_iter().peekable();
        let items = (first..end).map(|item| {
            let known = stored.next_if(|known| known.item == item);
            known.unwrap_or_else(|| unstarted_item(row, item))
        });
        Ok(items.collect())
    }

    fn aligned_page(
        &self,
        row: &MapRow,
        status: Option<TaskStatus>,
        from: u32,
        limit: usize,
    ) -> Result<ItemPage, Error> {
        let (mut items, mut first) = (Vec::new(), from);
        while first < row.width && items.len() <= limit {
            let end = first.saturating_add(WINDOW).min(row.width);
            let range = self.aligned_range(row, first, end)?.into_iter();
            items.extend(range.filter(|item| status.is_none_or(|status| item.status == status)));
            first = end;
        }
        let next = items.get(limit).map(|item| item.item);
        items.truncate(limit);
        Ok(ItemPage { items, next })
    }

    fn aligned_items_before(
        &self,
        row: &MapRow,
        status: Option<TaskStatus>,
        before: u32,
        limit: usize,
    ) -> Result<Vec<ItemRecord>, Error> {
        let (mut items, mut end) = (Vec::new(), before.min(row.width));
        while end > 0 && items.len() < limit {
            let first = end.saturating_sub(WINDOW);
            let mut range = self.aligned_range(row, first, end)?;
            range.retain(|item| status.is_none_or(|status| item.status == status));
            range.append(&mut items);
            items = range;
            end = first;
        }
        Ok(items.split_off(items.len().saturating_sub(limit)))
    }

    /// Returns all items of a map in the order of the list, without a limit.
    ///
    /// # Errors
    /// The errors of [`items`](Self::items).
    pub fn all_items(&self, id: ExecutionId, task: &str) -> Result<Vec<ItemRecord>, Error> {
        let (mut all, mut from) = (Vec::new(), Some(0));
        let (_, ordinal) = self.map_task(id, task)?;
        let row = self.map_row(id, ordinal)?;
        while let Some(first) = from {
            let page = self.page_of(id, ordinal, row.as_ref(), None, first, PAGE)?;
            all.extend(page.items);
            from = page.next;
        }
        Ok(all)
    }

    /// Returns the maps of an execution that have read their lists, in the order of their tasks. Reads nothing if the
    /// workflow has no maps.
    ///
    /// # Errors
    /// `Database` or `Connection` when the database fails or does not answer.
    pub fn maps_of(&self, execution: &Execution) -> Result<Vec<MapRow>, Error> {
        let tasks = &execution.workflow().definition().tasks;
        if !tasks.iter().any(|task| task.over.is_some()) {
            return Ok(Vec::new());
        }
        Ok(self.store.maps(&[execution.record().id])?)
    }

    /// Returns the maps of an execution that have read their lists, each with the id of its task.
    ///
    /// # Errors
    /// `ExecutionNotFound`; `Database` or `Connection`.
    pub fn maps(&self, id: ExecutionId) -> Result<Vec<(String, MapRow)>, Error> {
        let execution = self.execution(id)?;
        let named = self.maps_of(&execution)?.into_iter().map(|row| {
            let name = execution.workflow().task(row.task).id.clone();
            (name, row)
        });
        Ok(named.collect())
    }

    /// Counts the items of the maps `maps` in each state, by the names of workflow and task. Maps that have ended are left
    /// out. The counts of several maps of the same task are added up.
    ///
    /// # Errors
    /// `Database` or `Connection` when the database fails or does not answer.
    pub fn map_states(
        &self,
        maps: &[(ExecutionId, Ordinal)],
    ) -> Result<BTreeMap<(String, String), ItemCounts>, Error> {
        let mut states: BTreeMap<_, ItemCounts> = BTreeMap::new();
        let mut ids: Vec<ExecutionId> = maps.iter().map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids.dedup();
        let rows = if ids.is_empty() {
            Vec::new()
        } else {
            self.store.maps(&ids)?
        };
        for row in rows {
            let is_asked = maps.contains(&(row.execution, row.task));
            if !is_asked || row.state == MapState::Ended {
                continue;
            }
            let workflow = self.definition_of(row.definition, row.execution)?;
            let key = (
                workflow.name().to_owned(),
                workflow.task(row.task).id.clone(),
            );
            let counted = row.states();
            let sums = states
                .entry(key)
                .or_insert_with(|| counted.map(|(state, _)| (state, 0)));
            for ((_, sum), (_, count)) in sums.iter_mut().zip(counted) {
                *sum += u64::from(count);
            }
        }
        Ok(states)
    }

    /// Changes a running map's limit on concurrent items (K5). `None`: as many items run as there are workers.
    ///
    /// # Errors
    /// `ExecutionNotFound`; `TaskInvalid` for a task that is not a map, or if `parallel` is 0; `ExecutionState` for a map that
    /// has not read its list or has ended; `Database` or `Connection`.
    pub fn set_map(&self, id: ExecutionId, task: &str, parallel: Option<u32>) -> Result<(), Error> {
        let (_, ordinal) = self.map_task(id, task)?;
        if parallel == Some(0) {
            let text = format!("the limit `parallel` of map '{task}' must be at least 1, not 0");
            return Err(Error::new(ErrorCode::TaskInvalid, text)
                .with_hint("pause the execution so that no further item starts"));
        }
        if self.store.set_map(id, ordinal, parallel)? {
            self.notify_runners();
            return Ok(());
        }
        let text = format!("map '{task}' of execution {id} is not running");
        Err(Error::new(ErrorCode::ExecutionState, text))
    }
}
