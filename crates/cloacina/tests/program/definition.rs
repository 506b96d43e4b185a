//! Tests of the definitions that the macros create.

use cloacina::types::Backoff;
use cloacina::workflow::{Operator, TaskKind, TriggerRule};
use cloacina::{Context, Task, TaskError, TaskHandle, task, workflow};

mod elsewhere {
    use super::{Context, TaskError, task};

    /// Fetches.
    #[task]
    pub async fn fetch(context: &mut Context) -> Result<(), TaskError> {
        context.insert("n", 81)?;
        Ok(())
    }
}
use elsewhere::fetch;

#[task(
    id = "judge it",
    dependencies = [elsewhere::fetch, "other"],
    retry_attempts = 0,
    retry_backoff = "linear",
    retry_delay_ms = 5,
    retry_max_delay_ms = 7,
    retry_condition = ["busy", "later"],
    retry_jitter = false,
    retry_on = ["std::io::Error"],
    never_on = ["Abort"],
    trigger_rules = all(
        any(task_success("fetch"), task_failed(fetch), one_failed),
        none(context_value("n", <, -1.5), context_value("k", not_exists)),
        context_value("n", greater_than, 80),
    ),
    timeout_ms = 1_500,
    priority = -3,
    max_context_bytes = 100,
)]
async fn judge(context: &mut Context, handle: &TaskHandle) -> Result<(), TaskError> {
    let n: u32 = context.get("n")?;
    context.update("n", n + handle.attempt())?;
    Ok(())
}

#[task(trigger_rule = "one_success", dependencies = ["fetch"])]
async fn other(_context: &mut Context) -> Result<(), TaskError> {
    Ok(())
}

#[tokio::test]
async fn task_can_still_be_called_as_a_function() {
    let mut context = Context::new();
    fetch(&mut context).await.unwrap();
    judge(&mut context, &TaskHandle::detached()).await.unwrap();
    assert_eq!(context.get::<u32>("n").unwrap(), 82);
}

#[test]
fn options_reach_the_definition() {
    let definition = judge::definition();
    assert_eq!(judge::ID, "judge it");
    assert_eq!(definition.dependencies, ["fetch", "other"]);
    assert_eq!(definition.kind, TaskKind::Async);
    assert_eq!(definition.timeout, Some(1_500_000));
    assert_eq!(definition.priority, Some(-3));
    assert_eq!(definition.max_context_bytes, Some(100));
    assert_eq!(definition.retry.max_attempts, 1);
    assert_eq!(
        definition.retry.backoff,
        Backoff::Linear { multiplier: 1.0 }
    );
    assert_eq!(definition.retry.initial_delay, 5_000);
    assert_eq!(definition.retry.max_delay, 7_000);
    assert!(!definition.retry.jitter);
    assert_eq!(definition.retry.retry_on, ["std::io::Error"]);
    assert_eq!(definition.retry.never_on, ["Abort"]);
    let rule = serde_json::to_value(&definition.rule).unwrap();
    let text = |id: &str| serde_json::json!({ "task": id });
    assert_eq!(
        rule,
        serde_json::json!({ "all_of": { "conditions": [
            { "any_of": { "conditions": [
                { "task_success": text("fetch") }, { "task_failed": text("fetch") }, "one_failed",
            ] } },
            { "none_of": { "conditions": [
                { "context_value": { "key": "n", "operator": "less_than", "value": -1.5 } },
                { "context_value": { "key": "k", "operator": "not_exists", "value": null } },
            ] } },
            { "context_value": { "key": "n", "operator": "greater_than", "value": 80 } },
        ] } })
    );
    assert_eq!(other::definition().rule, TriggerRule::OneSuccess);
}

#[test]
fn workflow_lists_its_tasks_and_has_a_stable_version() {
    let define = || {
        workflow! {
            name: "definition",
            description: "A test",
            tags: { "team": "data", area: "tests" },
            tasks: [
                fetch,
                judge,
                other,
                external_task(id = "report", dependencies = [judge], timeout_ms = 10),
            ],
        }
    };
    let workflow = define();
    assert_eq!(workflow.name(), "definition");
    assert_eq!(workflow.description(), "A test");
    assert_eq!(workflow.tags()["area"], "tests");
    let order: Vec<&str> = workflow.topological_sort().collect();
    assert_eq!(order, ["fetch", "other", "judge it", "report"]);
    assert!(workflow.to_mermaid().contains("[[\"report\"]]"));
    assert_eq!(workflow.version(), define().version());
    assert_eq!(workflow.version().len(), 16);
}

#[test]
fn a4_function_body_changes_the_version_but_comments_do_not() {
    fn one() -> cloacina::Workflow {
        #[task]
        async fn work(context: &mut Context) -> Result<(), TaskError> {
            context.set("n", 1)?;
            Ok(())
        }
        workflow! { name: "body", description: "one", tasks: [work] }
    }
    fn same() -> cloacina::Workflow {
        /// Works.
        #[task]
        async fn work(context: &mut Context) -> Result<(), TaskError> {
            context.set("n", 1)?; // sets
            Ok(())
        }
        workflow! { name: "body", description: "same", tasks: [work] }
    }
    fn other() -> cloacina::Workflow {
        #[task]
        async fn work(context: &mut Context) -> Result<(), TaskError> {
            context.set("n", 2)?;
            Ok(())
        }
        workflow! { name: "body", tasks: [work] }
    }
    assert_eq!(one().version(), same().version());
    assert_ne!(one().version(), other().version());
}

/// The macro and the engine have separate tables of operators, which must agree.
#[test]
fn c2_macro_accepts_every_operator_of_the_engine() {
    macro_rules! check {
        ($($word:tt $(= $value:literal)?),* $(,)?) => {
            $({
                #[task(trigger_rules = context_value("k", $word $(, $value)?))]
                async fn probe(_context: &mut Context) -> Result<(), TaskError> {
                    Ok(())
                }
                let TriggerRule::ContextValue { operator, .. } = probe::definition().rule else {
                    panic!("expected a context_value rule");
                };
                let word = stringify!($word).trim_matches('"');
                assert_eq!(operator, Operator::parse(word).unwrap(), "{word}");
            })*
        };
    }
    check!(
        equals = 1, not_equals = 1, greater_than = 1, greater_or_equal = 1, less_than = 1,
        less_or_equal = 1, contains = 1, not_contains = 1, exists, not_exists, eq = 1, ne = 1,
        gt = 1, ge = 1, gte = 1, lt = 1, le = 1, lte = 1, equal = 1, not_equal = 1,
        greater_than_or_equal = 1, less_than_or_equal = 1, == = 1, != = 1, >= = 1, <= = 1, > = 1,
        < = 1, "==" = 1, "not_equals" = 1,
    );
}
