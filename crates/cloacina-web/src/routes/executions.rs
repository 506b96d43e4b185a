//! Lists of executions, and single ones.

use cloacina::runner::ListFilter;
use cloacina::runtime::Ended;
use cloacina::{ErrorCode, ExecutionId, ExecutionStatus, RunnerId, ScheduleId};
use serde::Serialize;
use utoipa::ToSchema;

use super::{LIMIT, MAX_PAGE};
use crate::access::Permission::{Delete, View, ViewPayloads};
use crate::call::{Call, Reply};
use crate::cursor;
use crate::operation::{Operation, Parameter};
use crate::problem::Problem;
use crate::query::Query;
use crate::views::execution::{ChildView, ExecutionSummary, ExecutionView};
use crate::views::{Page, time};

/// The names of the states.
const STATES: &[&str] = &[
    "Pending",
    "Running",
    "Paused",
    "Completed",
    "Failed",
    "Cancelled",
];

/// The conditions of a list.
pub(super) const FILTER: &[Parameter] = &[
    Parameter::words("status", STATES, "Only in one of these states.").repeated(),
    Parameter::words("-status", STATES, "Only in none of these states.").repeated(),
    Parameter::text("workflow", "Only of one of these workflows.").repeated(),
    Parameter::text(
        "version",
        "Only of the versions that begin with one of these texts.",
    )
    .repeated(),
    Parameter::text("key", "Only submitted with one of these keys.").repeated(),
    Parameter::text("label.K", "Only with this value of the label K.").repeated(),
    Parameter::text("tag.K", "Only of workflows whose tag K has this value.").repeated(),
    Parameter::text("id", "Only those whose id begins with this text."),
    Parameter::text(
        "error",
        "Only those whose error has this text in its type or message, ignoring case.",
    ),
    Parameter::text(
        "input.PATH",
        "Only those whose input has this value at a path of keys; needs `view_payloads`.",
    )
    .repeated(),
    Parameter::time(
        "since",
        "Only submitted at or after this time, or span before now.",
    ),
    Parameter::time(
        "until",
        "Only submitted before this time, or span before now.",
    ),
    Parameter::id("schedule", "Only started by this schedule."),
    Parameter::id(
        "parent",
        "Only children of this execution; if omitted, only executions that are not children.",
    ),
    Parameter::id(
        "runner",
        "Only executions with tasks that this runner is running.",
    ),
];

pub(super) fn operations() -> Vec<Operation> {
    let cursor = Parameter::text("cursor", "A page's `next` or `prev`, with the same filter.");
    vec![
        Operation::get("/executions", View, "listExecutions", "List executions, newest first", list)
            .about(
                "A repeated parameter means any of its values, and different parameters must all match. A search that no index \
                 answers looks at a limited number of executions for each request; `scanned_until` then says how far back it \
                 looked, and `next` continues there.",
            )
            .with(FILTER.iter().copied())
            .with([LIMIT, cursor])
            .returns::<ExecutionPage>(200, "A page of executions."),
        Operation::get("/executions/{id}", View, "getExecution", "Show an execution", show)
            .about("The entity tag is the revision, which grows with every change.")
            .returns::<ExecutionView>(200, "The execution."),
        Operation::delete("/executions/{id}", Delete, "deleteExecution", "Delete an execution that has ended", delete)
            .about(
                "With its history, its logs and all its data. The answer is 409 for an open execution, and for a child of \
                 a stored execution, which is deleted after its parent.",
            )
            .returns_nothing(204, "The execution is deleted."),
        Operation::get("/executions/{id}/children", View, "listChildren", "List the children of an execution", children)
            .about("The executions that its tasks have started, newest first, without children of children.")
            .with([
                Parameter::words("status", STATES, "Only in one of these states.").repeated(),
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
    /// The cursor of the next page, which has older executions; null at the end.
    next: Option<String>,
    /// The cursor of the page before, which has newer executions; null at the start.
    prev: Option<String>,
    /// How far back the search looked, if it ended before the page was full.
    #[schema(format = DateTime)]
    scanned_until: Option<String>,
    /// The number of executions that such a search has examined.
    scanned: Option<u64>,
}

fn state(name: &str, value: &str) -> Result<ExecutionStatus, Problem> {
    let refused = |()| Problem::invalid(name, format!("it must be one of {}", STATES.join(", ")));
    value.parse().map_err(refused)
}

fn owned(values: impl Iterator<Item = impl Into<String>>) -> Vec<String> {
    values.map(Into::into).collect()
}

fn pairs<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<(String, String)> {
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// The filter that a query describes.
pub(super) fn filter_of(call: &Call<'_>, query: &Query) -> Result<ListFilter, Problem> {
    let now = call.inspector.now();
    let keys = owned(query.all("key"));
    let inputs = pairs(query.below("input"));
    if !inputs.is_empty() && !call.may_view_payloads() {
        let name = ViewPayloads.name();
        let detail = format!("a search in inputs needs the permission '{name}'");
        return Err(Problem::new("forbidden", detail));
    }
    let is_secret = |path: &str| path.split('.').any(|key| call.redactor().is_secret(key));
    if inputs.iter().any(|(path, _)| is_secret(path)) {
        return Err(Problem::new(
            "forbidden",
            "a search for the value of a redacted key is refused",
        ));
    }
    let parent: Option<ExecutionId> = query.id("parent")?;
    let schedule: Option<ScheduleId> = query.id("schedule")?;
    let runner: Option<RunnerId> = query.id("runner")?;
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
        labels: pairs(query.below("label")),
        keys: (!keys.is_empty()).then_some(keys),
        id_prefix: query.get("id").map(str::to_lowercase),
        error: query.get("error").map(str::to_owned),
        inputs,
        schedule,
        parent,
        runner,
        since: query.time("since", now)?,
        until: query.time("until", now)?,
        limit: query.number("limit", 50, 1..=MAX_PAGE)?,
        ..ListFilter::default()
    })
}

fn list(call: &Call<'_>) -> Result<Reply, Problem> {
    let mut filter = filter_of(call, &call.query)?;
    let condition = cursor::condition(&call.query);
    if let Some(text) = call.query.get("cursor") {
        cursor::apply(text, &condition, &mut filter)?;
    }
    let page = call.inspector.list(&filter)?;
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

/// An execution with its labels and the link to its trace.
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
        .redacted_by(redactor))
}

fn delete(call: &Call<'_>) -> Result<Reply, Problem> {
    let id = call.execution_id()?;
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
