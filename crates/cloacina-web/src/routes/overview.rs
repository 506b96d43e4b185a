//! The routes for overviews: counts, activity, failures by cause, and everything that needs attention.

use std::collections::BTreeMap;

use cloacina::Timestamp;
use cloacina::runner::{Count, FailureGroup};
use cloacina::types::ScheduleKind;
use serde::Serialize;
use utoipa::ToSchema;

use super::open::{self, Examined, WaitGroups, WaitView};
use super::overdue::OverdueView;
use crate::access::Permission::View;
use crate::call::{Call, Reply, hash_of};
use crate::operation::{Operation, Parameter};
use crate::problem::Problem;
use crate::views::Page;
use crate::views::explain::ReasonView;
use crate::views::time;

/// Maximum number of schedules of each kind whose state one request explains.
const MAX_EXPLAINED: usize = 50;
/// Maximum number of executions whose ids are listed in a group.
const MAX_NAMED: usize = 10;
/// Maximum number of intervals in an answer about activity.
const MAX_BUCKETS: usize = 200;
/// One day, in microseconds.
const DAY: i64 = 86_400_000_000;

pub(super) fn operations() -> Vec<Operation> {
    let since = Parameter::time(
        "since",
        "Only executions submitted at or after this time. A span like 24h means that long before now; default: 24h.",
    );
    vec![
        Operation::get("/counts", View, "countExecutions", "Count the executions in each state", counts)
            .about(
            "At most 10,000 executions are counted in each state. The member `kind` of a count is `exact`, or `at_least` if \
             more executions exist or old completed executions were not counted.",
            )
            .returns::<Counts>(200, "The counts by state."),
        Operation::get("/activity", View, "getActivity", "Count the executions submitted over time", activity)
            .with([since, Parameter::number("buckets", 1, MAX_BUCKETS, "The number of intervals; default: 48.")])
            .returns_page::<BucketView>("The intervals, oldest first."),
        Operation::get("/failures", View, "listFailures", "Group the failed executions by their causes", failures)
            .about(
            "Only the newest 1,000 failed executions are grouped. A cause consists of the workflow, the task, the error \
             type, and the message without numbers and ids.",
            )
            .with([since])
            .returns_page::<FailureView>("The groups. The group with the newest failure comes first."),
        Operation::get("/waiting", View, "listWaiting", "Group the open executions by what they wait for", waiting)
            .about(
            "Only some of the open executions are examined and grouped: some with ready tasks in each queue, the newest, \
             and those that have run for longest. The answer says how many were examined.",
            )
            .returns::<WaitGroups>(200, "The groups, the largest first."),
        Operation::get("/attention", View, "getAttention", "List the executions, schedules and runners that need attention from a person", attention)
            .about(
            "Lists open executions that cannot continue without help or have run for too long, failures by cause, \
             schedules that cannot fire, and runners that are gone. Only some of the open executions are examined: some with \
             ready tasks in each queue, the newest, and those that have run for longest. The answer says how many were examined.",
            )
            .with([since])
            .returns::<Attention>(200, "The lists. If all lists are empty and all open executions were examined, nothing needs attention from a person."),
    ]
}

/// The member with the time of a count.
const CLOCK: &str = "as_of";

/// A count of executions.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CountView {
    /// The number.
    pub(super) value: u64,
    /// The precision: `exact` or `at_least`.
    pub(super) kind: &'static str,
    /// The time of the count.
    #[schema(format = DateTime)]
    pub(super) as_of: String,
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

