//! Tests of executions, from submission to end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cloacina::runner::Inspector;
use cloacina::runtime::{RunnerConfig, SubmitRequest};
use cloacina::types::{
    ErrorCode, ExecutionId, ExecutionStatus, RetryPolicy, SystemClock, TaskStatus,
};

use super::support::{
    Counter, body, config, define, done, failed, on_each_database, on_each_store, request, start,
    submit, task, wait, wrote,
};

#[test]
fn b2_chain_runs_in_order_and_deltas_reach_descendants() {
    on_each_store(|open| {
        let engine = start(open(), config());
        let last = body(|assignment| {
            assert_eq!(assignment.context.get("n").unwrap().as_str(), "1");
            wrote("sum", "2")
        });
        define(
            &engine,
            "chain",
            vec![
                (task("a", &[]), body(|_| wrote("n", "1"))),
                (task("b", &["a"]), body(|_| done())),
                (task("c", &["b"]), last),
            ],
        );
        let id = submit(&engine, "chain");
        let ended = wait(&engine, id);
        assert_eq!(ended.record().status, ExecutionStatus::Completed);
        assert_eq!(ended.final_context().to_json(), r#"{"n":1,"sum":2}"#);
        // C8: the reported result equals the stored result.
        let stored = engine.inspector().execution(id).unwrap();
        assert_eq!(stored.record().tasks, ended.record().tasks);
        assert_eq!(stored.record().revision, ended.record().revision);
        engine.stop(Duration::from_secs(1));
    });
}

#[test]
fn concurrent_executions_run_each_task_once() {
    on_each_store(|open| {
        let engine = start(open(), config());
        let count = Counter::default();
        let hit = count.clone();
        let work = body(move |_| {
            hit.hit();
            done()
        });
        let mut tasks = vec![(task("first", &[]), Arc::clone(&work))];
        let middle: Vec<String> = (0..8).map(|index| format!("m{index}")).collect();
        tasks.extend(
            middle
                .iter()
                .map(|id| (task(id, &["first"]), Arc::clone(&work))),
        );
        let middle: Vec<&str> = middle.iter().map(String::as_str).collect();
        tasks.push((task("last", &middle), work));
        define(&engine, "fan", tasks);
        let ids = engine
            .submit((0..200).map(|_| request("fan")).collect())
            .unwrap();
        for id in ids {
            assert_eq!(
                wait(&engine, id).record().status,
                ExecutionStatus::Completed
            );
        }
        assert_eq!(count.get(), 2000);
        engine.stop(Duration::from_secs(1));
    });
}

#[test]
fn d3_retry_starts_after_its_delay() {
    on_each_store(|open| {
        let engine = start(open(), config());
        let count = Counter::default();
        let hit = count.clone();
        let flaky = body(move |_| {
            hit.hit();
            if hit.get() == 1 {
                failed("once")
            } else {
                done()
            }
        });
        let mut definition = task("a", &[]);
        definition.retry = RetryPolicy {
            max_attempts: 2,
            initial_delay: 50_000,
            jitter: false,
            ..RetryPolicy::default()
        };
        define(&engine, "flaky", vec![(definition, flaky)]);
        let started = Instant::now();
        let id = submit(&engine, "flaky");
        let ended = wait(&engine, id);
        assert_eq!(ended.record().status, ExecutionStatus::Completed);
        assert_eq!(ended.record().tasks[0].attempt, 2);
        assert!(started.elapsed() >= Duration::from_millis(50));
        let (_, events) = engine.inspector().history(id).unwrap();
        let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
        assert_eq!(
            kinds,
            [
                "submitted",
                "started",
                "task_started",
                "task_retrying",
                "task_started",
                "task_completed",
                "completed"
            ]
        );
        engine.stop(Duration::from_secs(1));
    });
}

#[test]
fn c7_key_starts_only_one_execution() {
    on_each_store(|open| {
        let engine = start(open(), config());
        let count = Counter::default();
        let hit = count.clone();
        define(
            &engine,
            "keyed",
            vec![(
                task("a", &[]),
                body(move |_| {
                    hit.hit();
                    done()
                }),
            )],
        );
        let keyed = || {
            let mut request = request("keyed");
            request.key = Some("k".into());
            request
        };
        let ids = engine.submit(vec![keyed(), keyed()]).unwrap();
        let again = engine.submit(vec![keyed()]).unwrap();
        assert!(ids.iter().chain(&again).all(|id| *id == ids[0]));
        wait(&engine, ids[0]);
        assert_eq!(engine.submit(vec![keyed()]).unwrap()[0], ids[0]);
        engine.stop(Duration::from_secs(1));
        assert_eq!(count.get(), 1);
    });
}

#[test]
fn c6_execution_with_a_higher_priority_overtakes_earlier_ones() {
    on_each_store(|open| {
        let mut settings = config();
        settings.max_concurrent_async_tasks = 1;
        let engine = start(open(), settings);
        let order = Arc::new(cloacina::types::sync::Mutex::new(Vec::new()));
        let seen = Arc::clone(&order);
        define(
            &engine,
            "ordered",
            vec![(
                task("a", &[]),
                body(move |assignment| {
                    seen.lock().push(assignment.priority);
                    done()
                }),
            )],
        );
        let requests = (0..600).map(|index| {
            let mut request = request("ordered");
            request.priority = i16::from(index == 599);
            request
        });
        let ids = engine.submit(requests.collect()).unwrap();
        for id in ids {
            wait(&engine, id);
        }
        let rank = order
            .lock()
            .iter()
            .position(|priority| *priority == 1)
            .unwrap();
        assert!(
            rank < 500,
            "{rank} of 599 executions ran before the urgent one"
        );
        engine.stop(Duration::from_secs(1));
    });
}

#[test]
fn panic_fails_only_its_task() {
    on_each_store(|open| {
        let engine = start(open(), config());
        define(
            &engine,
            "panics",
            vec![(task("a", &[]), body(|_| panic!("ouch")))],
        );
        let id = submit(&engine, "panics");
        let ended = wait(&engine, id);
        let (task, error) = ended.record().error.clone().unwrap();
        assert_eq!((task, error.message.as_str()), (Some(0), "ouch"));
        assert_eq!(ended.record().tasks[0].status, TaskStatus::Failed);
        engine.stop(Duration::from_secs(1));
    });
}

#[test]
fn unknown_workflow_is_refused_with_a_similar_name() {
    on_each_store(|open| {
        let engine = start(open(), config());
        define(&engine, "nightly", vec![(task("a", &[]), body(|_| done()))]);
        let error = engine
            .submit(vec![request("nigthly"), request("nightly")])
            .unwrap_err();
        assert!(error.hint.unwrap().contains("'nightly'"));
        assert!(
            engine
                .inspector()
                .list(&cloacina::runner::ListFilter {
                    limit: 10,
                    ..Default::default()
                })
                .unwrap()
                .items
                .is_empty()
        );
        engine.stop(Duration::from_secs(1));
    });
}

#[test]
fn c5_concurrent_futures_stay_within_the_limit() {
    on_each_store(|open| {
        let engine = start(
            open(),
            RunnerConfig {
                max_concurrent_async_tasks: 2,
                ..config()
            },
        );
        let (running, peak) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (now, most) = (Arc::clone(&running), Arc::clone(&peak));
        let work = body(move |_| {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::yield_now();
            now.fetch_sub(1, Ordering::SeqCst);
            done()
        });
        define(&engine, "single", vec![(task("only", &[]), work)]);
        let ids = engine
            .submit((0..300).map(|_| request("single")).collect())
            .unwrap();
        for id in ids {
            wait(&engine, id);
        }
        assert!(peak.load(Ordering::SeqCst) <= 2);
        engine.stop(Duration::from_secs(1));
    });
}

#[test]
fn c7_submission_without_a_runner_runs_once_per_key() {
    on_each_database(|open| {
        let engine = start(open(), config());
        define(&engine, "alone", vec![(task("a", &[]), body(|_| done()))]);
        let keyed = || SubmitRequest {
            key: Some("once".to_owned()),
            ..request("alone")
        };
        let inspector = Inspector::new(open(), Arc::new(SystemClock));
        let first = inspector.submit_request(keyed()).unwrap();
        assert!(first.is_new);
        assert_eq!(
            wait(&engine, first.id).record().status,
            ExecutionStatus::Completed
        );
        let again = inspector.submit_request(keyed()).unwrap();
        assert_eq!((again.id, again.is_new), (first.id, false));
        let error = inspector.submit_request(request("alnoe")).unwrap_err();
        assert_eq!(error.code, ErrorCode::WorkflowNotFound);
        assert_eq!(error.hint.as_deref(), Some("did you mean 'alone'?"));
        engine.stop(Duration::from_secs(1));
    });
}

#[test]
fn execution_is_found_by_an_id_prefix_or_a_short_id() {
    on_each_store(|open| {
        let engine = start(open(), config());
        define(&engine, "short", vec![(task("a", &[]), body(|_| done()))]);
        let ids = engine
            .submit((0..3).map(|_| request("short")).collect())
            .unwrap();
        let inspector = engine.inspector();
        let find = |text: &str, limit| inspector.find_short(&text.parse().unwrap(), limit).unwrap();
        for id in &ids {
            let text = id.to_string();
            assert_eq!(find(&text, 2), [*id]);
            assert_eq!(find(&format!("{}-{}", &text[..8], &text[28..]), 2), [*id]);
            assert_eq!(find(&text[..35].to_uppercase(), 20).last(), Some(id));
        }
        let newest_first: Vec<ExecutionId> = ids.iter().rev().copied().collect();
        assert_eq!(find(&ids[0].to_string()[..4], 20), newest_first);
        assert_eq!(find(&ids[0].to_string()[..4], 2), newest_first[..2]);
        assert!(find("ffff", 2).is_empty());
        assert!(find("00000000-abcdef", 2).is_empty());
        engine.stop(Duration::from_secs(1));
    });
}
