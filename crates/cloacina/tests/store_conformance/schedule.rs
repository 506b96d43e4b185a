//! Cases for schedules and their ticks.

use std::collections::BTreeMap;

use cloacina::store::{
    Batch, DueQuery, DueSchedules, EndWrite, PutOutcome, ScheduleQuery, ScheduleWrite, Store,
    SubmitOutcome, TickWrite,
};
use cloacina::types::{
    After, Catchup, Context, ExecutionId, ExecutionRecord, ExecutionStatus, Json, Overlap,
    ScheduleId, ScheduleKind, ScheduleRecord, ScheduleSpec, ScheduleState, TickOutcome, Timestamp,
};

use super::world::{NOW, SECOND, Subject, World};

/// Returns a cron schedule of the workflow `etl`. `wake_at` is its due time, or `None` if it is never due.
pub fn schedule(identity: &str, wake_at: Option<Timestamp>) -> ScheduleRecord {
    ScheduleRecord {
        id: ScheduleId::generate(),
        kind: ScheduleKind::Cron,
        identity: identity.to_owned(),
        workflow: "etl".to_owned(),
        enabled: true,
        revision: 1,
        spec: ScheduleSpec {
            expression: Some("* * * * *".to_owned()),
            timezone: "UTC".to_owned(),
            interval: None,
            instance: String::new(),
            input: Context::new(),
            catchup: Catchup::Skip,
            max_catchup: None,
            overlap: Overlap::Allow,
            start_at: None,
            end_at: None,
            jitter: 0,
            after: None,
        },
        state: ScheduleState::default(),
        next_due: wake_at,
        wake_at,
        last_due: None,
        created_at: NOW,
        updated_at: NOW,
        deleted_at: None,
    }
}

/// Writes a new schedule and returns it.
fn stored(store: &dyn Store, record: ScheduleRecord) -> ScheduleRecord {
    assert_eq!(
        store.put_schedule(&record, None).unwrap(),
        PutOutcome::Written
    );
    record
}

/// Returns the next revision of a schedule, with a new due time.
fn moved(record: &ScheduleRecord, wake_at: Option<Timestamp>) -> ScheduleRecord {
    ScheduleRecord {
        revision: record.revision + 1,
        next_due: wake_at,
        wake_at,
        last_due: record.next_due,
        ..record.clone()
    }
}

/// Returns a tick without a detail.
fn tick(due_at: Timestamp, outcome: TickOutcome, execution: Option<ExecutionId>) -> TickWrite {
    TickWrite {
        due_at,
        outcome,
        execution,
        detail: None,
    }
}

/// Commits a change of a schedule with its ticks and executions. Returns whether the change was applied, and the
/// outcome of each submission.
fn fire(
    world: &World,
    after: &ScheduleRecord,
    ticks: &[TickWrite],
    executions: &[&ExecutionRecord],
) -> (bool, Vec<SubmitOutcome>) {
    let batch = Batch {
        schedules: vec![ScheduleWrite {
            record: after,
            expected: after.revision - 1,
            ticks,
            ends: &[],
        }],
        submits: executions
            .iter()
            .map(|record| world.submission(record))
            .collect(),
        ..world.batch()
    };
    let committed = world.store.commit(&batch).unwrap();
    (committed.schedules[0], committed.submits)
}

/// Returns the cron schedules that are due, and the next due time.
fn crons(world: &World, now: Timestamp) -> DueSchedules {
    let query = DueQuery {
        cron: true,
        triggers: Vec::new(),
        ends: false,
        limit: 10,
    };
    world.store.due_schedules(&query, now).unwrap()
}

