//! Tests of the sentences that explain why an execution does not proceed.

use std::sync::Arc;

use cloacina::engine::{DiagnosisInput, Execution, NewExecution, Reason, RunningTask, explain};
use cloacina::types::{
    Context, DefinitionId, ExecutionId, ExecutionStatus, Failure, FailureKind, MapChange, MapRow,
    MapSpec, Offer, Presence, RunnerId, TaskStatus, Timestamp,
};
use cloacina::workflow::{TaskDefinition, TaskKind, Workflow, WorkflowDefinition};

const NOW: Timestamp = Timestamp(1_750_000_000_000_000);
/// One second, in microseconds.
const SECOND: i64 = 1_000_000;

fn execution(tasks: &[(&str, &[&str])], start_at: Option<Timestamp>) -> Execution {
    let tasks = tasks.iter().map(|(id, dependencies)| TaskDefinition {
        id: (*id).to_owned(),
        dependencies: dependencies.iter().map(|&id| id.to_owned()).collect(),
        ..TaskDefinition::default()
    });
    let workflow = Workflow::new(WorkflowDefinition {
        name: "etl".to_owned(),
        tenant: "public".to_owned(),
        package: "embedded".to_owned(),
        tasks: tasks.collect(),
        ..WorkflowDefinition::default()
    })
    .expect("a valid workflow");
    let new = NewExecution {
        id: ExecutionId::generate(),
        definition: DefinitionId(1),
        input: Arc::new(Context::new()),
        key: None,
        priority: 0,
        start_at,
        timeout: None,
    };
    Execution::submit(Arc::new(workflow), new, NOW).0
}

fn presence(id: RunnerId) -> Presence {
    Presence {
        id,
        host: "box".to_owned(),
        pid: 4711,
        started_at: NOW - 3600 * SECOND,
        heartbeat_at: NOW - 2 * SECOND,
        lease_until: NOW + 13 * SECOND,
        vanished: false,
    }
}

fn offer(runner: RunnerId, tasks: &[&str], seen_at: Timestamp) -> Offer {
    Offer {
        workflow: "etl".to_owned(),
        runner,
        host: "box".to_owned(),
        pid: 4711,
        tasks: tasks.iter().map(|&task| task.to_owned()).collect(),
        seen_at,
    }
}

fn sentences(execution: &Execution, runners: &[Presence], offers: &[Offer]) -> Vec<String> {
    sentences_while(execution, runners, offers, &[])
}

fn sentences_while(
    execution: &Execution,
    runners: &[Presence],
    offers: &[Offer],
    running: &[RunningTask],
) -> Vec<String> {
    let input = DiagnosisInput {
        runners,
        offers,
        running,
        maps: &[],
        now: NOW,
    };
    let reasons = explain(execution, &input);
    reasons.iter().map(|reason| reason.sentence(NOW)).collect()
}

#[test]
fn ready_task_names_the_tasks_that_occupy_the_workers() {
    let execution = execution(&[("a", &[])], None);
    let (busy, other) = (RunnerId::generate(), RunnerId::generate());
    let running = |runner, workflow: &str, task: &str, kind| RunningTask {
        runner,
        workflow: workflow.to_owned(),
        task: task.to_owned(),
        kind,
    };
    let load = running(busy, "etl", "load", TaskKind::Sync);
    let all = [
        running(busy, "feed", "parse", TaskKind::Sync),
        load.clone(),
        load.clone(),
        load,
        running(busy, "etl", "fetch", TaskKind::Async),
        running(other, "etl", "load", TaskKind::Sync),
    ];
    let offers = [offer(busy, &["a"], NOW)];
    let explained = |running| sentences_while(&execution, &[presence(busy)], &offers, running);
    let queued = explained(&all).remove(0);
    assert!(
        queued.ends_with(" Its 4 workers are busy: 3 × 'load', 1 × 'parse' of workflow 'feed'."),
        "{queued}"
    );
    let queued = explained(&all[..1]).remove(0);
    assert!(
        queued.ends_with(" Its worker is busy: 1 × 'parse' of workflow 'feed'."),
        "{queued}"
    );
    let many: Vec<RunningTask> = (0..7)
        .map(|task| running(busy, "etl", &format!("t{task}"), TaskKind::Sync))
        .collect();
    let queued = explained(&many).remove(0);
    assert!(queued.ends_with("1 × 't4', and 2 more."), "{queued}");
}

