//! Diagrams of a workflow, as Mermaid and DOT text.

use std::fmt::Write;

use crate::workflow::{TaskKind, Workflow};

/// The DAG as a Mermaid flow chart.
#[must_use]
pub fn to_mermaid(workflow: &Workflow) -> String {
    let mut out = String::from("flowchart TD\n");
    for (index, task) in workflow.definition().tasks.iter().enumerate() {
        let label = task.id.replace('"', "#quot;");
        let shape = match task.kind {
            TaskKind::External => format!("[[\"{label}\"]]"),
            TaskKind::Sync | TaskKind::Async => format!("[\"{label}\"]"),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(out, "    t{index}{shape}");
    }
    for (from, to) in edges(workflow) {
        let _ = writeln!(out, "    t{from} --> t{to}");
    }
    out
}

/// The DAG in Graphviz's DOT language.
#[must_use]
pub fn to_dot(workflow: &Workflow) -> String {
    let quote = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let mut out = format!(
        "digraph {} {{\n    rankdir=LR;\n    node [shape=box];\n",
        quote(workflow.name())
    );
    let id = |index: u32| quote(&workflow.task(index).id);
    for (index, _) in (0..).zip(&workflow.definition().tasks) {
        let _ = writeln!(out, "    {};", id(index));
    }
    for (from, to) in edges(workflow) {
        let _ = writeln!(out, "    {} -> {};", id(from), id(to));
    }
    out.push_str("}\n");
    out
}

fn edges(workflow: &Workflow) -> impl Iterator<Item = (u32, u32)> {
    (0..).zip(&workflow.definition().tasks).flat_map(|(to, _)| {
        workflow
            .graph()
            .dependencies(to)
            .iter()
            .map(move |from| (*from, to))
    })
}
