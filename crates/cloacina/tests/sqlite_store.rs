//! The SQLite store as a file shared by processes: opening, migrating, sharing, and errors.

#![cfg(feature = "sqlite")]
#![expect(
    clippy::unwrap_used,
    reason = "a failing step of a test is its failure"
)]

#[path = "support/old_queues.rs"]
mod old_queues;
#[path = "support/records.rs"]
mod records;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Barrier, mpsc};
use std::time::{Duration, Instant};

use cloacina::store::sqlite::{OpenMode, SqliteOptions, SqliteStore};
use cloacina::store::{
    Batch, ClaimClass, ClaimRequest, DatabaseUrl, ListQuery, QueueId, Store, StoreError, Submit,
    TaskWrite,
};
use cloacina::types::{DefinitionId, ExecutionId, ExecutionRecord, ExecutionStatus, RunnerId};
use diesel::connection::SimpleConnection;
use diesel::{Connection, SqliteConnection};
use records::{NOW, ready, runner_row, workflow};
use tempfile::TempDir;

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    (folder, path)
}

fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(&SqliteOptions::file(path)).unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = folder
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn register(store: &SqliteStore) -> RunnerId {
    let id = RunnerId::generate();
    store.register_runner(&runner_row(id, NOW)).unwrap();
    id
}

fn queue(definition: DefinitionId) -> QueueId {
    QueueId(definition.0)
}

fn submit(store: &SqliteStore, count: usize) -> Vec<ExecutionId> {
    let definition = store.put_definition(&workflow("etl", 1), NOW).unwrap();
    let records: Vec<ExecutionRecord> = (0..count).map(|_| ready(definition, NOW)).collect();
    let write = TaskWrite {
        ordinal: 0,
        insert: true,
        fence: None,
        queue: queue(definition),
        priority: 0,
    };
    let submits = records
        .iter()
        .map(|record| Submit {
            record,
            workflow: "etl",
            tasks: vec![write],
            history: &[],
        })
        .collect();
    let batch = Batch {
        runner: RunnerId::generate(),
        now: NOW,
        schedules: vec![],
        submits,
        advances: vec![],
        claim: ClaimRequest::default(),
    };
    store.commit(&batch).unwrap();
    records.iter().map(|record| record.id).collect()
}

/// Claims until no task is left.
fn claim_all(store: &SqliteStore) -> Vec<ExecutionId> {
    let runner = register(store);
    let definition = store.put_definition(&workflow("etl", 1), NOW).unwrap();
    let mut claimed = Vec::new();
    loop {
        let class = ClaimClass {
            queues: vec![queue(definition)],
            excluded: vec![],
            limit: 3,
        };
        let claim = ClaimRequest {
            classes: vec![class],
        };
        let committed = store
            .commit(&Batch {
                runner,
                now: NOW,
                schedules: vec![],
                submits: vec![],
                advances: vec![],
                claim,
            })
            .unwrap();
        if committed.claimed.is_empty() {
            return claimed;
        }
        claimed.extend(committed.claimed.iter().map(|claim| claim.execution));
    }
}

