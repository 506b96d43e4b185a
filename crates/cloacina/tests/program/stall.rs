//! A task whose future never yields is reported in the log.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cloacina::{Context, DefaultRunnerConfig, TaskError, task, workflow};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber, span};

use super::support::{PATIENCE, databases, start_with};

/// A subscriber that records all warnings of the process.
struct Warnings;

static TOLD: Mutex<Vec<String>> = Mutex::new(Vec::new());

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        TOLD.lock().unwrap().push(text.0);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

fn warnings_of(task: &str) -> Vec<String> {
    let named = format!("task '{task}'");
    let told = TOLD.lock().unwrap();
    let of_task = told.iter().filter(|text| text.starts_with(&named));
    of_task.cloned().collect()
}

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
    tracing::subscriber::set_global_default(Warnings).unwrap();
    let workflow = workflow! { name: "stuck_workflow", tasks: [stuck] };
    for database in databases() {
        RELEASE.store(false, Ordering::SeqCst);
        TOLD.lock().unwrap().clear();
        let config = DefaultRunnerConfig::builder()
            .heartbeat_interval(Duration::from_millis(100))
            .lease_ttl(Duration::from_millis(600))
            .stall_threshold(Some(Duration::from_millis(800)))
            .build()
            .unwrap();
        let runner = start_with(&database, config).await;
        let handle = runner.submit(&workflow, Context::new()).await.unwrap();
        let end = Instant::now() + PATIENCE;
        while warnings_of("stuck").is_empty() {
            assert!(Instant::now() < end, "no warning was logged");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // Longer than the interval between two checks of running tasks.
        tokio::time::sleep(Duration::from_millis(1200)).await;
        RELEASE.store(true, Ordering::SeqCst);
        let result = handle.result_within(PATIENCE).await.unwrap();
        assert_eq!(result.task("stuck").unwrap().attempts, 1);
        let told = warnings_of("stuck");
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].contains("of workflow 'stuck_workflow' has run for"),
            "{told:?}"
        );
        runner.shutdown().await.unwrap();
    }
}