pub fn every_schedule_column_is_read_back(subject: Subject) {
    let world = World::new(subject, 1);
    let mut record = schedule("all \"of\" it", Some(NOW + SECOND));
    record
        .spec
        .input
        .set("n", Json::parse("123456789012345678901234567890").unwrap());
    record.spec.max_catchup = Some(7);
    record.spec.overlap = Overlap::Queue;
    record.spec.start_at = Some(NOW);
    record.spec.jitter = 5;
    record.state.open = vec![ExecutionId::generate()];
    record.state.queued = vec![NOW];
    record.state.last_error = Some("ouch".to_owned());
    let record = stored(&*world.store, record);
    assert_eq!(
        world.store.schedule(record.id).unwrap(),
        Some(record.clone())
    );
    let found = world
        .store
        .schedule_of(ScheduleKind::Cron, &record.identity)
        .unwrap();
    assert_eq!(found, Some(record.clone()));
    assert_eq!(
        world
            .store
            .schedule_of(ScheduleKind::Trigger, &record.identity)
            .unwrap(),
        None
    );
    assert_eq!(world.store.schedule(ScheduleId::generate()).unwrap(), None);
    let mut changed = moved(&record, None);
    "another".clone_into(&mut changed.identity);
    "other".clone_into(&mut changed.workflow);
    changed.enabled = false;
    "Europe/Berlin".clone_into(&mut changed.spec.timezone);
    assert_eq!(
        world.store.put_schedule(&changed, Some(1)).unwrap(),
        PutOutcome::Written
    );
    assert_eq!(world.store.schedule(record.id).unwrap(), Some(changed));
}

pub fn an_identity_is_unique_until_its_schedule_is_deleted(subject: Subject) {
    let world = World::new(subject, 1);
    let first = stored(&*world.store, schedule("same", None));
    let second = schedule("same", None);
    assert_eq!(
        world.store.put_schedule(&second, None).unwrap(),
        PutOutcome::Exists(first.id)
    );
    let other = stored(&*world.store, schedule("other", None));
    let renamed = ScheduleRecord {
        identity: "same".to_owned(),
        revision: 2,
        ..other.clone()
    };
    assert_eq!(
        world.store.put_schedule(&renamed, Some(1)).unwrap(),
        PutOutcome::Exists(first.id)
    );
    assert_eq!(world.store.schedule(other.id).unwrap(), Some(other));
    let deleted = ScheduleRecord {
        deleted_at: Some(NOW),
        ..moved(&first, None)
    };
    assert_eq!(
        world.store.put_schedule(&deleted, Some(1)).unwrap(),
        PutOutcome::Written
    );
    assert_eq!(
        world.store.schedule_of(ScheduleKind::Cron, "same").unwrap(),
        None
    );
    assert_eq!(
        world.store.schedule(first.id).unwrap(),
        Some(deleted.clone())
    );
    stored(&*world.store, second);
    let again = moved(&deleted, None);
    assert_ne!(
        world.store.put_schedule(&again, Some(2)).unwrap(),
        PutOutcome::Written
    );
}

pub fn a_stale_change_of_a_schedule_is_refused(subject: Subject) {
    let world = World::new(subject, 1);
    let record = stored(&*world.store, schedule("one", None));
    let changed = moved(&record, Some(NOW));
    assert_eq!(
        world.store.put_schedule(&changed, Some(1)).unwrap(),
        PutOutcome::Written
    );
    let late = moved(&record, None);
    assert_eq!(
        world.store.put_schedule(&late, Some(1)).unwrap(),
        PutOutcome::Changed
    );
    assert_eq!(world.store.schedule(record.id).unwrap(), Some(changed));
    let unknown = schedule("unknown", None);
    assert_eq!(
        world.store.put_schedule(&unknown, Some(1)).unwrap(),
        PutOutcome::Changed
    );
}

