//! Cases for offers, progress, log lines, the backlog and health checks. An offer says which tasks of a workflow a
//! runner can run.

use cloacina::types::{
    ExecutionId, ExecutionStatus, LogChunk, LogLine, Offer, Progress, RunnerId, Timestamp,
};

use crate::world::{NOW, SECOND, Subject, World, register};

fn offer(workflow: &str, runner: RunnerId, tasks: &[&str]) -> Offer {
    Offer {
        workflow: workflow.to_owned(),
        runner,
        host: "höst".to_owned(),
        pid: 4711,
        tasks: tasks.iter().map(|&task| task.to_owned()).collect(),
        seen_at: NOW,
    }
}

pub fn an_announcement_updates_the_runners_row_and_replaces_its_offers(subject: Subject) {
    let store = subject.store;
    let (id, other) = (register(&*store), register(&*store));
    let first = offer("etl", id, &["a", "b\"c"]);
    let names = ["etl".to_owned(), "other".to_owned()];
    store
        .announce(id, &names, &[first.clone(), offer("other", id, &[])])
        .unwrap();
    store
        .announce(other, &["etl".to_owned()], &[offer("etl", other, &["a"])])
        .unwrap();
    let rows = store.runners().unwrap();
    let row = rows.iter().find(|row| row.id == id).unwrap();
    assert_eq!(row.workflows, names);
    assert_eq!(
        store.offers("etl").unwrap(),
        [first, offer("etl", other, &["a"])]
    );
    let changed = offer("etl", id, &["b"]);
    store
        .announce(id, &names, std::slice::from_ref(&changed))
        .unwrap();
    assert_eq!(store.offers("etl").unwrap()[0], changed);
    assert_eq!(store.offers("missing").unwrap(), []);
}

pub fn a_dead_runners_announcement_does_not_revive_it(subject: Subject) {
    let store = subject.store;
    let id = register(&*store);
    assert!(store.declare_dead(id, NOW + 15 * SECOND, NOW).unwrap());
    store.announce(id, &["late".to_owned()], &[]).unwrap();
    assert_eq!(store.runners().unwrap(), []);
    assert_eq!(store.dead_runners().unwrap(), [id]);
}

pub fn withdrawn_offer_is_kept_until_an_equal_offer_is_withdrawn(subject: Subject) {
    let store = subject.store;
    let ids = [register(&*store), register(&*store), register(&*store)];
    let tasks: [&[&str]; 3] = [&["a"], &["a"], &["b"]];
    for (id, tasks) in ids.iter().zip(tasks) {
        store.announce(*id, &[], &[offer("w", *id, tasks)]).unwrap();
    }
    let seen = |store: &dyn cloacina::store::Store| -> Vec<(RunnerId, Timestamp)> {
        let offers = store.offers("w").unwrap();
        offers
            .iter()
            .map(|offer| (offer.runner, offer.seen_at))
            .collect()
    };
    for (id, at) in ids.iter().zip([NOW + 5, NOW + 6, NOW + 7]) {
        store.withdraw(*id, Some(at)).unwrap();
        store.retire_runner(*id).unwrap();
    }
    // The first offer is deleted, because the second offer has the same tasks and was withdrawn later. The third offer
    // has another task.
    assert_eq!(seen(&*store), [(ids[1], NOW + 6), (ids[2], NOW + 7)]);
}

pub fn a_withdrawal_without_a_time_uses_the_time_of_the_last_heartbeat(subject: Subject) {
    let store = subject.store;
    let id = register(&*store);
    store.announce(id, &[], &[offer("w", id, &["a"])]).unwrap();
    let row = store.runners().unwrap().remove(0);
    store.withdraw(id, None).unwrap();
    let seen_at = store.offers("w").unwrap()[0].seen_at;
    // PostgreSQL stores heartbeats with the time of the server. `runners` converts that time to this process's clock,
    // but `withdraw` stores it unchanged, so the two times differ on PostgreSQL.
    let is_heartbeat = seen_at == row.heartbeat_at;
    assert!(
        is_heartbeat || (seen_at > NOW + 3600 * SECOND && seen_at != NOW),
        "{seen_at}"
    );
}

