//! Tests of one file that several stores, threads and processes use.

use std::collections::HashSet;
use std::process::Child;
use std::sync::{Arc, Barrier, mpsc};
use std::time::Duration;

use cloacina::store::sqlite::{SqliteOptions, SqliteStore};
use cloacina::store::{Batch, ClaimClass, ClaimRequest, ListQuery, Store, StoreError, Submit};
use cloacina::types::{DefinitionId, ExecutionId, ExecutionStatus, RunnerId};
use diesel::connection::SimpleConnection;
use diesel::{Connection, SqliteConnection};

use super::records::{NOW, ready, workflow};
use super::{claim_all, folder, join, open, path_from_parent, queue, register, spawn, submit};

#[test]
#[ignore = "other tests run this test in a separate process"]
fn child_opens_and_submits() {
    let store = open(&path_from_parent());
    submit(&store, 1);
}

#[test]
#[ignore = "other tests run this test in a separate process"]
fn child_claims() {
    let store = open(&path_from_parent());
    for id in claim_all(&store) {
        println!("claimed {id}");
    }
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
                    .ids
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
        .map(|_| spawn("sharing::child_opens_and_submits", &path))
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
            .ids
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
    let children: Vec<Child> = (0..4)
        .map(|_| spawn("sharing::child_claims", &path))
        .collect();
    let claimed: Vec<String> = children
        .into_iter()
        .flat_map(|child| {
            let text = join(child);
            // The test harness prints the test's name without a newline, so the first line begins with the name.
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
    // A change that is based on the revision before the claim is not applied.
    let mut stale = ready(record.definition, NOW);
    stale.id = id;
    stale.revision = 2;
    let advance = cloacina::store::Advance {
        record: &stale,
        expected: 1,
        tasks: vec![],
        history: &[],
        requires: &[],
        steps: None,
    };
    let batch = Batch {
        runner: RunnerId::generate(),
        now: NOW,
        schedules: vec![],
        flow: cloacina::store::FlowWrites::default(),
        submits: vec![],
        advances: vec![advance],
        claim: ClaimRequest::default(),
    };
    assert_eq!(one.commit(&batch).unwrap().advances, [false]);
}

#[test]
fn change_marker_changes_only_with_commits_of_other_stores() {
    let (_folder, path) = folder();
    let (one, two) = (open(&path), open(&path));
    let before = one.changes(None).unwrap().marker;
    submit(&one, 3);
    one.runners().unwrap();
    assert_eq!(
        one.changes(None).unwrap().marker,
        before,
        "a store's own commits do not change its marker"
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
        .ids
        .len(),
        4
    );
    assert_eq!(
        one.changes(None).unwrap().marker,
        after,
        "a read does not change the marker"
    );
    // A claim request that finds no task does not change the marker either.
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
        flow: cloacina::store::FlowWrites::default(),
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
fn marker_of_one_handle_changes_only_with_commits_of_another() {
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
    // A refused batch does not change the marker.
    let before = two.changes(None).unwrap().marker;
    let mut stale = ready(DefinitionId(999), NOW);
    stale.key = Some("key".to_owned());
    let refused = one.commit(&Batch {
        runner: RunnerId::generate(),
        now: NOW,
        schedules: vec![],
        flow: cloacina::store::FlowWrites::default(),
        submits: vec![Submit {
            record: &stale,
            workflow: "etl",
            labels: &cloacina::types::Labels::NONE,
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
    // The writer has not finished after 300 ms, so it is blocked.
    assert!(finished.recv_timeout(Duration::from_millis(300)).is_err());
    assert_eq!(store.runners().unwrap(), [], "readers are not blocked");
    other.batch_execute("COMMIT").unwrap();
    finished.recv_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!(store.load(&thread.join().unwrap()).unwrap().len(), 1);
}

#[test]
fn lock_held_longer_than_busy_timeout_is_reported_as_unavailable() {
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
fn claim_request_that_finds_no_task_needs_no_lock() {
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
        flow: cloacina::store::FlowWrites::default(),
        submits: vec![],
        advances: vec![],
        claim,
    };
    assert_eq!(store.commit(&batch).unwrap().claimed, []);
    // Storing a known definition needs no lock either.
    assert_eq!(
        store.put_definition(&workflow("etl", 1), NOW).unwrap(),
        definition
    );
}
