//! The routes for workflow definitions and their statistics.

use std::collections::BTreeMap;
use std::sync::Arc;

use cloacina::runner::ListFilter;
use cloacina::workflow::Workflow;
use cloacina::{Error, ErrorCode};

use crate::access::Permission::View;
use crate::call::{Call, Reply};
use crate::operation::{Operation, Parameter};
use crate::problem::Problem;
use crate::views::Page;
use crate::views::workflow::{StatsView, WorkflowSummary, WorkflowView};

use super::MAX_PAGE;

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get(
            "/workflows",
            View,
            "listWorkflows",
            "List the workflows of the database",
            list,
        )
        .returns_page::<WorkflowSummary>("The newest version of each workflow, ordered by name."),
        Operation::get(
            "/workflows/{name}",
            View,
            "getWorkflow",
            "Show a workflow",
            show,
        )
        .returns::<WorkflowView>(200, "The newest version."),
        Operation::get(
            "/workflows/{name}/versions/{version}",
            View,
            "getWorkflowVersion",
            "Show a version of a workflow",
            version,
        )
        .returns::<WorkflowView>(200, "The version."),
        Operation::get(
            "/workflows/{name}/stats",
            View,
            "getWorkflowStats",
            "Show statistics of the last executions of a workflow",
            stats,
        )
        .with([Parameter::number(
            "last",
            1,
            MAX_PAGE,
            "The number of executions; default: 200.",
        )])
        .returns::<StatsView>(200, "The statistics."),
    ]
}

/// Returns the stored versions of each workflow, oldest first.
fn versions(call: &Call<'_>) -> Result<BTreeMap<String, Vec<Arc<Workflow>>>, Problem> {
    let mut by_name: BTreeMap<String, Vec<Arc<Workflow>>> = BTreeMap::new();
    for (stored, workflow) in call.inspector.workflows()? {
        by_name.entry(stored.workflow).or_default().push(workflow);
    }
    Ok(by_name)
}

fn list(call: &Call<'_>) -> Result<Reply, Problem> {
    let by_name = versions(call)?;
    let items = by_name.values().filter_map(|versions| {
        let newest = versions.last()?;
        Some(WorkflowSummary::new(newest, versions.len()))
    });
    Reply::json(&Page::whole(items.collect()))
}

fn of_name(call: &Call<'_>) -> Result<Vec<Arc<Workflow>>, Problem> {
    let name = call.part("name")?;
    versions(call)?.remove(name).ok_or_else(|| {
        let shown: String = name.chars().take(80).collect();
        let message = format!("workflow '{shown}' is not known in this database");
        let error = Error::new(ErrorCode::WorkflowNotFound, message);
        error.with_hint("GET /workflows lists the workflows").into()
    })
}

fn view(workflow: &Workflow, versions: &[Arc<Workflow>]) -> Result<Reply, Problem> {
    let all = versions.iter().map(|version| version.version().to_owned());
    Reply::json(&WorkflowView::new(workflow, all.collect())?)
}

fn show(call: &Call<'_>) -> Result<Reply, Problem> {
    let versions = of_name(call)?;
    match versions.last() {
        Some(newest) => view(newest, &versions),
        None => Err(Problem::new("not_found", "the workflow has no version")),
    }
}

/// Returns the workflow version that the path names.
pub(super) fn find_version(call: &Call<'_>) -> Result<Arc<Workflow>, Problem> {
    Ok(Arc::clone(select_version(call, &of_name(call)?)?))
}

fn select_version<'a>(
    call: &Call<'_>,
    versions: &'a [Arc<Workflow>],
) -> Result<&'a Arc<Workflow>, Problem> {
    let wanted = call.part("version")?;
    let found = versions.iter().find(|version| version.version() == wanted);
    found.ok_or_else(|| {
        let shown: String = wanted.chars().take(80).collect();
        Problem::new(
            "not_found",
            format!("the workflow has no version '{shown}'"),
        )
    })
}

fn version(call: &Call<'_>) -> Result<Reply, Problem> {
    let versions = of_name(call)?;
    view(select_version(call, &versions)?, &versions)
}

fn stats(call: &Call<'_>) -> Result<Reply, Problem> {
    let last = call.query.number("last", MAX_PAGE, 1..=MAX_PAGE)?;
    let name = call.part("name")?.to_owned();
    of_name(call)?;
    let page = call.inspector.list(&ListFilter {
        workflows: vec![name],
        children: true,
        limit: last,
        ..ListFilter::default()
    })?;
    Reply::json(&StatsView::new(&page.items))
}
