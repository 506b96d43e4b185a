//! The comparison of two executions.

use std::collections::BTreeSet;

use cloacina::runner::ListFilter;
use cloacina::runtime::Ended;
use cloacina::types::TaskStatus;
use cloacina::{ExecutionId, ExecutionStatus};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::access::Permission::View;
use crate::call::{Call, Reply, parse_execution};
use crate::operation::{Operation, Parameter};
use crate::problem::Problem;
use crate::redact::MASK;
use crate::views::execution::ExecutionView;
use crate::views::raw;

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/compare", View, "compareExecutions", "Compare two executions", compare)
            .with([
                Parameter::id("a", "The first execution.").required(),
                Parameter::text(
                    "b",
                    "The second execution, or `last-success`: the newest other completed execution of the same workflow.",
                )
                .required(),
            ])
            .returns::<Comparison>(200, "Both executions and their differences."),
    ]
}

/// A key whose values in the two inputs differ.
#[derive(Debug, Serialize, ToSchema)]
struct InputDifference {
    /// The key.
    key: String,
    /// The value in the first execution; null if the input lacks the key, or if the caller lacks the permission
    /// `view_payloads`. If the key names a secret, the value is redacted.
    #[schema(value_type = Option<serde_json::Value>)]
    a: Option<Box<RawValue>>,
    /// The value in the second execution; null in the same cases as `a`.
    #[schema(value_type = Option<serde_json::Value>)]
    b: Option<Box<RawValue>>,
}

/// A task that at least one of two executions has.
#[derive(Debug, Serialize, ToSchema)]
struct TaskDifference {
    /// The id.
    id: String,
    /// The state in the first execution; null if its workflow lacks the task.
    a_status: Option<&'static str>,
    /// The state in the second execution; null if its workflow lacks the task.
    b_status: Option<&'static str>,
    /// The duration in the first execution, in microseconds; null if the execution lacks the task, or if the task has not
    /// started and ended.
    a_duration_us: Option<i64>,
    /// The duration in the second execution, in microseconds; null in the same cases as `a_duration_us`.
    b_duration_us: Option<i64>,
    /// Whether the code of the task's function differs.
    code_changed: bool,
    /// Whether the task completed in both executions and wrote different values.
    output_differs: bool,
}

/// Two executions and their differences.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Comparison {
    /// The first execution.
    a: ExecutionView,
    /// The second execution.
    b: ExecutionView,
    /// The keys whose values in the two inputs differ.
    input: Vec<InputDifference>,
    /// The tasks of the first execution in their order, followed by the tasks that only the second execution has.
    tasks: Vec<TaskDifference>,
    /// The id of the first task whose state or result differs; null if no task differs.
    first_divergence: Option<String>,
}

fn second(call: &Call<'_>, a: &Ended, text: &str) -> Result<Ended, Problem> {
    if text != "last-success" {
        return Ok(call.inspector.execution(parse_execution(text)?)?);
    }
    let filter = ListFilter {
        statuses: vec![ExecutionStatus::Completed],
        limit: 2,
        workflows: vec![a.workflow().name().to_owned()],
        ..ListFilter::default()
    };
    let found = call.inspector.list(&filter)?.items.into_iter();
    let ids: Vec<ExecutionId> = found.map(|item| item.id).collect();
    let other = ids.into_iter().find(|id| *id != a.record().id);
    let workflow = a.workflow().name();
    let missing = || {
        Problem::new(
            "not_found",
            format!("no other execution of '{workflow}' has completed"),
        )
    };
    Ok(call.inspector.execution(other.ok_or_else(missing)?)?)
}

fn compare(call: &Call<'_>) -> Result<Reply, Problem> {
    let part = |name: &str| {
        let missing = || Problem::invalid(name, "the parameter is required");
        call.query.get(name).ok_or_else(missing)
    };
    let a = call.inspector.execution(parse_execution(part("a")?)?)?;
    let b = second(call, &a, part("b")?)?;
    let tasks = tasks(&a, &b);
    let differs = |task: &&TaskDifference| task.a_status != task.b_status || task.output_differs;
    let comparison = Comparison {
        first_divergence: tasks.iter().find(differs).map(|task| task.id.clone()),
        input: input(call, &a, &b)?,
        tasks,
        a: super::executions::view(call, &a)?,
        b: super::executions::view(call, &b)?,
    };
    let (first, second) = (super::tasks::texts(&a), super::tasks::texts(&b));
    let texts = first.iter().chain(&second).map(String::as_str);
    let redactor = call.redactor().with_secrets_of(texts);
    Ok(Reply::json(&comparison)?.redacted_by(redactor))
}

fn input(call: &Call<'_>, a: &Ended, b: &Ended) -> Result<Vec<InputDifference>, Problem> {
    let (a, b) = (&a.record().input, &b.record().input);
    let keys: BTreeSet<&str> = a.iter().chain(b.iter()).map(|(key, _)| &**key).collect();
    let is_shown = call.may_view_payloads();
    let redactor = call.redactor();
    // Secrets are masked here, because the redactor of the reply sees the keys `a` and `b`, not the key of the input.
    let value = |context: &cloacina::types::Context, key: &str| {
        let value = context.get(key).filter(|_| is_shown);
        let text = value.map(|value| match value.as_str() {
            // `null` is not a secret.
            text if text != "null" && redactor.is_secret(key) => format!("\"{MASK}\""),
            text => text.to_owned(),
        });
        text.map(raw).transpose()
    };
    let differing = keys.into_iter().filter(|key| {
        let (a, b) = (a.get(key), b.get(key));
        a.map(cloacina::Json::as_str) != b.map(cloacina::Json::as_str)
    });
    differing
        .map(|key| {
            Ok(InputDifference {
                key: key.to_owned(),
                a: value(a, key)?,
                b: value(b, key)?,
            })
        })
        .collect()
}

fn tasks(a: &Ended, b: &Ended) -> Vec<TaskDifference> {
    let ids = |execution: &Ended| -> Vec<String> {
        let tasks = execution.workflow().definition().tasks.iter();
        tasks.map(|task| task.id.clone()).collect()
    };
    let own = ids(a);
    let further = ids(b).into_iter().filter(|id| !own.contains(id));
    let all = own.iter().cloned().chain(further.collect::<Vec<_>>());
    all.map(|id| difference(id, a, b)).collect()
}

fn difference(id: String, a: &Ended, b: &Ended) -> TaskDifference {
    let state = |execution: &Ended| {
        let ordinal = execution.workflow().ordinal(&id)?;
        let record = execution.task(ordinal);
        let duration = record
            .attempt_started_at()
            .zip(record.ended_at)
            .map(|(start, end)| end.since(start));
        let code = execution.workflow().task(ordinal).fingerprint.clone();
        let output = record.delta.as_ref().map(|delta| delta.to_json());
        Some((record.status, duration, code, output))
    };
    let (a, b) = (state(a), state(b));
    let completed = |state: &Option<(TaskStatus, _, _, _)>| {
        state
            .as_ref()
            .is_some_and(|state| state.0 == TaskStatus::Completed)
    };
    let pair = a.as_ref().zip(b.as_ref());
    TaskDifference {
        a_status: a.as_ref().map(|state| state.0.name()),
        b_status: b.as_ref().map(|state| state.0.name()),
        a_duration_us: a.as_ref().and_then(|state| state.1),
        b_duration_us: b.as_ref().and_then(|state| state.1),
        code_changed: pair.is_some_and(|(a, b)| a.2 != b.2),
        output_differs: completed(&a) && completed(&b) && pair.is_some_and(|(a, b)| a.3 != b.3),
        id,
    }
}
