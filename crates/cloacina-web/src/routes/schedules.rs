//! Schedules and triggers.

use axum::http::StatusCode;
use cloacina::runner::cron_preview;
use cloacina::types::{ScheduleKind, ScheduleRecord};
use cloacina::{Error, ErrorCode, Timestamp};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{CURSOR, LIMIT, MAX_PAGE};
use crate::access::Permission::{Schedule, Start, View};
use crate::call::{Call, Reply};
use crate::operation::{Operation, Parameter};
use crate::problem::Problem;
use crate::views::Page;
use crate::views::explain::ReasonView;
use crate::views::schedule::{FiringView, RunNow, ScheduleView, TickView};

/// Maximum number of schedules that a list of firings looks at.
const MAX_SCHEDULES: usize = 1_000;
/// Maximum number of firings of one schedule in a list, and of a preview.
const MAX_FIRINGS: usize = 100;

#[expect(clippy::too_many_lines, reason = "a table of routes")]
pub(super) fn operations() -> Vec<Operation> {
    let offset = Parameter::number(
        "after",
        0,
        u32::MAX as usize,
        "The number of items to leave out: a page's `next`.",
    );
    let kind = Parameter::words(
        "kind",
        &["cron", "trigger"],
        "Schedules or triggers; default: cron.",
    );
    vec![
        Operation::get(
            "/schedules",
            View,
            "listSchedules",
            "List schedules or triggers, oldest first",
            list,
        )
        .with([
            kind,
            Parameter::flag("enabled", "Whether to leave out disabled ones."),
            LIMIT,
            offset,
            CURSOR,
        ])
        .returns_page::<ScheduleView>("The schedules."),
        Operation::get(
            "/schedules/firings",
            View,
            "listFirings",
            "List the next firings of all schedules",
            firings,
        )
        .with([
            Parameter::time("from", "The start of the time range; default: now."),
            Parameter::text(
                "to",
                "The end of the time range; default: a day after its start.",
            ),
        ])
        .returns_page::<FiringView>(
            "The firings in the order of their times, at most 100 of each schedule.",
        ),
        Operation::get(
            "/schedules/preview",
            View,
            "previewCron",
            "List the next times of a cron expression",
            preview,
        )
        .with([
            Parameter::text("expression", "The cron expression.").required(),
            Parameter::text("timezone", "The IANA time zone; default: UTC."),
            Parameter::number("count", 1, MAX_FIRINGS, "The number of times; default: 5."),
        ])
        .returns_page::<FiringView>("The times."),
        Operation::get(
            "/schedules/{id}",
            View,
            "getSchedule",
            "Show a schedule",
            show,
        )
        .returns::<ScheduleView>(200, "The schedule."),
        Operation::get(
            "/schedules/{id}/ticks",
            View,
            "listTicks",
            "List the ticks of a schedule, newest first",
            ticks,
        )
        .with([LIMIT, offset, CURSOR])
        .returns_page::<TickView>("The ticks."),
        Operation::get(
            "/schedules/{id}/explain",
            View,
            "explainSchedule",
            "Explain what a schedule waits for",
            explain,
        )
        .returns_page::<ReasonView>("The reasons."),
        Operation::delete(
            "/schedules/{id}",
            Schedule,
            "deleteSchedule",
            "Delete a schedule",
            delete,
        )
        .about("Its history can still be read.")
        .returns_nothing(204, "The schedule is deleted."),
        Operation::post(
            "/schedules/{id}/enable",
            Schedule,
            "enableSchedule",
            "Enable a schedule",
            enable,
        )
        .takes::<Nothing>()
        .returns::<ScheduleView>(200, "The schedule."),
        Operation::post(
            "/schedules/{id}/disable",
            Schedule,
            "disableSchedule",
            "Disable a schedule",
            disable,
        )
        .takes::<Nothing>()
        .returns::<ScheduleView>(200, "The schedule."),
        Operation::post(
            "/schedules/{id}/run-now",
            Start,
            "runScheduleNow",
            "Start the workflow of a schedule now",
            run_now,
        )
        .about("Regardless of its rules. The next tick does not change.")
        .takes::<Nothing>()
        .returns::<RunNow>(201, "The execution."),
    ]
}

/// A request without members.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

fn view(call: &Call<'_>, record: ScheduleRecord) -> Result<ScheduleView, Problem> {
    ScheduleView::new(record, call.may_view_payloads())
}

/// The number of items to leave out.
fn offset(call: &Call<'_>) -> Result<usize, Problem> {
    let name = ["cursor", "after"]
        .into_iter()
        .find(|name| call.query.get(name).is_some());
    call.query
        .number(name.unwrap_or("after"), 0, 0..=u32::MAX as usize)
}

