//! Measures the engine through `EngineHandle`, without `DefaultRunner`: the workloads W1–W3 of `benchmarks/`, with Rust
//! tasks that do nothing.
//!
//! Run it with `cargo run --release --example engine_timing -- DIRECTORY`. A database URL can replace the directory.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "the program prints its results, and a failure may end it"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use cloacina::engine::Outcome;
use cloacina::runner::{EngineHandle, OpenOptions};
use cloacina::runtime::{Executor, Handler, OneShot, Registration, SubmitRequest};
use cloacina::types::{Context, Delta, ExecutionId, Labels};
use cloacina::workflow::{TaskDefinition, TaskKind, Workflow, WorkflowDefinition};

fn define(engine: &EngineHandle, name: &str, tasks: &[(&str, &[&str])]) {
    let mut handlers = BTreeMap::new();
    let mut definitions = Vec::new();
    for (id, dependencies) in tasks {
        let done = |_, _| -> std::pin::Pin<Box<dyn Future<Output = Outcome> + Send>> {
            Box::pin(async { Outcome::Completed(Arc::new(Delta::default())) })
        };
        let token = engine.tasks().add(Arc::new(done)).unwrap();
        let handler = Handler {
            executor: Executor::Futures,
            token,
            on_success: false,
            on_failure: false,
        };
        handlers.insert((*id).to_owned(), handler);
        definitions.push(TaskDefinition {
            id: (*id).to_owned(),
            dependencies: dependencies.iter().map(|&id| id.to_owned()).collect(),
            kind: TaskKind::Async,
            ..TaskDefinition::default()
        });
    }
    let definition = WorkflowDefinition {
        name: name.into(),
        tenant: "public".into(),
        package: "embedded".into(),
        tasks: definitions,
        ..WorkflowDefinition::default()
    };
    let workflow = Arc::new(Workflow::new(definition).unwrap());
    engine
        .register(Registration { workflow, handlers })
        .unwrap();
}

/// Submits executions and waits until all of them have ended.
fn run(engine: &EngineHandle, workflow: &str, count: usize) {
    let input = Arc::new(Context::new());
    let requests: Vec<SubmitRequest> = (0..count)
        .map(|_| SubmitRequest {
            id: ExecutionId::generate(),
            workflow: workflow.into(),
            input: Arc::clone(&input),
            key: None,
            priority: 0,
            start_at: None,
            timeout: None,
            labels: Labels::default(),
            trace: None,
        })
        .collect();
    let ends: Vec<OneShot<()>> = requests
        .iter()
        .map(|request| {
            let end = OneShot::default();
            let set = end.clone();
            engine.when_new_ended(request.id, move |_| set.set(()));
            end
        })
        .collect();
    engine.submit(requests).unwrap();
    for end in ends {
        end.wait(std::time::Duration::MAX).unwrap();
    }
}

fn main() {
    let directory = std::env::args().nth(1).unwrap_or_else(|| ".".to_owned());
    let path = format!("{directory}/engine_timing-{}.db", std::process::id());
    let url = if directory.contains("://") {
        directory.clone()
    } else {
        format!("sqlite:///{path}")
    };
    let options = OpenOptions {
        begin: cloacina::runner::Begin::AtOnce,
        auto_migrate: true,
        ..OpenOptions::default()
    };
    let engine = EngineHandle::open(&url, options).unwrap();
    define(&engine, "single", &[("only", &[])]);
    define(
        &engine,
        "chain",
        &[("a", &[]), ("b", &["a"]), ("c", &["b"])],
    );
    let middle = ["m0", "m1", "m2", "m3", "m4", "m5", "m6", "m7"];
    let mut fan: Vec<(&str, &[&str])> = vec![("first", &[])];
    fan.extend(middle.iter().map(|id| (*id, &["first"] as &[&str])));
    fan.push(("last", &middle));
    define(&engine, "fan", &fan);
    run(&engine, "single", 100);
    for _ in 0..3 {
        let mut times: Vec<f64> = (0..500)
            .map(|_| {
                let start = Instant::now();
                run(&engine, "chain", 1);
                start.elapsed().as_secs_f64() * 1e6
            })
            .collect();
        times.sort_by(f64::total_cmp);
        let start = Instant::now();
        run(&engine, "single", 2000);
        let single = 2000.0 / start.elapsed().as_secs_f64();
        let start = Instant::now();
        run(&engine, "fan", 300);
        let tasks = 3000.0 / start.elapsed().as_secs_f64();
        println!(
            "W1 p50 {:.0} us   W2 {single:.0} executions/s   W3 {tasks:.0} tasks/s",
            times[250]
        );
    }
    engine.stop(std::time::Duration::from_secs(1));
    for suffix in ["", "-wal", "-shm"] {
        std::fs::remove_file(format!("{path}{suffix}")).ok();
    }
}
