//! Counts, activity, failures by cause, and executions, schedules and runners that need attention.

use std::collections::BTreeMap;

use cloacina::runner::{Count, FailureGroup, ListFilter};
use cloacina::types::ScheduleKind;
use cloacina::{ExecutionStatus, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

use super::overdue::OverdueView;
use crate::access::Permission::View;
use crate::call::{Call, Reply};
use crate::operation::{Operation, Parameter};
use crate::problem::Problem;
use crate::views::Page;
use crate::views::explain::ReasonView;
use crate::views::time;

/// Maximum number of open executions and of schedules that one request explains.
const MAX_EXPLAINED: usize = 50;
/// Maximum number of executions that a group names.
const MAX_NAMED: usize = 10;
/// Maximum number of buckets.
const MAX_BUCKETS: usize = 200;
/// A day in microseconds.
const DAY: i64 = 86_400_000_000;

pub(super) fn operations() -> Vec<Operation> {
    let since = Parameter::time(
        "since",
        "Only submitted at or after this time, or span before now; default: 24h.",
    );
    vec![
        Operation::get("/counts", View, "countExecutions", "Count the executions in each state", counts)
            .about("Each state is counted up to 10,000. Beyond that, and for old completed executions, the kind is `at_least`.")
            .returns::<Counts>(200, "The counts by state."),
        Operation::get("/activity", View, "getActivity", "Count the executions submitted over time", activity)
            .with([since, Parameter::number("buckets", 1, MAX_BUCKETS, "The number of spans; default: 48.")])
            .returns_page::<BucketView>("The spans, oldest first."),
        Operation::get("/failures", View, "listFailures", "Group the failed executions by their causes", failures)
            .about("The newest 1,000: workflow, task, error type, and the message without numbers and ids.")
            .with([since])
            .returns_page::<FailureView>("The groups, starting with the one that has the newest failure."),
        Operation::get("/waiting", View, "listWaiting", "Group the open executions by what they wait for", waiting)
            .about("The newest 50 open executions.")
            .returns_page::<WaitView>("The groups, the largest first."),
        Operation::get("/attention", View, "getAttention", "List the executions, schedules and runners that need a person", attention)
            .about("Open executions that cannot continue without help or run for too long, failures by cause, schedules that cannot fire, and runners that are gone.")
            .with([since])
            .returns::<Attention>(200, "All quiet if every list is empty."),
    ]
}

/// A count of executions.
#[derive(Debug, Serialize, ToSchema)]
struct CountView {
    /// The number.
    value: u64,
    /// The precision: `exact` or `at_least`.
    kind: &'static str,
    /// The time of the count.
    #[schema(format = DateTime)]
    as_of: String,
}

impl From<Count> for CountView {
    fn from(count: Count) -> Self {
        Self {
            value: count.value,
            kind: count.kind.name(),
            as_of: time(count.as_of),
        }
    }
}

/// The number of executions in each state.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Counts {
    /// The counts by the names of the states.
    states: BTreeMap<&'static str, CountView>,
}

/// The executions submitted in a span of time.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Bucket)]
pub(super) struct BucketView {
    /// The start of the span.
    #[schema(format = DateTime)]
    since: String,
    /// Its end.
    #[schema(format = DateTime)]
    until: String,
    /// The number of executions submitted in it.
    submitted: CountView,
    /// The number of those that have failed.
    failed: CountView,
}

/// Failed executions with the same cause.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = FailureGroup)]
pub(super) struct FailureView {
    /// The workflow.
    workflow: String,
    /// The task that failed; null if the execution itself failed.
    task: Option<String>,
    /// The type of the error.
    r#type: String,
    /// The message without its numbers and ids.
    error: String,
    /// The message of the newest failure.
    message: String,
    /// The number of executions.
    count: usize,
    /// When the oldest of them was submitted.
    #[schema(format = DateTime)]
    first_at: String,
    /// When the newest of them was submitted.
    #[schema(format = DateTime)]
    last_at: String,
    /// Some of them, newest first.
    executions: Vec<String>,
}

impl From<FailureGroup> for FailureView {
    fn from(group: FailureGroup) -> Self {
        let newest = group.executions.iter().take(MAX_NAMED);
        Self {
            executions: newest.map(ToString::to_string).collect(),
            workflow: group.workflow,
            task: group.task,
            r#type: group.kind,
            error: group.cause,
            message: group.message,
            count: group.count,
            first_at: time(group.first),
            last_at: time(group.last),
        }
    }
}

/// Open executions that wait for the same reason.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WaitGroup)]
pub(super) struct WaitView {
    /// The workflow.
    workflow: String,
    /// The reason of the newest of them.
    reason: ReasonView,
    /// The number of executions.
    count: usize,
    /// Some of them, newest first.
    executions: Vec<String>,
}

