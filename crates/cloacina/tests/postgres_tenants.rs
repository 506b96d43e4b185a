//! Tests of tenants in a PostgreSQL database: broken connections, pinned schemas and shared connections (semantics H1, H2, H4).

#![cfg(all(feature = "sqlite", feature = "postgres"))]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/cutting_proxy.rs"]
mod cutting_proxy;
#[path = "support/private_postgres.rs"]
#[expect(dead_code, reason = "no test here stops a server")]
mod private_postgres;
#[path = "runner/support.rs"]
#[expect(dead_code, reason = "other test programs use the rest")]
mod support;
#[path = "support/time.rs"]
#[expect(dead_code, reason = "other test programs use the rest")]
mod time;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use cloacina::runner::{EngineHandle, OpenOptions};
use cloacina::runtime::RunnerConfig;
use cloacina::store::postgres::{PostgresOptions, PostgresStore};
use cloacina::store::{ListQuery, Store, StoreError};
use cloacina::types::{ErrorCode, ExecutionStatus};
use cloacina::{DatabaseAdmin, Tenant, TenantConfig};
use cutting_proxy::{Cut, Proxy};
use private_postgres::{fresh_name, shared};
use support::{body, define, request, task, until, wait, wrote};

/// Runs SQL as the superuser and returns the first column of every row.
fn administer(url: &str, sql: &str) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls)
            .await
            .unwrap();
        tokio::spawn(connection);
        let rows = client.simple_query(sql).await.unwrap();
        rows.iter()
            .filter_map(|message| match message {
                tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                _ => None,
            })
            .collect()
    })
}

/// Creates a database for one test, because administrators see all tenants of a database.
fn fresh_database() -> String {
    let name = fresh_name();
    administer(shared(), &format!("CREATE DATABASE {name}"));
    let (server, _) = shared().rsplit_once('/').unwrap();
    format!("{server}/{name}")
}

fn tenant() -> TenantConfig {
    let name = fresh_name();
    TenantConfig::new(name.clone(), format!("{name}_user"))
}

/// Returns the tenant's schema and role. A schema or role that does not exist is left out.
fn existing(url: &str, config: &TenantConfig) -> Vec<String> {
    administer(
        url,
        &format!(
            "SELECT nspname FROM pg_namespace WHERE nspname = '{}' UNION ALL \
             SELECT rolname FROM pg_roles WHERE rolname = '{}'",
            config.schema_name, config.username
        ),
    )
}

/// Returns the URL of the same database through a proxy.
fn through(proxy: &Proxy, url: &str) -> String {
    let (_, database) = url.rsplit_once('/').unwrap();
    format!(
        "postgresql://postgres@127.0.0.1:{}/{database}?sslmode=disable&connect_timeout=5",
        proxy.port
    )
}

fn port_of(url: &str) -> u16 {
    let (_, rest) = url.rsplit_once(':').unwrap();
    rest.split('/').next().unwrap().parse().unwrap()
}

/// Calls `call` repeatedly, with a proxy that cuts the connection at the first message, then at the second message, and
/// so on. Stops when a call completes without a cut.
fn cut_everywhere(url: &str, cut: fn(usize) -> Cut, mut call: impl FnMut(&str, usize) -> bool) {
    for message in 1..200 {
        let proxy = Proxy::start(port_of(url), cut(message));
        let was_cut = call(&through(&proxy, url), message) && proxy.has_cut();
        if !was_cut {
            assert!(message > 10, "only {message} messages were sent");
            return;
        }
    }
    panic!("no call completed without a cut");
}

#[test]
fn h2_tenant_creation_is_atomic_if_the_connection_breaks() {
    let url = fresh_database();
    for cut in [Cut::Before, Cut::After] {
        let config = tenant();
        cut_everywhere(&url, cut, |through, message| {
            let created = DatabaseAdmin::new(through).unwrap().create_tenant(&config);
            match created {
                Ok(_) => {
                    assert_eq!(existing(&url, &config).len(), 2, "message {message}");
                    let admin = DatabaseAdmin::new(&url).unwrap();
                    admin
                        .remove_tenant(&config.schema_name, &config.username, false)
                        .unwrap();
                }
                Err(error) => {
                    assert_eq!(
                        error.code,
                        ErrorCode::Connection,
                        "message {message}: {error}"
                    );
                    assert_eq!(
                        existing(&url, &config),
                        [""; 0],
                        "message {message}: {error}"
                    );
                }
            }
            true
        });
    }
}

#[test]
fn h2_tenant_removal_is_atomic_if_the_connection_breaks() {
    let url = fresh_database();
    let admin = DatabaseAdmin::new(&url).unwrap();
    for cut in [Cut::Before, Cut::After] {
        let config = tenant();
        admin.create_tenant(&config).unwrap();
        cut_everywhere(&url, cut, |through, message| {
            let removed = DatabaseAdmin::new(through).unwrap().remove_tenant(
                &config.schema_name,
                &config.username,
                false,
            );
            match removed {
                Ok(()) => {
                    assert_eq!(existing(&url, &config), [""; 0], "message {message}");
                    admin.create_tenant(&config).unwrap();
                }
                Err(error) => {
                    assert_eq!(
                        existing(&url, &config).len(),
                        2,
                        "message {message}: {error}"
                    );
                }
            }
            true
        });
        admin
            .remove_tenant(&config.schema_name, &config.username, false)
            .unwrap();
    }
}

