//! The route that submits an execution.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::http::{StatusCode, header};
use cloacina::runner::{Context, Submission};
use cloacina::types::Labels;
use cloacina::{Error, ErrorCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::access::Permission::Start;
use crate::call::{Call, Reply};
use crate::operation::Operation;
use crate::problem::Problem;
use crate::query::shown;
use crate::redact::MASK;
use crate::views::execution::SubmittedView;

/// Maximum size of the body of a submission, in bytes: the largest input, and 64 KiB for all other members.
pub(super) const BODY_LIMIT: usize = (16 << 20) + (1 << 16);

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::post("/executions", Start, "submit", "Submit an execution", submit)
            .about(
                "A program must have stored the workflow in the database. The execution waits for a runner that has the workflow. \
                 A dry run checks the request and submits nothing.",
            )
            .takes::<NewExecution>()
            .body_limit(BODY_LIMIT)
            .returns::<SubmittedView>(201, "The execution was submitted; the header Location leads to it.")
            .returns::<SubmittedView>(200, "Nothing was submitted, because an earlier execution has the key or the request was a dry run."),
    ]
}

/// A submission of an execution.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewExecution {
    /// The name of the workflow.
    workflow: String,
    /// The version of the workflow, as the route of the workflow lists it; default: the latest stored version.
    version: Option<String>,
    /// The input, a JSON object.
    #[schema(value_type = Option<Object>)]
    input: Option<Box<RawValue>>,
    /// A key, of 1 to 512 characters, that is unique in the workflow. If an execution has the key, nothing is submitted.
    #[schema(min_length = 1, max_length = 512)]
    key: Option<String>,
    /// Tasks of executions with a higher priority are claimed first.
    priority: Option<i16>,
    /// The earliest time at which the execution can start.
    #[schema(format = DateTime)]
    start_at: Option<String>,
    /// The time until the start, in seconds.
    #[schema(minimum = 0, maximum = 1_000_000_000.0)]
    delay: Option<f64>,
    /// Labels by which the execution can be found: at most 32.
    #[serde(default)]
    labels: BTreeMap<String, String>,
    /// The timeout of the execution, in seconds, from the start of its first task.
    #[schema(exclusive_minimum = 0, maximum = 1_000_000_000.0)]
    timeout: Option<f64>,
    /// The reason, for the history.
    note: Option<String>,
    /// Whether to check the request, and to submit nothing.
    #[serde(default)]
    dry_run: bool,
}

/// Returns the problem that a text is not a time.
pub(super) fn no_time(pointer: &str, text: &str) -> Problem {
    let text = shown(text);
    let detail = format!("'{text}' is not a time like 2026-01-31T12:00:00Z");
    Problem::invalid(pointer, detail)
}

/// Maximum duration in a request, in seconds: about 30 years.
const MAX_SECONDS: f64 = 1_000_000_000.0;

/// Converts a duration that a request gives in seconds; `None` if the request omits it.
pub(super) fn seconds(pointer: &str, seconds: Option<f64>) -> Result<Option<Duration>, Problem> {
    let Some(seconds) = seconds else {
        return Ok(None);
    };
    let is_valid = (0.0..=MAX_SECONDS).contains(&seconds);
    let span = is_valid.then(|| Duration::from_secs_f64(seconds));
    let refused = || {
        let detail = format!("{seconds} is not a number of seconds from 0 to 1000000000");
        Problem::invalid(pointer, detail)
    };
    span.map(Some).ok_or_else(refused)
}

/// Returns the input of a request as a context.
pub(super) fn input(pointer: &str, input: Option<&RawValue>) -> Result<Context, Problem> {
    match input.map(RawValue::get) {
        None | Some("null") => Ok(Context::new()),
        Some(text) => {
            refuse_mask(pointer, text)?;
            Context::from_json(text).map_err(|error| Problem::invalid(pointer, error.to_string()))
        }
    }
}

/// Refuses a JSON text that contains the mask as a value. A client that read a redacted value would send the mask back, and
/// the secret would be lost.
pub(super) fn refuse_mask(pointer: &str, text: &str) -> Result<(), Problem> {
    fn has_mask(value: &serde_json::Value) -> bool {
        match value {
            serde_json::Value::String(text) => text == MASK,
            serde_json::Value::Array(items) => items.iter().any(has_mask),
            serde_json::Value::Object(members) => members.values().any(has_mask),
            _ => false,
        }
    }
    let may_have = text.contains(MASK) || text.contains("\\u2022");
    // `serde_json` decodes at most 127 levels. A deeper text that may contain the mask is refused unread.
    if may_have && serde_json::from_str(text).map_or(true, |value| has_mask(&value)) {
        return Err(masked(pointer).hint("send the value itself"));
    }
    Ok(())
}

