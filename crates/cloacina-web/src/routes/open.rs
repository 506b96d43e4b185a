//! Examines open executions, and groups them by the reason why they have not ended.

use std::time::{Duration, Instant};

use cloacina::runner::ListFilter;
use cloacina::{ExecutionId, ExecutionStatus};
use serde::Serialize;
use utoipa::ToSchema;

use super::overview::CountView;
use crate::call::Call;
use crate::problem::Problem;
use crate::views::explain::ReasonView;
use crate::views::time;

/// Maximum number of ready tasks per queue whose executions are examined. Also the maximum number of maps with ready
/// items whose executions are examined.
const PER_QUEUE: usize = 10;
/// Maximum number of executions with ready tasks or ready items of maps that are examined.
const MAX_READY: usize = 200;
/// Maximum number of the newest open executions that are examined.
const MAX_NEWEST: usize = 100;
/// Maximum number of the oldest running executions that are examined.
const MAX_OLDEST: usize = 50;
/// Number of executions that are read at once.
const CHUNK: usize = 20;
/// Number of executions that are examined even if this takes longer than [`BUDGET`].
const MIN_EXAMINED: usize = 100;
/// Time after which a request examines no further open executions, if it has examined at least [`MIN_EXAMINED`]. The
/// answer then contains the groups that were found until then.
const BUDGET: Duration = Duration::from_millis(60);
/// Maximum number of executions whose ids are listed in a group.
const MAX_NAMED: usize = 10;
/// Maximum number of groups whose reason gets details. The details need a further query for each group.
const MAX_DETAILED: usize = 20;

/// The states of open executions.
const OPEN: [ExecutionStatus; 3] = [
    ExecutionStatus::Pending,
    ExecutionStatus::Running,
    ExecutionStatus::Paused,
];

/// Open executions of one workflow that are all open for the same reason.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WaitGroup)]
pub(super) struct WaitView {
    /// The workflow.
    workflow: String,
    /// The reason why the group's first examined execution has not ended.
    reason: ReasonView,
    /// The number of executions in the group.
    count: usize,
    /// The ids of some of the executions, newest first.
    executions: Vec<String>,
}

/// The number of open executions that were examined.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Examined {
    /// The number of examined executions. An answer about fewer than `open` executions is not complete.
    executions: usize,
    /// The number of open executions.
    open: CountView,
}

/// The examined open executions, grouped by what they wait for.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WaitGroups {
    /// The groups.
    pub(super) items: Vec<WaitView>,
    /// Always null, because all groups are on one page.
    next: Option<String>,
    /// Always null, because all groups are on one page.
    prev: Option<String>,
    /// The number of open executions that were examined.
    pub(super) examined: Examined,
}

/// Groups open executions by workflow, and by their first reason that `wanted` accepts.
pub(super) fn groups(
    call: &Call<'_>,
    wanted: impl Fn(&ReasonView) -> bool,
) -> Result<WaitGroups, Problem> {
    let started = Instant::now();
    let open = count(call)?;
    let mut groups: Vec<(WaitView, Vec<ExecutionId>)> = Vec::new();
    let mut examined = 0;
    for ids in candidates(call)?.chunks(CHUNK) {
        if examined >= MIN_EXAMINED && started.elapsed() > BUDGET {
            break;
        }
        examined += ids.len();
        let now = call.inspector.now();
        // `explain_many` leaves out executions that were deleted after they were found.
        for explained in call.inspector.explain_many(ids)? {
            let mut reasons = (explained.reasons.iter()).map(|reason| ReasonView::new(reason, now));
            let Some(reason) = reasons.find(|reason| wanted(reason)) else {
                continue;
            };
            let same = |(group, _): &&mut (WaitView, Vec<ExecutionId>)| {
                group.workflow == explained.workflow && group.reason.is_like(&reason)
            };
            match groups.iter_mut().find(same) {
                Some((_, ids)) => ids.push(explained.id),
                None => groups.push((
                    WaitView {
                        workflow: explained.workflow,
                        reason,
                        count: 0,
                        executions: Vec::new(),
                    },
                    vec![explained.id],
                )),
            }
        }
    }
    groups.sort_by_key(|(_, ids)| std::cmp::Reverse(ids.len()));
    let items = groups.into_iter().enumerate();
    let items = items.map(|(index, (group, ids))| finished(call, group, ids, index < MAX_DETAILED));
    Ok(WaitGroups {
        items: items.collect(),
        next: None,
        prev: None,
        examined: Examined {
            executions: examined,
            open,
        },
    })
}

/// Completes a group: counts and names its executions, and adds details to its reason.
fn finished(
    call: &Call<'_>,
    group: WaitView,
    mut ids: Vec<ExecutionId>,
    is_detailed: bool,
) -> WaitView {
    let first = ids.first().copied().filter(|_| is_detailed);
    let now = call.inspector.now();
    let detailed = first.and_then(|id| {
        // If the execution has been deleted or has continued in the meantime, the reason has no details.
        let reasons = call.inspector.explain(id, &[]).unwrap_or_default();
        let mut views = reasons.iter().map(|reason| ReasonView::new(reason, now));
        views.find(|reason| reason.is_like(&group.reason))
    });
    ids.sort_unstable_by(|left, right| right.cmp(left));
    WaitView {
        reason: detailed.unwrap_or(group.reason),
        count: ids.len(),
        executions: (ids.iter().take(MAX_NAMED))
            .map(ToString::to_string)
            .collect(),
        workflow: group.workflow,
    }
}

/// Returns the open executions to examine. Those most likely to need help come first.
fn candidates(call: &Call<'_>) -> Result<Vec<ExecutionId>, Problem> {
    let mut ids = call.inspector.ready_executions(PER_QUEUE, MAX_READY)?;
    let newest = ListFilter {
        statuses: OPEN.to_vec(),
        limit: MAX_NEWEST,
        children: true,
        ..ListFilter::default()
    };
    let oldest = ListFilter {
        statuses: vec![ExecutionStatus::Running],
        after: Some(ExecutionId::from_bytes([0; 16])),
        limit: MAX_OLDEST,
        children: true,
        ..ListFilter::default()
    };
    for filter in [newest, oldest] {
        let listed = call.inspector.list(&filter)?.items;
        ids.extend(listed.iter().map(|item| item.id));
    }
    let mut known = std::collections::HashSet::new();
    ids.retain(|id| known.insert(*id));
    Ok(ids)
}

/// Counts the open executions.
fn count(call: &Call<'_>) -> Result<CountView, Problem> {
    let counts = call.inspector.counts()?.into_iter();
    let counts: Vec<_> = counts
        .filter(|(status, _)| OPEN.contains(status))
        .map(|(_, count)| CountView::from(count))
        .collect();
    let is_exact = counts.iter().all(|count| count.kind == "exact");
    Ok(CountView {
        value: counts.iter().map(|count| count.value).sum(),
        kind: if is_exact { "exact" } else { "at_least" },
        as_of: time(call.inspector.now()),
    })
}
