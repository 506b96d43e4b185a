//! The route that returns the layout of a workflow's graph.

use cloacina::workflow::Workflow;

use super::workflows::find_version;
use crate::access::Permission::View;
use crate::call::{Call, Reply};
use crate::layout::layout;
use crate::operation::Operation;
use crate::problem::Problem;
use crate::views::graph::GraphView;

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get(
            "/workflows/{name}/versions/{version}/graph",
            View,
            "getGraph",
            "Lay out the graph of a workflow",
            graph,
        )
        .about("The graph of a version never changes, so the version is the entity tag.")
        .returns::<GraphView>(200, "The places of the tasks and the edges between them."),
    ]
}

fn graph_of(workflow: &Workflow) -> GraphView {
    let graph = workflow.graph();
    let tasks = &workflow.definition().tasks;
    let ordinals = || (0..).take(tasks.len());
    let dependencies: Vec<Vec<u32>> = ordinals()
        .map(|task| graph.dependencies(task).to_vec())
        .collect();
    let laid = layout(&dependencies, graph.order());
    GraphView::new(tasks.iter().map(|task| task.id.clone()).collect(), laid)
}

fn graph(call: &Call<'_>) -> Result<Reply, Problem> {
    let workflow = find_version(call)?;
    Ok(Reply::json(&graph_of(&workflow))?.etag(workflow.version()))
}
