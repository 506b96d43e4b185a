//! The PostgreSQL store with failing servers, concurrent openers, and runners that notify each other.

#![cfg(feature = "postgres")]
#![expect(
    clippy::unwrap_used,
    reason = "a failing step of a test is its failure"
)]

#[path = "support/old_queues.rs"]
mod old_queues;
#[path = "support/private_postgres.rs"]
mod private_postgres;
#[path = "support/records.rs"]
mod records;

use std::collections::HashSet;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::time::{Duration, Instant};

use cloacina::store::postgres::{PostgresOptions, PostgresStore};
use cloacina::store::{
    Batch, ClaimClass, ClaimRequest, ListQuery, QueueId, Store, StoreError, Submit, TaskWrite,
};
use cloacina::types::{DefinitionId, ExecutionId, ExecutionRecord, RunnerId, Timestamp};
use private_postgres::{Private, administer, fresh_name, shared};
use records::{NOW, SECOND, ready, runner_row, workflow};

const PATIENCE: Duration = Duration::from_secs(30);

fn options(url: &str) -> PostgresOptions {
    PostgresOptions::from_url(url).unwrap()
}

fn pinned(url: &str) -> PostgresOptions {
    options(url).with_schema(&fresh_name()).unwrap()
}

fn register(store: &dyn Store, now: Timestamp) -> RunnerId {
    let id = RunnerId::generate();
    store.register_runner(&runner_row(id, now)).unwrap();
    id
}

fn queue(definition: DefinitionId) -> QueueId {
    QueueId(definition.0)
}

fn submit(
    store: &dyn Store,
    runner: RunnerId,
    records: &[ExecutionRecord],
) -> Result<(), StoreError> {
    let submits = records
        .iter()
        .map(|record| Submit {
            record,
            workflow: "etl",
            tasks: vec![TaskWrite {
                ordinal: 0,
                insert: true,
                fence: None,
                queue: queue(record.definition),
                priority: 0,
            }],
            history: &[],
        })
        .collect();
    let batch = Batch {
        runner,
        now: NOW,
        schedules: vec![],
        submits,
        advances: vec![],
        claim: ClaimRequest::default(),
    };
    store.commit(&batch).map(drop)
}

fn claim(
    store: &dyn Store,
    runner: RunnerId,
    definition: DefinitionId,
    limit: usize,
) -> Vec<ExecutionId> {
    let class = ClaimClass {
        queues: vec![queue(definition)],
        excluded: vec![],
        limit,
    };
    let batch = Batch {
        runner,
        now: NOW,
        schedules: vec![],
        submits: vec![],
        advances: vec![],
        claim: ClaimRequest {
            classes: vec![class],
        },
    };
    let claimed = store.commit(&batch).unwrap().claimed;
    claimed.iter().map(|claimed| claimed.execution).collect()
}

fn all(store: &dyn Store) -> Vec<ExecutionId> {
    let query = ListQuery {
        limit: 1_000_000,
        ..ListQuery::default()
    };
    store.list(&query).unwrap()
}

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