/// Runs one of the ignored tests below in another process.
fn spawn(test: &str, path: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            test,
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .env("CLOACINA_TEST_DATABASE", path)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn join(child: Child) -> String {
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

fn path_from_parent() -> PathBuf {
    std::env::var_os("CLOACINA_TEST_DATABASE")
        .expect("set by the parent test")
        .into()
}

#[test]
#[ignore = "run by other tests in processes of their own"]
fn child_opens_and_submits() {
    let store = open(&path_from_parent());
    submit(&store, 1);
}

#[test]
#[ignore = "run by other tests in processes of their own"]
fn child_claims() {
    let store = open(&path_from_parent());
    for id in claim_all(&store) {
        println!("claimed {id}");
    }
}

#[test]
#[ignore = "run by other tests in processes of their own"]
fn child_fails_to_create() {
    let path = path_from_parent();
    refused(path.parent().unwrap(), &SqliteOptions::file(&path));
}

#[test]
#[ignore = "run by other tests in processes of their own"]
fn child_changes_its_folder() {
    let path = path_from_parent();
    std::env::set_current_dir(path.parent().unwrap()).unwrap();
    let store = open(Path::new("store.db"));
    let id = submit(&store, 1)[0];
    std::env::set_current_dir("/").unwrap();
    // The read connection is opened only now.
    assert_eq!(store.load(&[id]).unwrap().len(), 1);
    assert!(
        store.location().contains(&path.display().to_string()),
        "{}",
        store.location()
    );
}

#[test]
fn a_relative_path_is_resolved_when_the_store_is_opened() {
    let (_folder, path) = folder();
    join(spawn("child_changes_its_folder", &path));
    assert!(path.is_file());
}

/// Simulates a full disk by a file size limit, which is hit while the file or its journal is created, or during the
/// migration.
#[cfg(unix)]
#[test]
fn a_failed_creation_leaves_no_file_behind() {
    for blocks in ["0", "1", "8", "9", "32", "64"] {
        let (folder, path) = folder();
        let shell = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
        let child = Command::new("sh")
            .args(["-c", &shell])
            .arg(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "child_fails_to_create",
                "--ignored",
                "--nocapture",
                "--test-threads=1",
            ])
            .env("CLOACINA_TEST_DATABASE", &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        assert!(join(child).contains("1 passed"), "{blocks}");
        assert_eq!(names(folder.path()), Vec::<String>::new(), "{blocks}");
        // A later attempt succeeds.
        submit(&open(&path), 1);
    }
}

/// Opens and closes the files, as a backup tool or an antivirus program does.
fn open_and_close(path: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        std::fs::File::open(format!("{}{suffix}", path.display())).unwrap();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a24_a_foreign_close_of_the_files_does_not_drop_locks() {
    let (folder, path) = folder();
    let store = open(&path);
    submit(&store, 1);
    open_and_close(&path);
    join(spawn("child_opens_and_submits", &path));
    assert_eq!(
        names(folder.path()),
        ["store.db", "store.db-shm", "store.db-wal"],
        "the other process assumed that it was the last one"
    );
    submit(&store, 1);
    open_and_close(&path);
    join(spawn("child_opens_and_submits", &path));
    drop(store);
    assert_eq!(
        open(&path)
            .list(&ListQuery {
                limit: 9,
                ..ListQuery::default()
            })
            .unwrap()
            .len(),
        4
    );
}

#[cfg(unix)]
#[test]
fn a10_a_deleted_or_replaced_file_is_detected() {
    let take_away: [fn(&Path); 4] = [
        |path| std::fs::remove_file(path).unwrap(),
        |path| std::fs::remove_file(format!("{}-wal", path.display())).unwrap(),
        |path| std::fs::remove_file(format!("{}-shm", path.display())).unwrap(),
        |path| {
            let copy = path.with_extension("copy");
            std::fs::copy(path, &copy).unwrap();
            std::fs::rename(copy, path).unwrap();
        },
    ];
    for take_away in take_away {
        let (_folder, path) = folder();
        let store = open(&path);
        let runner = register(&store);
        assert_eq!(store.heartbeat(runner, NOW, NOW), Ok(true));
        take_away(&path);
        // The store checks from time to time, not at each commit.
        let noticed = Instant::now() + Duration::from_secs(10);
        while store.heartbeat(runner, NOW, NOW).is_ok() {
            assert!(Instant::now() < noticed);
        }
        for error in [
            store.heartbeat(runner, NOW, NOW).unwrap_err(),
            store.runners().unwrap_err(),
        ] {
            assert!(
                matches!(&error, StoreError::Failed(text) if text.contains("was deleted or replaced")),
                "{error}"
            );
        }
    }
}

#[cfg(target_os = "linux")]
fn open_files(folder: &Path) -> usize {
    let is_here = |link: PathBuf| link.starts_with(folder);
    std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
        .filter(|link| is_here(link.clone()))
        .count()
}

#[cfg(target_os = "linux")]
#[test]
fn a12_a_closed_store_keeps_no_file_open_but_answers() {
    let (folder, path) = folder();
    let store = open(&path);
    let id = submit(&store, 1)[0];
    assert_eq!(store.load(&[id]).unwrap().len(), 1);
    assert!(open_files(folder.path()) > 0);
    for _ in 0..2 {
        store.close();
        assert_eq!(open_files(folder.path()), 0);
        assert_eq!(names(folder.path()), ["store.db"]);
        assert_eq!(store.load(&[id]).unwrap().len(), 1);
        submit(&store, 1);
        assert_eq!(open_files(folder.path()), 0);
    }
}

#[cfg(unix)]
#[test]
fn a21_a_new_file_is_readable_by_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, path) = folder();
    let store = open(&path);
    submit(&store, 1);
    for name in names(folder.path()) {
        let mode = folder
            .path()
            .join(&name)
            .metadata()
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    drop(store);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o660)).unwrap();
    let _store = open(&path);
    let mode = path
        .with_extension("db-wal")
        .metadata()
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o660, "an existing mode is kept");
}

