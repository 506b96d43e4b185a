//! Draws a workflow as a diagram, in Mermaid or DOT text.

use std::fmt::Write;

use crate::workflow::{Output, ParameterSource, TaskKind, Workflow};

/// Returns the workflow's graph as a Mermaid flow chart, with the declared input and output.
#[must_use]
pub fn to_mermaid(workflow: &Workflow) -> String {
    let quote = |text: &str| text.replace('"', "#quot;");
    let mut out = String::from("flowchart TD\n");
    for (index, task) in workflow.definition().tasks.iter().enumerate() {
        let label = quote(&task.id);
        let shape = match task.kind {
            TaskKind::External => format!("[[\"{label}\"]]"),
            TaskKind::Engine => format!("{{{{\"{label}\"}}}}"),
            TaskKind::Sync | TaskKind::Async => format!("[\"{label}\"]"),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(out, "    t{index}{shape}");
    }
    for (from, to) in edges(workflow) {
        let _ = writeln!(out, "    t{from} --> t{to}");
    }
    let ends = Ends::of(workflow);
    for (is_declared, name) in [(ends.has_input, "input"), (ends.has_output, "output")] {
        if is_declared {
            let _ = writeln!(out, "    {name}([\"{name}\"])");
        }
    }
    for (to, names) in &ends.inputs {
        let _ = writeln!(out, "    input -->|\"{}\"| t{to}", quote(&names.join(", ")));
    }
    for (from, name) in &ends.outputs {
        let from = from.map_or_else(|| "input".to_owned(), |index| format!("t{index}"));
        let _ = writeln!(out, "    {from} -->|\"{}\"| output", quote(name));
    }
    out
}

/// Returns the workflow's graph in Graphviz's DOT language, with the declared input and output.
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
    let ends = Ends::of(workflow);
    // The colon distinguishes these nodes from tasks, because an id never begins with a colon.
    for (is_declared, name) in [(ends.has_input, "input"), (ends.has_output, "output")] {
        if is_declared {
            let _ = writeln!(out, "    \":{name}\" [label=\"{name}\", shape=plaintext];");
        }
    }
    for (to, names) in &ends.inputs {
        let label = quote(&names.join(", "));
        let _ = writeln!(out, "    \":input\" -> {} [label={label}];", id(*to));
    }
    for (from, name) in &ends.outputs {
        let from = from.map_or_else(|| "\":input\"".to_owned(), id);
        let _ = writeln!(out, "    {from} -> \":output\" [label={}];", quote(name));
    }
    out.push_str("}\n");
    out
}

/// The declared input and output of a workflow, and their edges.
struct Ends<'a> {
    has_input: bool,
    has_output: bool,
    /// The tasks that receive fields of the input, in declaration order, each with the names of the parameters that
    /// receive the fields.
    inputs: Vec<(u32, Vec<&'a str>)>,
    /// The values of the output, each with the task that produces it and its key. `None`: the value is a field of the input.
    outputs: Vec<(Option<u32>, &'a str)>,
}

impl<'a> Ends<'a> {
    fn of(workflow: &'a Workflow) -> Self {
        let definition = workflow.definition();
        let mut inputs = Vec::new();
        for (index, task) in (0..).zip(&definition.tasks) {
            let parameters = task.parameters.iter();
            let names: Vec<&str> = parameters
                .filter(|parameter| parameter.source == ParameterSource::Input)
                .map(|parameter| parameter.name.as_str())
                .collect();
            if !names.is_empty() {
                inputs.push((index, names));
            }
        }
        let keys = definition.output.as_ref().map_or(&[][..], Output::keys);
        let producer = |key: &str| {
            let tasks = (0..).zip(&definition.tasks);
            let mut found =
                tasks.filter(|(_, task)| task.result.as_ref().unwrap_or(&task.id) == key);
            found.next().map(|(index, _)| index)
        };
        Self {
            has_input: definition.input.is_some(),
            has_output: !keys.is_empty(),
            inputs,
            outputs: keys
                .iter()
                .map(|key| (producer(key), key.as_str()))
                .collect(),
        }
    }
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
