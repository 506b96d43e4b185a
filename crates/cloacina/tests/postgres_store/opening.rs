//! Tests of opening and migrating a schema, and of refused schemas and sessions.

use std::collections::HashSet;
use std::net::TcpListener;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use cloacina::store::postgres::PostgresStore;
use cloacina::store::{Store, StoreError};
use cloacina::types::DefinitionId;

use super::private_postgres::{administer, fresh_name, shared};
use super::records::{NOW, ready, workflow};
use super::{all, options, pinned, register, submit};

#[test]
fn eight_threads_open_a_fresh_database_at_once() {
    let database = fresh_name();
    administer(shared(), &format!("CREATE DATABASE {database}"));
    let url = format!("{}/{database}", shared().rsplit_once('/').unwrap().0);
    for options in [options(&url), options(&url).with_schema("tenant").unwrap()] {
        let barrier = Arc::new(Barrier::new(8));
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let (options, barrier) = (options.clone(), Arc::clone(&barrier));
                std::thread::spawn(move || {
                    barrier.wait();
                    let store = PostgresStore::open(&options).unwrap();
                    let definition = store.put_definition(&workflow("etl", 1), NOW).unwrap();
                    let runner = register(&store, NOW);
                    submit(&store, runner, &[ready(definition, NOW)]).unwrap();
                    definition
                })
            })
            .collect();
        let definitions: HashSet<_> = threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect();
        assert_eq!(definitions.len(), 1);
        let store = PostgresStore::open(&options).unwrap();
        assert_eq!(all(&store).len(), 8);
        assert_eq!(store.runners().unwrap().len(), 8);
    }
}

#[test]
fn a_newer_schema_and_an_unwanted_migration_are_refused() {
    let mut options = pinned(shared());
    options.auto_migrate = false;
    let error = PostgresStore::open(&options).unwrap_err();
    assert!(
        matches!(&error, StoreError::Migration(text) if text.contains("cloaca db migrate")),
        "{error:?}"
    );
    let pending = PostgresStore::pending_migrations(&options).unwrap();
    assert_eq!(
        pending.first().map(String::as_str),
        Some("00000000000001"),
        "{pending:?}"
    );
    assert_eq!(PostgresStore::schema_version(&options).unwrap(), None);
    options.auto_migrate = true;
    drop(PostgresStore::open(&options).unwrap());
    options.auto_migrate = false;
    drop(PostgresStore::open(&options).unwrap());
    let schema = options.schema.clone().unwrap();
    administer(
        shared(),
        &format!("INSERT INTO {schema}.cloacina_migrations VALUES ('99990101000000', 0)"),
    );
    let error = PostgresStore::open(&options).unwrap_err();
    assert!(
        matches!(&error, StoreError::Migration(text) if text.contains("newer")),
        "{error:?}"
    );
}

#[test]
fn i2_ready_tasks_and_schedules_survive_the_queue_migration() {
    let options = pinned(shared());
    let execution = super::old_queues::fill(&PostgresStore::open(&options).unwrap());
    let schema = options.schema.clone().unwrap();
    administer(
        shared(),
        &format!("DELETE FROM {schema}.cloacina_migrations WHERE version = '00000000000004'"),
    );
    super::old_queues::check(&PostgresStore::open(&options).unwrap(), execution);
}

#[test]
fn schemas_are_isolated() {
    let (one, two) = (pinned(shared()), pinned(shared()));
    let first = PostgresStore::open(&one).unwrap();
    let second = PostgresStore::open(&two).unwrap();
    let definition = first.put_definition(&workflow("etl", 1), NOW).unwrap();
    let runner = register(&first, NOW);
    submit(&first, runner, &[ready(definition, NOW)]).unwrap();
    assert_eq!(all(&first).len(), 1);
    assert_eq!(all(&second), []);
    assert_eq!(second.definitions(DefinitionId(0)).unwrap(), []);
}

#[test]
fn a_session_outside_its_schema_is_refused() {
    let role = fresh_name();
    let options = pinned(shared());
    drop(PostgresStore::open(&options).unwrap());
    // The role has no right to use the schema, so PostgreSQL ignores the schema in the role's sessions.
    administer(shared(), &format!("CREATE ROLE {role} LOGIN"));
    let mut other = self::options(&shared().replace("postgres@", &format!("{role}@")));
    other.schema = options.schema;
    let error = PostgresStore::open(&other).unwrap_err();
    assert!(
        matches!(error, StoreError::Failed(_) | StoreError::Migration(_)),
        "{error:?}"
    );
}

#[test]
fn an_unreachable_database_is_reported_within_the_timeout() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = free.local_addr().unwrap().port();
    drop(free);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let cases = [
        format!("postgresql://u:s3cret@127.0.0.1:{closed}/db?connect_timeout=2"),
        format!("postgresql://u:s3cret@127.0.0.1:{port}/db?connect_timeout=1"),
        format!("postgresql://u:s3cret@127.0.0.1:{port}/db?connect_timeout=1&sslmode=disable"),
        "postgresql://u:s3cret@no-such-host.invalid/db?connect_timeout=3".to_owned(),
    ];
    for url in cases {
        let start = Instant::now();
        let error = PostgresStore::open(&options(&url)).unwrap_err();
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "{url}: {:?}",
            start.elapsed()
        );
        let StoreError::Unavailable(text) = &error else {
            panic!("{error:?}")
        };
        assert!(
            text.contains("postgresql://u@") && !text.contains("s3cret"),
            "{text}"
        );
    }
    let url = format!("{}/no_such_database", shared().rsplit_once('/').unwrap().0);
    let error = PostgresStore::open(&options(&url)).unwrap_err();
    assert!(
        matches!(&error, StoreError::Failed(text) if text.contains("no_such_database")),
        "{error:?}"
    );
}

#[test]
fn a_read_only_role_gets_a_permission_error_that_names_the_role() {
    let role = fresh_name();
    let options = pinned(shared());
    drop(PostgresStore::open(&options).unwrap());
    let schema = options.schema.clone().unwrap();
    administer(
        shared(),
        &format!(
            "CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA {schema} TO {role}; \
             GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role}"
        ),
    );
    let url = shared().replace("postgres@", &format!("{role}@"));
    let reader = PostgresStore::open(&self::options(&url).with_schema(&schema).unwrap()).unwrap();
    assert_eq!(all(&reader), []);
    let error = reader.put_definition(&workflow("etl", 1), NOW).unwrap_err();
    assert!(
        matches!(&error, StoreError::Failed(text) if text.contains("permission denied") && text.contains(&role)),
        "{error:?}"
    );
    // The role can still read.
    assert_eq!(all(&reader), []);
}