#[test]
fn eight_threads_open_a_fresh_file_at_once() {
    for _ in 0..5 {
        let (_folder, path) = folder();
        let barrier = Arc::new(Barrier::new(8));
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let (barrier, path) = (Arc::clone(&barrier), path.clone());
                std::thread::spawn(move || {
                    barrier.wait();
                    let store = open(&path);
                    submit(&store, 1);
                    store
                })
            })
            .collect();
        let stores: Vec<SqliteStore> = threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect();
        for store in &stores {
            assert_eq!(store.definitions(DefinitionId(0)).unwrap().len(), 1);
            assert_eq!(
                store
                    .list(&ListQuery {
                        limit: 100,
                        ..ListQuery::default()
                    })
                    .unwrap()
                    .len(),
                8
            );
        }
    }
}

#[test]
fn eight_processes_open_a_fresh_file_at_once() {
    let (_folder, path) = folder();
    let children: Vec<Child> = (0..8)
        .map(|_| spawn("child_opens_and_submits", &path))
        .collect();
    for child in children {
        join(child);
    }
    let store = open(&path);
    assert_eq!(store.definitions(DefinitionId(0)).unwrap().len(), 1);
    assert_eq!(
        store
            .list(&ListQuery {
                limit: 100,
                ..ListQuery::default()
            })
            .unwrap()
            .len(),
        8
    );
}

#[test]
fn claimers_in_several_processes_get_distinct_tasks() {
    let (_folder, path) = folder();
    let store = open(&path);
    let submitted: HashSet<String> = submit(&store, 200)
        .iter()
        .map(ToString::to_string)
        .collect();
    let children: Vec<Child> = (0..4).map(|_| spawn("child_claims", &path)).collect();
    let claimed: Vec<String> = children
        .into_iter()
        .flat_map(|child| {
            let text = join(child);
            // The first line also contains the test's name, which the test harness prints without a newline.
            text.lines()
                .filter_map(|line| line.split_once("claimed ").map(|(_, id)| id.to_owned()))
                .collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(claimed.len(), 200);
    assert_eq!(claimed.into_iter().collect::<HashSet<_>>(), submitted);
}

#[test]
fn claimers_with_separate_stores_get_distinct_tasks() {
    let (_folder, path) = folder();
    let submitted: HashSet<ExecutionId> = submit(&open(&path), 200).into_iter().collect();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let path = path.clone();
            std::thread::spawn(move || claim_all(&open(&path)))
        })
        .collect();
    let claimed: Vec<ExecutionId> = threads
        .into_iter()
        .flat_map(|thread| thread.join().unwrap())
        .collect();
    assert_eq!(claimed.len(), 200);
    assert_eq!(claimed.into_iter().collect::<HashSet<_>>(), submitted);
}

