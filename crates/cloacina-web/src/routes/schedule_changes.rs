//! New schedules, and changes of their options.

use std::time::Duration;

use axum::http::{StatusCode, header};
use cloacina::runner::{Context, CronSchedule};
use cloacina::types::ScheduleRecord;
use cloacina::{Error, ErrorCode, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::start::{input, seconds};
use crate::access::Permission::{Schedule, Start};
use crate::call::{Call, Reply};
use crate::operation::Operation;
use crate::problem::Problem;
use crate::views::schedule::ScheduleView;
use crate::views::time;

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::post("/schedules", Schedule, "createSchedule", "Create a schedule", create)
            .about(
                "A schedule with the same workflow, expression, time zone and name is changed instead, and stays enabled or \
                 disabled as it was.",
            )
            .takes::<NewSchedule>()
            .returns::<ScheduleView>(201, "The schedule; the header Location leads to it."),
        Operation::patch("/schedules/{id}", Schedule, "changeSchedule", "Change a schedule", change)
            .about("Members that are left out do not change; null removes a name, a limit or a time.")
            .takes::<ScheduleChange>()
            .returns::<ScheduleView>(200, "The schedule."),
        Operation::post(
            "/schedules/{id}/backfill",
            Start,
            "backfillSchedule",
            "Start the workflow of a schedule for earlier due times",
            backfill,
        )
        .about(
            "For each due time of its expression in the range that has not fired, at most 1,000. Each due time fires once, \
             by its tick or by a backfill. The rules about overlaps do not apply, and the next tick does not change.",
        )
        .takes::<BackfillRequest>()
        .returns::<BackfillView>(200, "The due times."),
    ]
}

/// A schedule to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewSchedule {
    /// The workflow that it starts, which need not be stored yet.
    workflow: String,
    /// The cron expression: 5 fields, or 6 with seconds first.
    cron: String,
    /// The IANA time zone of the expression; default: UTC.
    timezone: Option<String>,
    /// A name that distinguishes it from other schedules with the same workflow, expression and time zone.
    name: Option<String>,
    /// The input of its executions.
    #[schema(value_type = Option<Object>)]
    input: Option<Box<RawValue>>,
    /// The treatment of ticks that were due while no runner was live: skip, latest or all.
    catchup: Option<String>,
    /// Maximum number of missed ticks that fire.
    max_catchup: Option<u32>,
    /// The treatment of a tick while an earlier execution is open: allow, skip or queue.
    overlap: Option<String>,
    /// No tick is due before this time.
    #[schema(format = DateTime)]
    start_at: Option<String>,
    /// No tick is due after this time.
    #[schema(format = DateTime)]
    end_at: Option<String>,
    /// Maximum random delay of a tick, in seconds.
    #[schema(minimum = 0, maximum = 1_000_000_000.0)]
    jitter_seconds: Option<f64>,
    /// Whether it fires; default: true.
    enabled: Option<bool>,
}

/// A change of a schedule.
#[expect(
    clippy::option_option,
    reason = "a member that is null differs from one that is left out"
)]
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ScheduleChange {
    /// The cron expression.
    cron: Option<String>,
    /// The time zone of the expression.
    timezone: Option<String>,
    /// The name.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    name: Option<Option<String>>,
    /// The input of its executions.
    #[schema(value_type = Option<Object>)]
    input: Option<Box<RawValue>>,
    /// The treatment of missed ticks: skip, latest or all.
    catchup: Option<String>,
    /// Maximum number of missed ticks that fire.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u32>)]
    max_catchup: Option<Option<u32>>,
    /// The treatment of overlaps: allow, skip or queue.
    overlap: Option<String>,
    /// No tick is due before this time.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, format = DateTime)]
    start_at: Option<Option<String>>,
    /// No tick is due after this time.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, format = DateTime)]
    end_at: Option<Option<String>>,
    /// Maximum random delay of a tick, in seconds.
    #[schema(minimum = 0, maximum = 1_000_000_000.0)]
    jitter_seconds: Option<f64>,
    /// Whether it fires.
    enabled: Option<bool>,
}

