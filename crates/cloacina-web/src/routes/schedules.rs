//! The routes that list, show, delete, enable and run schedules and triggers.

use axum::http::StatusCode;
use cloacina::runner::cron_preview;
use cloacina::types::{ScheduleKind, ScheduleRecord, TickRecord};
use cloacina::{Error, ErrorCode, Timestamp};
use serde::Deserialize;
use utoipa::ToSchema;

use super::control::Change;
use super::schedule_changes::is_timezone;
use super::schedule_guard::RevisionGuard;
use super::{CURSOR, LIMIT, MAX_PAGE};
use crate::access::Permission::{Schedule, Start, View};
use crate::call::{Call, Reply};
use crate::cursor::{page_by_key, unreadable};
use crate::operation::{Operation, Parameter};
use crate::problem::Problem;
use crate::views::Page;
use crate::views::explain::ReasonView;
use crate::views::schedule::{FiringView, RunNow, ScheduleView, TickView};

/// Maximum number of schedules whose firings are listed.
const MAX_SCHEDULES: usize = 1_000;
/// Maximum number of firings in a preview, and of firings of one schedule in a list.
const MAX_FIRINGS: usize = 100;

#[expect(clippy::too_many_lines, reason = "a table of routes")]
pub(super) fn operations() -> Vec<Operation> {
    let kind = Parameter::words(
        "kind",
        &["cron", "trigger"],
        "The kinds: cron for schedules, trigger for triggers; default: cron.",
    )
    .repeated();
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
            Parameter::flag("enabled", "Whether to omit disabled schedules or triggers."),
            LIMIT,
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
            "The firings in the order of their times; at most 100 firings of each schedule.",
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
            "Show a schedule or a trigger",
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
        .with([LIMIT, CURSOR])
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
        .about(
            "Its history can still be read. With the header If-Match, the schedule is deleted only if it still has the \
             revision in the header.",
        )
        .returns_nothing(204, "The schedule is deleted."),
        Operation::post(
            "/schedules/{id}/enable",
            Schedule,
            "enableSchedule",
            "Enable a schedule or a trigger",
            enable,
        )
        .takes::<Change>()
        .returns::<ScheduleView>(200, "The schedule."),
        Operation::post(
            "/schedules/{id}/disable",
            Schedule,
            "disableSchedule",
            "Disable a schedule or a trigger",
            disable,
        )
        .takes::<Change>()
        .returns::<ScheduleView>(200, "The schedule."),
        Operation::post(
            "/schedules/{id}/run-now",
            Start,
            "runScheduleNow",
            "Start the workflow of a schedule now",
            run_now,
        )
        .about("The schedule's rules do not apply, and its next tick does not change.")
        .takes::<Change>()
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

fn list(call: &Call<'_>) -> Result<Reply, Problem> {
    let mut kinds: Vec<ScheduleKind> = (call.query.distinct("kind"))
        .map(|kind| match kind {
            "trigger" => ScheduleKind::Trigger,
            _ => ScheduleKind::Cron,
        })
        .collect();
    if kinds.is_empty() {
        kinds.push(ScheduleKind::Cron);
    }
    let limit = call.query.number("limit", 50, 1..=MAX_PAGE)?;
    let enabled_only = call.query.flag("enabled")?;
    let page = page_by_key(
        &call.query,
        limit,
        |record: &ScheduleRecord| record.id.uuid().simple().to_string(),
        |range| {
            let after = range.key.map(|key| key.parse().map_err(|_| unreadable()));
            let (after, is_back) = (after.transpose()?, range.is_back);
            let mut found = Vec::new();
            for kind in &kinds {
                let inspector = &call.inspector;
                let limit = range.limit;
                found.extend(inspector.schedules_from(
                    *kind,
                    enabled_only,
                    after,
                    is_back,
                    limit,
                )?);
            }
            found.sort_by_key(|record: &ScheduleRecord| record.id.uuid());
            if is_back {
                found.reverse();
            }
            found.truncate(range.limit);
            Ok(found)
        },
    )?;
    let items = page.items.into_iter().map(|record| view(call, record));
    let page = Page {
        items: items.collect::<Result<Vec<_>, _>>()?,
        next: page.next,
        prev: page.prev,
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
        // If this program cannot read a stored expression, the schedule has no firings; `explain` reports the reason.
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
    let times = cron_preview(expression, timezone, count, call.inspector.now());
    let times = times.map_err(|error| {
        let is_expression = is_timezone(timezone);
        let name = if is_expression {
            "expression"
        } else {
            "timezone"
        };
        Problem::from(error).at(ErrorCode::ScheduleInvalid, name)
    })?;
    let items = times.iter().map(|time| FiringView::new(time, None));
    Reply::json(&Page::whole(items.collect()))
}

fn show(call: &Call<'_>) -> Result<Reply, Problem> {
    let record = (call.inspector).schedule_or_trigger(call.schedule_id()?)?;
    let revision = record.revision;
    Ok(Reply::json(&view(call, record)?)?.etag(revision))
}

fn ticks(call: &Call<'_>) -> Result<Reply, Problem> {
    let limit = call.query.number("limit", 50, 1..=MAX_PAGE)?;
    let id = call.schedule_id()?;
    let page = page_by_key(
        &call.query,
        limit,
        |tick: &TickRecord| tick.due_at.0.to_string(),
        |range| {
            // The newest tick comes first, so the list goes back in time.
            let key = range.key.map(|key| key.parse().map_err(|_| unreadable()));
            let end = if range.is_back { i64::MIN } else { i64::MAX };
            let from = Timestamp(key.transpose()?.unwrap_or(end));
            let found =
                (call.inspector).schedule_history_from(id, from, range.is_back, range.limit);
            Ok(found?)
        },
    )?;
    let page = Page {
        items: page.items.into_iter().map(TickView::new).collect(),
        next: page.next,
        prev: page.prev,
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
    let Nothing {} = call.decode()?;
    let id = call.cron_schedule("deleted")?.id;
    let guard = RevisionGuard::of(call);
    let deleted = (call.inspector).delete_schedule_if(id, |known| guard.check(known));
    deleted.map_err(|error| guard.problem(error))?;
    call.note_change("delete schedule", &id.to_string());
    Ok(Reply::nothing())
}

fn switch(call: &Call<'_>, enabled: bool) -> Result<Reply, Problem> {
    let Change { note } = call.decode()?;
    let id = call.schedule_id()?;
    let (audit, guard) = (call.audit(note), RevisionGuard::of(call));
    let check = |known: &ScheduleRecord| guard.check(known);
    let switched = (call.inspector).set_schedule_enabled_as(id, enabled, &audit, check);
    let record = switched.map_err(|error| guard.problem(error))?;
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
    let Change { note } = call.decode()?;
    let record = call.cron_schedule("run by hand")?;
    let (id, guard) = (record.id, RevisionGuard::of(call));
    guard.check(&record).map_err(|error| guard.problem(error))?;
    let started = (call.inspector).run_schedule_now_as(id, &call.audit(note))?;
    let execution = started.to_string();
    call.note_change("run schedule", &id.to_string());
    Ok(Reply::json(&RunNow { id: execution })?.status(StatusCode::CREATED))
}
