//! Workflow definitions: tasks, trigger rules, the graph, validation and the version hash. This layer does no I/O and reads
//! no clock.

mod definition;
mod external_compat;
mod finale;
mod fingerprint;
mod graph;
mod input_schema;
mod input_value;
mod needs;
mod parameter;
pub(crate) mod queue;
mod rule;
mod validate;
mod validate_children;
mod validate_maps;
mod validate_values;
mod validate_waits;

pub use definition::{TaskDefinition, TaskKind, Workflow, WorkflowDefinition};
pub use external_compat::check_external;
pub use finale::{ERROR_KEY, FinalOn, FinalRole, is_derived};
pub use graph::Graph;
pub use input_schema::complete_approval_data;
pub use parameter::{Output, Parameter, ParameterSource};
pub use rule::{Operator, TriggerRule};
pub use validate_waits::{condition_problem, name_problem};