pub fn due_schedules_are_earliest_first_with_the_next_due_time(subject: Subject) {
    let world = World::new(subject, 1);
    assert_eq!(crons(&world, NOW), DueSchedules::default());
    let times = [3, -5, 0, -9, 8];
    let records: Vec<ScheduleRecord> = times
        .iter()
        .map(|seconds| {
            let at = NOW + seconds * SECOND;
            stored(&*world.store, schedule(&seconds.to_string(), Some(at)))
        })
        .collect();
    stored(&*world.store, schedule("off", None));
    let found = crons(&world, NOW);
    let ids: Vec<ScheduleId> = found.due.iter().map(|record| record.id).collect();
    assert_eq!(ids, [records[3].id, records[1].id, records[2].id]);
    assert_eq!(found.next, Some(NOW + 3 * SECOND));
    let query = DueQuery {
        cron: true,
        triggers: Vec::new(),
        ends: false,
        limit: 1,
    };
    let first = world.store.due_schedules(&query, NOW).unwrap();
    assert_eq!(first.due, [records[3].clone()]);
    let none = world
        .store
        .due_schedules(&DueQuery::default(), NOW)
        .unwrap();
    assert_eq!(none, DueSchedules::default());
    assert_eq!(crons(&world, NOW + 8 * SECOND).next, None);
}

pub fn due_triggers_are_returned_only_if_the_query_names_them(subject: Subject) {
    let world = World::new(subject, 1);
    let trigger = |name: &str, at| ScheduleRecord {
        kind: ScheduleKind::Trigger,
        ..schedule(name, Some(at))
    };
    let mine = stored(&*world.store, trigger("mine", NOW));
    stored(&*world.store, trigger("theirs", NOW - SECOND));
    stored(&*world.store, trigger("later", NOW + SECOND));
    stored(&*world.store, trigger("others' later", NOW + 1));
    stored(&*world.store, schedule("mine", Some(NOW)));
    let query = DueQuery {
        cron: false,
        triggers: vec![
            "mine".to_owned(),
            "later".to_owned(),
            "unheard of".to_owned(),
        ],
        ends: false,
        limit: 10,
    };
    let found = world.store.due_schedules(&query, NOW).unwrap();
    assert_eq!(found.due, [mine]);
    assert_eq!(found.next, Some(NOW + SECOND));
}

pub fn schedules_are_listed_by_kind_oldest_first(subject: Subject) {
    let world = World::new(subject, 1);
    let mut records: Vec<ScheduleRecord> = (0..5).map(|n| schedule(&n.to_string(), None)).collect();
    records[1].enabled = false;
    for record in records.iter().rev() {
        stored(&*world.store, record.clone());
    }
    let list = |enabled_only, limit, offset| {
        let query = ScheduleQuery {
            kind: ScheduleKind::Cron,
            enabled_only,
            limit,
            offset,
            after: None,
            descending: false,
        };
        world.store.schedules(&query).unwrap()
    };
    let from = |after, descending| {
        let query = ScheduleQuery {
            kind: ScheduleKind::Cron,
            enabled_only: false,
            limit: 2,
            offset: 0,
            after,
            descending,
        };
        let found = world.store.schedules(&query).unwrap().into_iter();
        found.map(|record| record.id).collect::<Vec<_>>()
    };
    let ids: Vec<ScheduleId> = records.iter().map(|record| record.id).collect();
    assert_eq!(from(Some(ids[1]), false), ids[2..4]);
    assert_eq!(from(Some(ids[2]), true), [ids[1], ids[0]]);
    assert_eq!(from(None, true), [ids[4], ids[3]]);
    assert_eq!(list(false, usize::MAX, 0), records);
    assert_eq!(list(false, 2, 1), records[1..3]);
    assert_eq!(list(true, 2, 0), [records[0].clone(), records[2].clone()]);
    let triggers = ScheduleQuery {
        kind: ScheduleKind::Trigger,
        enabled_only: false,
        limit: 10,
        offset: 0,
        after: None,
        descending: false,
    };
    assert_eq!(world.store.schedules(&triggers).unwrap(), []);
}

