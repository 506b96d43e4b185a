//! Tests that a task whose future does not yield is logged.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cloacina::{Context, DefaultRunnerConfig, TaskError, task, workflow};

use super::support::{PATIENCE, databases, start_with};
use super::warnings;

#[tokio::test]
async fn e1_future_that_never_yields_is_logged_once() {
    static RELEASE: AtomicBool = AtomicBool::new(false);
    #[task(timeout_ms = 60_000)]
    async fn stuck(_context: &mut Context) -> Result<(), TaskError> {
        while !RELEASE.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        Ok(())
    }
    warnings::record();
    let workflow = workflow! { name: "stuck_workflow", tasks: [stuck] };
    for database in databases() {
        RELEASE.store(false, Ordering::SeqCst);
        warnings::forget("task 'stuck'");
        let config = DefaultRunnerConfig::builder()
            .heartbeat_interval(Duration::from_millis(100))
            .lease_ttl(Duration::from_millis(600))
            .stall_threshold(Some(Duration::from_millis(800)))
            .build()
            .unwrap();
        let runner = start_with(&database, config).await;
        let handle = runner.submit(&workflow, Context::new()).await.unwrap();
        let end = Instant::now() + PATIENCE;
        while warnings::of("task 'stuck'").is_empty() {
            assert!(Instant::now() < end, "no warning was logged");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // The runner checks the running task again in this time, but does not log it a second time.
        tokio::time::sleep(Duration::from_millis(1200)).await;
        RELEASE.store(true, Ordering::SeqCst);
        let result = handle.result_within(PATIENCE).await.unwrap();
        assert_eq!(result.task("stuck").unwrap().attempts, 1);
        let logged = warnings::of("task 'stuck'");
        assert_eq!(logged.len(), 1, "{logged:?}");
        assert!(
            logged[0].contains("of workflow 'stuck_workflow' has run for"),
            "{logged:?}"
        );
        runner.shutdown().await.unwrap();
    }
}
