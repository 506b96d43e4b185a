//! Tests of the SQLite store and its files: opening, migrating, sharing by stores, threads and processes, and errors.

#![cfg(feature = "sqlite")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod files;
#[path = "../support/old_queues.rs"]
mod old_queues;
mod opening;
#[path = "../support/records.rs"]
mod records;
mod sharing;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use cloacina::store::sqlite::{SqliteOptions, SqliteStore};
use cloacina::store::{Batch, ClaimClass, ClaimRequest, QueueId, Store, Submit, TaskWrite};
use cloacina::types::{DefinitionId, ExecutionId, ExecutionRecord, RunnerId};
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
            labels: &cloacina::types::Labels::NONE,
            tasks: vec![write],
            history: &[],
        })
        .collect();
    let batch = Batch {
        runner: RunnerId::generate(),
        now: NOW,
        schedules: vec![],
        flow: cloacina::store::FlowWrites::default(),
        submits,
        advances: vec![],
        claim: ClaimRequest::default(),
    };
    store.commit(&batch).unwrap();
    records.iter().map(|record| record.id).collect()
}

/// Claims tasks until no task is left.
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
                flow: cloacina::store::FlowWrites::default(),
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

/// Starts an ignored test of this program in another process.
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
        .expect("the parent test sets the variable")
        .into()
}
