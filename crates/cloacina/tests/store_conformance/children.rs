//! Cases for children, which are stored in the batch that changes their parents (semantics M).

use std::sync::Arc;

use cloacina::store::{
    Advance, Batch, FlowWrites, InboxMessage, LinkWrite, ListQuery, PostWrite, SubmitOutcome,
};
use cloacina::types::{ExecutionId, ExecutionRecord, Finale, InboxId, ParentLink, Timestamp};

use crate::world::{NOW, Subject, World};

/// Returns an execution whose first task is ready, and which is a child of the parent's first task.
fn child_of(world: &World, parent: ExecutionId, generation: u32, depth: u32) -> ExecutionRecord {
    ExecutionRecord {
        parent: Some(Arc::new(ParentLink {
            execution: parent,
            task: 0,
            generation,
            key: None,
            item: None,
            depth,
            paused: false,
            timeout: None,
            finale: None,
        })),
        ..world.ready(&[0])
    }
}

/// Returns the writes that link children to their parents.
fn links(children: &[&ExecutionRecord]) -> FlowWrites {
    let links = children.iter().map(|record| LinkWrite {
        child: record.id,
        link: Arc::clone(record.parent.as_ref().unwrap()),
        is_new: true,
    });
    FlowWrites {
        links: links.collect(),
        ..FlowWrites::default()
    }
}

pub fn m1_children_are_stored_with_their_parents(subject: Subject) {
    let world = World::new(subject, 1);
    let parent = world.ready(&[0]);
    let child = child_of(&world, parent.id, 1, 1);
    let grandchild = child_of(&world, child.id, 1, 2);
    let committed = world
        .store
        .commit(&Batch {
            // The order within a batch does not matter.
            submits: vec![
                world.submission(&grandchild),
                world.submission(&child),
                world.submission(&parent),
            ],
            flow: links(&[&grandchild, &child]),
            ..world.batch()
        })
        .unwrap();
    assert_eq!(committed.submits, [SubmitOutcome::Accepted; 3]);
    let stored = world.store.load(&[grandchild.id, parent.id]).unwrap();
    assert_eq!(stored[0].parent, grandchild.parent);
    assert_eq!(stored[1].parent, None);
    let list = |roots: bool| {
        let query = ListQuery {
            roots,
            limit: 10,
            ..ListQuery::default()
        };
        world.store.list(&query).unwrap().ids.len()
    };
    assert_eq!((list(true), list(false)), (1, 3));
}

pub fn m1_child_is_not_stored_if_its_parent_was_changed(subject: Subject) {
    let world = World::new(subject, 1);
    let parent = world.ready(&[0]);
    world
        .store
        .commit(&Batch {
            submits: vec![world.submission(&parent)],
            ..world.batch()
        })
        .unwrap();
    let child = child_of(&world, parent.id, 1, 1);
    for (expected, is_stored) in [(7, false), (1, true)] {
        let changed = ExecutionRecord {
            revision: expected + 1,
            ..parent.clone()
        };
        let committed = world
            .store
            .commit(&Batch {
                submits: vec![world.submission(&child)],
                advances: vec![Advance {
                    record: &changed,
                    expected,
                    tasks: vec![],
                    history: &[],
                    requires: &[],
                    steps: None,
                }],
                flow: links(&[&child]),
                ..world.batch()
            })
            .unwrap();
        assert_eq!(committed.advances, [is_stored]);
        let outcome = if is_stored {
            SubmitOutcome::Accepted
        } else {
            SubmitOutcome::Duplicate(child.id)
        };
        assert_eq!(committed.submits, [outcome]);
        assert_eq!(
            world.store.load(&[child.id]).unwrap().len(),
            usize::from(is_stored)
        );
    }
}

/// Returns the stored revision of each execution, and the number of inbox messages.
fn outcome(world: &World, ids: &[ExecutionId]) -> (Vec<i64>, usize) {
    let revisions = ids.iter().map(|id| {
        let stored = world.store.load(&[*id]).unwrap();
        stored[0].revision
    });
    let inbox = world.store.due_waits(NOW, 10).unwrap().inbox;
    (revisions.collect(), inbox.len())
}

