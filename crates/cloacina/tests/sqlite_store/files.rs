//! Tests of the files of a database while a store has them open.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cloacina::store::{ListQuery, Store, StoreError};

use super::opening::open_and_close;
use super::records::NOW;
use super::{folder, join, names, open, register, spawn, submit};

#[cfg(target_os = "linux")]
#[test]
fn locks_stay_held_if_other_code_opens_and_closes_the_files() {
    let (folder, path) = folder();
    let store = open(&path);
    submit(&store, 1);
    open_and_close(&path);
    join(spawn("sharing::child_opens_and_submits", &path));
    assert_eq!(
        names(folder.path()),
        ["store.db", "store.db-shm", "store.db-wal"],
        "the other process removed files that the store still uses"
    );
    submit(&store, 1);
    open_and_close(&path);
    join(spawn("sharing::child_opens_and_submits", &path));
    drop(store);
    assert_eq!(
        open(&path)
            .list(&ListQuery {
                limit: 9,
                ..ListQuery::default()
            })
            .unwrap()
            .ids
            .len(),
        4
    );
}

#[cfg(unix)]
#[test]
fn a_deleted_or_replaced_file_is_detected() {
    let remove_or_replace: [fn(&Path); 4] = [
        |path| std::fs::remove_file(path).unwrap(),
        |path| std::fs::remove_file(format!("{}-wal", path.display())).unwrap(),
        |path| std::fs::remove_file(format!("{}-shm", path.display())).unwrap(),
        |path| {
            let copy = path.with_extension("copy");
            std::fs::copy(path, &copy).unwrap();
            std::fs::rename(copy, path).unwrap();
        },
    ];
    for remove_or_replace in remove_or_replace {
        let (_folder, path) = folder();
        let store = open(&path);
        let runner = register(&store);
        assert_eq!(store.heartbeat(runner, NOW, NOW), Ok(true));
        remove_or_replace(&path);
        // The store does not check the files at every request.
        let deadline = Instant::now() + Duration::from_secs(10);
        while store.heartbeat(runner, NOW, NOW).is_ok() {
            assert!(
                Instant::now() < deadline,
                "the store has not detected the change of its files"
            );
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
    // The paths that /proc reports contain no symbolic links, but the path of the temporary folder may contain some.
    let folder = folder.canonicalize().unwrap();
    let is_here = |link: PathBuf| link.starts_with(&folder);
    std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
        .filter(|link| is_here(link.clone()))
        .count()
}

#[cfg(target_os = "linux")]
#[test]
fn closed_store_keeps_no_file_open_but_still_answers() {
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