/// A backfill of a schedule.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct BackfillRequest {
    /// The first time of the range: a time, or a span before now like 7d.
    from: String,
    /// The last time of the range; default: now.
    to: Option<String>,
    /// Says what would be started, and starts nothing.
    #[serde(default)]
    dry_run: bool,
}

/// A due time of a backfill.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BackfillItem)]
struct BackfillItem {
    /// The time at which the schedule was due.
    #[schema(format = DateTime)]
    due_at: String,
    /// Whether the schedule had fired for this time before, so that nothing was started.
    has_fired: bool,
    /// The execution that was started.
    execution: Option<String>,
}

/// The outcome of a backfill.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Backfill)]
struct BackfillView {
    /// The number of due times in the range.
    matched: usize,
    /// The number of executions that were started, or would be.
    done: usize,
    /// The due times, oldest first.
    items: Vec<BackfillItem>,
    /// Whether nothing was started, because a dry run was asked for.
    dry_run: bool,
}

/// Distinguishes a member that is null from a member that is left out.
#[expect(
    clippy::option_option,
    reason = "null differs from a member that is left out"
)]
pub(super) fn given<'de, T: Deserialize<'de>, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(deserializer).map(Some)
}

fn word<T: std::str::FromStr<Err = ()>>(
    pointer: &str,
    text: Option<&str>,
    known: &str,
) -> Result<Option<T>, Problem> {
    let refused = |()| Problem::invalid(pointer, format!("it must be one of {known}"));
    text.map(|text| text.parse().map_err(refused)).transpose()
}

/// Returns the time that a change gives, or the stored one if the change has none.
fn instant(
    pointer: &str,
    given: Option<&Option<String>>,
    stored: Option<Timestamp>,
    now: Timestamp,
) -> Result<Option<Timestamp>, Problem> {
    let Some(given) = given else {
        return Ok(stored);
    };
    let refused = || Problem::invalid(pointer, "it must be a time like 2026-01-31T12:00:00Z");
    let parse = |text: &String| crate::time::parse(text, now).ok_or_else(refused);
    given.as_ref().map(parse).transpose()
}

impl ScheduleChange {
    /// Returns the options of a schedule after this change. Options that the change does not give keep their stored values.
    fn options(
        &self,
        workflow: &str,
        known: Option<&ScheduleRecord>,
        now: Timestamp,
    ) -> Result<CronSchedule, Problem> {
        let spec = known.map(|record| &record.spec);
        let stored = spec.and_then(|spec| spec.expression.clone());
        let cron = self.cron.clone().or(stored).unwrap_or_default();
        let stored = spec.map(|spec| spec.timezone.clone());
        let timezone = self.timezone.clone().or(stored);
        let timezone = timezone.unwrap_or_else(|| "UTC".to_owned());
        let mut options = CronSchedule::new(workflow, cron).timezone(timezone);
        let name = match &self.name {
            Some(name) => name.clone(),
            None => spec.map(|spec| spec.instance.clone()),
        };
        if let Some(name) = name.filter(|name| !name.is_empty()) {
            options = options.instance_name(name);
        }
        options = options.input(match (&self.input, spec) {
            (Some(given), _) => input("/input", Some(given))?,
            (None, Some(spec)) => Context::from_json(&spec.input.to_json())?,
            (None, None) => Context::new(),
        });
        let catchup = word("/catchup", self.catchup.as_deref(), "skip, latest, all")?;
        if let Some(catchup) = catchup.or(spec.map(|spec| spec.catchup)) {
            options = options.catchup(catchup);
        }
        let stored = spec.and_then(|spec| spec.max_catchup);
        if let Some(ticks) = self.max_catchup.unwrap_or(stored) {
            options = options.max_catchup(ticks);
        }
        let overlap = word("/overlap", self.overlap.as_deref(), "allow, skip, queue")?;
        if let Some(overlap) = overlap.or(spec.map(|spec| spec.overlap)) {
            options = options.overlap(overlap);
        }
        let stored = spec.and_then(|spec| spec.start_at);
        if let Some(start) = instant("/start_at", self.start_at.as_ref(), stored, now)? {
            options = options.start_at(start);
        }
        let stored = spec.and_then(|spec| spec.end_at);
        if let Some(end) = instant("/end_at", self.end_at.as_ref(), stored, now)? {
            options = options.end_at(end);
        }
        let stored = spec.map(|spec| Duration::from_micros(spec.jitter.unsigned_abs()));
        if let Some(jitter) = seconds("/jitter_seconds", self.jitter_seconds)?.or(stored) {
            options = options.jitter(jitter);
        }
        let enabled = self.enabled.or(known.map(|record| record.enabled));
        Ok(options.enabled(enabled.unwrap_or(true)))
    }
}

