//! The routes that list the items of a map and change a running map (semantics K).

use cloacina::runtime::Ended;
use cloacina::types::{ItemRecord, Json, MapRow};
use cloacina::{Error, ErrorCode, TaskStatus};
use serde::Deserialize;
use utoipa::ToSchema;

use super::schedule_changes::given;
use super::tasks::{ordinal, texts};
use super::{CURSOR, LIMIT, MAX_PAGE};
use crate::access::Permission::{Control, View};
use crate::call::{Call, Reply};
use crate::cursor::{IndexedPage, PagePosition};
use crate::operation::{Operation, Parameter};
use crate::problem::Problem;
use crate::query::shown;
use crate::views::Page;
use crate::views::map::{ItemView, MapView};

/// The names of the states that an item can have.
const STATES: &[&str] = &[
    "Pending",
    "Ready",
    "Running",
    "Completed",
    "Failed",
    "Skipped",
    "Cancelled",
];

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get(
            "/executions/{id}/tasks/{task}/items",
            View,
            "listItems",
            "List the items of a map",
            list,
        )
        .about("The items are in the order of the map's list. Their values are shown only with `view_payloads`.")
        .with([
            Parameter::words("status", STATES, "Only items in one of these states.").repeated(),
            LIMIT,
            CURSOR,
        ])
        .returns_page::<ItemView>("The items."),
        Operation::patch(
            "/executions/{id}/tasks/{task}/map",
            Control,
            "changeMap",
            "Change how many items of a running map run at once",
            change,
        )
        .about(
            "The limit applies to all runners together; null removes the limit. Running items continue, so a lower limit \
             takes effect when enough items have ended. The answer is 409 if the map has not started or has ended.",
        )
        .takes::<MapChange>()
        .returns::<MapView>(200, "The counts of the map's items."),
    ]
}

/// A change of a running map.
#[expect(
    clippy::option_option,
    reason = "a member that is null differs from one that is left out"
)]
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct MapChange {
    /// Maximum number of items that run at once, at least 1; null for no limit.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u32>, minimum = 1)]
    parallel: Option<Option<u32>>,
}

/// Returns the rows of an execution's maps, except maps whose list has not been read yet.
pub(super) fn rows(call: &Call<'_>, execution: &Ended) -> Result<Vec<MapRow>, Problem> {
    Ok(call.inspector.maps_of(execution)?)
}

fn list(call: &Call<'_>) -> Result<Reply, Problem> {
    let place = PagePosition::of(&call.query)?;
    let limit = call.query.number("limit", 50, 1..=MAX_PAGE)?;
    let statuses = call
        .query
        .distinct("status")
        .map(|name| state(name).map(Some));
    let mut statuses: Vec<Option<TaskStatus>> = statuses.collect::<Result<_, _>>()?;
    if statuses.is_empty() {
        statuses.push(None);
    }
    // Each status is read at another time. An item that advances meanwhile is found in its later status, so it is not missed.
    statuses.sort_by_key(|status| status.map(TaskStatus::code));
    let execution = call.inspector.execution(call.execution_id()?)?;
    let id = execution.record().id;
    let task = ordinal(call, &execution)?;
    let task = &execution.workflow().task(task).id;
    let index = |index: usize| u32::try_from(index).unwrap_or(u32::MAX);
    let before = |end: usize, limit: usize| -> Result<Vec<_>, Error> {
        let mut items = Vec::new();
        for status in &statuses {
            let inspector = &call.inspector;
            items.extend(inspector.items_before(id, task, *status, index(end), limit)?);
        }
        sort(&mut items);
        items.drain(..items.len().saturating_sub(limit));
        Ok(items)
    };
    let (items, next, prev) = match place {
        PagePosition::From(start) => {
            let (mut items, mut has_more) = (Vec::new(), false);
            for status in &statuses {
                let page = (call.inspector).items(id, task, *status, index(start), limit)?;
                has_more |= page.next.is_some();
                items.extend(page.items);
            }
            sort(&mut items);
            has_more |= items.len() > limit;
            items.truncate(limit);
            let first = items.first().map_or(start, |item| item.item as usize);
            let precedes = start > 0 && !before(first, 1)?.is_empty();
            let last = items.last().map(|item| item.item as usize);
            let next = last.filter(|_| has_more);
            (items, next, precedes.then_some(first))
        }
        PagePosition::Before(end) => {
            // Reads one item more than the page has, to know whether a previous page exists.
            let mut items = before(end, limit + 1)?;
            let precedes = items.len() > limit;
            if precedes {
                items.remove(0);
            }
            let first = items.first().map_or(end, |item| item.item as usize);
            let last = (items.last()).map_or(end.saturating_sub(1), |item| item.item as usize);
            (items, Some(last), precedes.then_some(first))
        }
    };
    let window = IndexedPage { items, next, prev };
    let page = window.into_page(&call.query);
    let shows_values = call.may_view_payloads();
    let views = page
        .items
        .iter()
        .map(|item| ItemView::new(item, shows_values));
    let answer = Page {
        items: views.collect::<Result<Vec<_>, _>>()?,
        next: page.next,
        prev: page.prev,
    };
    let reply = Reply::page(call, &answer)?;
    let contexts = texts(&execution);
    let results = (page.items.iter()).filter_map(|item| item.result.as_ref().map(Json::as_str));
    let secrets = contexts.iter().map(String::as_str).chain(results);
    Ok(reply.redacted_by(call.redactor().with_secrets_of(secrets)))
}

/// Sorts the items that were read status by status. Of an item that was read twice, only the later status remains.
fn sort(items: &mut Vec<ItemRecord>) {
    items.reverse();
    items.sort_by_key(|item| item.item);
    items.dedup_by_key(|item| item.item);
}

fn state(name: &str) -> Result<TaskStatus, Problem> {
    let known = name.parse().ok().filter(|_| STATES.contains(&name));
    known.ok_or_else(|| {
        let detail = format!("'{}' is not one of {}", shown(name), STATES.join(", "));
        Problem::invalid("status", detail)
    })
}

fn change(call: &Call<'_>) -> Result<Reply, Problem> {
    let request: MapChange = call.decode()?;
    let parallel = request.parallel.ok_or_else(|| {
        let detail = "the member is missing; give a number, or null for no limit";
        Problem::invalid("/parallel", detail)
    })?;
    if parallel == Some(0) {
        let detail = "the limit must be at least 1, not 0; pause the execution to stop its items";
        return Err(Problem::invalid("/parallel", detail));
    }
    let execution = call.inspector.execution(call.execution_id()?)?;
    let id = execution.record().id;
    call.check_revision(id)?;
    let task = ordinal(call, &execution)?;
    let name = &execution.workflow().task(task).id;
    call.inspector
        .set_map(id, name, parallel)
        .map_err(|error: Error| {
            let is_state = error.code == ErrorCode::ExecutionState;
            let current = call.inspector.status(id).ok().filter(|_| is_state);
            let problem = Problem::from(error);
            match current {
                Some(current) => problem.current(current),
                None => problem,
            }
        })?;
    call.note_change("change map", &format!("{name} of {id}"));
    let rows = rows(call, &execution)?;
    let row = rows.iter().find(|row| row.task == task);
    let row = row.ok_or_else(|| Problem::new("not_found", "the execution was deleted"))?;
    Reply::json(&MapView::new(row))
}