/// Rules I2, B7, B8 and B13.
#[test]
fn i2_ready_tasks_and_schedules_survive_the_queue_migration() {
    let options = pinned(shared());
    let execution = old_queues::fill(&PostgresStore::open(&options).unwrap());
    let schema = options.schema.clone().unwrap();
    administer(
        shared(),
        &format!("DELETE FROM {schema}.cloacina_migrations WHERE version = '00000000000004'"),
    );
    old_queues::check(&PostgresStore::open(&options).unwrap(), execution);
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
    // The role may not use the schema, so its sessions are not in it.
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
            start.elapsed() < Duration::from_secs(4),
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
fn a_read_only_role_gets_the_missing_privilege_in_the_error() {
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
    // The store still works.
    assert_eq!(all(&reader), []);
}

/// Returns a channel that receives the store's change notifications, once the store listens.
fn waker(store: &PostgresStore) -> mpsc::Receiver<()> {
    let (sender, receiver) = mpsc::channel();
    store.on_change(Arc::new(move || {
        // The receiver is gone at the end of a test.
        let _ = sender.send(());
    }));
    // The first notification means that the store listens.
    receiver.recv_timeout(PATIENCE).unwrap();
    receiver
}

#[test]
fn runners_notify_each_other_but_not_themselves() {
    let options = pinned(shared());
    let (one, two) = (
        PostgresStore::open(&options).unwrap(),
        PostgresStore::open(&options).unwrap(),
    );
    let definition = one.put_definition(&workflow("etl", 1), NOW).unwrap();
    let (first, second) = (register(&one, NOW), register(&two, NOW));
    let (wakes_of_one, wakes_of_two) = (waker(&one), waker(&two));
    // Both runners know each other, and their registrations have been notified.
    assert_eq!(one.runners().unwrap().len(), 2);
    submit(&two, second, &[ready(definition, NOW)]).unwrap();
    wakes_of_one.recv_timeout(PATIENCE).unwrap();
    while wakes_of_one
        .recv_timeout(Duration::from_millis(200))
        .is_ok()
    {}
    while wakes_of_two.try_recv().is_ok() {}
    let (before_one, before_two) = (
        one.changes(None).unwrap().marker,
        two.changes(None).unwrap().marker,
    );
    let revivals = two.changes(None).unwrap().revivals;
    submit(&one, first, &[ready(definition, NOW)]).unwrap();
    wakes_of_two.recv_timeout(PATIENCE).unwrap();
    assert_ne!(two.changes(None).unwrap().marker, before_two);
    assert_eq!(
        one.changes(None).unwrap().marker,
        before_one,
        "its own write is not a change"
    );
    assert!(wakes_of_one.try_recv().is_err());
    assert_eq!(
        two.changes(None).unwrap().revivals,
        revivals,
        "no ended execution was resumed"
    );

    // After the server ends the LISTEN session, the store listens again and reports that it may have missed changes.
    administer(
        shared(),
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE query ~ 'LISTEN|pg_notify|pg_advisory_lock_shared|pg_locks' AND pid <> pg_backend_pid()",
    );
    wakes_of_two.recv_timeout(PATIENCE).unwrap();
    while wakes_of_two
        .recv_timeout(Duration::from_millis(300))
        .is_ok()
    {}
    assert_ne!(
        two.changes(None).unwrap().revivals,
        revivals,
        "a retry may have been missed"
    );
    submit(&one, first, &[ready(definition, NOW)]).unwrap();
    wakes_of_two.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn the_marker_reports_other_writers_without_listen() {
    let options = pinned(shared());
    for parameter in ["pgbouncer=true", "listen=off"] {
        let polling = self::options(&format!("{}?{parameter}", shared()));
        let polling = polling
            .with_schema(options.schema.as_deref().unwrap())
            .unwrap();
        let (one, two) = (
            PostgresStore::open(&polling).unwrap(),
            PostgresStore::open(&options).unwrap(),
        );
        let definition = two.put_definition(&workflow("etl", 1), NOW).unwrap();
        let runner = register(&two, NOW);
        let before = one.changes(None).unwrap().marker;
        submit(&two, runner, &[ready(definition, NOW)]).unwrap();
        let start = Instant::now();
        while one.changes(None).unwrap().marker == before {
            assert!(start.elapsed() < PATIENCE);
            std::thread::yield_now();
        }
    }
}

/// E1: leases by the database's clock.
#[test]
fn runners_with_different_clocks_agree_on_leases() {
    const HOUR: i64 = 3_600 * SECOND;
    let options = pinned(shared());
    let (one, two) = (
        PostgresStore::open(&options).unwrap(),
        PostgresStore::open(&options).unwrap(),
    );
    let first = register(&one, NOW);
    let later = NOW + HOUR;
    let second = register(&two, later);
    let rows = two.runners().unwrap();
    let row = rows.iter().find(|row| row.id == first).unwrap();
    let left = row.lease_until.since(later);
    assert!((10 * SECOND..=16 * SECOND).contains(&left), "{left}");
    // The stored end of the lease is compared, not the translated one.
    assert!(two.declare_dead(first, row.lease_until, later).unwrap());
    assert!(!one.heartbeat(first, NOW, NOW + 15 * SECOND).unwrap());
    assert!(two.heartbeat(second, later, later + 15 * SECOND).unwrap());
    // A lease that was extended since it was read does not count as expired.
    let third = register(&one, NOW);
    let rows = two.runners().unwrap();
    let seen = rows
        .iter()
        .find(|row| row.id == third)
        .map(|row| row.lease_until);
    if let Some(seen) = seen {
        assert!(one.heartbeat(third, NOW, NOW + 15 * SECOND).unwrap());
        assert!(!two.declare_dead(third, seen, later).unwrap());
    }
    assert!(one.heartbeat(third, NOW, NOW + 15 * SECOND).unwrap());
}

/// C1: a task starts once in any interleaving, and every claimer gets a share.
#[test]
fn four_racing_stores_claim_each_task_once() {
    const TASKS: usize = 1_000;
    let options = pinned(shared());
    let store = PostgresStore::open(&options).unwrap();
    let definition = store.put_definition(&workflow("etl", 1), NOW).unwrap();
    let runner = register(&store, NOW);
    let records: Vec<_> = (0..TASKS).map(|_| ready(definition, NOW)).collect();
    submit(&store, runner, &records).unwrap();
    let barrier = Arc::new(Barrier::new(4));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (options, barrier) = (options.clone(), Arc::clone(&barrier));
            std::thread::spawn(move || {
                let store = PostgresStore::open(&options).unwrap();
                let runner = register(&store, NOW);
                barrier.wait();
                let mut all = Vec::new();
                let mut empty = 0;
                while empty < 20 {
                    let claimed = claim(&store, runner, definition, 7);
                    empty = if claimed.is_empty() { empty + 1 } else { 0 };
                    all.extend(claimed);
                }
                all
            })
        })
        .collect();
    let shares: Vec<Vec<ExecutionId>> = threads
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .collect();
    assert!(
        shares.iter().all(|share| share.len() > TASKS / 40),
        "{:?}",
        shares.iter().map(Vec::len).collect::<Vec<_>>()
    );
    let all: Vec<ExecutionId> = shares.into_iter().flatten().collect();
    assert_eq!(all.len(), TASKS);
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), TASKS);
}

