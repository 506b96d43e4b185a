//! Tests of final tasks, with coordinators that the test steps by hand (semantics Q).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cloacina::runtime::{Answer, Control, Executor, Handler, Message, Registration};
use cloacina::store::Store;
use cloacina::store::failpoint::{Moment, Verb};
use cloacina::types::{Clock, ExecutionStatus};
use cloacina::workflow::{
    FinalOn, FinalRole, TaskDefinition, TaskKind, Workflow, WorkflowDefinition,
};

use super::stepped::{SECOND, SteppedRunner};
use super::support::{config, done, failed, request, task};

fn sync(id: &str) -> TaskDefinition {
    TaskDefinition {
        kind: TaskKind::Sync,
        ..task(id, &[])
    }
}

/// Registers the workflow `cleaned`, which has one task and one final task.
fn register(runner: &mut SteppedRunner) {
    register_with(runner, vec![sync("work")], FinalOn::Always, &[]);
}

/// Registers the workflow `cleaned` with these tasks and the final task `clean`.
fn register_with(
    runner: &mut SteppedRunner,
    tasks: Vec<TaskDefinition>,
    on: FinalOn,
    undoes: &[&str],
) {
    let clean = TaskDefinition {
        role: Some(FinalRole::Final {
            on,
            undoes: undoes.iter().map(|&id| id.to_owned()).collect(),
        }),
        ..sync("clean")
    };
    let handler = Handler {
        executor: Executor::Threads,
        token: 0,
        on_success: false,
        on_failure: false,
    };
    let ids = tasks.iter().map(|task| task.id.clone());
    let handlers: BTreeMap<_, _> = ids
        .chain(["clean".to_owned()])
        .map(|id| (id, handler))
        .collect();
    let definition = WorkflowDefinition {
        name: "cleaned".into(),
        tenant: "public".into(),
        package: "embedded".into(),
        tasks,
        finals: vec![clean],
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

#[test]
fn q1_execution_does_not_end_if_its_final_tasks_cannot_be_stored() {
    let mut first = SteppedRunner::new(config());
    register(&mut first);
    let ids = ["cleaned"; 2].map(|name| first.submit(request(name)));
    let mut second = first.peer(config());
    // The second runner reads the workflow from the database. Storing the definition of its final tasks fails once, in the turn
    // that ends both executions.
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
    assert_eq!(failed, 2, "both ends failed in the first step");
    for answer in answers {
        answer.wait(Duration::ZERO).unwrap().unwrap();
    }
}

/// Runs all tasks that are ready or become ready, and returns their ids. `work` fails if `fails` is true; all other tasks
/// complete.
fn run_all(runner: &mut SteppedRunner, fails: bool) -> Vec<String> {
    let mut ran = Vec::new();
    for _ in 0..5 {
        runner.pass(SECOND);
        while let Some(next) = runner.start_next() {
            let id = next.1.workflow.task(next.1.task).id.clone();
            let outcome = if fails && id == "work" {
                failed("no")
            } else {
                done()
            };
            ran.push(id);
            runner.finish(next, outcome);
        }
    }
    ran
}

#[test]
fn q5_clock_jump_does_not_revive_earlier_final_tasks() {
    let mut runner = SteppedRunner::new(config());
    let work = TaskDefinition {
        dependencies: vec!["order".into()],
        ..sync("work")
    };
    let tasks = vec![sync("order"), work];
    register_with(&mut runner, tasks, FinalOn::Failure, &["order"]);
    let id = runner.submit(request("cleaned"));
    assert_eq!(run_all(&mut runner, true), ["order", "work", "clean"]);
    let finale = runner.store.load(&[id]).unwrap().remove(0).finale.unwrap();
    let finale = finale.finale.as_ref().unwrap().id;

    runner.clock.set(-3_600 * SECOND);
    runner.control(id, Control::Retry { from_task: None });
    // The final task undid `order`, so `order` runs again. The second end is a success, so it starts no final task.
    assert_eq!(run_all(&mut runner, false), ["order", "work"]);
    assert_eq!(runner.status(id), ExecutionStatus::Completed);

    let again = |from_task: &str| Control::Retry {
        from_task: Some(from_task.into()),
    };
    let refused = runner.ask(id, Control::Retry { from_task: None });
    let text = refused.unwrap_err().to_string();
    assert!(text.contains("there is nothing to retry"), "{text}");
    let refused = runner.ask(finale, again("clean")).unwrap_err().to_string();
    assert!(refused.contains("an earlier end"), "{refused}");
    runner.control(id, again("work"));
    assert_eq!(run_all(&mut runner, true), ["work", "clean"]);
    let open = runner.ask(finale, again("clean")).unwrap_err().to_string();
    assert!(open.contains("an earlier end"), "{open}");
}
