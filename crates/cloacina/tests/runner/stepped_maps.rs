//! Tests of claims of map items, with coordinators that the test steps by hand (semantics K5, K6, K10, K11).

use std::collections::BTreeMap;
use std::sync::Arc;

use cloacina::engine::Outcome;
use cloacina::runtime::{
    Assignment, Control, Executor, Handler, Message, Registration, RunnerConfig, SubmitRequest,
    Work, WorkToken,
};
use cloacina::store::failpoint::{Moment, Verb};
use cloacina::store::{ItemQuery, Store};
use cloacina::types::{ExecutionId, ExecutionStatus, ItemRecord, MapSpec, TaskStatus};
use cloacina::workflow::{TaskDefinition, TaskKind, Workflow, WorkflowDefinition};

use super::stepped::{MILLISECOND, SECOND, SteppedRunner};
use super::support::{config, task, wrote};
use super::waits::with_input;

fn sync(id: &str) -> TaskDefinition {
    TaskDefinition {
        kind: TaskKind::Sync,
        ..task(id, &[])
    }
}

fn map(id: &str, kind: TaskKind, parallel: Option<u32>) -> TaskDefinition {
    TaskDefinition {
        kind,
        over: Some(MapSpec {
            lists: BTreeMap::from([("row".to_owned(), "rows".to_owned())]),
            parallel,
            ..MapSpec::default()
        }),
        ..task(id, &[])
    }
}

/// Registers a workflow with a handler for each task, or without handlers.
fn register(
    runner: &mut SteppedRunner,
    name: &str,
    tasks: Vec<TaskDefinition>,
    has_handlers: bool,
) {
    let handlers = tasks.iter().filter(|_| has_handlers).map(|task| {
        let executor = match task.kind {
            TaskKind::Sync => Executor::Threads,
            _ => Executor::Loop,
        };
        let handler = Handler {
            executor,
            token: 0,
            on_success: false,
            on_failure: false,
        };
        (task.id.clone(), handler)
    });
    let handlers = handlers.collect();
    let definition = WorkflowDefinition {
        name: name.into(),
        tenant: "public".into(),
        package: "embedded".into(),
        tasks,
        ..WorkflowDefinition::default()
    };
    runner.step(Message::Register {
        registration: Registration {
            workflow: Arc::new(Workflow::new(definition).unwrap()),
            handlers,
        },
        reply: Box::new(|registered| registered.unwrap()),
    });
}

