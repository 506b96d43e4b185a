//! The route that applies an action to many executions.

use std::collections::{HashMap, HashSet};

use cloacina::runtime::Control as Action;
use cloacina::{Error, ErrorCode, ExecutionId, ExecutionStatus};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::executions::{FILTER, filters_of};
use crate::access::Permission::Control;
use crate::call::{Call, Reply, parse_execution};
use crate::cursor;
use crate::operation::Operation;
use crate::problem::Problem;
use crate::query::{Query, shown};

/// Maximum number of executions in one request.
const MAX_ITEMS: usize = 1_000;

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::post("/executions/bulk", Control, "controlExecutions", "Control many executions", bulk)
            .about(
                "Applies an action to the executions in `ids`, or to at most `limit` executions that match `filter`. An \
                 execution whose state does not allow the action is refused; the other executions are changed. With `filter`, \
                 a client repeats the request with `cursor` until `next` is null. A dry run reports what would happen.",
            )
            .takes::<Bulk>()
            .returns::<BulkView>(200, "The outcome."),
    ]
}

/// The action of a request for many executions.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, ToSchema)]
#[serde(rename_all = "snake_case")]
enum BulkAction {
    Cancel,
    Pause,
    Resume,
    Retry,
}

/// A change of many executions.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Bulk {
    /// The action.
    action: BulkAction,
    /// The ids of the executions. Cannot be combined with `filter`.
    #[schema(max_items = 1000)]
    ids: Option<Vec<String>>,
    /// Conditions, named like the query parameters of the list of executions. A list of values matches any of the values.
    #[schema(value_type = Option<Object>)]
    filter: Option<serde_json::Map<String, serde_json::Value>>,
    /// Whether to report what would happen, and to change nothing.
    #[serde(default)]
    dry_run: bool,
    /// Maximum number of executions that a request with `filter` examines; default: 100.
    #[schema(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// The reason, for the histories of the executions.
    note: Option<String>,
    /// The `next` of the previous answer to a request with the same filter.
    cursor: Option<String>,
}

/// An execution that an action was not applied to.
#[derive(Debug, Serialize, ToSchema)]
struct Refused {
    /// The id of the execution, or the text in `ids` that is not an id.
    id: String,
    /// The code of the error.
    code: &'static str,
    /// The reason, as a sentence.
    detail: String,
}

/// The outcome of a change of many executions.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BulkView {
    /// The number of executions that this request has examined.
    matched: usize,
    /// The number of executions that were changed; in a dry run, the number that would be changed.
    done: usize,
    /// The executions that were refused; in a dry run, those that would be refused.
    refused: Vec<Refused>,
    /// The cursor for the next request; null if no more executions match.
    next: Option<String>,
    /// Whether this was a dry run, which changed nothing.
    dry_run: bool,
}

impl BulkAction {
    const fn control(self) -> Action {
        match self {
            Self::Cancel => Action::Cancel,
            Self::Pause => Action::Pause,
            Self::Resume => Action::Resume,
            Self::Retry => Action::Retry { from_task: None },
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Retry => "retry",
        }
    }

    /// Whether a state allows the action.
    const fn is_allowed(self, status: ExecutionStatus) -> bool {
        match self {
            Self::Cancel => !status.is_terminal(),
            Self::Pause => matches!(status, ExecutionStatus::Pending | ExecutionStatus::Running),
            Self::Resume => matches!(status, ExecutionStatus::Paused),
            Self::Retry => matches!(status, ExecutionStatus::Failed),
        }
    }
}

/// The executions that a request names or that match its filter.
#[derive(Default)]
struct Wanted {
    ids: Vec<ExecutionId>,
    /// The texts in `ids` that are not ids.
    malformed: Vec<Refused>,
    /// The cursor for the next request.
    next: Option<String>,
}

