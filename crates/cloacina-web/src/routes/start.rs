//! Submissions of executions.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::http::{StatusCode, header};
use cloacina::runner::{Context, Submission};
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::access::Permission::Start;
use crate::call::{Call, Reply};
use crate::operation::Operation;
use crate::problem::Problem;
use crate::views::execution::SubmittedView;

/// Maximum size of the body of a submission, in bytes: the largest input, and room for the rest.
pub(super) const BODY_LIMIT: usize = (16 << 20) + (1 << 16);

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::post("/executions", Start, "submit", "Submit an execution", submit)
            .about(
                "A program must have stored the workflow in the database, and a runner that has it runs the execution. \
                 A dry run checks the request and submits nothing.",
            )
            .takes::<NewExecution>()
            .body_limit(BODY_LIMIT)
            .returns::<SubmittedView>(201, "The execution was submitted; the header Location leads to it.")
            .returns::<SubmittedView>(200, "An earlier execution has the key, or it was a dry run."),
    ]
}

/// A submission of an execution.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewExecution {
    /// The name of the workflow.
    workflow: String,
    /// The input, a JSON object.
    #[schema(value_type = Option<Object>)]
    input: Option<Box<RawValue>>,
    /// The key under which the submission is unique: 1 to 512 characters.
    #[schema(min_length = 1, max_length = 512)]
    key: Option<String>,
    /// Tasks of executions with a higher priority are claimed first.
    priority: Option<i16>,
    /// The earliest start.
    #[schema(format = DateTime)]
    start_at: Option<String>,
    /// The time until the start, in seconds.
    #[schema(minimum = 0, maximum = 1_000_000_000.0)]
    delay: Option<f64>,
    /// Labels, to find the execution by them later: at most 32.
    #[serde(default)]
    labels: BTreeMap<String, String>,
    /// The timeout of the execution, in seconds, from the start of its first task.
    #[schema(exclusive_minimum = 0, maximum = 1_000_000_000.0)]
    timeout: Option<f64>,
    /// The reason, for the history.
    note: Option<String>,
    /// Checks the request and submits nothing.
    #[serde(default)]
    dry_run: bool,
}

/// The longest span that a request may ask for, in seconds: about 30 years.
const MAX_SECONDS: f64 = 1_000_000_000.0;

/// A duration in seconds of a request.
pub(super) fn seconds(pointer: &str, seconds: Option<f64>) -> Result<Option<Duration>, Problem> {
    let Some(seconds) = seconds else {
        return Ok(None);
    };
    let is_valid = (0.0..=MAX_SECONDS).contains(&seconds);
    let span = is_valid.then(|| Duration::from_secs_f64(seconds));
    let refused = || {
        Problem::invalid(
            pointer,
            "it must be a number of seconds from 0 to 1000000000",
        )
    };
    span.map(Some).ok_or_else(refused)
}

/// The input of a request as a context.
pub(super) fn input(pointer: &str, input: Option<&RawValue>) -> Result<Context, Problem> {
    match input.map(RawValue::get) {
        None | Some("null") => Ok(Context::new()),
        Some(text) => {
            Context::from_json(text).map_err(|error| Problem::invalid(pointer, error.to_string()))
        }
    }
}

impl NewExecution {
    fn into_submission(self, call: &Call<'_>) -> Result<Submission, Problem> {
        if self.start_at.is_some() && self.delay.is_some() {
            let detail = "start_at and delay exclude each other";
            return Err(Problem::invalid("/delay", detail));
        }
        let input = input("/input", self.input.as_deref())?;
        let mut submission = Submission::new(&self.workflow, input);
        if let Some(key) = self.key {
            submission = submission.key(key);
        }
        for (name, value) in self.labels {
            submission = submission.label(name, value);
        }
        if let Some(priority) = self.priority {
            submission = submission.priority(priority);
        }
        if let Some(text) = self.start_at {
            let at = crate::time::parse(&text, call.inspector.now());
            let refused =
                || Problem::invalid("/start_at", "it must be a time like 2026-01-31T12:00:00Z");
            submission = submission.at(at.ok_or_else(refused)?);
        }
        if let Some(delay) = seconds("/delay", self.delay)? {
            submission = submission.delay(delay);
        }
        if let Some(timeout) = seconds("/timeout", self.timeout)? {
            submission = submission.timeout(timeout);
        }
        Ok(submission)
    }
}

fn submit(call: &Call<'_>) -> Result<Reply, Problem> {
    let mut request: NewExecution = call.decode()?;
    let audit = call.audit(request.note.take());
    let is_dry = request.dry_run;
    if request.workflow.contains('\0') {
        return Err(Problem::invalid("/workflow", "no workflow has such a name"));
    }
    let submission = request.into_submission(call)?;
    if is_dry {
        call.inspector.check_submission(submission)?;
        return Reply::json(&SubmittedView {
            id: None,
            created: false,
            dry_run: true,
        });
    }
    let submitted = call.inspector.submit_for(submission, &audit)?;
    let id = submitted.id.to_string();
    call.note_change("submit", &id);
    // Relative to `…/executions`, so that the link works under any prefix.
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
