//! The routes for an execution's events, log lines and progress, and for the explanation of its state.

use cloacina::runtime::Ended;
use cloacina::types::LogLine;

use super::{AFTER, CURSOR, LIMIT, MAX_PAGE};
use crate::access::Permission::View;
use crate::call::{Call, Reply};
use crate::cursor::{IndexedPage, PagePosition, first_index};
use crate::operation::{Operation, Parameter};
use crate::problem::Problem;
use crate::query::{Query, shown};
use crate::views::Page;
use crate::views::explain::ReasonView;
use crate::views::history::{EventView, LogView, ProgressView};

/// Maximum number of log lines on a page.
const MAX_LINES: usize = 1_000;

/// The names of the levels of log lines, each with its severity.
const LEVELS: &[(&str, usize)] = &[
    ("DEBUG", 10),
    ("INFO", 20),
    ("WARNING", 30),
    ("ERROR", 40),
    ("CRITICAL", 50),
];

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get(
            "/executions/{id}/events",
            View,
            "listEvents",
            "List the history of an execution",
            events,
        )
        .about("The oldest event comes first. Values that steps returned are shown only with `view_payloads`.")
        .with([AFTER, LIMIT, CURSOR])
        .returns_page::<EventView>("The events."),
        Operation::get(
            "/executions/{id}/logs",
            View,
            "listLogs",
            "List the log lines of an execution",
            logs,
        )
        .about("The oldest line comes first. The list is empty if the execution's runners do not capture logs.")
        .with([
            Parameter::text("task", "Only lines of one of these tasks.").repeated(),
            Parameter::number(
                "attempt",
                1,
                u32::MAX as usize,
                "Only lines of one of these attempts.",
            )
            .repeated(),
            Parameter::text(
                "level",
                "Only lines of at least this severity: DEBUG, INFO, WARNING, ERROR, CRITICAL, or a number from 0 to 100, such as \
                 30 for WARNING.",
            ),
            Parameter::text("q", "Only lines that contain one of these texts, ignoring case.").repeated(),
            AFTER,
            Parameter::number(
                "limit",
                1,
                MAX_LINES,
                "Maximum number of lines; default: 200.",
            ),
            CURSOR,
        ])
        .returns_page::<LogView>("The log lines."),
        Operation::get(
            "/executions/{id}/progress",
            View,
            "getProgress",
            "Show the progress of running tasks",
            progress,
        )
        .returns_page::<ProgressView>("The latest progress of each task that reported any."),
        Operation::get(
            "/executions/{id}/explain",
            View,
            "explainExecution",
            "Explain the state of an execution",
            explain,
        )
        .about("Lists the reasons why the execution waits, runs or has ended. The most important reason comes first.")
        .returns_page::<ReasonView>("The reasons."),
    ]
}

fn reply<T: serde::Serialize>(
    call: &Call<'_>,
    execution: &Ended,
    page: &Page<T>,
) -> Result<Reply, Problem> {
    let redactor = super::tasks::redactor(call, execution);
    Ok(Reply::page(call, page)?.redacted_by(redactor))
}

fn events(call: &Call<'_>) -> Result<Reply, Problem> {
    let (place, first) = (PagePosition::of(&call.query)?, first_index(&call.query)?);
    let limit = call.query.number("limit", 50, 1..=MAX_PAGE)?;
    let (execution, events) = call.inspector.history(call.execution_id()?)?;
    let shows_values = call.may_view_payloads();
    let events = events.into_iter().enumerate().skip(first).map(indexed);
    let window = IndexedPage::of(events, place, limit);
    let page = window.into_page(&call.query);
    let items = page.items.into_iter();
    let items = items.map(|(index, event)| EventView::new(index, event, &execution, shows_values));
    let page = Page {
        items: items.collect::<Result<Vec<_>, _>>()?,
        next: page.next,
        prev: page.prev,
    };
    reply(call, &execution, &page)
}

/// Adds a second copy of the index to an item, because the items of an [`IndexedPage`] do not keep the first copy.
fn indexed<T>((index, item): (usize, T)) -> (usize, (usize, T)) {
    (index, (index, item))
}

/// Returns the least severity of the log lines that a query asks for.
fn level(query: &Query) -> Result<usize, Problem> {
    let Some(text) = query.get("level") else {
        return Ok(0);
    };
    let mut levels = LEVELS.iter();
    let named = levels.find(|(name, _)| name.eq_ignore_ascii_case(text));
    let level = named.map(|(_, level)| *level);
    let number = || text.parse().ok().filter(|level| *level <= 100);
    level.or_else(number).ok_or_else(|| {
        let names: Vec<_> = LEVELS.iter().map(|(name, _)| *name).collect();
        let (text, names) = (shown(text), names.join(", "));
        let detail = format!("'{text}' is neither one of {names} nor a whole number from 0 to 100");
        Problem::invalid("level", detail)
    })
}

fn logs(call: &Call<'_>) -> Result<Reply, Problem> {
    let (place, first) = (PagePosition::of(&call.query)?, first_index(&call.query)?);
    let limit = call.query.number("limit", 200, 1..=MAX_LINES)?;
    let attempts = call.query.numbers("attempt", 1..=u32::MAX as usize)?;
    let level = level(&call.query)?;
    let texts: Vec<String> = call.query.all("q").map(str::to_lowercase).collect();
    let tasks: Vec<&str> = call.query.all("task").collect();
    let (execution, chunks) = call.inspector.logs(call.execution_id()?)?;
    // The masked text, which the caller would see, must match too. Otherwise, a caller could find out a masked secret
    // letter by letter.
    let redactor = super::tasks::redactor(call, &execution);
    let has_text = |line: &LogLine, text: &str| {
        line.message.to_lowercase().contains(text)
            && redactor.prose(&line.message).to_lowercase().contains(text)
    };
    let mut lines = Vec::new();
    for chunk in chunks {
        let task = &execution.workflow().task(chunk.task).id;
        for line in chunk.lines {
            lines.push((task, chunk.attempt, line));
        }
    }
    let matching = lines
        .into_iter()
        .enumerate()
        .filter(|(_, (of, number, line))| {
            (tasks.is_empty() || tasks.contains(&of.as_str()))
                && (attempts.is_empty() || attempts.contains(&(*number as usize)))
                && usize::try_from(line.level).unwrap_or(0) >= level
                && (texts.is_empty() || texts.iter().any(|text| has_text(line, text)))
        });
    let views = matching
        .map(|(index, (task, attempt, line))| (index, LogView::new(index, task, attempt, line)));
    let views = views.filter(|(index, _)| *index >= first);
    let page = IndexedPage::of(views, place, limit).into_page(&call.query);
    reply(call, &execution, &page)
}

fn progress(call: &Call<'_>) -> Result<Reply, Problem> {
    let (execution, reports) = call.inspector.progress(call.execution_id()?)?;
    let items = reports
        .into_iter()
        .map(|report| ProgressView::new(report, &execution));
    reply(call, &execution, &Page::whole(items.collect()))
}

fn explain(call: &Call<'_>) -> Result<Reply, Problem> {
    let id = call.execution_id()?;
    let reasons = call.inspector.explain(id, &[])?;
    let now = call.inspector.now();
    let items = reasons
        .iter()
        .map(|reason| ReasonView::new(reason, now))
        .collect();
    let execution = call.inspector.execution(id)?;
    reply(call, &execution, &Page::whole(items))
}