#[test]
fn h2_concurrent_administrators_create_a_tenant_once() {
    let url = fresh_database();
    let config = tenant();
    let outcomes: Vec<bool> = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..6)
            .map(|_| scope.spawn(|| DatabaseAdmin::new(&url).unwrap().create_tenant(&config)))
            .collect();
        calls
            .into_iter()
            .map(|call| call.join().unwrap().is_ok())
            .collect()
    });
    assert_eq!(outcomes.iter().filter(|made| **made).count(), 1);
    let admin = DatabaseAdmin::new(&url).unwrap();
    let expected = Tenant {
        schema_name: config.schema_name.clone(),
        username: Some(config.username.clone()),
    };
    assert_eq!(admin.list_tenants().unwrap(), [expected]);
}

/// Returns the message with which the store refuses a new connection.
fn refusal(store: &PostgresStore) -> String {
    let query = ListQuery {
        limit: 1,
        ..ListQuery::default()
    };
    // A call that uses a lost connection fails with another error. The next call opens a new connection.
    for _ in 0..3 {
        if let Err(StoreError::Failed(text)) = store.list(&query) {
            return text.to_string();
        }
    }
    panic!("the connection was not refused");
}

/// Ends all other sessions of the database.
fn end_sessions(url: &str) {
    administer(
        url,
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity \
         WHERE datname = current_database() AND pid <> pg_backend_pid()",
    );
}

#[test]
fn h1_connection_without_its_schema_is_refused() {
    let url = fresh_database();
    let options = PostgresOptions::from_url(&url).unwrap();
    for pinned in [options.clone().with_schema("acme").unwrap(), options] {
        let store = PostgresStore::open(&pinned).unwrap();
        let schema = pinned.schema.as_deref().unwrap_or("public");
        // The renamed schema still has the tables. A connection that is not pinned to the schema could find them.
        administer(&url, &format!("ALTER SCHEMA {schema} RENAME TO elsewhere"));
        end_sessions(&url);
        let text = refusal(&store);
        assert!(
            text.contains("the connection is refused") && text.contains(schema),
            "{text}"
        );
        administer(&url, &format!("ALTER SCHEMA elsewhere RENAME TO {schema}"));
        assert!(store.list(&ListQuery::default()).is_ok());
    }
}

#[test]
fn h1_role_that_may_no_longer_use_its_schema_is_refused() {
    let url = fresh_database();
    let config = tenant();
    let made = DatabaseAdmin::new(&url)
        .unwrap()
        .create_tenant(&config)
        .unwrap();
    for schema in [Some(made.schema_name.as_str()), None] {
        let mut options = PostgresOptions::from_url(&made.connection_string).unwrap();
        options.schema = schema.map(str::to_owned);
        let store = PostgresStore::open(&options).unwrap();
        let (grantee, schema) = (&made.username, &made.schema_name);
        administer(
            &url,
            &format!("REVOKE USAGE ON SCHEMA {schema} FROM {grantee}"),
        );
        end_sessions(&url);
        let text = refusal(&store);
        assert!(text.contains("the connection is refused"), "{text}");
        administer(
            &url,
            &format!("GRANT USAGE ON SCHEMA {schema} TO {grantee}"),
        );
        assert!(store.list(&ListQuery::default()).is_ok());
    }
}

#[test]
fn h1_a_proxy_that_drops_the_schema_option_is_detected() {
    let url = fresh_database();
    drop(PostgresStore::open(&PostgresOptions::from_url(&url).unwrap()).unwrap());
    let proxy = Proxy::start(port_of(&url), Cut::Options);
    let through = through(&proxy, &url);
    let options = |url: &str| {
        PostgresOptions::from_url(url)
            .unwrap()
            .with_schema("acme")
            .unwrap()
    };
    let error = PostgresStore::open(&options(&through)).unwrap_err();
    assert!(
        matches!(&error, StoreError::Failed(text) if text.contains("is not pinned to the schema 'acme'")),
        "{error:?}"
    );
    let nothing: [&str; 0] = [];
    assert_eq!(
        administer(
            &url,
            "SELECT nspname FROM pg_namespace WHERE nspname = 'acme'"
        ),
        nothing
    );
    // With pgbouncer=true, the store sets the schema in every transaction.
    let store = PostgresStore::open(&options(&format!("{through}&pgbouncer=true"))).unwrap();
    assert!(store.list(&ListQuery::default()).is_ok());
}

#[test]
fn h2_debug_texts_hide_passwords() {
    let config = tenant().with_password("s3cret-word");
    let admin = DatabaseAdmin::new(&format!("{}?sslmode=prefer", fresh_database())).unwrap();
    let made = admin.create_tenant(&config).unwrap();
    assert!(made.connection_string.contains("s3cret-word"));
    for text in [
        format!("{config:?}"),
        format!("{made:?}"),
        format!("{admin:?}"),
    ] {
        assert!(!text.contains("s3cret"), "{text}");
    }
}