#[test]
fn a_store_sees_the_commits_of_another_store() {
    let (_folder, path) = folder();
    let (one, two) = (open(&path), open(&path));
    let id = submit(&one, 1)[0];
    assert_eq!(two.load(&[id]).unwrap().len(), 1);
    assert_eq!(claim_all(&two), [id]);
    let record = one.load(&[id]).unwrap().remove(0);
    assert_eq!(
        (record.revision, record.status),
        (2, ExecutionStatus::Running)
    );
    // A decision based on the revision before the claim is refused.
    let mut stale = ready(record.definition, NOW);
    stale.id = id;
    stale.revision = 2;
    let advance = cloacina::store::Advance {
        record: &stale,
        expected: 1,
        tasks: vec![],
        history: &[],
    };
    let batch = Batch {
        runner: RunnerId::generate(),
        now: NOW,
        schedules: vec![],
        submits: vec![],
        advances: vec![advance],
        claim: ClaimRequest::default(),
    };
    assert_eq!(one.commit(&batch).unwrap().advances, [false]);
}

#[test]
fn the_change_marker_changes_only_with_other_stores_commits() {
    let (_folder, path) = folder();
    let (one, two) = (open(&path), open(&path));
    let before = one.changes(None).unwrap().marker;
    submit(&one, 3);
    one.runners().unwrap();
    assert_eq!(
        one.changes(None).unwrap().marker,
        before,
        "its own commits do not count"
    );
    submit(&two, 1);
    let after = one.changes(None).unwrap().marker;
    assert_ne!(after, before);
    assert_eq!(one.changes(None).unwrap().marker, after);
    assert_eq!(
        two.list(&ListQuery {
            limit: 10,
            ..ListQuery::default()
        })
        .unwrap()
        .len(),
        4
    );
    assert_eq!(
        one.changes(None).unwrap().marker,
        after,
        "reading does not count"
    );
    // A search for work that finds nothing does not count either.
    let runner = register(&two);
    claim_all(&two);
    let settled = one.changes(None).unwrap().marker;
    let class = ClaimClass {
        queues: vec![queue(DefinitionId(1))],
        excluded: vec![],
        limit: 3,
    };
    let claim = ClaimRequest {
        classes: vec![class],
    };
    two.commit(&Batch {
        runner,
        now: NOW,
        schedules: vec![],
        submits: vec![],
        advances: vec![],
        claim,
    })
    .unwrap();
    assert_eq!(one.changes(None).unwrap().marker, settled);

    let memory = SqliteStore::open(&SqliteOptions::memory()).unwrap();
    let before = memory.changes(None).unwrap().marker;
    submit(&memory, 1);
    assert_eq!(memory.changes(None).unwrap().marker, before);
}

#[test]
fn a_shared_databases_marker_changes_only_with_other_stores_writes() {
    let memory = SqliteStore::open(&SqliteOptions::memory()).unwrap();
    let (one, two) = (memory.share(), memory.share());
    submit(&one, 1);
    let (before_one, before_two) = (
        one.changes(None).unwrap().marker,
        two.changes(None).unwrap().marker,
    );
    submit(&one, 1);
    assert_eq!(one.changes(None).unwrap().marker, before_one);
    assert_ne!(two.changes(None).unwrap().marker, before_two);
    // A batch that is refused changes nothing.
    let before = two.changes(None).unwrap().marker;
    let mut stale = ready(DefinitionId(999), NOW);
    stale.key = Some("key".to_owned());
    let refused = one.commit(&Batch {
        runner: RunnerId::generate(),
        now: NOW,
        schedules: vec![],
        submits: vec![Submit {
            record: &stale,
            workflow: "etl",
            tasks: vec![],
            history: &[],
        }],
        advances: vec![],
        claim: ClaimRequest::default(),
    });
    assert!(refused.is_err());
    assert_eq!(two.changes(None).unwrap().marker, before);
}

