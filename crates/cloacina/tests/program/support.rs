//! Creates the databases and runners of these tests.

use std::time::Duration;

use cloacina::{DefaultRunner, DefaultRunnerConfig};

#[cfg(feature = "postgres")]
#[path = "../support/private_postgres.rs"]
#[expect(dead_code, reason = "other test programs use the rest")]
mod private_postgres;

/// The maximum time that a test waits for an event.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// An empty database for one test. An SQLite file is deleted when the value is dropped. A schema on PostgreSQL stays until the
/// server stops.
pub struct Database {
    pub url: String,
    pub schema: Option<String>,
    _folder: tempfile::TempDir,
}

/// Creates an empty database of each kind that this build supports.
pub fn databases() -> Vec<Database> {
    let mut databases = Vec::new();
    if cfg!(feature = "sqlite") {
        let folder = tempfile::tempdir().unwrap();
        databases.push(Database {
            url: format!("sqlite:///{}", folder.path().join("test.db").display()),
            schema: None,
            _folder: folder,
        });
    }
    #[cfg(feature = "postgres")]
    databases.push(Database {
        url: private_postgres::shared().to_owned(),
        schema: Some(private_postgres::fresh_name()),
        _folder: tempfile::tempdir().unwrap(),
    });
    databases
}

pub async fn start(database: &Database) -> DefaultRunner {
    let config = DefaultRunnerConfig::builder().poll_interval(Duration::from_millis(10));
    start_with(database, config.build().unwrap()).await
}

pub async fn start_with(database: &Database, config: DefaultRunnerConfig) -> DefaultRunner {
    let mut builder = DefaultRunner::builder().database_url(&database.url);
    if let Some(schema) = &database.schema {
        builder = builder.schema(schema);
    }
    builder.config(config).build().await.unwrap()
}

/// Returns the next message that a task sends.
pub async fn hear<T>(receiver: &mut tokio::sync::mpsc::UnboundedReceiver<T>) -> T {
    tokio::time::timeout(PATIENCE, receiver.recv())
        .await
        .expect("no message arrived in time")
        .expect("the sender was dropped")
}