pub fn m3_parent_changes_only_if_its_childs_end_is_written(subject: Subject) {
    let world = World::new(subject, 1);
    let mut expected_messages = 0;
    // `child_fits` and `parent_fits` say whether the batch expects the stored revision of the child and of the parent.
    for (child_fits, parent_fits) in [(true, true), (true, false), (false, true)] {
        let top = world.ready(&[0]);
        let parent = child_of(&world, top.id, 1, 1);
        let child = child_of(&world, parent.id, 1, 2);
        world
            .store
            .commit(&Batch {
                submits: [&top, &parent, &child]
                    .map(|record| world.submission(record))
                    .into(),
                flow: links(&[&parent, &child]),
                ..world.batch()
            })
            .unwrap();
        let changed = [&top, &parent, &child].map(|record| ExecutionRecord {
            revision: record.revision + 1,
            ..record.clone()
        });
        let advance = |index: usize, fits: bool| Advance {
            record: &changed[index],
            expected: if fits { 1 } else { 7 },
            tasks: vec![],
            history: &[],
            requires: &[],
            steps: None,
        };
        let post = |source: ExecutionId, target: ExecutionId| PostWrite {
            source,
            message: InboxMessage {
                id: InboxId::generate(),
                kind: "child_ended".to_owned(),
                target: Some(target.to_string()),
                body: None,
                created_at: NOW,
                note: None,
            },
            unless: Some(target),
        };
        let (of_top, of_parent) = ([parent.id], [child.id]);
        let committed = world
            .store
            .commit(&Batch {
                // The order within a batch does not matter.
                advances: vec![
                    Advance {
                        requires: &of_top,
                        ..advance(0, true)
                    },
                    Advance {
                        requires: &of_parent,
                        ..advance(1, parent_fits)
                    },
                    advance(2, child_fits),
                ],
                flow: FlowWrites {
                    posts: vec![post(child.id, parent.id), post(parent.id, top.id)],
                    ..FlowWrites::default()
                },
                ..world.batch()
            })
            .unwrap();
        let all = child_fits && parent_fits;
        assert_eq!(committed.advances, [all, all, child_fits]);
        let revision = |is_written| if is_written { 2 } else { 1 };
        let (revisions, messages) = outcome(&world, &[top.id, parent.id, child.id]);
        assert_eq!(revisions, [all, all, child_fits].map(revision));
        // If the child's end is written but the parent's change is not, a message tells the parent that its child has
        // ended.
        expected_messages += usize::from(child_fits && !parent_fits);
        assert_eq!(messages, expected_messages);
    }
}

pub fn m2_second_child_with_the_same_generation_is_refused(subject: Subject) {
    let world = World::new(subject, 1);
    let parent = world.ready(&[0]);
    let (first, second) = (
        child_of(&world, parent.id, 1, 1),
        child_of(&world, parent.id, 1, 1),
    );
    let result = world.store.commit(&Batch {
        submits: vec![
            world.submission(&parent),
            world.submission(&first),
            world.submission(&second),
        ],
        flow: links(&[&first, &second]),
        ..world.batch()
    });
    assert!(result.is_err());
    assert!(world.store.load(&[parent.id]).unwrap().is_empty());
}

/// Stores a parent and its child. Returns a time after their ends.
fn store_family(world: &World, parent: &ExecutionRecord, child: &ExecutionRecord) -> Timestamp {
    let batch = Batch {
        submits: vec![world.submission(parent), world.submission(child)],
        flow: links(&[child]),
        ..world.batch()
    };
    world.store.commit(&batch).unwrap();
    Timestamp(NOW.0 + 1_000_000_000)
}

pub fn m8_child_is_not_pruned_before_its_parent(subject: Subject) {
    let world = World::new(subject, 1);
    let parent = world.ready(&[0]);
    let ended = cloacina::types::ExecutionStatus::Cancelled;
    let mut child = child_of(&world, parent.id, 1, 1);
    child.status = ended;
    child.ended_at = Some(NOW);
    let later = store_family(&world, &parent, &child);
    assert_eq!(world.store.prune(later, 10).unwrap().executions, 0);
    assert_eq!(world.store.load(&[child.id]).unwrap().len(), 1);
}

pub fn m8_parent_with_an_open_child_is_kept(subject: Subject) {
    let world = World::new(subject, 1);
    let mut parent = world.ready(&[0]);
    parent.status = cloacina::types::ExecutionStatus::Cancelled;
    parent.ended_at = Some(NOW);
    let child = child_of(&world, parent.id, 1, 1);
    let later = store_family(&world, &parent, &child);
    assert_eq!(world.store.count_prunable(later, 10).unwrap(), 0);
    assert_eq!(world.store.prune(later, 10).unwrap().executions, 0);
    assert!(!world.store.delete_execution(parent.id).unwrap());
    assert_eq!(world.store.load(&[parent.id]).unwrap().len(), 1);
}

