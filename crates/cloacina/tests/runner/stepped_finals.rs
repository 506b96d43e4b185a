//! Final tasks of executions that a test steps by hand (semantics Q).

use std::collections::BTreeMap;
use std::sync::Arc;

use cloacina::runtime::{Executor, Handler, Message, Registration};
use cloacina::store::Store;
use cloacina::store::failpoint::{Moment, Verb};
use cloacina::workflow::{
    FinalOn, FinalRole, TaskDefinition, TaskKind, Workflow, WorkflowDefinition,
};

use super::stepped::{MILLISECOND, SECOND, SteppedRunner};
use super::support::{config, done, request, task};

fn sync(id: &str) -> TaskDefinition {
    TaskDefinition {
        kind: TaskKind::Sync,
        ..task(id, &[])
    }
}

/// Registers the workflow `cleaned`, which has one task and one final task.
fn register(runner: &mut SteppedRunner) {
    let clean = TaskDefinition {
        role: Some(FinalRole::Final {
            on: FinalOn::Always,
            undoes: Vec::new(),
        }),
        ..sync("clean")
    };
    let definition = WorkflowDefinition {
        name: "cleaned".into(),
        tenant: "public".into(),
        package: "embedded".into(),
        tasks: vec![sync("work")],
        finals: vec![clean],
        ..WorkflowDefinition::default()
    };
    let handler = Handler {
        executor: Executor::Threads,
        token: 0,
        on_success: false,
        on_failure: false,
    };
    runner.step(Message::Register {
        registration: Registration {
            workflow: Arc::new(Workflow::new(definition).unwrap()),
            handlers: BTreeMap::from([("work".to_owned(), handler), ("clean".to_owned(), handler)]),
        },
        reply: Box::new(|registered| registered.unwrap()),
    });
}

#[test]
fn q1_no_end_is_written_without_its_final_tasks() {
    let mut runner = SteppedRunner::new(config());
    register(&mut runner);
    let ids = ["cleaned"; 2].map(|name| runner.submit(request(name)));
    let ends = ids.map(|_| {
        let attempt = runner.start_next().expect("both tasks run at once");
        runner.finished(attempt, done())
    });
    // The database refuses to store the derived workflow when both executions end in one turn.
    runner.fail_once(Verb::PutDefinition, Moment::Before);
    runner.coordinator.step(Vec::from(ends));
    for _ in 0..3 {
        for record in runner.store.load(&ids).unwrap() {
            let is_started = record.finale.is_some();
            assert_eq!(record.status.is_terminal(), is_started);
        }
        runner.pass(MILLISECOND);
        runner.pass(SECOND);
    }
    for id in ids {
        assert!(runner.status(id).is_terminal());
    }
}