/// Returns the problem that a request contains the mask as a value.
pub(super) fn masked(pointer: impl Into<String>) -> Problem {
    let detail = format!("it contains '{MASK}', which stands for a redacted value");
    Problem::invalid(pointer, detail)
}

/// Returns the labels of a request. Refuses a label whose value is the mask.
pub(super) fn labels(labels: &BTreeMap<String, String>) -> Result<Labels, Problem> {
    if let Some((name, _)) = labels.iter().find(|(_, value)| *value == MASK) {
        return Err(masked(format!("/labels/{name}")).hint("send the value itself"));
    }
    let refused = |error| Problem::from(error).at(ErrorCode::Configuration, "/labels");
    Labels::new(labels.clone()).map_err(refused)
}

/// Returns the problem of a refused submission. The labels and the timeout were checked before the submission, so an error
/// with the code `Configuration` is about the key.
fn refused(error: Error) -> Problem {
    at_input(error).at(ErrorCode::Configuration, "/key")
}

/// Converts an error to a problem. If the error is about the input, the problem points to the member `input` of the body.
pub(super) fn at_input(error: Error) -> Problem {
    Problem::from(error)
        .at(ErrorCode::WorkflowInputInvalid, "/input")
        .at(ErrorCode::ContextInvalid, "/input")
}

impl NewExecution {
    fn into_submission(self) -> Result<Submission, Problem> {
        if self.start_at.is_some() && self.delay.is_some() {
            let detail = "start_at and delay cannot be combined";
            return Err(Problem::invalid("/delay", detail));
        }
        let input = input("/input", self.input.as_deref())?;
        let mut submission = Submission::new(&self.workflow, input);
        if let Some(key) = self.key {
            submission = submission.key(key);
        }
        labels(&self.labels)?;
        for (name, value) in self.labels {
            submission = submission.label(name, value);
        }
        if let Some(priority) = self.priority {
            submission = submission.priority(priority);
        }
        if let Some(text) = self.start_at {
            let at = crate::time::instant(&text);
            submission = submission.at(at.ok_or_else(|| no_time("/start_at", &text))?);
        }
        if let Some(delay) = seconds("/delay", self.delay)? {
            submission = submission.delay(delay);
        }
        if let Some(timeout) = seconds("/timeout", self.timeout)? {
            if timeout.as_micros() == 0 {
                let message = "the timeout of an execution must be at least 0.000001 seconds";
                let error = Error::new(ErrorCode::Configuration, message);
                return Err(Problem::from(error).at(ErrorCode::Configuration, "/timeout"));
            }
            submission = submission.timeout(timeout);
        }
        Ok(submission)
    }
}

fn submit(call: &Call<'_>) -> Result<Reply, Problem> {
    let mut request: NewExecution = call.decode()?;
    let audit = call.audit(request.note.take());
    let (is_dry, version) = (request.dry_run, request.version.take());
    if request.workflow.contains('\0') {
        return Err(Problem::invalid(
            "/workflow",
            "a workflow name cannot contain a NUL character",
        ));
    }
    let submission = request.into_submission()?;
    if is_dry {
        let checked = (call.inspector).check_submission(submission, version.as_deref());
        checked.map_err(refused)?;
        return Reply::json(&SubmittedView {
            id: None,
            created: false,
            dry_run: true,
        });
    }
    let submitted = (call.inspector).submit_version(submission, version.as_deref(), &audit);
    let submitted = submitted.map_err(refused)?;
    let id = submitted.id.to_string();
    call.note_change("submit", &id);
    // The location is relative to `…/executions`, so it works below any prefix.
    let location = format!("executions/{id}");
    let reply = Reply::json(&SubmittedView {
        id: Some(id),
        created: submitted.is_new,
        dry_run: false,
    })?;
    Ok(if submitted.is_new {
        reply
            .status(StatusCode::CREATED)
            .header(header::LOCATION, &location)
    } else {
        reply
    })
}