pub fn a_tick_submits_its_execution_and_is_recorded(subject: Subject) {
    let world = World::new(subject, 1);
    let record = stored(&*world.store, schedule("one", Some(NOW)));
    let execution = world.ready(&[0]);
    let after = moved(&record, Some(NOW + SECOND));
    let ticks = [
        tick(NOW - SECOND, TickOutcome::Missed, None),
        tick(NOW, TickOutcome::Fired, Some(execution.id)),
    ];
    assert_eq!(
        fire(&world, &after, &ticks, &[&execution]),
        (true, vec![SubmitOutcome::Accepted])
    );
    assert_eq!(world.load(execution.id).id, execution.id);
    assert_eq!(world.store.schedule(record.id).unwrap(), Some(after));
    let history = world.store.ticks(record.id, 10, 0).unwrap();
    let actual: Vec<_> = history
        .iter()
        .map(|tick| (tick.due_at, tick.outcome, tick.execution))
        .collect();
    assert_eq!(
        actual,
        [
            (NOW, TickOutcome::Fired, Some(execution.id)),
            (NOW - SECOND, TickOutcome::Missed, None)
        ]
    );
    assert!(
        history
            .iter()
            .all(|tick| (tick.created_at, tick.updated_at) == (NOW, NOW))
    );
    assert_eq!(world.store.ticks(record.id, 1, 1).unwrap(), history[1..]);
    let from = |time, ascending| {
        (world.store)
            .ticks_from(record.id, time, ascending, 1)
            .unwrap()
    };
    let (newest, oldest) = (history[0].due_at, history[1].due_at);
    assert_eq!(from(Timestamp(i64::MAX), false), history[..1]);
    assert_eq!(from(newest, false), history[1..]);
    assert_eq!(from(oldest, false), []);
    assert_eq!(from(oldest, true), history[..1]);
    assert_eq!(from(newest, true), []);
    assert_eq!(
        world.store.ticks(ScheduleId::generate(), 10, 0).unwrap(),
        []
    );
}

pub fn a_stale_schedule_change_drops_only_its_own_submissions(subject: Subject) {
    let world = World::new(subject, 1);
    let record = stored(&*world.store, schedule("one", Some(NOW)));
    let winner = world.ready(&[0]);
    let after = moved(&record, Some(NOW + SECOND));
    fire(
        &world,
        &after,
        &[tick(NOW, TickOutcome::Fired, Some(winner.id))],
        &[&winner],
    );
    let (loser, bystander) = (world.ready(&[0]), world.ready(&[0]));
    let ticks = [tick(NOW, TickOutcome::Fired, Some(loser.id))];
    let (applied, verdicts) = fire(&world, &after, &ticks, &[&loser, &bystander]);
    assert!(!applied);
    assert_eq!(
        verdicts,
        [SubmitOutcome::Duplicate(loser.id), SubmitOutcome::Accepted]
    );
    assert_eq!(
        world.store.load(&[loser.id, bystander.id]).unwrap().len(),
        1
    );
    assert_eq!(
        world.store.ticks(record.id, 10, 0).unwrap()[0].execution,
        Some(winner.id)
    );
}

pub fn a_recorded_tick_drops_only_its_own_submission(subject: Subject) {
    let world = World::new(subject, 1);
    let record = stored(&*world.store, schedule("one", Some(NOW)));
    let first = world.ready(&[0]);
    let once = moved(&record, Some(NOW));
    fire(
        &world,
        &once,
        &[tick(NOW, TickOutcome::Fired, Some(first.id))],
        &[&first],
    );
    let (again, next) = (world.ready(&[0]), world.ready(&[0]));
    let twice = moved(&once, Some(NOW + 2 * SECOND));
    let ticks = [
        tick(NOW, TickOutcome::Fired, Some(again.id)),
        tick(NOW + SECOND, TickOutcome::Fired, Some(next.id)),
    ];
    let (applied, verdicts) = fire(&world, &twice, &ticks, &[&again, &next]);
    assert!(applied);
    assert_eq!(
        verdicts,
        [SubmitOutcome::Duplicate(again.id), SubmitOutcome::Accepted]
    );
    let history = world.store.ticks(record.id, 10, 0).unwrap();
    let executions: Vec<_> = history.iter().map(|tick| tick.execution).collect();
    assert_eq!(executions, [Some(next.id), Some(first.id)]);
}