/// The executions, schedules and runners that need a person.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Attention {
    /// Open executions that cannot continue without help, by reason.
    blocked: Vec<WaitView>,
    /// Failures by cause.
    failures: Vec<FailureView>,
    /// Schedules and triggers that cannot fire, with the reason.
    schedules: Vec<ScheduleTrouble>,
    /// Runners whose process or lease has ended.
    gone_runners: Vec<String>,
    /// Executions that have run for more than three times the usual duration of their workflow, the 95th percentile.
    overdue: Vec<OverdueView>,
}

/// A schedule or trigger that cannot fire.
#[derive(Debug, Serialize, ToSchema)]
struct ScheduleTrouble {
    /// The schedule or trigger.
    id: String,
    /// The workflow that it starts.
    workflow: String,
    /// The reason.
    reason: ReasonView,
}

fn counts(call: &Call<'_>) -> Result<Reply, Problem> {
    let counted = call.inspector.counts()?.into_iter();
    let states = counted.map(|(status, count)| (status.name(), count.into()));
    Reply::json(&Counts {
        states: states.collect(),
    })
}

fn since(call: &Call<'_>) -> Result<Timestamp, Problem> {
    let now = call.inspector.now();
    Ok(call.query.time("since", now)?.unwrap_or(now - DAY))
}

fn activity(call: &Call<'_>) -> Result<Reply, Problem> {
    let buckets = call.query.number("buckets", 48, 1..=MAX_BUCKETS)?;
    let found = call
        .inspector
        .activity(since(call)?, call.inspector.now(), buckets)?;
    let items = found.into_iter().map(|bucket| BucketView {
        since: time(bucket.since),
        until: time(bucket.until),
        submitted: bucket.submitted.into(),
        failed: bucket.failed.into(),
    });
    Reply::json(&Page::whole(items.collect()))
}

fn failures(call: &Call<'_>) -> Result<Reply, Problem> {
    let groups = call.inspector.failures(Some(since(call)?))?;
    let items = groups.into_iter().map(FailureView::from).collect();
    Reply::json(&Page::whole(items))
}

/// The newest open executions, grouped by the workflow, the reason and its task.
fn groups(call: &Call<'_>, wanted: impl Fn(&ReasonView) -> bool) -> Result<Vec<WaitView>, Problem> {
    let filter = ListFilter {
        statuses: vec![
            ExecutionStatus::Pending,
            ExecutionStatus::Running,
            ExecutionStatus::Paused,
        ],
        limit: MAX_EXPLAINED,
        ..ListFilter::default()
    };
    let now = call.inspector.now();
    let mut groups: Vec<WaitView> = Vec::new();
    for item in call.inspector.list(&filter)?.items {
        // The execution may have been deleted since it was listed.
        let reasons = call.inspector.explain(item.id, &[]).unwrap_or_default();
        let mut reasons = reasons.iter().map(|reason| ReasonView::new(reason, now));
        let Some(reason) = reasons.find(|reason| wanted(reason)) else {
            continue;
        };
        let workflow = item.workflow().name();
        let same =
            |group: &&mut WaitView| group.workflow == workflow && group.reason.is_like(&reason);
        match groups.iter_mut().find(same) {
            Some(group) => {
                group.count += 1;
                if group.executions.len() < MAX_NAMED {
                    group.executions.push(item.id.to_string());
                }
            }
            None => groups.push(WaitView {
                workflow: workflow.to_owned(),
                reason,
                count: 1,
                executions: vec![item.id.to_string()],
            }),
        }
    }
    groups.sort_by_key(|group| std::cmp::Reverse(group.count));
    Ok(groups)
}

fn waiting(call: &Call<'_>) -> Result<Reply, Problem> {
    let is_wait =
        |reason: &ReasonView| !["ended", "deadline", "held_by_live"].contains(&reason.name());
    Reply::json(&Page::whole(groups(call, is_wait)?))
}

fn attention(call: &Call<'_>) -> Result<Reply, Problem> {
    let now = call.inspector.now();
    let blocked = groups(call, ReasonView::needs_help)?;
    let failures = call.inspector.failures(Some(since(call)?))?;
    let mut schedules = Vec::new();
    for kind in [ScheduleKind::Cron, ScheduleKind::Trigger] {
        for record in call.inspector.schedules(kind, true, MAX_EXPLAINED, 0)? {
            let reasons = call
                .inspector
                .explain_schedule(record.id, &[])?
                .unwrap_or_default();
            let mut reasons = reasons
                .iter()
                .map(|reason| ReasonView::of_schedule(reason, now));
            schedules.extend(
                reasons
                    .find(ReasonView::needs_help)
                    .map(|reason| ScheduleTrouble {
                        id: record.id.to_string(),
                        workflow: record.workflow.clone(),
                        reason,
                    }),
            );
        }
    }
    let runners = call.inspector.runners()?.into_iter();
    let gone = runners.filter(|runner| !runner.is_alive(now));
    Reply::json(&Attention {
        blocked,
        failures: failures.into_iter().map(FailureView::from).collect(),
        schedules,
        gone_runners: gone.map(|runner| runner.presence.id.to_string()).collect(),
        overdue: super::overdue::find(call)?,
    })
}