#[test]
fn a_write_waits_for_the_lock_of_another_process() {
    let (_folder, path) = folder();
    let store = Arc::new(open(&path));
    let mut other = SqliteConnection::establish(&path.display().to_string()).unwrap();
    other.batch_execute("BEGIN IMMEDIATE").unwrap();
    let (done, finished) = mpsc::channel();
    let writer = Arc::clone(&store);
    let thread = std::thread::spawn(move || {
        let ids = submit(&writer, 1);
        done.send(()).unwrap();
        ids
    });
    // Waits for a fixed time, to show that the writer is blocked.
    assert!(finished.recv_timeout(Duration::from_millis(300)).is_err());
    assert_eq!(store.runners().unwrap(), [], "readers are not blocked");
    other.batch_execute("COMMIT").unwrap();
    finished.recv_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!(store.load(&thread.join().unwrap()).unwrap().len(), 1);
}

#[test]
fn a_lock_held_beyond_busy_timeout_is_unavailable() {
    let (_folder, path) = folder();
    let options = SqliteOptions {
        busy_timeout: Duration::from_millis(30),
        ..SqliteOptions::file(&path)
    };
    let store = SqliteStore::open(&options).unwrap();
    let mut other = SqliteConnection::establish(&path.display().to_string()).unwrap();
    other.batch_execute("BEGIN IMMEDIATE").unwrap();
    let error = store.put_definition(&workflow("etl", 1), NOW).unwrap_err();
    let StoreError::Unavailable(message) = &error else {
        panic!("{error:?}")
    };
    assert!(
        message.contains("store.db") && message.contains("busy_timeout"),
        "{message}"
    );
    assert!(!message.contains("database is locked"), "{message}");
    other.batch_execute("ROLLBACK").unwrap();
    assert_eq!(store.definitions(DefinitionId(0)).unwrap(), []);
    submit(&store, 1);
}

#[test]
fn a_search_that_finds_no_work_needs_no_lock() {
    let (_folder, path) = folder();
    let options = SqliteOptions {
        busy_timeout: Duration::ZERO,
        ..SqliteOptions::file(&path)
    };
    let store = SqliteStore::open(&options).unwrap();
    let definition = store.put_definition(&workflow("etl", 1), NOW).unwrap();
    let runner = register(&store);
    let mut other = SqliteConnection::establish(&path.display().to_string()).unwrap();
    other.batch_execute("BEGIN IMMEDIATE").unwrap();
    let class = ClaimClass {
        queues: vec![queue(definition)],
        excluded: vec![],
        limit: 3,
    };
    let claim = ClaimRequest {
        classes: vec![class],
    };
    let batch = Batch {
        runner,
        now: NOW,
        schedules: vec![],
        submits: vec![],
        advances: vec![],
        claim,
    };
    assert_eq!(store.commit(&batch).unwrap().claimed, []);
    // Putting a known definition needs no lock either.
    assert_eq!(
        store.put_definition(&workflow("etl", 1), NOW).unwrap(),
        definition
    );
}

#[test]
fn closing_the_last_store_leaves_one_file() {
    let (folder, path) = folder();
    let (one, two) = (open(&path), open(&path));
    submit(&one, 1);
    two.runners().unwrap();
    assert!(names(folder.path()).contains(&"store.db-wal".to_owned()));
    drop(one);
    drop(two);
    assert_eq!(names(folder.path()), ["store.db"]);
}

/// Returns the error of an opening that must leave no files behind.
fn refused(folder: &Path, options: &SqliteOptions) -> StoreError {
    let before = names(folder);
    let error = SqliteStore::open(options).unwrap_err();
    assert_eq!(names(folder), before, "{error}");
    assert!(
        error
            .to_string()
            .contains(&options.path.as_ref().unwrap().display().to_string()),
        "{error}"
    );
    error
}

