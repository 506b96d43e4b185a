//! The routes that create, change and backfill schedules.

use std::time::Duration;

use axum::http::{StatusCode, header};
use cloacina::runner::{Context, CronSchedule, cron_preview};
use cloacina::types::ScheduleRecord;
use cloacina::{Error, ErrorCode, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::rerun::kept_input;
use super::schedule_guard::RevisionGuard;
use super::start::{input, no_time, seconds};
use crate::access::Permission::{Schedule, Start};
use crate::call::{Call, Reply};
use crate::operation::Operation;
use crate::problem::Problem;
use crate::query::{no_time_or_span, shown};
use crate::redact::Redactor;
use crate::views::schedule::ScheduleView;
use crate::views::time;

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::post("/schedules", Schedule, "createSchedule", "Create a schedule", create)
            .about(
                "If a schedule with the same workflow, expression, time zone and name exists, it is changed instead. The change \
                 does not enable or disable it. If the database has no such workflow, the answer has a warning.",
            )
            .takes::<NewSchedule>()
            .returns::<ScheduleView>(201, "The schedule is created; the header Location leads to it.")
            .returns::<ScheduleView>(200, "The schedule existed before; the header Location leads to it."),
        Operation::patch("/schedules/{id}", Schedule, "changeSchedule", "Change a schedule", change)
            .about(
                "Omitted members do not change; null removes a name, a limit or a time. With the header If-Match, the \
                 schedule is changed only if it still has the revision in the header.",
            )
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
            "Starts an execution for each due time in the range, unless the due time has already fired. A range can have at \
             most 1,000 due times. Each due time fires only once, through its tick or through a backfill. The rules about \
             overlaps do not apply, and the next tick does not change.",
        )
        .takes::<BackfillRequest>()
        .returns::<BackfillView>(200, "The due times."),
    ]
}

/// A schedule to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewSchedule {
    /// The workflow that the schedule starts. It does not need to be stored yet.
    workflow: String,
    /// The cron expression: 5 fields, or 6 with seconds first.
    cron: String,
    /// The IANA time zone of the expression; default: UTC.
    timezone: Option<String>,
    /// A name that distinguishes the schedule from others with the same workflow, expression and time zone.
    name: Option<String>,
    /// The input of the executions that the schedule starts.
    #[schema(value_type = Option<Object>)]
    input: Option<Box<RawValue>>,
    /// The missed ticks that fire later: skip (none), latest or all. A tick is missed if it was due while no runner was live.
    catchup: Option<String>,
    /// Maximum number of missed ticks that fire.
    max_catchup: Option<u32>,
    /// The effect of a tick while an earlier execution of the schedule is open: allow (start anyway), skip or queue.
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
    /// Whether the schedule fires; default: true.
    enabled: Option<bool>,
}

/// A change of a schedule.
#[expect(clippy::option_option, reason = "null differs from an omitted member")]
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
    /// The input of the executions that the schedule starts.
    #[schema(value_type = Option<Object>)]
    input: Option<Box<RawValue>>,
    /// The missed ticks that fire later: skip (none), latest or all.
    catchup: Option<String>,
    /// Maximum number of missed ticks that fire.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u32>)]
    max_catchup: Option<Option<u32>>,
    /// The effect of a tick while an earlier execution of the schedule is open: allow (start anyway), skip or queue.
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
    /// Whether the schedule fires.
    enabled: Option<bool>,
}

/// A backfill of a schedule.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct BackfillRequest {
    /// The start of the range: a time, or a span before now like 7d.
    from: String,
    /// The end of the range; default: now.
    to: Option<String>,
    /// Whether to report what would be started, and to start nothing.
    #[serde(default)]
    dry_run: bool,
    /// The reason, for the histories of the executions.
    note: Option<String>,
}

/// A due time in the range of a backfill.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BackfillItem)]
struct BackfillItem {
    /// The time at which the schedule was due.
    #[schema(format = DateTime)]
    due_at: String,
    /// Whether the schedule has already fired for this time. If so, nothing was started.
    has_fired: bool,
    /// The execution that this request started for the due time; null if it started none.
    execution: Option<String>,
}

/// The outcome of a backfill.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Backfill)]
struct BackfillView {
    /// The number of due times in the range.
    matched: usize,
    /// The number of executions that were started; in a dry run, the number that would be started.
    done: usize,
    /// The due times, oldest first.
    items: Vec<BackfillItem>,
    /// Whether this was a dry run, which started nothing.
    dry_run: bool,
}

/// Deserializes a member so that null differs from an omitted member.
#[expect(clippy::option_option, reason = "null differs from an omitted member")]
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
    let parse = |text: &str| {
        text.parse::<T>().map_err(|()| {
            let detail = format!("'{}' is not one of {known}", shown(text));
            Problem::invalid(pointer, detail)
        })
    };
    text.map(parse).transpose()
}

/// Returns the time in a change, or the stored time if the change omits it.
fn instant(
    pointer: &str,
    given: Option<&Option<String>>,
    stored: Option<Timestamp>,
) -> Result<Option<Timestamp>, Problem> {
    let Some(given) = given else {
        return Ok(stored);
    };
    let parse = |text: &String| {
        let refused = || no_time(pointer, text);
        crate::time::instant(text).ok_or_else(refused)
    };
    given.as_ref().map(parse).transpose()
}

