//! The part of the failpoint scenario that runs an execution with children, a compensation and a final task.

use std::collections::BTreeMap;

use cloacina::runner::{EngineHandle, ListFilter, ListedExecution};
use cloacina::types::{ExecutionId, ExecutionStatus};

use super::scenario::{end_of, retry, submit_once};
use super::time::until;

/// An execution of the family: its workflow, its state, and the state of each task.
type Member = (String, ExecutionStatus, Vec<String>);

/// The final state of a family: an execution with its children and its final tasks.
#[derive(Debug, PartialEq, Eq)]
pub struct Family {
    members: Vec<Member>,
    /// The number of the execution's events about children, by kind.
    events: BTreeMap<String, usize>,
}

fn member(engine: &EngineHandle, id: ExecutionId) -> Member {
    let execution = retry(|| engine.inspector().execution(id));
    let tasks = execution.record().tasks.iter();
    (
        execution.workflow().name().to_owned(),
        execution.record().status,
        tasks.map(|task| task.status.to_string()).collect(),
    )
}

fn children(engine: &EngineHandle, parent: ExecutionId) -> Vec<ListedExecution> {
    let filter = ListFilter {
        parent: Some(parent),
        limit: 10,
        ..ListFilter::default()
    };
    retry(|| engine.inspector().list(&filter)).items
}

/// Runs an execution that fails after its children have ended, and waits for its compensation and its final task.
pub fn run_a_family(engine: &EngineHandle) -> Family {
    let id = submit_once(engine, "family", "family");
    end_of(engine, id);
    until("the final tasks have ended", || {
        let children = children(engine, id);
        let has_final = |child: &ListedExecution| child.workflow().name() == "family~final";
        children.iter().any(has_final) && children.iter().all(|child| child.status.is_terminal())
    });
    let mut members: Vec<Member> = children(engine, id)
        .iter()
        .map(|child| member(engine, child.id))
        .collect();
    members.sort_unstable();
    members.insert(0, member(engine, id));
    let (_, history) = retry(|| engine.inspector().history(id));
    let mut events = BTreeMap::new();
    for event in history {
        let kind = event.kind.as_str();
        if kind.starts_with("child_") {
            *events.entry(kind.to_owned()).or_default() += 1;
        }
    }
    Family { members, events }
}