#[test]
fn a_failed_opening_names_its_cause_and_leaves_no_files() {
    let (folder, path) = folder();
    let folder = folder.path();
    let missing = refused(folder, &SqliteOptions::file(folder.join("no/such/x.db")));
    assert!(
        matches!(&missing, StoreError::Failed(message) if message.contains("does not exist; hint: create it")),
        "{missing}"
    );
    let directory = refused(folder, &SqliteOptions::file(folder));
    assert!(
        matches!(&directory, StoreError::Failed(message) if message.contains("is a folder")),
        "{directory}"
    );
    for mode in [OpenMode::ReadOnly, OpenMode::ReadWrite] {
        let absent = refused(
            folder,
            &SqliteOptions {
                mode,
                ..SqliteOptions::file(&path)
            },
        );
        assert!(
            matches!(&absent, StoreError::Failed(message) if message.contains("does not exist")),
            "{absent}"
        );
    }
    let by_hand = refused(
        folder,
        &SqliteOptions {
            auto_migrate: false,
            ..SqliteOptions::file(&path)
        },
    );
    assert!(
        matches!(&by_hand, StoreError::Migration(message) if message.contains("cloaca db migrate")),
        "{by_hand}"
    );
    // A file where a folder is expected.
    std::fs::write(folder.join("file"), "x").unwrap();
    let inside = refused(folder, &SqliteOptions::file(folder.join("file/x.db")));
    assert!(matches!(inside, StoreError::Failed(_)), "{inside}");
    if cfg!(target_os = "linux") {
        // Even root cannot create a file there.
        let options = SqliteOptions::file("/proc/cloacina.db");
        let error = SqliteStore::open(&options).unwrap_err();
        assert!(
            matches!(&error, StoreError::Failed(message) if message.contains("/proc/cloacina.db")),
            "{error}"
        );
    }
}

