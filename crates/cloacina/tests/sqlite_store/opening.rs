//! Tests of opening, creating and migrating a file, and of refused files.

use std::path::Path;
use std::process::{Command, Stdio};

use cloacina::store::sqlite::{OpenMode, SqliteOptions, SqliteStore};
use cloacina::store::{DatabaseUrl, Store, StoreError};
use cloacina::types::{DefinitionId, RunnerId};
use diesel::connection::SimpleConnection;
use diesel::{Connection, SqliteConnection};

use super::records::NOW;
use super::{folder, join, names, open, path_from_parent, spawn, submit};

#[test]
#[ignore = "other tests run this test in a separate process"]
fn child_fails_to_create() {
    let path = path_from_parent();
    refused(path.parent().unwrap(), &SqliteOptions::file(&path));
}

#[test]
#[ignore = "other tests run this test in a separate process"]
fn child_changes_its_folder() {
    // The working folder's path contains no symbolic links, but the path of the temporary folder may contain some.
    let folder = path_from_parent().parent().unwrap().canonicalize().unwrap();
    let path = folder.join("store.db");
    std::env::set_current_dir(folder).unwrap();
    let store = open(Path::new("store.db"));
    let id = submit(&store, 1)[0];
    std::env::set_current_dir("/").unwrap();
    // The store opens its read connection at the first read, after the process has changed its working folder.
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
    join(spawn("opening::child_changes_its_folder", &path));
    assert!(path.is_file());
}

/// Simulates a full disk by limiting the file size. Depending on the limit, the store fails to create the file, to create the
/// journal, or to migrate.
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
                "opening::child_fails_to_create",
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
pub(super) fn open_and_close(path: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        std::fs::File::open(format!("{}{suffix}", path.display())).unwrap();
    }
}

#[cfg(unix)]
#[test]
fn new_files_are_readable_only_by_their_owner() {
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
    assert_eq!(
        mode & 0o777,
        0o660,
        "a new WAL file has the mode of the existing database file"
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

/// Tries to open a store and returns the error. Checks that the failed attempt leaves no new files.
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
        matches!(&missing, StoreError::Failed(message) if message.contains("does not exist") && message.contains("create the folder")),
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
    // One part of the path is a file, not a folder.
    std::fs::write(folder.join("file"), "x").unwrap();
    let inside = refused(folder, &SqliteOptions::file(folder.join("file/x.db")));
    assert!(matches!(inside, StoreError::Failed(_)), "{inside}");
    if cfg!(target_os = "linux") {
        // Even root cannot create a file in /proc.
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
    // Overwrites all pages after the first page, which contains the schema.
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
    // The read-only store closes last. The file must stay intact.
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

#[test]
fn i2_ready_tasks_and_schedules_survive_the_queue_migration() {
    let (_folder, path) = folder();
    let execution = super::old_queues::fill(&open(&path));
    let mut other = SqliteConnection::establish(&path.display().to_string()).unwrap();
    other
        .batch_execute("DELETE FROM cloacina_migrations WHERE version = '00000000000004'")
        .unwrap();
    drop(other);
    super::old_queues::check(&open(&path), execution);
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
fn a_path_may_contain_special_characters() {
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