fn view(call: &Call<'_>, record: ScheduleRecord) -> Result<Reply, Problem> {
    Reply::json(&ScheduleView::new(record, call.may_view_payloads())?)
}

fn create(call: &Call<'_>) -> Result<Reply, Problem> {
    let new: NewSchedule = call.decode()?;
    let options = ScheduleChange {
        cron: Some(new.cron),
        timezone: new.timezone,
        name: Some(new.name),
        input: new.input,
        catchup: new.catchup,
        max_catchup: Some(new.max_catchup),
        overlap: new.overlap,
        start_at: Some(new.start_at),
        end_at: Some(new.end_at),
        jitter_seconds: new.jitter_seconds,
        enabled: new.enabled,
    };
    let options = options.options(&new.workflow, None, call.inspector.now())?;
    let record = call.inspector.add_schedule(&options)?;
    let id = record.id.to_string();
    call.note_change("create schedule", &id);
    let reply = view(call, record)?.status(StatusCode::CREATED);
    Ok(reply.header(header::LOCATION, &format!("schedules/{id}")))
}

fn change(call: &Call<'_>) -> Result<Reply, Problem> {
    let change: ScheduleChange = call.decode()?;
    let (id, now) = (call.schedule_id()?, call.inspector.now());
    // A problem with the request is found before anything is written.
    let known = call.inspector.schedule(id)?;
    change.options(&known.workflow, Some(&known), now)?;
    let record = call.inspector.replace_schedule(id, |known| {
        let options = change.options(&known.workflow, Some(known), now);
        options.map_err(|problem| Error::new(ErrorCode::ScheduleInvalid, problem.to_string()))
    })?;
    call.note_change("change schedule", &id.to_string());
    view(call, record)
}

fn backfill(call: &Call<'_>) -> Result<Reply, Problem> {
    let request: BackfillRequest = call.decode()?;
    let (id, now) = (call.schedule_id()?, call.inspector.now());
    let parse = |pointer: &str, text: &str| {
        let refused = || Problem::invalid(pointer, "it must be a time like 2026-01-31T12:00:00Z");
        crate::time::parse(text, now).ok_or_else(refused)
    };
    let from = parse("/from", &request.from)?;
    let to = request.to.as_deref().map(|to| parse("/to", to));
    let to = to.transpose()?.unwrap_or(now);
    let found = call.inspector.backfill(id, from, to, request.dry_run)?;
    let done = found.iter().filter(|item| !item.has_fired).count();
    if done > 0 && !request.dry_run {
        call.note_change("backfill schedule", &id.to_string());
    }
    let items = found.iter().map(|item| BackfillItem {
        due_at: time(item.due_at),
        has_fired: item.has_fired,
        execution: item.execution.map(|execution| execution.to_string()),
    });
    Reply::json(&BackfillView {
        matched: found.len(),
        done,
        items: items.collect(),
        dry_run: request.dry_run,
    })
}
