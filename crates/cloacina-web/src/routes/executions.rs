//! The routes that list, show and delete executions.

use cloacina::runner::ListFilter;
use cloacina::runtime::Ended;
use cloacina::types::Masking;
use cloacina::{ErrorCode, ExecutionId, ExecutionStatus, RunnerId, ScheduleId};
use serde::Serialize;
use utoipa::ToSchema;

use super::schedules::Nothing;
use super::{LIMIT, MAX_PAGE};
use crate::access::Permission::{Delete, View, ViewPayloads};
use crate::call::{Call, Reply};
use crate::cursor;
use crate::operation::{Operation, Parameter};
use crate::problem::Problem;
use crate::query::{Query, shown};
use crate::redact::MASK;
use crate::views::execution::{ChildView, ExecutionSummary, ExecutionView};
use crate::views::{Page, time};

/// The names of the states of an execution.
const STATES: &[&str] = &[
    "Pending",
    "Running",
    "Paused",
    "Completed",
    "Failed",
    "Cancelled",
];

/// The query parameters that select executions.
pub(super) const FILTER: &[Parameter] = &[
    Parameter::words("status", STATES, "Only executions in one of these states.").repeated(),
    Parameter::words(
        "-status",
        STATES,
        "Only executions in none of these states.",
    )
    .repeated(),
    Parameter::text("workflow", "Only executions of one of these workflows.").repeated(),
    Parameter::text(
        "version",
        "Only executions of workflow versions that begin with one of these texts.",
    )
    .repeated(),
    Parameter::text("key", "Only executions submitted with one of these keys.").repeated(),
    Parameter::text("label.K", "Only executions whose label K has this value.").repeated(),
    Parameter::text(
        "tag.K",
        "Only executions of workflows whose tag K has this value.",
    )
    .repeated(),
    Parameter::text(
        "id",
        "Only executions whose id begins with one of these texts.",
    )
    .repeated(),
    Parameter::text(
        "error",
        "Only executions whose error contains one of these texts in its type or message, ignoring case. Masked secrets are not \
         found.",
    )
    .repeated(),
    Parameter::text(
        "input.PATH",
        "Only executions whose input has this value at a path of keys; needs `view_payloads`.",
    )
    .repeated(),
    Parameter::time(
        "since",
        "Only executions submitted at or after this time. A span like 24h means that long before now.",
    ),
    Parameter::time(
        "until",
        "Only executions submitted before this time. A span like 24h means that long before now.",
    ),
    Parameter::id(
        "schedule",
        "Only executions started by one of these schedules.",
    )
    .repeated(),
    Parameter::id(
        "parent",
        "Only children of one of these executions; if omitted, only executions that are not children.",
    )
    .repeated(),
    Parameter::id(
        "runner",
        "Only executions with a task that one of these runners has claimed.",
    )
    .repeated(),
];

pub(super) fn operations() -> Vec<Operation> {
    let cursor = Parameter::text("cursor", "A page's `next` or `prev`, with the same filter.");
    vec![
        Operation::get("/executions", View, "listExecutions", "List executions, newest first", list)
            .about(
                "An execution matches a repeated parameter if it matches any of the values, and it must match all parameters. \
                 If no index covers the conditions, a request examines a limited number of executions: `scanned_until` says how \
                 far back it has searched, and `next` continues from there.",
            )
            .with(FILTER.iter().copied())
            .with([LIMIT, cursor])
            .returns::<ExecutionPage>(200, "A page of executions."),
        Operation::get("/executions/{id}", View, "getExecution", "Show an execution", show)
            .about(
                "The entity tag begins with the revision, which grows with every change, except the start of a claimed task and \
                 changes of map items. While the execution is open, a hyphen and a hash of the answer follow.",
            )
            .returns::<ExecutionView>(200, "The execution."),
        Operation::delete("/executions/{id}", Delete, "deleteExecution", "Delete an execution that has ended", delete)
            .about(
                "Its history, its logs and all its data are deleted too. The answer is 409 for an open execution, for an \
                 execution with an open child or open final tasks, and for a child whose parent is still stored: delete the parent first.",
            )
            .returns_nothing(204, "The execution is deleted."),
        Operation::get("/executions/{id}/children", View, "listChildren", "List the children of an execution", children)
            .about("Lists the executions that the execution's tasks started, newest first, without children of children.")
            .with([
                Parameter::words("status", STATES, "Only children in one of these states.").repeated(),
                LIMIT,
                cursor,
            ])
            .returns_page::<ChildView>("The children."),
    ]
}