/// Returns the executions that a request names or that match its filter.
fn wanted(call: &Call<'_>, request: &Bulk) -> Result<Wanted, Problem> {
    let limit = request.limit.unwrap_or(100);
    if !(1..=MAX_ITEMS).contains(&limit) {
        return Err(Problem::invalid(
            "/limit",
            format!("{limit} is not between 1 and {MAX_ITEMS}"),
        ));
    }
    match (&request.ids, &request.filter) {
        (Some(ids), None) => {
            if ids.len() > MAX_ITEMS {
                return Err(Problem::invalid(
                    "/ids",
                    format!(
                        "{} ids are too many; at most {MAX_ITEMS} are allowed",
                        ids.len()
                    ),
                ));
            }
            let mut wanted = Wanted::default();
            let (mut seen, mut seen_texts) = (HashSet::new(), HashSet::new());
            for text in ids {
                match parse_execution(text) {
                    Ok(id) if seen.insert(id) => wanted.ids.push(id),
                    Err(problem) if seen_texts.insert(text) => wanted.malformed.push(Refused {
                        id: shown(text),
                        code: problem.code,
                        detail: problem.to_string(),
                    }),
                    _ => {} // The request names this execution twice.
                }
            }
            Ok(wanted)
        }
        (None, Some(members)) => {
            let query = Query::of_members(members, FILTER)?;
            let condition = cursor::condition(&query);
            let mut filters = filters_of(call, &query)?;
            for filter in &mut filters {
                filter.limit = limit;
                if let Some(text) = &request.cursor {
                    cursor::apply(text, &condition, filter)?;
                }
            }
            let page = call.inspector.list_any(&filters)?;
            let ids = page.items.iter().map(|item| item.id).collect();
            Ok(Wanted {
                ids,
                malformed: Vec::new(),
                next: page.next.map(|id| cursor::next(id, &condition)),
            })
        }
        _ => Err(Problem::invalid(
            "/ids",
            "the request has both `ids` and `filter`, or neither; give one of them",
        )),
    }
}

fn bulk(call: &Call<'_>) -> Result<Reply, Problem> {
    let request: Bulk = call.decode()?;
    let Wanted {
        ids,
        malformed,
        next,
    } = wanted(call, &request)?;
    let mut outcome = BulkView {
        matched: ids.len() + malformed.len(),
        done: 0,
        refused: malformed,
        next,
        dry_run: request.dry_run,
    };
    let action = request.action;
    let mut refusals: HashMap<ExecutionId, (ErrorCode, String)> = HashMap::new();
    let known: HashMap<_, _> = (call.inspector.summaries(&ids)?.iter())
        .map(|item| (item.id, item.status))
        .collect();
    let mut allowed = Vec::new();
    for id in &ids {
        let refusal = match known.get(id) {
            None => Some(Error::unknown_execution(*id)),
            Some(status) if !action.is_allowed(*status) => {
                let detail = format!("cannot {} execution {id}: it is {status}", action.name());
                Some(Error::new(ErrorCode::ExecutionState, detail))
            }
            Some(_) => None,
        };
        match refusal {
            Some(error) => {
                refusals.insert(*id, (error.code, error.message));
            }
            None => allowed.push(*id),
        }
    }
    if !request.dry_run {
        let audit = call.audit(request.note.clone());
        let outcomes = (call.inspector).control_many(&allowed, &action.control(), &audit);
        let failed = outcomes.into_iter().filter_map(|(id, outcome)| {
            outcome.err().map(|error| (id, (error.code, error.message)))
        });
        refusals.extend(failed);
    }
    for id in ids {
        match refusals.remove(&id) {
            None => outcome.done += 1,
            Some((code, detail)) => outcome.refused.push(Refused {
                id: id.to_string(),
                code: code.name(),
                detail,
            }),
        }
    }
    if outcome.done > 0 && !request.dry_run {
        call.note_change(action.name(), &format!("{} executions", outcome.done));
    }
    Reply::json(&outcome)
}