#[test]
fn acknowledged_writes_survive_server_restarts_under_load() {
    let server = Private::start();
    let options = options(&format!("{}?connect_timeout=5", server.url));
    let definition = PostgresStore::open(&options)
        .unwrap()
        .put_definition(&workflow("etl", 1), NOW)
        .unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (options, stop) = (options.clone(), Arc::clone(&stop));
            std::thread::spawn(move || {
                let store = PostgresStore::open(&options).unwrap();
                let runner = register(&store, NOW);
                let (mut acknowledged, mut failures) = (Vec::new(), 0);
                let mut after_stop = 0;
                while after_stop < 5 {
                    if stop.load(Ordering::Acquire) {
                        after_stop += 1;
                    }
                    let record = ready(definition, NOW);
                    // A caller that did not learn the outcome submits the same execution again.
                    loop {
                        match submit(&store, runner, std::slice::from_ref(&record)) {
                            Ok(()) => break,
                            Err(StoreError::Unavailable(_)) => failures += 1,
                            Err(error) => panic!("{error:?}"),
                        }
                        std::thread::yield_now();
                    }
                    acknowledged.push(record.id);
                }
                (acknowledged, failures)
            })
        })
        .collect();
    for mode in ["fast", "immediate", "fast", "immediate"] {
        let seen = all(&PostgresStore::open(&options).unwrap()).len();
        let start = Instant::now();
        // Waits until something was written since the last start.
        loop {
            if all(&PostgresStore::open(&options).unwrap()).len() > seen {
                break;
            }
            assert!(start.elapsed() < PATIENCE);
        }
        server.stop(mode);
        server.again();
    }
    stop.store(true, Ordering::Release);
    let mut expected = HashSet::new();
    for thread in threads {
        let (acknowledged, failures) = thread.join().unwrap();
        assert!(
            failures > 0,
            "no submission failed, so the server was not under load"
        );
        expected.extend(acknowledged);
    }
    let store = PostgresStore::open(&options).unwrap();
    let stored = all(&store);
    assert_eq!(stored.len(), expected.len());
    assert_eq!(stored.into_iter().collect::<HashSet<_>>(), expected);
}

