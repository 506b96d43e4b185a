//! Tests of the HTTP API on real databases: the gate, the routes, and security holes that other dashboards had.

mod contract;
mod executions;
mod fixture;
mod lessons;
mod lists;
mod matrix;
mod paging;
mod read_only;
mod schedules;
mod server;