/// Returns a submission whose input has the key `rows`, a list with `count` elements.
fn request_with_rows(name: &str, count: usize) -> SubmitRequest {
    let rows: Vec<usize> = (0..count).collect();
    with_input(name, &format!(r#"{{"rows":{rows:?}}}"#))
}

/// Takes the next task of an executor for a worker.
fn next_of(runner: &SteppedRunner, executor: Executor) -> Option<(WorkToken, Assignment)> {
    let dispatched = (runner.queues.of(executor)).try_take(1, &*runner.clock)?;
    let Work::Task(token, assignment) = dispatched.work else {
        panic!("a callback was dispatched instead of a task");
    };
    Some((token, assignment))
}

/// Ends a task of the event loop's executor.
fn finish_on_loop(
    runner: &mut SteppedRunner,
    (token, assignment): (WorkToken, Assignment),
    outcome: Outcome,
) {
    drop(runner.queues.of(Executor::Loop).complete(token));
    let message = runner.finished((token, assignment), outcome);
    let Message::Finished {
        execution,
        finish,
        ran,
        ..
    } = message
    else {
        unreachable!("`finished` returns `Message::Finished`");
    };
    runner.step(Message::Finished {
        execution,
        finish,
        ran,
        executor: Executor::Loop,
    });
}

fn items(runner: &SteppedRunner, id: ExecutionId, task: u32) -> Vec<ItemRecord> {
    let query = ItemQuery {
        execution: id,
        task,
        status: None,
        from: 0,
        limit: 100,
    };
    runner.store.items(&query).unwrap()
}

#[test]
fn k6_runner_with_an_old_copy_of_the_execution_records_items() {
    let narrow = || RunnerConfig {
        max_concurrent_tasks: 1,
        ..config()
    };
    let mut first = SteppedRunner::new(narrow());
    let mut second = first.peer(narrow());
    let tasks = || {
        let items = map("items", TaskKind::Sync, None);
        let dependencies = vec!["a".to_owned()];
        vec![
            sync("a"),
            TaskDefinition {
                dependencies,
                ..items
            },
        ]
    };
    register(&mut first, "mapped", tasks(), true);
    register(&mut second, "mapped", tasks(), true);
    let id = first.submit(request_with_rows("mapped", 40));
    let attempt = first.start_next().unwrap();
    // The second runner caches the execution before the map expands.
    second.control(id, Control::Pause);
    second.control(id, Control::Resume);
    first.finish(attempt, wrote("a", "1"));
    first.pass(1);
    second.pass(SECOND);
    let attempt = second
        .start_next()
        .expect("the second runner claims some items");
    let item = attempt.1.claim.item.unwrap();
    second.finish(attempt, wrote("items", "7"));
    let ended = items(&second, id, 1).remove(item as usize);
    assert_eq!(ended.status, TaskStatus::Completed);
    assert_eq!(ended.result.unwrap().to_string(), "7");
}

#[test]
fn k5_item_is_claimed_when_its_executor_has_room_again() {
    let mut runner = SteppedRunner::new(RunnerConfig {
        max_concurrent_tasks: 4,
        max_concurrent_async_tasks: 1,
        ..config()
    });
    let items = vec![map("items", TaskKind::Async, Some(1))];
    register(&mut runner, "mapped", items, true);
    register(&mut runner, "busy", vec![task("b", &[])], true);
    let id = runner.submit(request_with_rows("mapped", 3));
    let first = next_of(&runner, Executor::Loop).expect("an item is dispatched");
    // While the first item runs, other tasks fill the queue of its executor.
    for _ in 0..8 {
        runner.submit(request_with_rows("busy", 0));
    }
    let (mut started, mut next) = (Vec::new(), Some(first));
    for _ in 0..40 {
        let Some(attempt) = next else {
            runner.pass(1);
            next = next_of(&runner, Executor::Loop);
            continue;
        };
        if attempt.1.execution == id {
            started.extend(attempt.1.claim.item);
        }
        finish_on_loop(&mut runner, attempt, wrote("items", "1"));
        next = next_of(&runner, Executor::Loop);
    }
    assert_eq!(started, [0, 1, 2]);
    assert_eq!(runner.status(id), ExecutionStatus::Completed);
}

#[test]
fn k11_runner_that_registers_a_map_claims_waiting_items() {
    let mut first = SteppedRunner::new(config());
    let mut second = first.peer(config());
    let tasks = || vec![map("items", TaskKind::Sync, None)];
    register(&mut first, "mapped", tasks(), false);
    let id = first.submit(request_with_rows("mapped", 2));
    register(&mut second, "other", tasks(), true);
    second.pass(SECOND);
    second.pass(SECOND);
    assert!(second.start_next().is_none());
    register(&mut second, "mapped", tasks(), true);
    second.pass(1);
    let (_, assignment) = second
        .start_next()
        .expect("the second runner claims an item");
    assert_eq!((assignment.execution, assignment.claim.item), (id, Some(0)));
}

/// The test uses two maps, because items with the same index have equal claims in both maps.
#[test]
fn k5_claim_with_a_lost_answer_is_found_while_another_map_runs() {
    let mut runner = SteppedRunner::new(RunnerConfig {
        max_concurrent_tasks: 2,
        ..config()
    });
    let right = TaskDefinition {
        dependencies: vec!["a".to_owned()],
        ..map("right", TaskKind::Sync, None)
    };
    let tasks = vec![map("left", TaskKind::Sync, None), sync("a"), right];
    register(&mut runner, "twins", tasks, true);
    let id = runner.submit(request_with_rows("twins", 1));
    let (mut first, mut before) = (None, None);
    while first.is_none() || before.is_none() {
        let attempt = runner.start_next().expect("both tasks run at once");
        let is_item = attempt.1.claim.item.is_some();
        *(if is_item { &mut first } else { &mut before }) = Some(attempt);
    }
    runner.fail_always(Verb::Commit, Moment::After);
    runner.finish(before.unwrap(), wrote("a", "1"));
    // The commits that expand the second map and claim its item succeed, but their answers are lost.
    while items(&runner, id, 2)
        .first()
        .is_none_or(|item| item.claim().is_none())
    {
        runner.pass(20 * MILLISECOND);
    }
    runner.fail_never();
    let second = (0..20).find_map(|_| {
        runner.pass(SECOND);
        runner.start_next()
    });
    let second = second.expect("the runner finds the item that it has claimed");
    assert_eq!((second.1.task, second.1.claim.item), (2, Some(0)));
    runner.finish(second, wrote("right", "1"));
    runner.finish(first.unwrap(), wrote("left", "1"));
    assert_eq!(runner.status(id), ExecutionStatus::Completed);
}

#[test]
fn k10_item_of_a_new_list_has_a_new_claim() {
    let mut runner = SteppedRunner::new(config());
    let timed = TaskDefinition {
        timeout: Some(SECOND),
        ..map("items", TaskKind::Sync, None)
    };
    register(&mut runner, "mapped", vec![timed], true);
    let id = runner.submit(request_with_rows("mapped", 1));
    let (_, timed_out) = runner.start_next().expect("the item is dispatched");
    runner.pass(2 * SECOND);
    assert_eq!(runner.status(id), ExecutionStatus::Failed);
    let again = Control::Retry {
        from_task: Some("items".to_owned()),
    };
    runner.control(id, again);
    let next = (0..10).find_map(|_| {
        runner.pass(SECOND / 10);
        runner.start_next()
    });
    let next = next.expect("the item of the new list is dispatched");
    assert_eq!(next.1.claim.item, timed_out.claim.item);
    assert_ne!(next.1.claim, timed_out.claim);
    runner.finish(next, wrote("items", "1"));
    assert_eq!(runner.status(id), ExecutionStatus::Completed);
}
