//! The HTTP API over real databases: the gate, the routes, and the lessons from other dashboards.

mod executions;
mod fixture;
mod lessons;
mod lists;
mod matrix;
mod paging;
mod read_only;
mod schedules;
mod server;