pub fn a_queued_tick_fires_later(subject: Subject) {
    let world = World::new(subject, 1);
    let record = stored(&*world.store, schedule("one", Some(NOW)));
    let waiting = moved(&record, Some(NOW));
    fire(
        &world,
        &waiting,
        &[tick(NOW, TickOutcome::Queued, None)],
        &[],
    );
    let execution = world.ready(&[0]);
    let after = moved(&waiting, None);
    let ticks = [tick(NOW, TickOutcome::Fired, Some(execution.id))];
    assert_eq!(
        fire(&world, &after, &ticks, &[&execution]),
        (true, vec![SubmitOutcome::Accepted])
    );
    let history = world.store.ticks(record.id, 10, 0).unwrap();
    assert_eq!(history.len(), 1);
    assert_eq!(history[0].outcome, TickOutcome::Fired);
    assert_eq!(history[0].execution, Some(execution.id));
}

pub fn missed_tick_can_still_fire_once(subject: Subject) {
    let world = World::new(subject, 1);
    let record = stored(&*world.store, schedule("one", Some(NOW)));
    let missed = moved(&record, None);
    let missed_tick = [tick(NOW, TickOutcome::Missed, None)];
    fire(&world, &missed, &missed_tick, &[]);
    let mut known = missed;
    for outcome in [
        SubmitOutcome::Accepted,
        SubmitOutcome::Duplicate(ExecutionId::generate()),
    ] {
        let execution = world.ready(&[0]);
        let after = moved(&known, None);
        let ticks = [tick(NOW, TickOutcome::Fired, Some(execution.id))];
        let expected = match outcome {
            SubmitOutcome::Accepted => SubmitOutcome::Accepted,
            SubmitOutcome::Duplicate(_) => SubmitOutcome::Duplicate(execution.id),
        };
        assert_eq!(
            fire(&world, &after, &ticks, &[&execution]),
            (true, vec![expected])
        );
        known = after;
    }
}

pub fn a_refused_batch_changes_no_schedule(subject: Subject) {
    let world = World::new(subject, 1);
    let record = stored(&*world.store, schedule("one", Some(NOW)));
    let after = moved(&record, None);
    let mut broken = world.ready(&[0]);
    broken.definition = cloacina::types::DefinitionId(999);
    let ticks = [tick(NOW, TickOutcome::Fired, Some(broken.id))];
    let batch = Batch {
        schedules: vec![ScheduleWrite {
            record: &after,
            expected: 1,
            ticks: &ticks,
            ends: &[],
        }],
        submits: vec![world.submission(&broken)],
        ..world.batch()
    };
    assert!(world.store.commit(&batch).is_err());
    assert_eq!(
        world.store.schedule(record.id).unwrap(),
        Some(record.clone())
    );
    assert_eq!(world.store.ticks(record.id, 10, 0).unwrap(), []);
}

pub fn ticks_are_counted_by_outcome_and_pruned(subject: Subject) {
    let world = World::new(subject, 1);
    let record = stored(&*world.store, schedule("one", Some(NOW)));
    let after = moved(&record, None);
    let ticks = [
        tick(NOW - 5 * SECOND, TickOutcome::Queued, None),
        tick(NOW - 4 * SECOND, TickOutcome::Missed, None),
        tick(NOW - 3 * SECOND, TickOutcome::Missed, None),
        tick(NOW - 2 * SECOND, TickOutcome::Overlapped, None),
        tick(NOW, TickOutcome::Missed, None),
    ];
    fire(&world, &after, &ticks, &[]);
    let count = |kind, since| {
        let counts = world.store.count_ticks(kind, since).unwrap();
        counts.into_iter().collect::<BTreeMap<_, _>>()
    };
    assert_eq!(
        count(ScheduleKind::Cron, NOW - 3 * SECOND),
        BTreeMap::from([(TickOutcome::Missed, 2), (TickOutcome::Overlapped, 1)])
    );
    assert_eq!(
        count(ScheduleKind::Trigger, NOW - 9 * SECOND),
        BTreeMap::new()
    );
    world.store.prune(NOW - 2 * SECOND, 1).unwrap();
    assert_eq!(world.store.ticks(record.id, 10, 0).unwrap().len(), 4);
    world.store.prune(NOW - 2 * SECOND, 10).unwrap();
    let left = world.store.ticks(record.id, 10, 0).unwrap();
    let outcomes: Vec<TickOutcome> = left.iter().map(|tick| tick.outcome).collect();
    // Queued ticks are kept.
    assert_eq!(
        outcomes,
        [
            TickOutcome::Missed,
            TickOutcome::Overlapped,
            TickOutcome::Queued
        ]
    );
}

