//! Tests of the child executions that a task's function runs, and of executions that it starts (semantics M4, T5, T10).

use std::sync::Mutex;
use std::time::Duration;

use cloacina::{
    Context, ExecutionFilter, ExecutionStatus, TaskError, TaskHandle, Workflow, task, workflow,
};
use serde_json::json;

use super::support::{databases, start};

/// The attempt number of each call of `outer::sum`.
static STARTS: Mutex<Vec<u32>> = Mutex::new(Vec::new());

mod double {
    use super::*;

    #[task]
    pub async fn result(context: &mut Context) -> Result<(), TaskError> {
        let n: u64 = context.get("n")?;
        if n == 13 {
            return Err(TaskError::abort("unlucky"));
        }
        context.set("doubled", 2 * n)?;
        Ok(())
    }

    pub fn define() -> Workflow {
        workflow! { name: "double", tasks: [result] }
    }
}

mod outer {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Doubled {
        doubled: u64,
    }

    #[task]
    pub async fn sum(context: &mut Context, cx: &TaskHandle) -> Result<(), TaskError> {
        STARTS.lock().unwrap().push(cx.attempt());
        let one: Doubled = cx.run("one", "double", &json!({ "n": 1 })).await?;
        let inputs: Vec<_> = (2..6).map(|n| json!({ "n": n })).collect();
        let many: Vec<Doubled> = cx.run_many("many", "double", &inputs, Some(2)).await?;
        let none: Vec<Doubled> = cx.run_many::<_, u64>("none", "double", &[], None).await?;
        assert!(none.is_empty());
        cx.start("audit", "double", &json!({ "n": 50 }))?;
        let many: Vec<u64> = many.iter().map(|one| one.doubled).collect();
        context.set("many", many)?;
        context.set("one", one.doubled)?;
        Ok(())
    }

    pub fn define() -> Workflow {
        workflow! { name: "outer", tasks: [sum] }
    }
}

mod unlucky {
    use super::*;

    #[task(retry_attempts = 3)]
    pub async fn call(_context: &mut Context, cx: &TaskHandle) -> Result<(), TaskError> {
        cx.run("child", "double", &json!({ "n": 13 })).await
    }

    pub fn define() -> Workflow {
        workflow! { name: "unlucky", tasks: [call] }
    }
}

#[tokio::test]
async fn t10_function_runs_children_and_starts_an_execution() {
    let _ = (double::define(), outer::define(), unlucky::define());
    for database in databases() {
        let runner = start(&database).await;
        let result = runner.execute("outer", Context::new()).await.unwrap();
        let result = result.into_completed().unwrap();
        assert_eq!(
            result.final_context().to_json(),
            r#"{"many":[4,6,8,10],"one":2}"#
        );
        assert!(STARTS.lock().unwrap().drain(..).all(|attempt| attempt == 1));
        let events = runner.handle(result.execution_id()).events().await.unwrap();
        let count = |kind: &str| events.iter().filter(|event| event.kind == kind).count();
        assert_eq!((count("child_started"), count("child_ended")), (5, 5));
        assert_eq!(count("execution_started"), 1);
        let roots = runner
            .list_executions(ExecutionFilter::default())
            .await
            .unwrap();
        assert_eq!(
            roots.items.len(),
            2,
            "an execution that a function starts has no parent"
        );
        let failed = runner.execute("unlucky", Context::new()).await.unwrap();
        assert_eq!(failed.status(), ExecutionStatus::Failed);
        let error = failed.error().unwrap();
        assert_eq!(error.kind, "ChildFailedError");
        assert!(error.message.contains("unlucky"), "{}", error.message);
        assert_eq!(failed.tasks()[0].attempts, 1, "the task is not retried");
        runner.shutdown().await.unwrap();
    }
}

mod limited {
    use super::*;

    #[task]
    pub async fn slow(_context: &mut Context, cx: &TaskHandle) -> Result<(), TaskError> {
        cx.sleep("long", Duration::from_hours(1)).await
    }

    #[task(retry_attempts = 1)]
    pub async fn limit(_context: &mut Context, cx: &TaskHandle) -> Result<(), TaskError> {
        let input = json!({});
        let call = cx.run("child", "limited_child", &input);
        call.timeout(Duration::from_millis(300)).priority(7).await
    }

    pub fn define() -> (Workflow, Workflow) {
        (
            workflow! { name: "limited_child", tasks: [slow] },
            workflow! { name: "limited", tasks: [limit] },
        )
    }
}

#[tokio::test]
async fn m4_function_sets_the_timeout_of_its_child() {
    let _ = limited::define();
    for database in databases() {
        let runner = start(&database).await;
        let result = runner.execute("limited", Context::new()).await.unwrap();
        let error = result.error().unwrap();
        assert_eq!(error.kind, "ChildFailedError");
        assert!(
            error.message.contains("timeout of 0.3 s"),
            "{}",
            error.message
        );
        let children = ExecutionFilter::new().parent(result.execution_id());
        let children = runner.list_executions(children).await.unwrap().items;
        assert_eq!(children.len(), 1);
        assert_eq!(children[0].status(), ExecutionStatus::Failed);
        let all = ExecutionFilter::new().workflow("limited_child");
        let roots = runner.list_executions(all.clone()).await.unwrap().items;
        assert!(roots.is_empty(), "a child is not listed among the roots");
        let all = runner.list_executions(all.children()).await.unwrap().items;
        assert_eq!(all.len(), 1);
        runner.shutdown().await.unwrap();
    }
}
