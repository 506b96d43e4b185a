//! Tests of executions on a `DefaultRunner`, from submission to end.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use cloacina::{
    Context, DefaultRunner, DefaultRunnerConfig, ErrorCode, ExecutionFilter, ExecutionStatus,
    Submission, TaskError, TaskHandle, TaskStatus, Workflow, task, workflow,
};
use tokio::sync::mpsc;

use super::support::{PATIENCE, databases, hear, start, start_with};

mod simple {
    use super::*;

    #[task]
    pub async fn extract(context: &mut Context) -> Result<(), TaskError> {
        let day: String = context.get("day")?;
        context.set("rows", [1, 2, day.len()])?;
        context.remove("day");
        Ok(())
    }

    #[task(dependencies = [extract])]
    pub async fn total(context: &mut Context) -> Result<(), TaskError> {
        if context.contains_key("day") {
            return Err(TaskError::abort("a removed key came back"));
        }
        let rows: Vec<u64> = context.get("rows")?;
        context.insert("total", rows.iter().sum::<u64>())?;
        Ok(())
    }

    pub fn define() -> Workflow {
        workflow! { name: "simple", tags: { kind: "simple" }, tasks: [extract, total] }
    }
}

fn day() -> Context {
    Context::from_json(r#"{"day":"2026-01-01"}"#).unwrap()
}

#[tokio::test]
async fn completed_execution_has_a_full_result() {
    let workflow = simple::define();
    for database in databases() {
        let runner = start(&database).await;
        let result = runner.execute(&workflow, day()).await.unwrap();
        let result = result.into_completed().unwrap();
        assert_eq!(
            result.final_context().to_json(),
            r#"{"rows":[1,2,10],"total":13}"#
        );
        assert_eq!(result.workflow_name(), "simple");
        assert_eq!(result.workflow_version(), workflow.version());
        let tasks = result.tasks();
        assert_eq!(tasks[1].task_id, "total");
        assert_eq!(tasks[1].status, TaskStatus::Completed);
        assert_eq!(tasks[1].attempts, 1);
        assert!(tasks[1].started_at >= tasks[0].ended_at);
        assert!(result.duration().is_some() && result.error().is_none());
        let events = runner.handle(result.execution_id()).events().await.unwrap();
        let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
        assert_eq!(kinds.first(), Some(&"submitted"));
        assert_eq!(kinds.last(), Some(&"completed"));
        runner.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn c7_executions_are_listed_and_a_repeated_key_submits_nothing() {
    let workflow = simple::define();
    for database in databases() {
        let runner = start(&database).await;
        let submission = || Submission::new(&workflow, day()).key("one");
        let first = runner.submit_with(submission()).await.unwrap();
        let again = runner.submit_with(submission()).await.unwrap();
        assert_eq!(first.id(), again.id());
        assert!(first.created() && !again.created());
        assert_eq!(again.key().await.unwrap().as_deref(), Some("one"));
        assert_eq!(
            again.result().await.unwrap().status(),
            ExecutionStatus::Completed
        );
        // The result can be read twice, and through another handle.
        assert_eq!(first.result().await.unwrap().execution_id(), first.id());
        assert_eq!(first.result().await.unwrap().execution_id(), first.id());
        let many = (0..3).map(|_| Submission::new(&workflow, day()));
        for handle in runner.submit_many(many).await.unwrap() {
            handle.result_within(PATIENCE).await.unwrap();
        }
        assert!(first.done().await.unwrap());
        let found = runner.find(&workflow, "one").await.unwrap().unwrap();
        assert_eq!(found.id(), first.id());
        assert!(!found.created());
        assert_eq!(found.key().await.unwrap().as_deref(), Some("one"));
        let by_id = runner.handle(first.id());
        assert_eq!(by_id.key().await.unwrap().as_deref(), Some("one"));
        assert_eq!(found.snapshot().await.unwrap().key(), Some("one"));
        assert!(runner.find(&workflow, "two").await.unwrap().is_none());
        assert!(runner.find("other", "one").await.unwrap().is_none());
        let keyed = ExecutionFilter::new().key("one").key("two").key("\0");
        let keyed = runner.list_executions(keyed).await.unwrap();
        assert_eq!(keyed.items.len(), 1);
        let filter = || {
            ExecutionFilter::new()
                .workflow(&workflow)
                .tag("kind", "simple")
                .limit(3)
        };
        let page = runner.list_executions(filter()).await.unwrap();
        assert_eq!(page.items.len(), 3);
        let rest = filter().after(page.next.unwrap());
        let rest = runner.list_executions(rest).await.unwrap();
        assert_eq!(rest.items[0].execution_id(), first.id());
        assert!(rest.next.is_none());
        let failed = filter().status(ExecutionStatus::Failed);
        assert!(
            runner
                .list_executions(failed)
                .await
                .unwrap()
                .items
                .is_empty()
        );
        runner.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn invalid_calls_are_refused_with_a_code_and_a_hint() {
    for database in databases() {
        let workflow = simple::define();
        let runner = start(&database).await;
        let unknown = runner.execute("simpel", Context::new()).await.unwrap_err();
        assert_eq!(unknown.code, ErrorCode::WorkflowNotFound);
        assert_eq!(unknown.hint.as_deref(), Some("did you mean 'simple'?"));
        let no_time = Submission::new(&workflow, day()).timeout(Duration::ZERO);
        let no_time = runner.submit_with(no_time).await.unwrap_err();
        assert_eq!(no_time.code, ErrorCode::Configuration);
        let absent = runner.handle("00000000-0000-7000-8000-000000000000".parse().unwrap());
        assert_eq!(
            absent.result().await.unwrap_err().code,
            ErrorCode::ExecutionNotFound
        );
        runner.shutdown().await.unwrap();
        runner.shutdown().await.unwrap();
        let closed = runner.submit("simple", day()).await.unwrap_err();
        assert_eq!(closed.code, ErrorCode::RunnerClosed);
    }
    let unreadable = DefaultRunner::new("mysql://host/db").await.unwrap_err();
    assert_eq!(unreadable.code, ErrorCode::UrlInvalid);
    let empty = DefaultRunner::with_schema(":memory:", "")
        .await
        .unwrap_err();
    assert_eq!(empty.message, "Schema name cannot be empty");
}

#[tokio::test]
async fn panicking_task_fails_with_its_message() {
    #[task(retry_attempts = 2, retry_delay_ms = 1)]
    async fn burst(context: &mut Context) -> Result<(), TaskError> {
        let n: u32 = context.get("n")?;
        panic!("no more than {n}");
    }
    #[task(trigger_rules = task_failed(burst))]
    async fn repair(context: &mut Context) -> Result<(), TaskError> {
        context.set("repaired", true)?;
        Ok(())
    }
    let workflow = workflow! { name: "panics", tasks: [burst, repair] };
    for database in databases() {
        let runner = start(&database).await;
        let input = Context::from_json(r#"{"n":5}"#).unwrap();
        let result = runner.execute(&workflow, input).await.unwrap();
        let burst = result.task("burst").unwrap();
        assert_eq!((burst.status, burst.attempts), (TaskStatus::Failed, 2));
        assert_eq!(burst.error.unwrap().message, "no more than 5");
        assert_eq!(result.status(), ExecutionStatus::Completed);
        assert!(result.final_context().get::<bool>("repaired").unwrap());
        runner.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn d2_task_can_retry_snooze_and_abort() {
    static SNOOZED: AtomicBool = AtomicBool::new(false);
    #[task]
    async fn snooze(context: &mut Context, handle: &TaskHandle) -> Result<(), TaskError> {
        if !SNOOZED.swap(true, Ordering::SeqCst) {
            return Err(TaskError::snooze(Duration::from_millis(1)));
        }
        context.set("attempt", handle.attempt())?;
        Ok(())
    }
    #[task(retry_condition = "never", dependencies = [snooze])]
    async fn again(context: &mut Context, handle: &TaskHandle) -> Result<(), TaskError> {
        if handle.attempt() == 1 {
            return Err(TaskError::retry_after(Duration::from_millis(1)));
        }
        context.set("again", handle.task_id())?;
        Ok(())
    }
    #[task(retry_attempts = 5, dependencies = [again])]
    async fn abort(_context: &mut Context) -> Result<(), TaskError> {
        Err(TaskError::abort("enough"))
    }
    let workflow = workflow! { name: "asks", tasks: [snooze, again, abort] };
    for database in databases() {
        SNOOZED.store(false, Ordering::SeqCst);
        let runner = start(&database).await;
        let result = runner.execute(&workflow, Context::new()).await.unwrap();
        let context = result.final_context();
        assert_eq!(context.to_json(), r#"{"attempt":1,"again":"again"}"#);
        assert_eq!(result.task("abort").unwrap().attempts, 1);
        assert_eq!(
            result.error_message().unwrap(),
            "task 'abort' failed: Abort: enough"
        );
        let error = result.into_completed().unwrap_err();
        assert!(
            error
                .to_string()
                .contains("of workflow 'asks' is Failed: task 'abort'")
        );
        runner.shutdown().await.unwrap();
    }
}

/// Sends a message when it is dropped.
struct DropSignal(mpsc::UnboundedSender<&'static str>);

impl Drop for DropSignal {
    fn drop(&mut self) {
        self.0.send("dropped").ok();
    }
}

/// The channel through which the task `hang` reports to the test.
static REPORTS: LazyLock<Mutex<Option<mpsc::UnboundedSender<&'static str>>>> =
    LazyLock::new(Mutex::default);

#[tokio::test]
async fn d4_d6_cancel_and_timeout_drop_the_tasks_future() {
    #[task(retry_attempts = 1)]
    async fn hang(context: &mut Context) -> Result<(), TaskError> {
        let sender = REPORTS.lock().unwrap().clone().unwrap();
        let dropped = DropSignal(sender.clone());
        sender.send("started").ok();
        std::future::pending::<()>().await;
        drop(dropped);
        context.set("never", true)?;
        Ok(())
    }
    let workflow = workflow! { name: "hangs", tasks: [hang] };
    for database in databases() {
        let (sender, mut messages) = mpsc::unbounded_channel();
        *REPORTS.lock().unwrap() = Some(sender);
        let runner = start(&database).await;
        let handle = runner.submit(&workflow, Context::new()).await.unwrap();
        assert_eq!(hear(&mut messages).await, "started");
        assert!(handle.cancel().await.unwrap());
        assert!(
            !handle.cancel().await.unwrap(),
            "the execution has already ended"
        );
        assert_eq!(hear(&mut messages).await, "dropped");
        let result = handle.result().await.unwrap();
        assert_eq!(result.status(), ExecutionStatus::Cancelled);
        runner.shutdown().await.unwrap();

        // On a busy machine, it can take a while until the task begins. The timeout must not expire before then.
        let config = DefaultRunnerConfig::builder().task_timeout(Some(Duration::from_secs(2)));
        let runner = start_with(&database, config.build().unwrap()).await;
        let result = runner.execute(&workflow, Context::new()).await.unwrap();
        assert_eq!(result.error().unwrap().kind, "TaskTimeoutError");
        assert_eq!(hear(&mut messages).await, "started");
        assert_eq!(hear(&mut messages).await, "dropped");
        runner.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn d7_execution_is_paused_resumed_and_retried() {
    static FAIL: AtomicBool = AtomicBool::new(true);
    static FIRST: AtomicU32 = AtomicU32::new(0);
    #[task]
    async fn first(_context: &mut Context) -> Result<(), TaskError> {
        FIRST.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
    #[task(dependencies = [first], retry_attempts = 1)]
    async fn second(_context: &mut Context) -> Result<(), TaskError> {
        if FAIL.load(Ordering::SeqCst) {
            return Err(TaskError::new("not yet"));
        }
        Ok(())
    }
    let workflow = workflow! { name: "retried", tasks: [first, second] };
    for database in databases() {
        FAIL.store(true, Ordering::SeqCst);
        FIRST.store(0, Ordering::SeqCst);
        let runner = start(&database).await;
        let later = Submission::new(&workflow, Context::new()).delay(Duration::from_hours(1));
        let held = runner.submit_with(later).await.unwrap();
        assert_eq!(held.pause().await.unwrap(), ExecutionStatus::Paused);
        assert_eq!(held.status().await.unwrap(), ExecutionStatus::Paused);
        assert_eq!(held.resume().await.unwrap(), ExecutionStatus::Pending);
        assert!(held.cancel().await.unwrap());

        let handle = runner.submit(&workflow, Context::new()).await.unwrap();
        let result = handle.result().await.unwrap();
        assert_eq!(result.error().unwrap().task_id.as_deref(), Some("second"));
        FAIL.store(false, Ordering::SeqCst);
        handle.retry().await.unwrap();
        assert_eq!(
            handle.result().await.unwrap().status(),
            ExecutionStatus::Completed
        );
        assert_eq!(FIRST.load(Ordering::SeqCst), 1);
        handle.retry_from("first").await.unwrap();
        assert_eq!(
            handle.result().await.unwrap().status(),
            ExecutionStatus::Completed
        );
        assert_eq!(FIRST.load(Ordering::SeqCst), 2);
        let unknown = handle.retry_from("thrid").await.unwrap_err();
        assert!(unknown.message.contains("thrid"), "{unknown}");
        runner.shutdown().await.unwrap();
    }
}

/// Heartbeats continue although every thread that runs tasks is busy.
#[tokio::test]
async fn e1_futures_that_never_yield_do_not_stop_heartbeats() {
    static RELEASE: AtomicBool = AtomicBool::new(false);
    static STARTED: AtomicU32 = AtomicU32::new(0);
    #[task(timeout_ms = 60_000)]
    async fn hog(context: &mut Context) -> Result<(), TaskError> {
        STARTED.fetch_add(1, Ordering::SeqCst);
        while !RELEASE.load(Ordering::SeqCst) {
            std::hint::spin_loop();
            std::thread::yield_now();
        }
        context.set("done", true)?;
        Ok(())
    }
    let workflow = workflow! { name: "hogs", tasks: [hog] };
    for database in databases() {
        RELEASE.store(false, Ordering::SeqCst);
        STARTED.store(0, Ordering::SeqCst);
        let config = DefaultRunnerConfig::builder()
            .heartbeat_interval(Duration::from_millis(500))
            .lease_ttl(Duration::from_secs(4))
            .build()
            .unwrap();
        let runner = start_with(&database, config.clone()).await;
        // One execution for each thread that runs tasks.
        let count = std::thread::available_parallelism().unwrap().get();
        let many = (0..count).map(|_| Submission::new(&workflow, Context::new()));
        let handles = runner.submit_many(many).await.unwrap();
        let all_started = async {
            while STARTED.load(Ordering::SeqCst) < u32::try_from(count).unwrap() {
                tokio::task::yield_now().await;
            }
        };
        let started = tokio::time::timeout(PATIENCE, all_started).await;
        started.expect("all tasks start in time");
        // If the lease of the first runner expired, the second runner would rescue the tasks.
        let other = start_with(&database, config).await;
        tokio::time::sleep(Duration::from_secs(9)).await; // longer than two leases
        RELEASE.store(true, Ordering::SeqCst);
        for handle in handles {
            let result = handle.result_within(PATIENCE).await.unwrap();
            assert_eq!(result.task("hog").unwrap().attempts, 1);
        }
        assert_eq!(
            STARTED.load(Ordering::SeqCst),
            u32::try_from(count).unwrap()
        );
        other.shutdown().await.unwrap();
        runner.shutdown().await.unwrap();
    }
}

/// The only thread of the caller's Tokio runtime runs other futures while a call waits for the runner.
#[tokio::test(flavor = "current_thread")]
async fn calls_do_not_block_the_callers_thread() {
    let workflow = simple::define();
    for database in databases() {
        let runner = start(&database).await;
        let ticks = AtomicU32::new(0);
        let tick = async {
            loop {
                ticks.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
            }
        };
        let work = async {
            for _ in 0..5 {
                let handle = runner.submit(&workflow, day()).await.unwrap();
                handle.status().await.unwrap();
                handle.result().await.unwrap();
            }
            runner.shutdown().await.unwrap();
        };
        let before = ticks.load(Ordering::SeqCst);
        tokio::select! {
            () = tick => unreachable!("`tick` never ends"),
            () = work => {}
        }
        assert!(ticks.load(Ordering::SeqCst) > before + 15);
    }
}

#[tokio::test]
async fn execution_of_a_dropped_runner_is_run_by_the_next_runner() {
    let workflow = simple::define();
    for database in databases() {
        let runner = start(&database).await;
        let later = Submission::new(&workflow, day()).delay(Duration::from_millis(200));
        let id = runner.submit_with(later).await.unwrap().id();
        drop(runner);
        let next = start(&database).await;
        let result = next.handle(id).result_within(PATIENCE).await.unwrap();
        assert_eq!(result.status(), ExecutionStatus::Completed);
        next.shutdown().await.unwrap();
    }
}

/// A runner also registers workflows that its process defines after the runner has started.
#[tokio::test]
async fn runner_runs_a_workflow_defined_after_its_start() {
    #[task]
    async fn late(_context: &mut Context) -> Result<(), TaskError> {
        Ok(())
    }
    for database in databases() {
        let worker = start(&database).await;
        let workflow = workflow! { name: "defined_later", tasks: [late] };
        let submitter = start(&database).await;
        let handle = submitter.submit(&workflow, Context::new()).await.unwrap();
        submitter.shutdown_within(Duration::ZERO).await.unwrap();
        let result = worker
            .handle(handle.id())
            .result_within(PATIENCE)
            .await
            .unwrap();
        assert_eq!(result.status(), ExecutionStatus::Completed);
        worker.shutdown().await.unwrap();
    }
}