#[test]
fn a_file_that_is_not_a_database_is_refused_and_kept() {
    let (folder, path) = folder();
    let text = "this is a text file, and a long one at that. ".repeat(100);
    std::fs::write(&path, &text).unwrap();
    let error = refused(folder.path(), &SqliteOptions::file(&path));
    assert!(
        matches!(&error, StoreError::Failed(message) if message.contains("is not an SQLite database")),
        "{error}"
    );
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn a_damaged_database_is_reported() {
    let (_folder, path) = folder();
    let store = open(&path);
    let ids = submit(&store, 200);
    drop(store);
    // Overwrites everything after the page with the schema.
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[4096..].fill(0xA5);
    std::fs::write(&path, bytes).unwrap();
    let opened = SqliteStore::open(&SqliteOptions::file(&path));
    let error = opened.and_then(|store| store.load(&ids)).unwrap_err();
    assert!(
        matches!(&error, StoreError::Failed(message) if message.contains("damaged")),
        "{error}"
    );
}

#[test]
fn a_read_only_store_reads_and_refuses_to_write() {
    let (_folder, path) = folder();
    let store = open(&path);
    let id = submit(&store, 1)[0];
    let read_only = SqliteStore::open(&SqliteOptions {
        mode: OpenMode::ReadOnly,
        ..SqliteOptions::file(&path)
    })
    .unwrap();
    assert_eq!(read_only.load(&[id]).unwrap().len(), 1);
    assert_eq!(read_only.definitions(DefinitionId(0)).unwrap().len(), 1);
    let runner = RunnerId::generate();
    let error = read_only.heartbeat(runner, NOW, NOW).unwrap_err();
    assert!(
        matches!(&error, StoreError::Failed(message) if message.contains("mode=ro")),
        "{error}"
    );
    drop(store);
    // The last store to close is read-only. The file must be intact nevertheless.
    drop(read_only);
    assert_eq!(open(&path).load(&[id]).unwrap().len(), 1);
}

#[test]
fn pending_migrations_are_listed_and_run_only_if_allowed() {
    let (_folder, path) = folder();
    std::fs::write(&path, "").unwrap();
    let by_hand = SqliteOptions {
        auto_migrate: false,
        ..SqliteOptions::file(&path)
    };
    assert_eq!(SqliteStore::schema_version(&by_hand).unwrap(), None);
    let pending = SqliteStore::pending_migrations(&by_hand).unwrap();
    assert!(!pending.is_empty());
    let error = SqliteStore::open(&by_hand).unwrap_err();
    assert!(
        matches!(&error, StoreError::Migration(message) if message.contains("cloaca db migrate")),
        "{error}"
    );
    assert_eq!(
        std::fs::metadata(&path).unwrap().len(),
        0,
        "nothing was written"
    );
    drop(open(&path));
    assert_eq!(
        SqliteStore::pending_migrations(&by_hand).unwrap(),
        Vec::<String>::new()
    );
    assert_eq!(
        SqliteStore::schema_version(&by_hand).unwrap().as_ref(),
        pending.last()
    );
    SqliteStore::open(&by_hand).unwrap();
}

/// Rules I2, B7, B8 and B13.
#[test]
fn i2_ready_tasks_and_schedules_survive_the_queue_migration() {
    let (_folder, path) = folder();
    let execution = old_queues::fill(&open(&path));
    let mut other = SqliteConnection::establish(&path.display().to_string()).unwrap();
    other
        .batch_execute("DELETE FROM cloacina_migrations WHERE version = '00000000000004'")
        .unwrap();
    drop(other);
    old_queues::check(&open(&path), execution);
}

#[test]
fn a_newer_schema_is_refused() {
    let (_folder, path) = folder();
    drop(open(&path));
    let mut other = SqliteConnection::establish(&path.display().to_string()).unwrap();
    other
        .batch_execute(
            "INSERT INTO cloacina_migrations (version, applied_at) VALUES ('99990101000000', 0)",
        )
        .unwrap();
    let error = SqliteStore::open(&SqliteOptions::file(&path)).unwrap_err();
    let StoreError::Migration(message) = &error else {
        panic!("{error:?}")
    };
    assert!(
        message.contains("99990101000000") && message.contains("newer"),
        "{message}"
    );
}

#[test]
fn the_tables_coexist_with_an_application_that_uses_diesel() {
    let (_folder, path) = folder();
    let mut application = SqliteConnection::establish(&path.display().to_string()).unwrap();
    application
        .batch_execute(
            "CREATE TABLE __diesel_schema_migrations (version VARCHAR(50) PRIMARY KEY NOT NULL, \
             run_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP); \
             INSERT INTO __diesel_schema_migrations (version) VALUES ('00000000000001'), ('20990101000000'); \
             CREATE TABLE tasks (id INTEGER PRIMARY KEY);",
        )
        .unwrap();
    submit(&open(&path), 1);
}

#[test]
fn a_path_may_contain_any_character() {
    let folder = tempfile::tempdir().unwrap();
    for name in [
        "a b.db",
        "100%.db",
        "what?.db",
        "a#b.db",
        "é🦀.db",
        "semi;colon&.db",
        "file:x.db",
        "it's.db",
        "x%20y.db",
    ] {
        let path = folder.path().join(name);
        let id = submit(&open(&path), 1)[0];
        assert!(path.is_file(), "{name}");
        assert_eq!(open(&path).load(&[id]).unwrap().len(), 1, "{name}");
    }
    assert_eq!(names(folder.path()).len(), 9);
    let url = format!(
        "sqlite:///{}/from%20url%3F.db?synchronous=normal",
        folder.path().display()
    );
    let DatabaseUrl::Sqlite(options) = DatabaseUrl::parse(&url).unwrap() else {
        panic!("{url}")
    };
    submit(&SqliteStore::open(&options).unwrap(), 1);
    assert!(folder.path().join("from url?.db").is_file());
}
