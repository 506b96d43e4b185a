//! Tests of external tasks: one program defines the workflow, and another program runs its external tasks.

use std::sync::Arc;

use cloacina::runner::{EngineHandle, OpenOptions};
use cloacina::runtime::{Registration, SubmitRequest};
use cloacina::types;
use cloacina::workflow::{TaskDefinition, TaskKind, WorkflowDefinition};
use cloacina::{Context, ErrorCode, ExecutionId, ExecutionStatus, TaskError, task, workflow};

use super::support::{Database, PATIENCE, databases, start};

/// The program that defines the workflow and submits executions.
pub struct Owner(EngineHandle);

impl Owner {
    pub fn open(database: &Database) -> Self {
        let options = OpenOptions {
            begin: cloacina::runner::Begin::AtOnce,
            auto_migrate: true,
            ..OpenOptions::default()
        };
        let schema = database.schema.as_deref();
        Self(EngineHandle::open_in_schema(&database.url, schema, options).unwrap())
    }

    pub fn define(&self, name: &str, tasks: Vec<TaskDefinition>) {
        let definition = WorkflowDefinition {
            name: name.to_owned(),
            tenant: "public".to_owned(),
            package: "embedded".to_owned(),
            tasks,
            ..WorkflowDefinition::default()
        };
        let registration = Registration {
            workflow: Arc::new(cloacina::workflow::Workflow::new(definition).unwrap()),
            handlers: std::collections::BTreeMap::new(),
        };
        self.0.register(registration).unwrap();
    }

    pub fn submit(&self, workflow: &str) -> ExecutionId {
        let request = SubmitRequest {
            id: ExecutionId::generate(),
            workflow: workflow.to_owned(),
            input: Arc::new(types::Context::new()),
            key: None,
            priority: 0,
            start_at: None,
            timeout: None,
            labels: types::Labels::default(),
            trace: None,
        };
        self.0.submit(vec![request]).unwrap()[0]
    }
}

fn external(id: &str, dependencies: &[&str]) -> TaskDefinition {
    TaskDefinition {
        id: id.to_owned(),
        dependencies: dependencies.iter().map(|&id| id.to_owned()).collect(),
        kind: TaskKind::External,
        ..TaskDefinition::default()
    }
}

#[task]
async fn resize(context: &mut Context) -> Result<(), TaskError> {
    context.set("width", 640)?;
    Ok(())
}

#[task(dependencies = ["resize"])]
async fn publish(context: &mut Context) -> Result<(), TaskError> {
    let width: u32 = context.get("width")?;
    context.set("published", width)?;
    Ok(())
}

/// A task whose name is a misspelling of `other`.
#[task]
async fn othre(_context: &mut Context) -> Result<(), TaskError> {
    Ok(())
}

/// Runs a blocking call of an `Owner` on one of Tokio's threads for blocking calls.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

#[tokio::test]
async fn program_runs_external_tasks_of_another_programs_workflow() {
    for database in databases() {
        let worker = start(&database).await;
        // `resize` is registered before the definition is stored, and `publish` afterwards.
        worker.register_external::<resize>("images").await.unwrap();
        let (id, owner) = blocking({
            let owner = Owner::open(&database);
            move || {
                let tasks = vec![external("resize", &[]), external("publish", &["resize"])];
                owner.define("images", tasks);
                (owner.submit("images"), owner)
            }
        })
        .await;
        worker.register_external::<publish>("images").await.unwrap();
        let result = worker.handle(id).result_within(PATIENCE).await.unwrap();
        assert_eq!(result.status(), ExecutionStatus::Completed);
        assert_eq!(result.final_context().get::<u32>("published").unwrap(), 640);
        // A program can also submit executions of a workflow that it does not define.
        let own = worker.execute("images", Context::new()).await.unwrap();
        assert_eq!(own.status(), ExecutionStatus::Completed);
        blocking(move || drop(owner)).await;
        worker.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn declaration_that_contradicts_the_definition_is_refused() {
    for database in databases() {
        let owner = blocking({
            let owner = Owner::open(&database);
            move || {
                let local = TaskDefinition {
                    kind: TaskKind::Async,
                    ..external("resize", &[])
                };
                let tasks = vec![local, external("publish", &[]), external("other", &[])];
                owner.define("mismatch", tasks);
                owner
            }
        })
        .await;
        let worker = start(&database).await;
        let refused = worker
            .register_external::<resize>("mismatch")
            .await
            .unwrap_err();
        assert_eq!(refused.code, ErrorCode::TaskInvalid);
        assert_eq!(
            refused.message,
            "task 'resize' of workflow 'mismatch' is not an external task"
        );
        let refused = worker
            .register_external::<publish>("mismatch")
            .await
            .unwrap_err();
        assert!(
            refused.message.contains("has dependencies [] in version")
                && refused
                    .message
                    .contains("but is declared with [resize] here"),
            "{refused}"
        );
        let refused = worker
            .register_external::<othre>("mismatch")
            .await
            .unwrap_err();
        assert_eq!(refused.hint.as_deref(), Some("did you mean 'other'?"));
        blocking(move || drop(owner)).await;
        worker.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn task_is_not_run_if_a_later_definition_contradicts_its_declaration() {
    for database in databases() {
        let worker = start(&database).await;
        worker.register_external::<publish>("later").await.unwrap();
        worker.register_external::<resize>("later").await.unwrap();
        let (id, owner) = blocking({
            let owner = Owner::open(&database);
            move || {
                // This definition contradicts the declaration of `publish`, which depends on `resize`.
                owner.define(
                    "later",
                    vec![external("publish", &[]), external("resize", &[])],
                );
                (owner.submit("later"), owner)
            }
        })
        .await;
        let handle = worker.handle(id);
        loop {
            let progress = handle.snapshot().await.unwrap();
            if progress.task("resize").unwrap().status == types::TaskStatus::Completed {
                let publish = progress.task("publish").unwrap();
                assert_eq!(publish.status, types::TaskStatus::Ready);
                break;
            }
            tokio::task::yield_now().await;
        }
        // The next version is compatible, so the worker runs its tasks.
        let (next, owner) = blocking(move || {
            let tasks = vec![external("resize", &[]), external("publish", &["resize"])];
            owner.define("later", tasks);
            (owner.submit("later"), owner)
        })
        .await;
        let result = worker.handle(next).result_within(PATIENCE).await.unwrap();
        assert_eq!(result.status(), ExecutionStatus::Completed);
        assert_eq!(handle.status().await.unwrap(), ExecutionStatus::Running);
        blocking(move || drop(owner)).await;
        worker.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn program_can_run_its_own_external_tasks() {
    let workflow = workflow! {
        name: "own_external",
        tasks: [external_task(id = "resize", retry_attempts = 7)],
    };
    for database in databases() {
        let runner = start(&database).await;
        runner.register_external::<resize>(&workflow).await.unwrap();
        let result = runner.execute(&workflow, Context::new()).await.unwrap();
        assert_eq!(result.status(), ExecutionStatus::Completed);
        runner.shutdown().await.unwrap();
    }
}