#[test]
fn ready_task_is_explained_by_a_busy_or_missing_runner() {
    let execution = execution(&[("a", &[]), ("b", &["a"])], None);
    let (busy, gone) = (RunnerId::generate(), RunnerId::generate());
    let waits = "Task 'b' waits for its dependency 'a' (Ready).";
    let explained = sentences(
        &execution,
        &[presence(busy)],
        &[offer(busy, &["a", "b"], NOW)],
    );
    let free = format!(
        "Task 'a' is ready and waits for a free worker of runner {busy} (host box, pid 4711)."
    );
    assert_eq!(explained, [free.as_str(), waits]);

    // The live runner has handlers for the workflow, but none for task 'a'. The runner that had a handler for 'a' is gone.
    let offers = [
        offer(busy, &["b"], NOW),
        offer(gone, &["a"], NOW - 90 * SECOND),
    ];
    let explained = sentences(&execution, &[presence(busy)], &offers);
    assert_eq!(
        explained,
        [
            "Task 'a' is ready, but no live runner has a handler for task 'a' of workflow 'etl' (last seen 2025-06-15 15:05:10 UTC \
             (1 min 30 s ago) on host box with pid 4711).",
            waits
        ]
    );

    let explained = sentences(&execution, &[presence(busy)], &[]);
    assert!(
        explained[0].starts_with("No live runner knows workflow 'etl' (never seen)"),
        "{explained:?}"
    );
    assert!(
        explained[1]
            .contains("no live runner has a handler for task 'a' of workflow 'etl' (never seen)")
    );
}

#[test]
fn running_task_is_explained_by_its_runners_liveness() {
    let mut execution = execution(&[("a", &[])], None);
    let (holder, other) = (RunnerId::generate(), RunnerId::generate());
    let claim = execution.note_claim(0, holder);
    execution.note_started(0, claim, NOW - 5 * SECOND);
    let explained = |runners: &[Presence]| sentences(&execution, runners, &[]).remove(0);

    let alive = explained(&[presence(holder)]);
    assert!(
        alive.contains("is held by runner")
            && alive.contains("until 2025-06-15 15:06:53 UTC (in 13 s)"),
        "{alive}"
    );
    let vanished = Presence {
        vanished: true,
        ..presence(holder)
    };
    let dead = explained(&[vanished.clone(), presence(other)]);
    assert!(
        dead.contains("is held by the dead runner")
            && dead.contains("(in 13 s): a live runner takes"),
        "{dead}"
    );
    let alone = explained(&[vanished]);
    assert!(
        alone.contains("the next runner that is started takes the task back"),
        "{alone}"
    );
    let expired = Presence {
        lease_until: NOW - 4 * SECOND,
        ..presence(holder)
    };
    let over = explained(&[expired]);
    assert!(
        over.contains("whose lease ended at") && over.contains("(4.0 s ago)"),
        "{over}"
    );
    let declared = explained(&[presence(other)]);
    assert!(
        declared.contains("which was declared dead: a live runner"),
        "{declared}"
    );
}

#[test]
fn d7_paused_execution_is_explained_only_by_the_pause() {
    let mut execution = execution(&[("a", &[]), ("b", &["a"])], None);
    execution.pause(NOW).expect("the execution can be paused");
    assert_eq!(
        sentences(&execution, &[], &[]),
        [
            "The execution has been paused since 2025-06-15 15:06:40 UTC (now): running tasks may finish, but no task \
             starts before the execution is resumed."
        ]
    );
    execution
        .cancel(NOW)
        .expect("the execution can be cancelled");
    assert_eq!(
        sentences(&execution, &[], &[]),
        ["The execution has already ended: Cancelled at 2025-06-15 15:06:40 UTC (now)."]
    );
}

#[test]
fn delay_is_explained_once_for_all_tasks() {
    let execution = execution(&[("a", &[]), ("b", &[])], Some(NOW + 90_000 * SECOND));
    assert_eq!(
        sentences(&execution, &[], &[]),
        [
            "The execution is delayed: it was submitted with the start time 2025-06-16 16:06:40 UTC (in 1 d 1 h)."
        ]
    );
}

#[test]
fn long_lists_of_dependencies_and_tasks_end_with_a_count() {
    let names: Vec<String> = (0..40).map(|number| format!("t{number}")).collect();
    let ids: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut tasks: Vec<(&str, &[&str])> = ids.iter().map(|id| (*id, [].as_slice())).collect();
    tasks.push(("last", &ids));
    let ends: Vec<String> = (0..30).map(|number| format!("end{number}")).collect();
    tasks.extend(ends.iter().map(|id| (id.as_str(), ["last"].as_slice())));
    let execution = execution(&tasks, None);
    let input = DiagnosisInput {
        runners: &[],
        offers: &[],
        running: &[],
        maps: &[],
        now: NOW,
    };
    let reasons = explain(&execution, &input);
    let waits = reasons.iter().find_map(|reason| match reason {
        Reason::Dependencies { task, open, more } if task == "last" => Some((open.len(), *more)),
        _ => None,
    });
    assert_eq!(waits, Some((5, 35)));
    assert_eq!(reasons.last(), Some(&Reason::MoreTasks { count: 11 }));
}