/// The executions submitted in an interval.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Bucket)]
pub(super) struct BucketView {
    /// The start of the interval.
    #[schema(format = DateTime)]
    since: String,
    /// The end of the interval.
    #[schema(format = DateTime)]
    until: String,
    /// The number of executions submitted in the interval.
    submitted: CountView,
    /// The number of executions submitted in the interval that have failed.
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
    /// When the oldest execution of the group was submitted.
    #[schema(format = DateTime)]
    first_at: String,
    /// When the newest execution of the group was submitted.
    #[schema(format = DateTime)]
    last_at: String,
    /// The ids of some of the executions, newest first.
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

/// The executions, schedules and runners that need attention from a person.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Attention {
    /// Open executions that cannot continue without help, by reason.
    blocked: Vec<WaitView>,
    /// The number of open executions that were examined for `blocked`.
    examined: Examined,
    /// Failures by cause.
    failures: Vec<FailureView>,
    /// Schedules and triggers that cannot fire, with the reason.
    schedules: Vec<ScheduleTrouble>,
    /// The ids of runners whose process or lease has ended.
    gone_runners: Vec<String>,
    /// Executions that have run for more than three times the usual duration (the 95th percentile) of their workflow.
    overdue: Vec<OverdueView>,
}

/// A schedule or trigger that cannot fire.
#[derive(Debug, Serialize, ToSchema)]
struct ScheduleTrouble {
    /// The id of the schedule or trigger.
    id: String,
    /// The workflow that the schedule or trigger starts.
    workflow: String,
    /// The reason.
    reason: ReasonView,
}

fn counts(call: &Call<'_>) -> Result<Reply, Problem> {
    let counted = call.inspector.counts()?.into_iter();
    let states = counted.map(|(status, count)| (status.name(), count.into()));
    let reply = Reply::json(&Counts {
        states: states.collect(),
    })?;
    Ok(reply.clock(CLOCK))
}

fn since(call: &Call<'_>) -> Result<Timestamp, Problem> {
    let now = call.inspector.now();
    Ok(call.query.time("since", now)?.unwrap_or(now - DAY))
}

fn activity(call: &Call<'_>) -> Result<Reply, Problem> {
    let buckets = call.query.number("buckets", 48, 1..=MAX_BUCKETS)?;
    let (start, now) = (since(call)?, call.inspector.now());
    let found = call.inspector.activity(start, now, buckets)?;
    let items = found.into_iter().map(|bucket| BucketView {
        since: time(bucket.since),
        until: time(bucket.until),
        submitted: bucket.submitted.into(),
        failed: bucket.failed.into(),
    });
    let items: Vec<BucketView> = items.collect();
    let tag = activity_tag(&items, now.since(start), now);
    Ok(Reply::json(&Page::whole(items))?.etag(tag))
}

/// Returns the entity tag of an answer about activity: a hash of the counts. The intervals end now, so they differ for each
/// request. The tag changes with them at least once in the length of an interval.
fn activity_tag(items: &[BucketView], span: i64, now: Timestamp) -> String {
    let counts = items.iter().map(|item| (&item.submitted, &item.failed));
    let counts: Vec<_> = counts
        .map(|(submitted, failed)| (submitted.value, submitted.kind, failed.value, failed.kind))
        .collect();
    // The length is rounded down to a power of two, so that it is the same for the next request.
    let length = span / i64::try_from(items.len().max(1)).unwrap_or(1);
    let length = 1_i64 << length.max(1).ilog2();
    let tick = now.0 / length;
    format!("{}-{tick}", hash_of(&format!("{counts:?}")))
}

fn failures(call: &Call<'_>) -> Result<Reply, Problem> {
    let groups = call.inspector.failures(Some(since(call)?))?;
    let items = groups.into_iter().map(FailureView::from).collect();
    Reply::json(&Page::whole(items))
}

fn waiting(call: &Call<'_>) -> Result<Reply, Problem> {
    let is_wait =
        |reason: &ReasonView| !["ended", "deadline", "held_by_live"].contains(&reason.name());
    Ok(Reply::json(&open::groups(call, is_wait)?)?.clock(CLOCK))
}

fn attention(call: &Call<'_>) -> Result<Reply, Problem> {
    let now = call.inspector.now();
    let blocked = open::groups(call, ReasonView::needs_help)?;
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
    let reply = Reply::json(&Attention {
        blocked: blocked.items,
        examined: blocked.examined,
        failures: failures.into_iter().map(FailureView::from).collect(),
        schedules,
        gone_runners: gone.map(|runner| runner.presence.id.to_string()).collect(),
        overdue: super::overdue::find(call)?,
    })?;
    Ok(reply.clock(CLOCK))
}