fn progress(execution: ExecutionId, attempt: u32, done: f64) -> Progress {
    Progress {
        execution,
        task: 1,
        attempt,
        done,
        total: 8.5,
        message: (done > 1.0).then(|| "file ü".to_owned()),
        time: NOW,
    }
}

pub fn the_last_progress_of_the_latest_attempt_is_kept(subject: Subject) {
    let store = subject.store;
    let id = ExecutionId::generate();
    assert_eq!(store.progress(id).unwrap(), []);
    store.note_insight(&[progress(id, 2, 1.0)], &[]).unwrap();
    store.note_insight(&[progress(id, 2, 4.5)], &[]).unwrap();
    assert_eq!(store.progress(id).unwrap(), [progress(id, 2, 4.5)]);
    store.note_insight(&[progress(id, 3, 0.5)], &[]).unwrap();
    assert_eq!(store.progress(id).unwrap(), [progress(id, 3, 0.5)]);
}

fn chunk(execution: ExecutionId, attempt: u32, messages: &[&str]) -> LogChunk {
    let line = |message: &&str| LogLine {
        time: NOW,
        level: 20,
        logger: "a.b".to_owned(),
        message: (*message).to_owned(),
    };
    LogChunk {
        execution,
        task: 0,
        attempt,
        lines: messages.iter().map(line).collect(),
    }
}

pub fn log_lines_are_returned_in_order(subject: Subject) {
    let store = subject.store;
    let (id, other) = (ExecutionId::generate(), ExecutionId::generate());
    let chunks = [
        chunk(id, 1, &["one", "two\nlines \"quoted\""]),
        chunk(id, 1, &["three"]),
    ];
    store.note_insight(&[], &chunks).unwrap();
    store.note_insight(&[], &[chunk(other, 1, &["x"])]).unwrap();
    store.note_insight(&[], &[chunk(id, 2, &["four"])]).unwrap();
    let [first, second] = chunks;
    assert_eq!(
        store.logs(id).unwrap(),
        [first, second, chunk(id, 2, &["four"])]
    );
}

pub fn the_backlog_is_counted_up_to_a_limit(subject: Subject) {
    let world = World::new(subject, 3);
    assert_eq!(world.store.backlog(10).unwrap(), 0);
    world.submit(&world.ready(&[0, 1]));
    world.submit(&world.ready(&[2]));
    world.submit(&world.running());
    assert_eq!(world.store.backlog(10).unwrap(), 3);
    assert_eq!(world.store.backlog(2).unwrap(), 2);
}

pub fn pruning_deletes_progress_and_logs(subject: Subject) {
    let world = World::new(subject, 2);
    let gone = world.ended(ExecutionStatus::Completed, NOW);
    world.submit(&gone);
    let kept = ExecutionId::generate();
    for id in [gone.id, kept] {
        let reports = [progress(id, 1, 1.0)];
        world
            .store
            .note_insight(&reports, &[chunk(id, 1, &["x"])])
            .unwrap();
    }
    assert_eq!(world.store.prune(NOW + 1, 10).unwrap().executions, 1);
    assert_eq!(world.store.progress(gone.id).unwrap(), []);
    assert_eq!(world.store.logs(gone.id).unwrap(), []);
    assert_eq!(world.store.progress(kept).unwrap().len(), 1);
    assert_eq!(world.store.logs(kept).unwrap().len(), 1);
}

pub fn a_sound_database_has_no_problems(subject: Subject) {
    let world = World::new(subject, 1);
    world.submit(&world.running());
    let health = world.store.check().unwrap();
    assert_eq!(health.problems, Vec::<String>::new());
    assert!(health.free <= health.size);
}
