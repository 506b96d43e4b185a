//! Final tasks of executions that a test steps by hand (semantics Q).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cloacina::runtime::{Answer, Control, Executor, Handler, Message, Registration};
use cloacina::store::Store;
use cloacina::store::failpoint::{Moment, Verb};
use cloacina::types::Clock;
use cloacina::workflow::{
    FinalOn, FinalRole, TaskDefinition, TaskKind, Workflow, WorkflowDefinition,
};

use super::stepped::{SECOND, SteppedRunner};
use super::support::{config, request, task};

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
    let mut first = SteppedRunner::new(config());
    register(&mut first);
    let ids = ["cleaned"; 2].map(|name| first.submit(request(name)));
    let mut second = first.peer(config());
    // The second runner knows the workflow only from its executions. The database fails when both executions end in one turn.
    second.fail_once(Verb::PutDefinition, Moment::Before);
    let (cancels, answers): (Vec<_>, Vec<_>) = ids
        .into_iter()
        .map(|execution| {
            let (answer, reply) = Answer::new();
            let cancel = Message::Control {
                execution,
                action: Control::Cancel,
                give_up: second.clock.monotonic() + 10 * SECOND,
                reply,
            };
            (cancel, answer)
        })
        .unzip();
    second.coordinator.step(cancels);
    let mut failed = 0;
    for _ in 0..5 {
        for record in second.store.load(&ids).unwrap() {
            let has_finale = record.finale.is_some();
            assert_eq!(record.status.is_terminal(), has_finale);
            failed += usize::from(!has_finale);
        }
        second.pass(SECOND);
    }
    assert_eq!(failed, 2, "the database has failed once");
    for answer in answers {
        answer.wait(Duration::ZERO).unwrap().unwrap();
    }
}