/// Opens a runner with a limited number of connections.
fn open(url: &str, connections: usize) -> EngineHandle {
    let config = RunnerConfig {
        db_pool_size: connections,
        ..RunnerConfig::default()
    };
    let options = OpenOptions {
        begin: cloacina::runner::Begin::AtOnce,
        config,
        auto_migrate: true,
        ..OpenOptions::default()
    };
    EngineHandle::open(url, options).unwrap()
}

/// Returns how many of these local ports belong to an open TCP connection to the server.
fn open_connections(ports: &[i32], server: u16) -> usize {
    const ESTABLISHED: &str = "01";
    // An address is written as `0100007F:1538`.
    let port = |address: &str| i32::from_str_radix(address.rsplit_once(':')?.1, 16).ok();
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let is_open = |line: &&str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields[3] == ESTABLISHED
            && port(fields[2]) == Some(server.into())
            && port(fields[1]).is_some_and(|port| ports.contains(&port))
    };
    table.lines().skip(1).filter(is_open).count()
}

/// Runs `work`. Returns the maximum number of sessions that the database had during this time. A session counts until
/// its client closes the connection. The server can need much longer to end the session.
fn max_sessions(url: &str, work: impl FnOnce()) -> usize {
    let (most, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls)
                    .await
                    .unwrap();
                tokio::spawn(connection);
                let ports = client
                    .prepare(
                        "SELECT client_port FROM pg_stat_activity WHERE datname = current_database() \
                         AND backend_type = 'client backend' AND pid <> pg_backend_pid()",
                    )
                    .await
                    .unwrap();
                while !done.load(Ordering::Acquire) {
                    let rows = client.query(&ports, &[]).await.unwrap();
                    if rows.len() > most.load(Ordering::Acquire) {
                        let ports: Vec<i32> =
                            rows.iter().filter_map(|row| row.get(0)).collect();
                        let now = open_connections(&ports, port_of(url));
                        most.fetch_max(now, Ordering::AcqRel);
                    }
                }
            });
        });
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        done.store(true, Ordering::Release);
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    });
    most.into_inner()
}

#[test]
fn h4_tenants_of_one_process_stay_within_the_connection_limit() {
    const TENANTS: usize = 12;
    const EXECUTIONS: usize = 30;
    for connections in [3, 5] {
        let url = fresh_database();
        let most = max_sessions(&url, || {
            let parent = open(&url, connections);
            let names: Vec<String> = (0..TENANTS).map(|number| format!("t{number}")).collect();
            let engines: Vec<EngineHandle> = names
                .iter()
                .map(|name| parent.open_tenant(name, None, || None).unwrap())
                .collect();
            for (name, engine) in names.iter().zip(&engines) {
                let name = format!("\"{name}\"");
                let tell = body(move |_| wrote("tenant", &name));
                define(engine, "same_name", vec![(task("tell", &[]), tell)]);
            }
            let submitted: Vec<_> = engines
                .iter()
                .map(|engine| {
                    let requests = (0..EXECUTIONS).map(|_| request("same_name")).collect();
                    engine.submit(requests).unwrap()
                })
                .collect();
            for ((name, engine), ids) in names.iter().zip(&engines).zip(&submitted) {
                for id in ids {
                    let ended = wait(engine, *id);
                    let context = ended.final_context();
                    assert_eq!(
                        context.get("tenant").unwrap().as_str(),
                        format!("\"{name}\"")
                    );
                }
            }
            let foreign = engines[0]
                .inspector()
                .execution(submitted[1][0])
                .unwrap_err();
            assert_eq!(foreign.code, ErrorCode::ExecutionNotFound);
            parent.stop(std::time::Duration::from_secs(20));
            assert!(engines.iter().all(EngineHandle::is_closed));
        });
        assert!(
            (1..=connections).contains(&most),
            "{most} sessions of {connections}"
        );
        let left = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                    AND backend_type = 'client backend' AND pid <> pg_backend_pid()";
        until("all sessions end", || administer(&url, left) == ["0"]);
    }
}

#[test]
fn h4_tenants_survive_the_loss_of_all_connections() {
    let url = fresh_database();
    let parent = open(&url, 4);
    let engines: Vec<EngineHandle> = (0..6)
        .map(|number| {
            parent
                .open_tenant(&format!("t{number}"), None, || None)
                .unwrap()
        })
        .collect();
    for engine in &engines {
        let tell = body(|_| wrote("done", "true"));
        define(engine, "work", vec![(task("tell", &[]), tell)]);
    }
    for _ in 0..5 {
        end_sessions(&url);
        for engine in &engines {
            let id = engine.submit(vec![request("work")]).unwrap()[0];
            let ended = wait(engine, id);
            assert_eq!(ended.record().status, ExecutionStatus::Completed);
        }
    }
}
