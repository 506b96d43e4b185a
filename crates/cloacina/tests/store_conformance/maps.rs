//! Cases for maps and their items (semantics K).

use cloacina::store::{
    Advance, Batch, ClaimClass, Committed, FlowWrites, ItemEnds, ItemFence, ItemQuery, ItemWrite,
    MapWrites, QueueId, StoreError,
};
use cloacina::types::{
    Claim, ExecutionRecord, ItemRecord, Json, MapChange, MapRow, MapState, Pause, StepKind,
    StepRecord, TaskStatus,
};

use crate::world::{NOW, SECOND, Subject, World};

/// The queue of the map's items.
const QUEUE: i64 = 77;

/// Returns the row of a new map, whose task is the first task of the execution.
fn row(record: &ExecutionRecord, width: u32, parallel: Option<u32>) -> MapRow {
    MapRow {
        execution: record.id,
        task: 0,
        definition: record.definition,
        generation: 1,
        state: MapState::Open,
        width,
        source: None,
        has_all: false,
        admitted: 0,
        skipped: 0,
        running: 0,
        done: 0,
        failed: 0,
        parallel,
        max_failed: None,
        queue: QUEUE,
        priority: 0,
        first_failure: None,
    }
}

/// Commits a batch that contains only these changes of maps.
fn commit(world: &World, maps: MapWrites) -> Result<Committed, StoreError> {
    world.store.commit(&Batch {
        flow: FlowWrites {
            maps,
            ..FlowWrites::default()
        },
        ..world.batch()
    })
}

/// Commits a change of a map together with a change of its execution.
fn change(world: &World, record: &mut ExecutionRecord, change: MapChange) {
    let expected = record.revision;
    record.revision += 1;
    let maps = MapWrites {
        changes: vec![(record.id, change)],
        ..MapWrites::default()
    };
    let advance = Advance {
        record,
        expected,
        tasks: Vec::new(),
        history: &[],
        requires: &[],
        steps: None,
    };
    let committed = world.store.commit(&Batch {
        advances: vec![advance],
        flow: FlowWrites {
            maps,
            ..FlowWrites::default()
        },
        ..world.batch()
    });
    assert_eq!(committed.unwrap().advances, [true]);
}

/// Submits a running execution and expands its first task as a map.
fn expanded(world: &World, width: u32, parallel: Option<u32>) -> ExecutionRecord {
    let mut record = world.running();
    world.submit(&record);
    let row = row(&record, width, parallel);
    change(world, &mut record, MapChange::Expand(Box::new(row)));
    record
}

/// Claims at most `limit` items of the map.
fn claim(world: &World, limit: usize) -> Committed {
    let class = ClaimClass {
        queues: vec![QueueId(QUEUE)],
        excluded: Vec::new(),
        limit,
    };
    let maps = MapWrites {
        claim: vec![class],
        ..MapWrites::default()
    };
    commit(world, maps).unwrap()
}

/// Returns the indexes of the claimed items.
fn claimed(committed: &Committed) -> Vec<u32> {
    let items = committed.items.iter().flat_map(|map| &map.items);
    items.map(|item| item.item).collect()
}

/// Returns the write that ends the first attempt of an item. If `status` is `Ready`, the next attempt is due one
/// second after `NOW`.
fn ended(world: &World, item: u32, status: TaskStatus, result: &str) -> ItemWrite {
    ItemWrite {
        fence: ItemFence::Claim(Claim {
            runner: world.runner,
            attempt: 1,
            item: Some(item),
        }),
        otherwise: None,
        record: ItemRecord {
            status,
            runner: None,
            started_at: Some(NOW),
            ended_at: Some(NOW + SECOND),
            result: (status == TaskStatus::Completed).then(|| Json::parse(result).unwrap()),
            ready_at: (status == TaskStatus::Ready).then_some(NOW + SECOND),
            ..ItemRecord::claimed(item, world.runner)
        },
    }
}

/// Returns changes of a map in which these items end. The map itself does not end.
fn ends(record: &ExecutionRecord, items: Vec<ItemWrite>) -> MapWrites {
    MapWrites {
        ends: vec![ItemEnds {
            execution: record.id,
            task: 0,
            generation: 1,
            is_last: false,
            items,
            steps: Vec::new(),
            posts: Vec::new(),
            feeds: Vec::new(),
            settled: Vec::new(),
        }],
        ..MapWrites::default()
    }
}