impl ScheduleChange {
    /// Returns the options of a schedule after this change. Options that the change omits keep the values of `known`; without
    /// `known`, they get their defaults.
    fn options(
        &self,
        workflow: &str,
        known: Option<&ScheduleRecord>,
        redactor: &Redactor,
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
            (Some(given), Some(spec)) if given.get() != "null" => {
                let text = kept_input(given.get(), &spec.input, redactor.clone())?;
                Context::from_json(&text)
                    .map_err(|error| Problem::invalid("/input", error.to_string()))?
            }
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
        if let Some(start) = instant("/start_at", self.start_at.as_ref(), stored)? {
            options = options.start_at(start);
        }
        let stored = spec.and_then(|spec| spec.end_at);
        if let Some(end) = instant("/end_at", self.end_at.as_ref(), stored)? {
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

/// Converts the error of creating or changing a schedule to a problem that names the invalid member of the body.
fn refused(error: Error, cron: Option<&str>, timezone: Option<&str>) -> Problem {
    let problem = Problem::from(error);
    if timezone.is_some_and(|timezone| !is_timezone(timezone)) {
        return problem.at(ErrorCode::ScheduleInvalid, "/timezone");
    }
    let timezone = timezone.unwrap_or("UTC");
    if cron.is_some_and(|cron| cron_preview(cron, timezone, 1, Timestamp(0)).is_err()) {
        return problem.at(ErrorCode::ScheduleInvalid, "/cron");
    }
    problem.at(ErrorCode::WorkflowInputInvalid, "/input")
}

/// Whether a text is the name of a time zone.
pub(super) fn is_timezone(text: &str) -> bool {
    cron_preview("@daily", text, 1, Timestamp(0)).is_ok()
}

fn view(
    call: &Call<'_>,
    record: ScheduleRecord,
    warning: Option<String>,
) -> Result<Reply, Problem> {
    let revision = record.revision;
    let mut view = ScheduleView::new(record, call.may_view_payloads())?;
    view.warning = warning;
    Ok(Reply::json(&view)?.etag(revision))
}

/// Returns a warning if the database has no workflow with the name that a schedule starts.
fn unknown_workflow(call: &Call<'_>, name: &str) -> Result<Option<String>, Problem> {
    let known = call.inspector.workflows()?;
    let is_known = known.iter().any(|(_, workflow)| workflow.name() == name);
    Ok((!is_known).then(|| {
        format!(
            "this database has no workflow '{}'; ticks are recorded as skipped until a program that defines the workflow \
             runs here",
            shown(name)
        )
    }))
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
    let record = options.options(&new.workflow, None, &call.redactor())?;
    let added = call.inspector.put_schedule(&record);
    let (cron, timezone) = (options.cron.as_deref(), options.timezone.as_deref());
    let (record, is_new) = added.map_err(|error| refused(error, cron, timezone))?;
    let id = record.id.to_string();
    let action = if is_new {
        "create schedule"
    } else {
        "change schedule"
    };
    call.note_change(action, &id);
    let warning = unknown_workflow(call, &record.workflow)?;
    if let Some(warning) = &warning {
        tracing::warn!("schedule {id} is registered, but {warning}");
    }
    let status = if is_new {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let reply = view(call, record, warning)?.status(status);
    Ok(reply.header(header::LOCATION, &format!("schedules/{id}")))
}

fn change(call: &Call<'_>) -> Result<Reply, Problem> {
    let change: ScheduleChange = call.decode()?;
    let known = call.cron_schedule("changed")?;
    let (id, redactor, guard) = (known.id, call.redactor(), RevisionGuard::of(call));
    // The request is checked completely before anything is written.
    guard.check(&known).map_err(|error| guard.problem(error))?;
    change.options(&known.workflow, Some(&known), &redactor)?;
    let audit = change.enabled.map(|_| call.audit(None));
    let changed = (call.inspector).replace_schedule_as(id, audit.as_ref(), |known| {
        guard.check(known)?;
        let options = change.options(&known.workflow, Some(known), &redactor);
        options.map_err(|problem| Error::new(ErrorCode::ScheduleInvalid, problem.to_string()))
    });
    let (cron, timezone) = (change.cron.as_deref(), change.timezone.as_deref());
    let record = changed.map_err(|error| match guard.mismatch(&error) {
        Some(problem) => problem,
        None => refused(error, cron, timezone),
    })?;
    call.note_change("change schedule", &id.to_string());
    view(call, record, None)
}

fn backfill(call: &Call<'_>) -> Result<Reply, Problem> {
    let request: BackfillRequest = call.decode()?;
    let record = call.cron_schedule("backfilled")?;
    let (id, now, guard) = (record.id, call.inspector.now(), RevisionGuard::of(call));
    guard.check(&record).map_err(|error| guard.problem(error))?;
    let parse = |pointer: &str, text: &str| {
        crate::time::parse(text, now).ok_or_else(|| no_time_or_span(pointer, text))
    };
    let from = parse("/from", &request.from)?;
    let to = request.to.as_deref().map(|to| parse("/to", to));
    let to = to.transpose()?.unwrap_or(now);
    let (dry_run, audit) = (request.dry_run, call.audit(request.note));
    let found = (call.inspector).backfill_as(id, from, to, dry_run, &audit);
    let refused = |error| Problem::from(error).at(ErrorCode::ScheduleInvalid, "/from");
    let found = found.map_err(refused)?;
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
