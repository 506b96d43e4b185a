//! The view of a graph's layout.

use serde::Serialize;
use utoipa::ToSchema;

use crate::layout::Layout;

/// The layout of a workflow's graph.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Graph)]
pub(crate) struct GraphView {
    /// The ids of the tasks.
    tasks: Vec<String>,
    /// The horizontal position of each task, in hundredths of a column.
    x: Vec<i32>,
    /// The row of each task.
    y: Vec<i32>,
    /// The edges. Each is two numbers: the index of the dependency in `tasks`, then the index of the dependent.
    edges: Vec<u32>,
    /// The bends of each edge. Each bend is two numbers: its horizontal position and its row.
    bends: Vec<Vec<i32>>,
    /// The largest horizontal position.
    width: i32,
    /// The number of rows.
    height: i32,
}

impl GraphView {
    pub(crate) fn new(tasks: Vec<String>, layout: Layout) -> Self {
        Self {
            tasks,
            x: layout.x,
            y: layout.y,
            edges: layout.edges.into_flattened(),
            bends: layout.bends,
            width: layout.width,
            height: layout.height,
        }
    }
}