/// A page of executions.
#[derive(Debug, Serialize, ToSchema)]
struct ExecutionPage {
    /// The executions, newest first.
    items: Vec<ExecutionSummary>,
    /// The cursor of the next page, which has older executions; null on the last page.
    next: Option<String>,
    /// The cursor of the previous page, which has newer executions; null on the first page.
    prev: Option<String>,
    /// When the last examined execution was submitted, if the search stopped before the page was full.
    #[schema(format = DateTime)]
    scanned_until: Option<String>,
    /// The number of executions that were examined, if the search stopped before the page was full.
    scanned: Option<u64>,
}

fn state(name: &str, value: &str) -> Result<ExecutionStatus, Problem> {
    value.parse().map_err(|()| {
        let detail = format!("'{}' is not one of {}", shown(value), STATES.join(", "));
        Problem::invalid(name, detail)
    })
}

fn owned(values: impl Iterator<Item = impl Into<String>>) -> Vec<String> {
    values.map(Into::into).collect()
}

fn pairs<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<(String, String)> {
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// Whether a text is the beginning of an id. The dashes may be left out.
fn begins_an_id(text: &str) -> bool {
    let mut digits = text.bytes().filter(|byte| *byte != b'-').peekable();
    digits.peek().is_some()
        && digits.clone().count() <= 32
        && digits.all(|byte| byte.is_ascii_hexdigit())
}

/// Maximum number of combinations of values of the parameters that the engine's filter can have only once.
const MAX_FILTERS: usize = 20;

/// Returns the filters for each combination of a filter of `filters` and a value. Without values, returns `filters`.
fn each_with<T: Clone>(
    filters: Vec<ListFilter>,
    values: &[T],
    set: impl Fn(&mut ListFilter, T),
) -> Result<Vec<ListFilter>, Problem> {
    if values.is_empty() {
        return Ok(filters);
    }
    if filters.len() * values.len() > MAX_FILTERS {
        let detail = format!(
            "the repeated parameters id, error, schedule, parent and runner have more than {MAX_FILTERS} combinations"
        );
        return Err(Problem::new("bad_request", detail).hint("send several requests"));
    }
    let with = |filter: &ListFilter, value: &T| {
        let mut filter = filter.clone();
        set(&mut filter, value.clone());
        filter
    };
    let each = filters
        .iter()
        .flat_map(|filter| values.iter().map(move |value| with(filter, value)));
    Ok(each.collect())
}

/// Returns the filters that a query describes. An execution matches the query if it matches one of the filters.
pub(super) fn filters_of(call: &Call<'_>, query: &Query) -> Result<Vec<ListFilter>, Problem> {
    let parents: Vec<ExecutionId> = query.ids("parent")?;
    let schedules: Vec<ScheduleId> = query.ids("schedule")?;
    let runners: Vec<RunnerId> = query.ids("runner")?;
    let prefixes: Vec<String> = query.distinct("id").map(str::to_lowercase).collect();
    if let Some(prefix) = prefixes.iter().find(|prefix| !begins_an_id(prefix)) {
        let prefix = shown(prefix);
        let detail = format!("'{prefix}' is not the beginning of an id; an id is a UUID");
        return Err(Problem::invalid("id", detail));
    }
    let errors = owned(query.distinct("error"));
    let mut filters = vec![filter_of(call, query)?];
    filters = each_with(filters, &parents, |filter, id| filter.parent = Some(id))?;
    filters = each_with(filters, &schedules, |filter, id| filter.schedule = Some(id))?;
    filters = each_with(filters, &runners, |filter, id| filter.runner = Some(id))?;
    filters = each_with(filters, &prefixes, |filter, id| filter.id_prefix = Some(id))?;
    each_with(filters, &errors, |filter, text| filter.error = Some(text))
}

/// Returns the filter that a query describes, without the conditions that `filters_of` adds.
fn filter_of(call: &Call<'_>, query: &Query) -> Result<ListFilter, Problem> {
    let now = call.inspector.now();
    let keys = owned(query.all("key"));
    let inputs = pairs(query.below("input"));
    if !inputs.is_empty() && !call.may_view_payloads() {
        let name = ViewPayloads.name();
        let detail = format!("a search in inputs needs the permission '{name}'");
        return Err(Problem::new("forbidden", detail));
    }
    let redactor = call.redactor();
    let is_secret = |path: &str| path.split('.').any(|key| redactor.is_secret(key));
    // The value itself may be an object with secret keys.
    let has_secret = |value: &str| redactor.json(value).contains(MASK) && !value.contains(MASK);
    let is_redacted = |(path, value): &(String, String)| is_secret(path) || has_secret(value);
    let labels = pairs(query.below("label"));
    if inputs.iter().any(is_redacted) || labels.iter().any(|(name, _)| redactor.is_secret(name)) {
        return Err(Problem::new(
            "forbidden",
            "keys whose values are redacted cannot be searched",
        ));
    }
    Ok(ListFilter {
        workflows: owned(query.all("workflow")),
        versions: owned(query.all("version")),
        statuses: query
            .all("status")
            .map(|value| state("status", value))
            .collect::<Result<_, _>>()?,
        not_statuses: query
            .all("-status")
            .map(|value| state("-status", value))
            .collect::<Result<_, _>>()?,
        tags: pairs(query.below("tag")),
        labels,
        keys: (!keys.is_empty()).then_some(keys),
        masking: Some(Masking::new(move |text| redactor.prose(text))),
        inputs,
        since: query.time("since", now)?,
        until: query.time("until", now)?,
        limit: query.number("limit", 50, 1..=MAX_PAGE)?,
        ..ListFilter::default()
    })
}

fn list(call: &Call<'_>) -> Result<Reply, Problem> {
    let mut filters = filters_of(call, &call.query)?;
    let condition = cursor::condition(&call.query);
    if let Some(text) = call.query.get("cursor") {
        for filter in &mut filters {
            cursor::apply(text, &condition, filter)?;
        }
    }
    let page = call.inspector.list_any(&filters)?;
    let next = page.next.map(|id| cursor::next(id, &condition));
    let prev = page.prev.map(|id| cursor::prev(id, &condition));
    let reply = Reply::json(&ExecutionPage {
        items: page.items.iter().map(ExecutionSummary::listed).collect(),
        next: next.clone(),
        prev: prev.clone(),
        scanned_until: page.scanned.map(|scanned| time(scanned.until)),
        scanned: page.scanned.map(|scanned| scanned.examined),
    })?;
    Ok(reply.links(call, next.as_deref(), prev.as_deref()))
}

/// Returns the view of an execution, with its labels and the link to its trace.
pub(super) fn view(call: &Call<'_>, execution: &Ended) -> Result<ExecutionView, Problem> {
    let id = execution.record().id;
    let labels = call.inspector.labels(id)?;
    Ok(ExecutionView::new(
        execution,
        &labels,
        super::traces::url(call, id)?,
    ))
}

fn show(call: &Call<'_>) -> Result<Reply, Problem> {
    let id = call.execution_id()?;
    let execution = call.inspector.execution(id)?;
    let redactor = super::tasks::redactor(call, &execution);
    let reply = Reply::json(&view(call, &execution)?)?;
    Ok(reply
        .etag(execution.record().revision)
        .hashed_if(!execution.record().status.is_terminal())
        .redacted_by(redactor))
}

fn delete(call: &Call<'_>) -> Result<Reply, Problem> {
    let Nothing {} = call.decode()?;
    let id = call.execution_id()?;
    call.check_revision(id)?;
    call.inspector.delete(id).map_err(|error| {
        let is_state = error.code == ErrorCode::ExecutionState;
        let current = call.inspector.status(id).ok().filter(|_| is_state);
        let problem = Problem::from(error);
        match current {
            Some(current) => problem.current(current),
            None => problem,
        }
    })?;
    call.note_change("delete execution", &id.to_string());
    Ok(Reply::nothing())
}

fn children(call: &Call<'_>) -> Result<Reply, Problem> {
    let id = call.execution_id()?;
    let parents = call.inspector.summaries(&[id])?;
    let Some(parent) = parents.first() else {
        return Err(cloacina::Error::unknown_execution(id).into());
    };
    let statuses = call.query.all("status");
    let statuses = statuses.map(|value| state("status", value));
    let mut filter = ListFilter {
        parent: Some(id),
        statuses: statuses.collect::<Result<_, _>>()?,
        limit: call.query.number("limit", 50, 1..=MAX_PAGE)?,
        ..ListFilter::default()
    };
    let condition = cursor::condition(&call.query);
    if let Some(text) = call.query.get("cursor") {
        cursor::apply(text, &condition, &mut filter)?;
    }
    let page = call.inspector.list(&filter)?;
    let items = page
        .items
        .iter()
        .map(|item| ChildView::new(item, parent.workflow()));
    let page = Page {
        items: items.collect(),
        next: page.next.map(|id| cursor::next(id, &condition)),
        prev: page.prev.map(|id| cursor::prev(id, &condition)),
    };
    Reply::page(call, &page)
}
