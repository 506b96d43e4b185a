//! The public facade: open a database, register workflows, submit, follow, control.

mod describe;
mod engine_handle;
mod history;
mod schedules;

pub use describe::{to_dot, to_mermaid};
pub use engine_handle::{EngineHandle, ListFilter, OpenOptions, Page};
pub use history::history_of;
pub use schedules::TickCounts;