/// Returns an execution of workflow `etl`, whose only task maps a list, and the database row of that map.
fn mapped() -> (Execution, MapRow) {
    let spec = MapSpec {
        lists: [("url".to_owned(), "urls".to_owned())].into(),
        parallel: Some(8),
        ..MapSpec::default()
    };
    let fetch = TaskDefinition {
        id: "fetch".to_owned(),
        over: Some(spec),
        ..TaskDefinition::default()
    };
    let workflow = Workflow::new(WorkflowDefinition {
        name: "etl".to_owned(),
        tenant: "public".to_owned(),
        package: "embedded".to_owned(),
        tasks: vec![fetch],
        ..WorkflowDefinition::default()
    })
    .expect("a valid workflow");
    let new = NewExecution {
        id: ExecutionId::generate(),
        definition: DefinitionId(1),
        input: Arc::new(Context::from_json(r#"{"urls":[1,2]}"#).expect("a context")),
        key: None,
        priority: 0,
        start_at: None,
        timeout: None,
    };
    let (mut execution, mut changes) = Execution::submit(Arc::new(workflow), new, NOW);
    let before = sentences(&execution, &[], &[]);
    assert_eq!(
        before,
        ["Map 'fetch' starts once a runner has read its list."]
    );
    execution.expand_map(0, &[], 100, NOW, &mut changes);
    let row = match changes.flow.maps.pop() {
        Some(MapChange::Expand(row)) => *row,
        other => panic!("{other:?} does not expand the map"),
    };
    (execution, row)
}

/// Returns the sentences about an execution with a map. Every offer comes from a live runner.
fn explained(execution: &Execution, row: &MapRow, offers: &[Offer]) -> Vec<String> {
    let runners: Vec<Presence> = offers.iter().map(|offer| presence(offer.runner)).collect();
    let input = DiagnosisInput {
        runners: &runners,
        offers,
        running: &[],
        maps: std::slice::from_ref(row),
        now: NOW,
    };
    let reasons = explain(execution, &input);
    reasons.iter().map(|reason| reason.sentence(NOW)).collect()
}

#[test]
fn k12_map_is_explained_by_the_counts_of_its_items() {
    let (execution, row) = mapped();
    let offers = [offer(RunnerId::generate(), &["fetch"], NOW)];
    let row = MapRow {
        width: 100_000,
        admitted: 25,
        running: 8,
        done: 12,
        failed: 3,
        first_failure: Some((4, Failure::engine(FailureKind::TaskTimeout, "too slow"))),
        ..row
    };
    assert_eq!(
        explained(&execution, &row, &offers),
        [
            "Map 'fetch': 12 of 100,000 items done, 3 failed, 8 running (limit 8), 2 waiting for a retry; the first \
             error is from item 4: TaskTimeoutError: too slow."
        ]
    );
    let row = MapRow {
        max_failed: Some(2),
        ..row
    };
    let sentence = explained(&execution, &row, &offers).remove(0);
    assert!(
        sentence.contains("More than the tolerated 2 items have failed: no further item starts"),
        "{sentence}"
    );
}

#[test]
fn k12_map_is_explained_by_a_missing_runner() {
    let (execution, row) = mapped();
    let other = [offer(RunnerId::generate(), &["other"], NOW)];
    let [map, missing] = &explained(&execution, &row, &other)[..] else {
        panic!("expected two reasons");
    };
    assert_eq!(map, "Map 'fetch': 0 of 2 items done, 0 running (limit 8).");
    assert!(
        missing.starts_with(
            "Task 'fetch' is ready, but no live runner has a handler for task 'fetch'"
        ),
        "{missing}"
    );
    let with = [offer(RunnerId::generate(), &["fetch"], NOW)];
    assert_eq!(explained(&execution, &row, &with).len(), 1);
}

#[test]
fn states_display_as_their_names() {
    assert_eq!(TaskStatus::Ready.to_string(), "Ready");
    assert_eq!(ExecutionStatus::Cancelled.to_string(), "Cancelled");
}