pub fn concurrent_runners_fire_a_tick_once(subject: Subject) {
    let world = World::new(subject, 1);
    let record = stored(&*world.store, schedule("one", Some(NOW)));
    for round in 0..20 {
        let known = world.store.schedule(record.id).unwrap().unwrap();
        let due = NOW + round * SECOND;
        let fired: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    let (world, known) = (&*world.store, &known);
                    let execution = super::world::record_of(self::definition(world), 1, NOW);
                    scope.spawn(move || {
                        let after = moved(known, Some(due + SECOND));
                        let ticks = [tick(due, TickOutcome::Fired, Some(execution.id))];
                        let batch = Batch {
                            runner: cloacina::types::RunnerId::generate(),
                            now: NOW,
                            flow: cloacina::store::FlowWrites::default(),
                            schedules: vec![ScheduleWrite {
                                record: &after,
                                expected: known.revision,
                                ticks: &ticks,
                                ends: &[],
                            }],
                            submits: vec![cloacina::store::Submit {
                                record: &execution,
                                workflow: "etl",
                                labels: &cloacina::types::Labels::NONE,
                                tasks: Vec::new(),
                                history: &[],
                            }],
                            advances: Vec::new(),
                            claim: cloacina::store::ClaimRequest::default(),
                        };
                        let committed = world.commit(&batch).unwrap();
                        let is_accepted = committed.submits == [SubmitOutcome::Accepted];
                        assert_eq!(committed.schedules, [is_accepted]);
                        usize::from(is_accepted)
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .sum()
        });
        assert_eq!(fired, 1);
    }
    assert_eq!(world.store.ticks(record.id, 100, 0).unwrap().len(), 20);
}

/// Returns the id of the oldest definition.
fn definition(store: &dyn Store) -> cloacina::types::DefinitionId {
    store.definitions(cloacina::types::DefinitionId(0)).unwrap()[0].id
}

/// Ends an execution of `etl`. The same batch stores a row for each trigger that this end fires. Returns whether the
/// change was applied.
fn end(
    world: &World,
    record: &mut ExecutionRecord,
    status: ExecutionStatus,
    at: Timestamp,
) -> bool {
    let expected = record.revision;
    record.revision += 1;
    record.status = status;
    record.ended_at = Some(at);
    let batch = Batch {
        advances: vec![cloacina::store::Advance {
            record,
            expected,
            tasks: Vec::new(),
            history: &[],
            requires: &[],
            steps: None,
        }],
        flow: cloacina::store::FlowWrites {
            ends: vec![record.id],
            ..cloacina::store::FlowWrites::default()
        },
        ..world.batch()
    };
    world.store.commit(&batch).unwrap().advances[0]
}

/// Stores a trigger that fires when an execution of `etl` ends in one of these states.
fn follower(world: &World, name: &str, statuses: &[ExecutionStatus]) -> ScheduleRecord {
    let mut record = ScheduleRecord {
        kind: ScheduleKind::Trigger,
        ..schedule(name, None)
    };
    record.spec.after = Some(After {
        workflow: "etl".to_owned(),
        statuses: statuses.to_vec(),
    });
    stored(&*world.store, record)
}