fn list(call: &Call<'_>) -> Result<Reply, Problem> {
    let kind = match call.query.get("kind") {
        None | Some("cron") => ScheduleKind::Cron,
        Some("trigger") => ScheduleKind::Trigger,
        Some(_) => return Err(Problem::invalid("kind", "it must be cron or trigger")),
    };
    let limit = call.query.number("limit", 50, 1..=MAX_PAGE)?;
    let offset = offset(call)?;
    let enabled_only = call.query.flag("enabled")?;
    let mut records = call
        .inspector
        .schedules(kind, enabled_only, limit + 1, offset)?;
    let more = records.len() > limit;
    records.truncate(limit);
    let items = records.into_iter().map(|record| view(call, record));
    let page = Page {
        items: items.collect::<Result<Vec<_>, _>>()?,
        next: more.then(|| (offset + limit).to_string()),
        prev: (offset > 0).then(|| offset.saturating_sub(limit).to_string()),
    };
    Reply::page(call, &page)
}

fn firings(call: &Call<'_>) -> Result<Reply, Problem> {
    let now = call.inspector.now();
    let from = call.query.time("from", now)?.unwrap_or(now);
    let day = 86_400_000_000;
    let to = call.query.time("to", now)?.unwrap_or(from + day);
    let mut firings: Vec<(Timestamp, FiringView)> = Vec::new();
    for record in call
        .inspector
        .schedules(ScheduleKind::Cron, true, MAX_SCHEDULES, 0)?
    {
        let Some(expression) = &record.spec.expression else {
            continue;
        };
        let starts = record.spec.start_at.map_or(from, |start| start.max(from));
        let ends = record.spec.end_at.map_or(to, |end| end.min(to));
        // A stored expression that cannot be read any more has no firings; `explain` tells why.
        let times = cron_preview(expression, &record.spec.timezone, MAX_FIRINGS, starts)
            .unwrap_or_default();
        let times = times.iter().filter(|time| time.at <= ends);
        firings.extend(times.map(|time| (time.at, FiringView::new(time, Some(&record)))));
    }
    firings.sort_by_key(|(at, _)| *at);
    Reply::json(&Page::whole(
        firings.into_iter().map(|(_, firing)| firing).collect(),
    ))
}

fn preview(call: &Call<'_>) -> Result<Reply, Problem> {
    let Some(expression) = call.query.get("expression") else {
        return Err(Problem::invalid("expression", "the parameter is required"));
    };
    let timezone = call.query.get("timezone").unwrap_or("UTC");
    let count = call.query.number("count", 5, 1..=MAX_FIRINGS)?;
    let times = cron_preview(expression, timezone, count, call.inspector.now())?;
    let items = times.iter().map(|time| FiringView::new(time, None));
    Reply::json(&Page::whole(items.collect()))
}

fn show(call: &Call<'_>) -> Result<Reply, Problem> {
    let record = call.inspector.schedule(call.schedule_id()?)?;
    let revision = record.revision;
    Ok(Reply::json(&view(call, record)?)?.etag(revision))
}

fn ticks(call: &Call<'_>) -> Result<Reply, Problem> {
    let limit = call.query.number("limit", 50, 1..=MAX_PAGE)?;
    let offset = offset(call)?;
    let mut ticks = call
        .inspector
        .schedule_history(call.schedule_id()?, limit + 1, offset)?;
    let more = ticks.len() > limit;
    ticks.truncate(limit);
    let page = Page {
        items: ticks.into_iter().map(TickView::new).collect(),
        next: more.then(|| (offset + limit).to_string()),
        prev: (offset > 0).then(|| offset.saturating_sub(limit).to_string()),
    };
    Reply::page(call, &page)
}

fn explain(call: &Call<'_>) -> Result<Reply, Problem> {
    let id = call.schedule_id()?;
    let Some(reasons) = call.inspector.explain_schedule(id, &[])? else {
        let message = format!("schedule {id} is not known in this database");
        return Err(Error::new(ErrorCode::ScheduleNotFound, message).into());
    };
    let now = call.inspector.now();
    let items = reasons
        .iter()
        .map(|reason| ReasonView::of_schedule(reason, now));
    Reply::json(&Page::whole(items.collect()))
}

fn delete(call: &Call<'_>) -> Result<Reply, Problem> {
    let id = call.schedule_id()?;
    call.inspector.delete_schedule(id)?;
    call.note_change("delete schedule", &id.to_string());
    Ok(Reply::nothing())
}

fn switch(call: &Call<'_>, enabled: bool) -> Result<Reply, Problem> {
    let Nothing {} = call.decode()?;
    let id = call.schedule_id()?;
    let record = call.inspector.set_schedule_enabled(id, enabled)?;
    let action = if enabled {
        "enable schedule"
    } else {
        "disable schedule"
    };
    call.note_change(action, &id.to_string());
    Reply::json(&view(call, record)?)
}

fn enable(call: &Call<'_>) -> Result<Reply, Problem> {
    switch(call, true)
}

fn disable(call: &Call<'_>) -> Result<Reply, Problem> {
    switch(call, false)
}

fn run_now(call: &Call<'_>) -> Result<Reply, Problem> {
    let Nothing {} = call.decode()?;
    let id = call.schedule_id()?;
    let execution = call.inspector.run_schedule_now(id)?.to_string();
    call.note_change("run schedule", &id.to_string());
    Ok(Reply::json(&RunNow { id: execution })?.status(StatusCode::CREATED))
}
