//! Tests of final tasks and compensations that the macros declare (semantics Q).

use cloacina::{ErrorInfo, ExecutionStatus, TaskError, TaskHandle, TaskStatus, task, workflow};

use super::support::{databases, start};

#[task]
async fn undo_table(
    table: Option<u32>,
    error: Option<ErrorInfo>,
    handle: &TaskHandle,
) -> Result<String, TaskError> {
    let error = error.map(|error| error.kind).unwrap_or_default();
    let key = handle.forward_key();
    let task = key.rsplit('/').next().unwrap_or_default();
    Ok(format!("{table:?} {error} {task}"))
}

#[task(compensate = undo_table)]
async fn table() -> Result<u32, TaskError> {
    Ok(12)
}

#[task(retry_attempts = 1)]
async fn pay(table: u32) -> Result<u32, TaskError> {
    Err(TaskError::abort(format!("no card for table {table}")))
}

#[task(final = "always", undoes = [table])]
async fn close(table: Option<u32>, pay: Option<u32>) -> Result<String, TaskError> {
    Ok(format!("{table:?} {pay:?}"))
}

#[task(final = "success")]
async fn cheer() -> Result<(), TaskError> {
    Ok(())
}

#[tokio::test]
async fn q1_macros_declare_final_tasks_and_compensations() {
    for database in databases() {
        let workflow = workflow! { name: "tables", tasks: [table, pay, close, cheer] };
        assert_eq!(workflow.tasks().collect::<Vec<_>>(), ["table", "pay"]);
        let runner = start(&database).await;
        let handle = runner
            .submit(&workflow, cloacina::Context::new())
            .await
            .unwrap();
        let result = handle.result().await.unwrap();
        assert_eq!(result.status(), ExecutionStatus::Failed);
        let id = result.final_execution().unwrap();
        let last = runner.handle(id).result().await.unwrap();
        assert_eq!(last.status(), ExecutionStatus::Completed);
        assert_eq!(last.workflow_name(), "tables~final");
        let context = last.final_context();
        let undone: String = context.get("table~undone").unwrap();
        assert!(undone.starts_with("Some(12) "), "{undone}");
        assert!(undone.ends_with(" table"), "{undone}");
        assert_eq!(context.get::<String>("close").unwrap(), "Some(12) None");
        assert_eq!(last.task("cheer").unwrap().status, TaskStatus::Skipped);
        // Q5: the compensated task runs again.
        handle.retry().await.unwrap();
        let again = handle.result().await.unwrap();
        assert_eq!(again.task("table").unwrap().attempts, 2);
        assert_ne!(again.final_execution(), Some(id));
        runner.shutdown().await.unwrap();
    }
}

#[task]
async fn undo_rental(rented: Option<u32>) -> Result<String, TaskError> {
    Ok(format!("undone {rented:?}"))
}

#[task]
async fn rented() -> Result<u32, TaskError> {
    Ok(3)
}

#[task(retry_attempts = 1)]
async fn drive(rented: u32) -> Result<u32, TaskError> {
    Err(TaskError::abort(format!("car {rented} does not start")))
}

#[tokio::test]
async fn q3_external_task_can_have_a_compensation() {
    for database in databases() {
        let workflow = workflow! {
            name: "rentals",
            tasks: [external_task(id = "rented", compensate = undo_rental), drive],
        };
        let runner = start(&database).await;
        runner.register_external::<rented>("rentals").await.unwrap();
        let input = cloacina::Context::new();
        let result = runner.execute(&workflow, input).await.unwrap();
        let last = runner.handle(result.final_execution().unwrap());
        let last = last.result().await.unwrap();
        let undone: String = last.final_context().get("rented~undone").unwrap();
        assert_eq!(undone, "undone Some(3)");
        runner.shutdown().await.unwrap();
    }
}
