//! Tests that failed attempts are logged as `tracing` events.

use std::sync::atomic::{AtomicU32, Ordering};

use cloacina::{Context, TaskError, task, workflow};

use super::support::{databases, start};
use super::warnings;

#[tokio::test]
async fn e9_failed_attempts_are_tracing_events() {
    static ATTEMPTS: AtomicU32 = AtomicU32::new(0);
    #[task(retry_attempts = 2, retry_delay_ms = 10, retry_jitter = false)]
    async fn unlucky(_context: &mut Context) -> Result<(), TaskError> {
        ATTEMPTS.fetch_add(1, Ordering::SeqCst);
        Err(TaskError::of_type("ConnectionError", "refused"))
    }
    warnings::record();
    let workflow = workflow! { name: "unlucky_workflow", tasks: [unlucky] };
    for database in databases() {
        warnings::forget("task 'unlucky'");
        let runner = start(&database).await;
        runner.execute(&workflow, Context::new()).await.unwrap();
        runner.shutdown().await.unwrap();
        assert_eq!(
            warnings::of("task 'unlucky'"),
            [
                "WARN task 'unlucky' of workflow 'unlucky_workflow' failed (attempt 1 of 2), retrying in 10 ms: \
                 ConnectionError: refused",
                "ERROR task 'unlucky' of workflow 'unlucky_workflow' failed (attempt 2 of 2): \
                 ConnectionError: refused",
            ]
        );
    }
}