/// Starts a server with passwords and TLS, and returns the folder with its certificates.
fn with_tls_and_passwords() -> (Private, std::path::PathBuf) {
    let server = Private::start();
    server.stop("fast");
    let folder = server.directory.clone();
    let openssl = |arguments: &str| {
        let output = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(&folder)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    openssl(
        "req -x509 -newkey rsa:2048 -nodes -days 2 -keyout ca.key -out ca.pem -subj /CN=authority",
    );
    openssl("req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=localhost");
    std::fs::write(folder.join("names"), "subjectAltName=DNS:localhost\n").unwrap();
    openssl(
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -out server.crt -extfile names",
    );
    openssl(
        "req -x509 -newkey rsa:2048 -nodes -days 2 -keyout other.key -out other.pem -subj /CN=other",
    );
    let data = folder.join("data");
    for name in ["server.key", "server.crt"] {
        std::fs::copy(folder.join(name), data.join(name)).unwrap();
        private(&data, name);
    }
    let rules = "local all all trust\nhostssl all postgres 127.0.0.1/32 trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n";
    std::fs::write(data.join("pg_hba.conf"), rules).unwrap();
    let mut settings = std::fs::read_to_string(data.join("postgresql.conf")).unwrap();
    settings.push_str("\nssl = on\n");
    std::fs::write(data.join("postgresql.conf"), settings).unwrap();
    server.again();
    (server, folder)
}

fn private(data: &Path, name: &str) {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    let owner = std::fs::metadata(data).unwrap();
    let path = data.join(name);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
}

#[test]
fn tls_modes_and_passwords_work_like_in_libpq() {
    let (server, folder) = with_tls_and_passwords();
    let port = server
        .url
        .rsplit_once(':')
        .unwrap()
        .1
        .split('/')
        .next()
        .unwrap()
        .to_owned();
    let socket = folder.display();
    let admin = format!("host={socket} port={port} user=postgres dbname=postgres");
    administer(
        &admin,
        "CREATE ROLE worker LOGIN PASSWORD 's3cret' SUPERUSER",
    );
    let open = |host: &str, login: &str, parameters: &str| {
        let url =
            format!("postgresql://{login}@{host}:{port}/postgres?connect_timeout=5&{parameters}");
        PostgresStore::open(&options(&url)).map(drop)
    };
    let (ca, other) = (folder.join("ca.pem"), folder.join("other.pem"));
    let (ca, other) = (ca.display(), other.display());
    let works = [
        ("localhost", "sslmode=prefer".to_owned()),
        ("localhost", "sslmode=allow".to_owned()),
        ("localhost", "sslmode=require".to_owned()),
        ("127.0.0.1", format!("sslmode=require&sslrootcert={ca}")),
        ("127.0.0.1", format!("sslmode=verify-ca&sslrootcert={ca}")),
        ("localhost", format!("sslmode=verify-full&sslrootcert={ca}")),
    ];
    for (host, parameters) in works {
        open(host, "worker:s3cret", &parameters)
            .unwrap_or_else(|error| panic!("{parameters}: {error}"));
    }
    let fails = [
        // The server requires TLS.
        ("localhost", "sslmode=disable".to_owned(), "sslmode"),
        // The certificate is for another name, or signed by another CA.
        (
            "127.0.0.1",
            format!("sslmode=verify-full&sslrootcert={ca}"),
            "certificate",
        ),
        (
            "localhost",
            format!("sslmode=verify-full&sslrootcert={other}"),
            "certificate",
        ),
        (
            "localhost",
            format!("sslmode=verify-ca&sslrootcert={other}"),
            "certificate",
        ),
        (
            "localhost",
            format!("sslmode=require&sslrootcert={other}"),
            "certificate",
        ),
        (
            "localhost",
            "sslmode=verify-full&sslrootcert=/no/such/file".to_owned(),
            "/no/such/file",
        ),
    ];
    for (host, parameters, word) in fails {
        let error = open(host, "worker:s3cret", &parameters).expect_err(&parameters);
        let text = error.to_string();
        assert!(
            text.contains(word) && text.contains(host),
            "{parameters}: {text}"
        );
        assert!(!text.contains("s3cret"), "{text}");
    }
    for mode in ["require", "prefer", "allow"] {
        let error = open("localhost", "worker:wr0ng", &format!("sslmode={mode}")).unwrap_err();
        let StoreError::Failed(text) = &error else {
            panic!("{error:?}")
        };
        assert!(
            text.contains("worker") && text.contains("password") && !text.contains("wr0ng"),
            "{text}"
        );
    }
    // A socket connection needs neither TLS nor a password.
    open(
        &socket.to_string().replace('/', "%2F"),
        "worker",
        "sslmode=prefer",
    )
    .unwrap();
}

/// A transaction pooler in front of a server, with fewer server connections than clients.
struct Pooler {
    child: std::process::Child,
    url: String,
    _folder: tempfile::TempDir,
}

impl Drop for Pooler {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Makes a folder readable by all users, because the pooler runs as another user.
fn open_to_all(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Starts pgbouncer; `None` if it is not installed (Debian: `apt-get install pgbouncer`).
fn pooler(server: &str) -> Option<Pooler> {
    let program = "/usr/sbin/pgbouncer";
    if !Path::new(program).exists() {
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    open_to_all(folder.path());
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let server_port = server
        .rsplit_once(':')
        .unwrap()
        .1
        .split('/')
        .next()
        .unwrap();
    let users = folder.path().join("users");
    std::fs::write(&users, "\"postgres\" \"\"\n").unwrap();
    let settings = format!(
        "[databases]\npostgres = host=127.0.0.1 port={server_port} dbname=postgres user=postgres\n[pgbouncer]\n\
         listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {}\n\
         pool_mode = transaction\ndefault_pool_size = 3\nserver_round_robin = 1\n",
        users.display()
    );
    let path = folder.path().join("pgbouncer.ini");
    std::fs::write(&path, settings).unwrap();
    // pgbouncer refuses to run as root, like the server.
    let child = Command::new("setpriv")
        .args([
            "--pdeathsig",
            "KILL",
            "--reuid",
            "postgres",
            "--clear-groups",
            program,
            "-q",
        ])
        .arg(&path)
        .spawn()
        .unwrap();
    let start = Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(start.elapsed() < PATIENCE, "pgbouncer did not start");
        std::thread::yield_now();
    }
    let url =
        format!("postgresql://postgres@127.0.0.1:{port}/postgres?pgbouncer=true&sslmode=disable");
    Some(Pooler {
        child,
        url,
        _folder: folder,
    })
}

#[test]
fn the_store_works_behind_a_transaction_pooler() {
    const THREADS: usize = 6;
    const EACH: usize = 40;
    let Some(pooler) = pooler(shared()) else {
        println!("skipped: pgbouncer is not installed");
        return;
    };
    let options = pinned(&pooler.url);
    let barrier = Arc::new(Barrier::new(THREADS));
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let (options, barrier) = (options.clone(), Arc::clone(&barrier));
            std::thread::spawn(move || {
                barrier.wait();
                let store = PostgresStore::open(&options).unwrap();
                let definition = store.put_definition(&workflow("etl", 1), NOW).unwrap();
                let runner = register(&store, NOW);
                let mut claimed = Vec::new();
                for _ in 0..EACH {
                    let record = ready(definition, NOW);
                    submit(&store, runner, std::slice::from_ref(&record)).unwrap();
                    assert_eq!(store.load(&[record.id]).unwrap().len(), 1);
                    claimed.extend(claim(&store, runner, definition, 2));
                    assert!(store.heartbeat(runner, NOW, NOW + 15 * SECOND).unwrap());
                    store.changes(None).unwrap();
                }
                claimed
            })
        })
        .collect();
    let claimed: Vec<ExecutionId> = threads
        .into_iter()
        .flat_map(|thread| thread.join().unwrap())
        .collect();
    assert_eq!(claimed.iter().collect::<HashSet<_>>().len(), claimed.len());
    let store = PostgresStore::open(&options).unwrap();
    assert_eq!(all(&store).len(), THREADS * EACH);
}