/// Returns the ended executions that a trigger must handle at `now`, each with the number of failed calls.
fn pending(world: &World, trigger: &ScheduleRecord, now: Timestamp) -> Vec<(ExecutionId, u32)> {
    let found = world.store.pending_ends(trigger.id, now, 10).unwrap();
    found
        .iter()
        .map(|end| (end.execution, end.attempts))
        .collect()
}

pub fn g4_an_ended_execution_is_stored_for_each_trigger_that_it_fires(subject: Subject) {
    let world = World::new(subject, 1);
    let submitted = || {
        let record = world.record();
        world.submit(&record);
        record
    };
    let mut early = submitted();
    assert!(end(&world, &mut early, ExecutionStatus::Completed, NOW));
    let good = follower(&world, "good", &[ExecutionStatus::Completed]);
    let bad = follower(
        &world,
        "bad",
        &[ExecutionStatus::Failed, ExecutionStatus::Cancelled],
    );
    let (mut first, mut second) = (submitted(), submitted());
    assert!(end(&world, &mut first, ExecutionStatus::Completed, NOW + 1));
    assert!(end(
        &world,
        &mut second,
        ExecutionStatus::Cancelled,
        NOW + 2
    ));
    // A stale change is not applied, so no end is stored.
    let mut stale = submitted();
    stale.revision += 1;
    assert!(!end(
        &world,
        &mut stale,
        ExecutionStatus::Completed,
        NOW + 3
    ));
    let later = NOW + SECOND;
    assert_eq!(pending(&world, &good, later), [(first.id, 0)]);
    assert_eq!(pending(&world, &bad, later), [(second.id, 0)]);
    assert_eq!(pending(&world, &good, NOW), []);

    let query = |now| {
        let query = DueQuery {
            cron: false,
            triggers: vec!["good".to_owned(), "bad".to_owned()],
            ends: true,
            limit: 10,
        };
        let found = world.store.due_schedules(&query, now).unwrap();
        let ids: Vec<ScheduleId> = found.due.iter().map(|record| record.id).collect();
        (ids, found.next)
    };
    assert_eq!(query(later), (vec![good.id, bad.id], None));

    // While a runner has the lease of a trigger, the trigger is not due. In this test, the runner takes the lease, then
    // postpones the stored end, and finally deletes it.
    let settle = |known: &ScheduleRecord, wake_at, again| {
        let after = ScheduleRecord {
            last_due: None,
            ..moved(known, wake_at)
        };
        let ends = [EndWrite {
            execution: first.id,
            ended_at: NOW + 1,
            again,
        }];
        let batch = Batch {
            schedules: vec![ScheduleWrite {
                record: &after,
                expected: known.revision,
                ticks: &[],
                ends: if wake_at.is_some() { &[] } else { &ends },
            }],
            ..world.batch()
        };
        assert_eq!(world.store.commit(&batch).unwrap().schedules, [true]);
        after
    };
    let good = settle(&good, Some(later + SECOND), None);
    assert_eq!(query(later), (vec![bad.id], Some(later + SECOND)));
    let good = settle(&good, None, Some((later + SECOND, 1)));
    assert_eq!(query(later), (vec![bad.id], Some(later + SECOND)));
    assert_eq!(pending(&world, &good, later), []);
    assert_eq!(pending(&world, &good, later + SECOND), [(first.id, 1)]);
    let good = settle(&good, None, None);
    assert_eq!(pending(&world, &good, later + SECOND), []);

    // No end is stored for a disabled trigger.
    let disabled = ScheduleRecord {
        enabled: false,
        ..moved(&good, None)
    };
    let put = world.store.put_schedule(&disabled, Some(good.revision));
    assert_eq!(put.unwrap(), PutOutcome::Written);
    let mut third = submitted();
    assert!(end(&world, &mut third, ExecutionStatus::Completed, NOW + 4));
    assert_eq!(pending(&world, &good, later), []);

    // A stored end that no program handles is pruned.
    world.store.prune(later, 10).unwrap();
    assert_eq!(pending(&world, &bad, later), []);
}
