//! The HTTP API and the web page of cloacina: they show and control the executions of a database.
//!
//! [`router`] returns an axum router. A program serves it on a port, or nests it into its own router below any path:
//!
//! ```no_run
//! use cloacina_web::{Access, Database, Permission, Web, router};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let database = Database::open("sqlite:///etl.db", None)?;
//! let web = Web::new(database, |head| {
//!     // The program identifies the caller. If this function returns `None`, the answer is 401.
//!     let user = head.headers.get("x-user")?.to_str().ok()?;
//!     Some(Access::new(user, [Permission::View, Permission::Control]))
//! });
//! let app: axum::Router = axum::Router::new().nest("/cloaca", router(web));
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
//! axum::serve(listener, app).await?;
//! # Ok(())
//! # }
//! ```
//!
//! The routes are below `api/v1`; `api/v1/openapi.json` describes them. Every request to them must pass the same checks:
//! size limits, the host, the origin, authentication, and the permission that the table of routes declares for the route.

#![deny(missing_docs)]

mod access;
#[doc(hidden)]
pub mod adapter;
mod assets;
mod body;
mod call;
mod cursor;
mod database;
mod gate;
mod indent;
mod layout;
#[cfg(any(test, feature = "openapi"))]
#[doc(hidden)]
pub mod openapi;
#[doc(hidden)]
pub mod operation;
mod pages;
#[doc(hidden)]
pub mod problem;
mod query;
mod redact;
mod router;
mod routes;
mod schema;
mod secret_values;
mod server;
mod stream;
mod time;
mod token;
mod views;
mod watch;
mod web;

pub use access::{Access, Permission};
pub use database::Database;
pub use router::router;
#[doc(hidden)]
pub use routes::operations;
pub use server::Listening;
pub use web::{Authorize, Web};