pub fn k5_items_are_claimed_in_order_up_to_the_limit(subject: Subject) {
    let world = World::new(subject, 2);
    let record = expanded(&world, 10, Some(3));
    assert_eq!(claimed(&claim(&world, 2)), [0, 1]);
    let second = claim(&world, 5);
    assert_eq!(claimed(&second), [2]);
    assert_eq!(second.items[0].row.running, 3);
    assert_eq!(claimed(&claim(&world, 5)), [0; 0]);
    let done = ended(&world, 1, TaskStatus::Completed, "1");
    let committed = commit(&world, ends(&record, vec![done])).unwrap();
    assert!(committed.maps[0].applied);
    assert_eq!(claimed(&claim(&world, 5)), [3]);
    let row = &world.store.maps(&[record.id]).unwrap()[0];
    assert_eq!((row.admitted, row.running, row.done), (4, 3, 1));
}

pub fn k3_end_of_an_item_is_written_only_under_its_claim(subject: Subject) {
    let world = World::new(subject, 2);
    let record = expanded(&world, 3, None);
    claim(&world, 2);
    let mut late = ended(&world, 0, TaskStatus::Completed, "1");
    late.fence = ItemFence::Claim(Claim {
        runner: world.runner,
        attempt: 2,
        item: Some(late.record.item),
    });
    let good = ended(&world, 1, TaskStatus::Completed, r#"{"k":[1.10,"ü"]}"#);
    let outcome = commit(&world, ends(&record, vec![late, good])).unwrap();
    assert_eq!(outcome.maps[0].lost, [0]);
    let row = outcome.maps[0].row.clone().unwrap();
    assert_eq!((row.running, row.done), (1, 1));
    let query = |status| ItemQuery {
        execution: record.id,
        task: 0,
        status,
        from: 0,
        limit: 10,
    };
    let items = world.store.items(&query(None)).unwrap();
    let states: Vec<TaskStatus> = items.iter().map(|item| item.status).collect();
    assert_eq!(states, [TaskStatus::Running, TaskStatus::Completed]);
    let text = items[1].result.as_ref().map(Json::as_str);
    assert_eq!(text, Some(r#"{"k":[1.10,"ü"]}"#));
    let running = query(Some(TaskStatus::Running));
    assert_eq!(world.store.items(&running).unwrap(), items[..1]);
    let joined = |from, limit| {
        let page = ItemQuery {
            from,
            limit,
            ..query(None)
        };
        world.store.item_results(&page).unwrap()
    };
    assert_eq!(joined(0, 10), (2, r#"null,{"k":[1.10,"ü"]}"#.to_owned()));
    assert_eq!(joined(1, 1), (1, r#"{"k":[1.10,"ü"]}"#.to_owned()));
    assert_eq!(joined(2, 10), (0, String::new()));
    let before = |status, from, limit| ItemQuery {
        from,
        limit,
        ..query(status)
    };
    let read = |query| world.store.items_before(&query).unwrap();
    assert_eq!(read(before(None, 3, 10)), items);
    assert_eq!(read(before(None, 2, 1)), items[1..]);
    assert_eq!(read(before(Some(TaskStatus::Running), 2, 1)), items[..1]);
    assert_eq!(read(before(None, 0, 1)), []);
    let held = world.store.items_of(world.runner, 10).unwrap();
    assert!(world.store.retire_runner(world.runner).is_err());
    assert_eq!(held[0].items, items[..1]);
}

pub fn k6_last_item_ends_only_in_a_batch_that_ends_the_map(subject: Subject) {
    let world = World::new(subject, 2);
    let record = expanded(&world, 2, None);
    claim(&world, 2);
    let first = ended(&world, 0, TaskStatus::Completed, "1");
    let second = ended(&world, 1, TaskStatus::Completed, "2");
    let both = ends(&record, vec![first.clone(), second]);
    assert_eq!(
        commit(&world, both),
        Err(StoreError::MapMoved(Vec::new())),
        "no later batch would end the map"
    );
    // The end of the map is not applied without a change of the execution.
    let mut last = ends(&record, vec![first.clone()]);
    last.ends[0].is_last = true;
    let outcome = commit(&world, last).unwrap();
    assert!(!outcome.maps[0].applied);
    assert!(commit(&world, ends(&record, vec![first])).unwrap().maps[0].applied);
}

pub fn k7_closed_map_starts_no_items_and_refuses_late_results(subject: Subject) {
    let world = World::new(subject, 2);
    let mut record = expanded(&world, 5, None);
    claim(&world, 2);
    change(&world, &mut record, MapChange::Pause(0));
    assert_eq!(claimed(&claim(&world, 5)), [0; 0]);
    change(&world, &mut record, MapChange::Resume(0, pause(0)));
    assert_eq!(claimed(&claim(&world, 1)), [2]);
    change(&world, &mut record, MapChange::Close(0));
    assert_eq!(claimed(&claim(&world, 5)), [0; 0]);
    let late = ended(&world, 0, TaskStatus::Completed, "1");
    let outcome = commit(&world, ends(&record, vec![late])).unwrap();
    assert!(!outcome.maps[0].applied);
    assert!(!world.store.set_map(record.id, 0, Some(1)).unwrap());
    // K10: items that did not complete run again, with the next attempt number.
    change(&world, &mut record, MapChange::Reopen(0));
    let again = claim(&world, 10);
    assert_eq!(claimed(&again), [0, 1, 2, 3, 4]);
    let attempts: Vec<u32> = again.items[0]
        .items
        .iter()
        .map(|item| item.attempt)
        .collect();
    assert_eq!(attempts, [2, 2, 2, 1, 1]);
}

/// Returns a pause that began at `NOW` and lasted `held` microseconds.
const fn pause(held: i64) -> Pause {
    Pause { since: NOW, held }
}

pub fn d7_pause_moves_the_due_times_of_items(subject: Subject) {
    let world = World::new(subject, 2);
    let mut record = expanded(&world, 2, None);
    claim(&world, 2);
    // Item 0 waits one second for its next attempt. Item 1 was due before the pause.
    let waiting = ended(&world, 0, TaskStatus::Ready, "");
    let mut due = ended(&world, 1, TaskStatus::Ready, "");
    due.record.ready_at = Some(NOW);
    commit(&world, ends(&record, vec![waiting, due])).unwrap();
    change(&world, &mut record, MapChange::Pause(0));
    change(&world, &mut record, MapChange::Resume(0, pause(9 * SECOND)));
    let again = claim(&world, 2);
    assert_eq!(claimed(&again), [1]);
    assert_eq!(again.items_due, Some(NOW + 10 * SECOND));
}

pub fn k5_retried_item_is_due_after_its_delay(subject: Subject) {
    let world = World::new(subject, 2);
    let record = expanded(&world, 1, Some(1));
    claim(&world, 1);
    let retried = ended(&world, 0, TaskStatus::Ready, "");
    let outcome = commit(&world, ends(&record, vec![retried])).unwrap();
    assert_eq!(outcome.maps[0].row.as_ref().unwrap().running, 0);
    let early = claim(&world, 1);
    assert_eq!(claimed(&early), [0; 0]);
    assert_eq!(early.items_due, Some(NOW + SECOND));
    assert!(world.store.set_map(record.id, 0, None).unwrap());
    let maps = MapWrites {
        claim: vec![ClaimClass {
            queues: vec![QueueId(QUEUE)],
            excluded: Vec::new(),
            limit: 1,
        }],
        ..MapWrites::default()
    };
    let later = world.store.commit(&Batch {
        now: NOW + SECOND,
        flow: FlowWrites {
            maps,
            ..FlowWrites::default()
        },
        ..world.batch()
    });
    assert_eq!(later.unwrap().items[0].items[0].attempt, 2);
}

pub fn k3_steps_are_recorded_for_each_item_separately(subject: Subject) {
    let world = World::new(subject, 2);
    let record = expanded(&world, 2, None);
    claim(&world, 2);
    let step = StepRecord {
        key: "once".to_owned(),
        position: 0,
        kind: StepKind::Step,
        attempt: 1,
        started_at: NOW,
        ended_at: NOW,
        value: Json::parse("1").unwrap(),
    };
    let claim_of = |attempt, item| Claim {
        runner: world.runner,
        attempt,
        item: Some(item),
    };
    let mut writes = ends(&record, Vec::new());
    writes.ends[0].steps = vec![
        (claim_of(1, 0), step.clone()),
        (claim_of(9, 1), step.clone()),
    ];
    let outcome = commit(&world, writes).unwrap();
    assert_eq!(
        outcome.maps[0].lost,
        [1],
        "a step with another claim is not recorded"
    );
    assert_eq!(world.store.item_steps(record.id, 0, 0).unwrap(), [step]);
    assert_eq!(world.store.item_steps(record.id, 0, 1).unwrap(), []);
    assert_eq!(world.store.steps(record.id, None).unwrap(), []);
}

/// The queue of an aligned map's items.
const FOLLOWER_QUEUE: i64 = 78;

/// Expands the second task as a map that is aligned with the map of the first task.
fn expand_follower(world: &World, record: &mut ExecutionRecord, width: u32) {
    let row = MapRow {
        task: 1,
        source: Some(0),
        queue: FOLLOWER_QUEUE,
        ..row(record, width, None)
    };
    change(world, record, MapChange::Expand(Box::new(row)));
}

/// Claims items of the aligned map.
fn claim_follower(world: &World) -> Committed {
    let class = ClaimClass {
        queues: vec![QueueId(FOLLOWER_QUEUE)],
        excluded: Vec::new(),
        limit: 10,
    };
    let maps = MapWrites {
        claim: vec![class],
        ..MapWrites::default()
    };
    commit(world, maps).unwrap()
}

/// Like `ends`, but each ended item also adds an item to the aligned map: a ready item if the ended item completed,
/// and a skipped item if the ended item failed.
fn ends_with_elements(record: &ExecutionRecord, items: Vec<ItemWrite>) -> MapWrites {
    let mut writes = ends(record, items);
    writes.ends[0].feeds = vec![(0, 1)];
    writes
}

pub fn aligned_map_gets_an_item_when_its_element_arrives(subject: Subject) {
    let world = World::new(subject, 2);
    let mut record = expanded(&world, 4, None);
    claim(&world, 4);
    let first = ended(&world, 2, TaskStatus::Completed, "2");
    commit(&world, ends(&record, vec![first])).unwrap();
    // When the aligned map expands, it gets an item for each item of the source that has already ended.
    expand_follower(&world, &mut record, 4);
    assert_eq!(claimed(&claim_follower(&world)), [2]);
    let failed = ended(&world, 0, TaskStatus::Failed, "");
    let done = ended(&world, 3, TaskStatus::Completed, "3");
    commit(&world, ends_with_elements(&record, vec![failed, done])).unwrap();
    assert_eq!(claimed(&claim_follower(&world)), [3]);
    let row = &world.store.maps(&[record.id]).unwrap()[1];
    assert_eq!((row.admitted, row.skipped, row.unstarted()), (2, 1, 1));
    let query = ItemQuery {
        execution: record.id,
        task: 1,
        status: Some(TaskStatus::Skipped),
        from: 0,
        limit: 10,
    };
    let skipped = world.store.items(&query).unwrap();
    assert_eq!(skipped[0].item, 0);
    assert_eq!(skipped.len(), 1);
}

pub fn claim_returns_an_aligned_map_whose_last_item_was_skipped(subject: Subject) {
    let world = World::new(subject, 2);
    let mut record = expanded(&world, 2, None);
    expand_follower(&world, &mut record, 2);
    claim(&world, 2);
    let failed = ended(&world, 0, TaskStatus::Failed, "");
    commit(&world, ends_with_elements(&record, vec![failed])).unwrap();
    assert_eq!(claim_follower(&world).items, []);
    // The last item of the source fails too, and the source ends.
    let failed = ended(&world, 1, TaskStatus::Failed, "");
    let mut last = ends_with_elements(&record, vec![failed]);
    last.ends[0].is_last = true;
    let expected = record.revision;
    record.revision += 1;
    let committed = world.store.commit(&Batch {
        advances: vec![Advance {
            record: &record,
            expected,
            tasks: Vec::new(),
            history: &[],
            requires: &[],
            steps: None,
        }],
        flow: FlowWrites {
            maps: last,
            ..FlowWrites::default()
        },
        ..world.batch()
    });
    assert!(committed.unwrap().maps[0].applied);
    let found = claim_follower(&world);
    assert!(found.items[0].row.is_over());
    assert_eq!(found.items[0].items, []);
    // K10: a retry removes the skipped items.
    change(&world, &mut record, MapChange::Reopen(0));
    change(&world, &mut record, MapChange::Reopen(1));
    let row = &world.store.maps(&[record.id]).unwrap()[1];
    assert_eq!((row.skipped, row.unstarted()), (0, 2));
    assert_eq!(claim_follower(&world).items, []);
}
