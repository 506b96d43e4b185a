//! Tests of the steps, sleeps and waits of a task's function (semantics T).

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use cloacina::{
    Condition, Context, DefaultRunner, ExecutionStatus, Json, RetryPolicy, Signal, TaskError,
    TaskHandle, WaitFilter, WaitKind, Workflow, WorkflowHandle, WorkflowResult, task, workflow,
};
use serde_json::json;

use super::support::{PATIENCE, databases, start};

/// Waits until a task of the execution waits for a signal.
async fn until_waiting(runner: &DefaultRunner, handle: &WorkflowHandle) {
    let filter = || WaitFilter {
        execution: Some(handle.id()),
        kind: Some(WaitKind::Signal),
        ..WaitFilter::default()
    };
    let waiting = async {
        while runner.waits(filter()).await.unwrap().items.is_empty() {
            // A program is not notified of a new wait, so the test polls.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap();
}

async fn execute(runner: &DefaultRunner, workflow: &str, input: &str) -> WorkflowResult {
    let input = Context::from_json(input).unwrap();
    let handle = runner.submit(workflow, input).await.unwrap();
    handle.result_within(PATIENCE).await.unwrap()
}

mod agent {
    use super::*;

    pub static CALLS: Mutex<Vec<String>> = Mutex::new(Vec::new());

    fn note(call: &str) {
        CALLS.lock().unwrap().push(call.to_owned());
    }

    #[task(retry_attempts = 2, retry_delay_ms = 1)]
    pub async fn work(context: &mut Context, cx: &TaskHandle) -> Result<(), TaskError> {
        let plan: Vec<u32> = cx
            .step("plan", || async {
                note("plan");
                Ok(vec![1, 2])
            })
            .await?;
        let mut done = Vec::new();
        for number in plan {
            let key = format!("work-{number}");
            let call = || async {
                note(&key);
                Ok(number * 10)
            };
            done.push(cx.step(&key, call).await?);
        }
        if cx.attempt() == 1 {
            return Err(TaskError::new("the first attempt fails after its steps"));
        }
        cx.sleep("pause", Duration::from_millis(20)).await?;
        let answer = Condition::signal("answer", Some("k"));
        let answer: Option<String> = cx.wait("answer", answer, None).await?;
        let silence = Condition::signal("never", None);
        let timeout = Some(Duration::from_millis(20));
        let silence: Option<String> = cx.wait("silence", silence, timeout).await?;
        note("end");
        context.set("done", done)?;
        context.set("answer", answer)?;
        context.set("silence", silence)?;
        Ok(())
    }

    pub fn define() -> Workflow {
        workflow! { name: "agent", tasks: [work] }
    }
}

#[tokio::test]
async fn t2_steps_sleeps_and_waits_are_recorded_once() {
    let _ = agent::define();
    for database in databases() {
        let runner = start(&database).await;
        let handle = runner.submit("agent", Context::new()).await.unwrap();
        until_waiting(&runner, &handle).await;
        let signal = Signal::new("answer").key("k").data("yes").unwrap();
        runner.send(signal).await.unwrap();
        let result = handle.result_within(PATIENCE).await.unwrap();
        let result = result.into_completed().unwrap();
        assert_eq!(
            result.final_context().to_json(),
            r#"{"done":[10,20],"answer":"yes","silence":null}"#
        );
        assert_eq!(
            result.tasks()[0].attempts,
            2,
            "a wait does not count as an attempt"
        );
        let calls: Vec<String> = agent::CALLS.lock().unwrap().drain(..).collect();
        assert_eq!(calls, ["plan", "work-1", "work-2", "end"]);
        let events = handle.events().await.unwrap();
        let recorded = events.iter().filter(|event| event.kind == "step_recorded");
        let keys: Vec<String> = recorded
            .map(|event| {
                let data: serde_json::Value =
                    event.data.as_ref().map(Json::decode).unwrap().unwrap();
                data["key"].as_str().unwrap().to_owned()
            })
            .collect();
        assert_eq!(
            keys,
            ["plan", "work-1", "work-2", "pause", "answer", "silence"]
        );
        runner.shutdown().await.unwrap();
    }
}

mod flaky {
    use super::*;

    pub static CALLS: AtomicU32 = AtomicU32::new(0);

    #[task(retry_attempts = 1)]
    pub async fn load(context: &mut Context, cx: &TaskHandle) -> Result<(), TaskError> {
        let failures: u32 = context.get("failures")?;
        let fatal: bool = context.get("fatal")?;
        let policy = RetryPolicy::attempts(3).delay(Duration::from_millis(1));
        let mut calls = 0;
        let call = || {
            calls += 1;
            CALLS.fetch_add(1, Ordering::SeqCst);
            let result = if calls > failures {
                Ok(calls)
            } else if fatal {
                Err(TaskError::abort("gone"))
            } else {
                Err(TaskError::new("busy"))
            };
            async move { result }
        };
        let needed: u32 = cx.step_with_retry("load", policy, call).await?;
        context.set("needed", needed)?;
        Ok(())
    }

    pub fn define() -> Workflow {
        workflow! { name: "flaky", tasks: [load] }
    }
}

#[tokio::test]
async fn t3_step_with_retry_repeats_its_function_within_the_attempt() {
    let _ = flaky::define();
    for database in databases() {
        let runner = start(&database).await;
        for (input, calls, message) in [
            (r#"{"failures":2,"fatal":false}"#, 3, None),
            (r#"{"failures":3,"fatal":false}"#, 3, Some("busy")),
            (r#"{"failures":1,"fatal":true}"#, 1, Some("gone")),
        ] {
            let result = execute(&runner, "flaky", input).await;
            assert_eq!(flaky::CALLS.swap(0, Ordering::SeqCst), calls, "{input}");
            let error = result.error().map(|error| error.message);
            assert_eq!(error.as_deref(), message, "{input}");
            assert_eq!(result.tasks()[0].attempts, 1, "{input}");
            if message.is_none() {
                assert_eq!(result.final_context().get::<u32>("needed").unwrap(), 3);
            }
        }
        runner.shutdown().await.unwrap();
    }
}

mod parked {
    use super::*;

    async fn answer(cx: &TaskHandle) -> Result<Option<u32>, TaskError> {
        cx.wait("answer", Condition::signal("never", None), None)
            .await
    }

    #[task(retry_attempts = 3, retry_delay_ms = 1)]
    pub async fn wraps(_context: &mut Context, cx: &TaskHandle) -> Result<(), TaskError> {
        let answered = answer(cx).await;
        answered.map_err(|error| TaskError::new(format!("no answer: {error}")))?;
        Ok(())
    }

    #[task(retry_attempts = 3, retry_delay_ms = 1)]
    pub async fn drops(_context: &mut Context, cx: &TaskHandle) -> Result<(), TaskError> {
        let _ = answer(cx).await;
        Ok(())
    }

    #[task(retry_attempts = 2, retry_delay_ms = 1)]
    pub async fn beside(_context: &mut Context, cx: &TaskHandle) -> Result<(), TaskError> {
        let full = async { Err::<(), _>(TaskError::new("the disk is full")) };
        let (answered, written) = tokio::join!(answer(cx), full);
        written?;
        answered?;
        Ok(())
    }

    pub fn define() -> [Workflow; 3] {
        [
            workflow! { name: "wraps", tasks: [wraps] },
            workflow! { name: "drops", tasks: [drops] },
            workflow! { name: "beside", tasks: [beside] },
        ]
    }
}

#[tokio::test]
async fn t5_function_that_catches_the_task_parked_error_fails() {
    let _ = parked::define();
    for database in databases() {
        let runner = start(&database).await;
        for workflow in ["wraps", "drops"] {
            let result = execute(&runner, workflow, "{}").await;
            let error = result.error().unwrap();
            assert_eq!(error.kind, "TaskValidationError", "{}", error.message);
            let expected = "with which the function exits for the wait 'answer'";
            assert!(error.message.contains(expected), "{}", error.message);
            assert_eq!(result.tasks()[0].attempts, 1, "{workflow} is not retried");
        }
        runner.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn t5_failure_during_a_concurrent_wait_is_the_outcome() {
    let _ = parked::define();
    for database in databases() {
        let runner = start(&database).await;
        let result = execute(&runner, "beside", "{}").await;
        assert_eq!(result.error().unwrap().message, "the disk is full");
        assert_eq!(
            result.tasks()[0].attempts,
            2,
            "the task's retry policy applies"
        );
        runner.shutdown().await.unwrap();
    }
}

mod changed {
    use super::*;

    async fn call(cx: &TaskHandle, name: &str) -> Result<(), TaskError> {
        let input = json!({});
        match name {
            "step" => cx.step("key", || async { Ok(()) }).await,
            "sleep" => cx.sleep("key", Duration::from_millis(1)).await,
            "wait" => {
                let never = Condition::signal("never", None);
                let timeout = Some(Duration::from_millis(1));
                let ended: Result<Option<Json>, _> = cx.wait("key", never, timeout).await;
                ended.map(drop)
            }
            "run" => cx.run::<Json, _>("key", "nothing", &input).await.map(drop),
            "run_many" => {
                let call = cx.run_many::<Json, _>("key", "nothing", &[input], None);
                call.await.map(drop)
            }
            other => Err(TaskError::abort(format!("there is no call '{other}'"))),
        }
    }

    #[task]
    pub async fn idle(_context: &mut Context) -> Result<(), TaskError> {
        Ok(())
    }

    /// The first attempt makes the call of the old code. The later attempts make the call of the code after a deployment.
    #[task(retry_attempts = 3, retry_delay_ms = 1)]
    pub async fn deployed(context: &mut Context, cx: &TaskHandle) -> Result<(), TaskError> {
        let [before, after]: [String; 2] = context.get("calls")?;
        if cx.attempt() == 1 {
            call(cx, &before).await?;
            return Err(TaskError::new("a deployment"));
        }
        call(cx, &after).await
    }

    pub fn define() -> [Workflow; 2] {
        [
            workflow! { name: "nothing", tasks: [idle] },
            workflow! { name: "changed", tasks: [deployed] },
        ]
    }
}

#[tokio::test]
async fn t2_key_that_two_kinds_of_call_use_fails_the_task() {
    let _ = changed::define();
    let calls = ["step", "sleep", "wait", "run", "run_many"];
    for database in databases() {
        let runner = start(&database).await;
        for before in calls {
            for after in calls {
                let input = json!({ "calls": [before, after] }).to_string();
                let result = execute(&runner, "changed", &input).await;
                if before == after {
                    assert_eq!(result.status(), ExecutionStatus::Completed, "{before}");
                    continue;
                }
                let error = result.error().unwrap();
                assert_eq!(error.kind, "TaskValidationError", "{}", error.message);
                let expected = format!(
                    "recorded the key 'key' with `{before}`, and the code now calls `{after}`"
                );
                assert!(error.message.contains(&expected), "{}", error.message);
                assert_eq!(result.tasks()[0].attempts, 2, "{input} is not retried");
            }
        }
        runner.shutdown().await.unwrap();
    }
}