pub fn children_of_an_execution_are_listed(subject: Subject) {
    let world = World::new(subject, 1);
    let (parent, other) = (world.ready(&[0]), world.ready(&[0]));
    let children: Vec<ExecutionRecord> = (1..=3)
        .map(|generation| child_of(&world, parent.id, generation, 1))
        .collect();
    let foreign = child_of(&world, other.id, 1, 1);
    let mut submits = vec![world.submission(&parent), world.submission(&other)];
    submits.extend(children.iter().map(|child| world.submission(child)));
    submits.push(world.submission(&foreign));
    let all: Vec<&ExecutionRecord> = children.iter().chain([&foreign]).collect();
    world
        .store
        .commit(&Batch {
            submits,
            flow: links(&all),
            ..world.batch()
        })
        .unwrap();
    let mut expected: Vec<ExecutionId> = children.iter().map(|child| child.id).collect();
    expected.sort_unstable();
    for ascending in [true, false] {
        let query = ListQuery {
            parent: Some(parent.id),
            ascending,
            limit: 10,
            ..ListQuery::default()
        };
        assert_eq!(world.store.list(&query).unwrap().ids, expected);
        let (first, rest) = (expected[0], expected[1..].to_vec());
        let behind = ListQuery {
            after: ascending.then_some(first),
            before: (!ascending).then_some(first),
            ..query
        };
        assert_eq!(world.store.list(&behind).unwrap().ids, rest);
        expected.reverse();
    }
    let summaries = world.store.summaries(&[children[0].id, parent.id]).unwrap();
    assert_eq!(summaries[0].parent, children[0].parent);
    assert_eq!(summaries[1].parent, None);
}

pub fn only_ended_executions_are_deleted_and_parents_before_children(subject: Subject) {
    let world = World::new(subject, 1);
    let cancelled = cloacina::types::ExecutionStatus::Cancelled;
    let (mut parent, open) = (world.ready(&[0]), world.ready(&[0]));
    let mut child = child_of(&world, parent.id, 1, 1);
    for ended in [&mut parent, &mut child] {
        ended.status = cancelled;
        ended.ended_at = Some(NOW);
    }
    world
        .store
        .commit(&Batch {
            submits: vec![
                world.submission(&parent),
                world.submission(&child),
                world.submission(&open),
            ],
            flow: links(&[&child]),
            ..world.batch()
        })
        .unwrap();
    let delete = |id| world.store.delete_execution(id).unwrap();
    assert!(!delete(open.id));
    assert!(!delete(child.id));
    assert!(delete(parent.id));
    assert!(!delete(parent.id));
    assert!(delete(child.id));
    assert_eq!(
        world
            .store
            .load(&[parent.id, child.id, open.id])
            .unwrap()
            .len(),
        1
    );
    assert!(world.store.history(parent.id).unwrap().is_empty());
}

pub fn q6_execution_is_not_deleted_before_its_final_tasks_end(subject: Subject) {
    let world = World::new(subject, 1);
    let mut first = world.ready(&[0]);
    first.status = cloacina::types::ExecutionStatus::Cancelled;
    first.ended_at = Some(NOW);
    let mut finale = child_of(&world, first.id, 1, 1);
    let link = ParentLink {
        finale: Some(Box::new(Finale {
            id: finale.id,
            compensated: Vec::new(),
            held: Vec::new(),
        })),
        ..(**finale.parent.as_ref().unwrap()).clone()
    };
    finale.parent = Some(Arc::new(link));
    world
        .store
        .commit(&Batch {
            submits: vec![world.submission(&first), world.submission(&finale)],
            flow: links(&[&finale]),
            ..world.batch()
        })
        .unwrap();
    assert!(!world.store.delete_execution(first.id).unwrap());
    let ended = ExecutionRecord {
        revision: 2,
        status: cloacina::types::ExecutionStatus::Cancelled,
        ended_at: Some(NOW),
        ..finale.clone()
    };
    world
        .store
        .commit(&Batch {
            advances: vec![Advance {
                record: &ended,
                expected: 1,
                tasks: vec![],
                history: &[],
                requires: &[],
                steps: None,
            }],
            ..world.batch()
        })
        .unwrap();
    assert!(world.store.delete_execution(first.id).unwrap());
}
