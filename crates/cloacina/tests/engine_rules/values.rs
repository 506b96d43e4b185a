//! Tests of the J rules (tasks with typed parameters and results), and of `needs` (E5).

use std::sync::Arc;

use cloacina::engine::{DiagnosisInput, Execution, explain, output, result};
use cloacina::types::{Context, DefinitionId, ErrorCode, ExecutionId, Json, Timestamp};
use cloacina::workflow::{
    Output, Parameter, ParameterSource, TaskDefinition, TriggerRule, Workflow, WorkflowDefinition,
};

use super::{NewExecution, Run, task, workflow};

fn value_task(id: &str, dependencies: &[&str], parameters: Vec<Parameter>) -> TaskDefinition {
    TaskDefinition {
        result: Some(id.to_owned()),
        parameters,
        ..task(id, dependencies)
    }
}

fn parameter(name: &str, source: ParameterSource) -> Parameter {
    Parameter {
        name: name.to_owned(),
        source,
        key: None,
        task: None,
        default: false,
        items: false,
    }
}

fn from_task(name: &str) -> Parameter {
    Parameter {
        task: Some(name.to_owned()),
        ..parameter(name, ParameterSource::Task)
    }
}

fn refusal(definition: WorkflowDefinition) -> (ErrorCode, String) {
    let error = Workflow::new(definition).unwrap_err();
    let hint = error.hint.unwrap_or_default();
    (error.code, format!("{} | {hint}", error.message))
}

#[test]
fn j1_typed_definition_is_stored_and_read_back() {
    let text = r#"{"name":"order","tenant":"public","package":"embedded","description":"","tags":{},"tasks":[
        {"id":"rows","result":"rows","parameters":[{"name":"urls","from":"input"}]},
        {"id":"total","dependencies":["public::embedded::order::rows"],"result":"sum","parameters":[
            {"name":"lines","from":"task","key":"rows","task":"public::embedded::order::rows"},
            {"name":"tax","from":"context","default":true},
            {"name":"smtp","from":"resource"},{"name":"handle","from":"handle"}]}],
        "input":{"type":"object","properties":{"urls":{"type":"array"}}},"output":["sum","urls"],"needs":["map"]}"#;
    let definition: WorkflowDefinition = serde_json::from_str(text).unwrap();
    let workflow = Workflow::new(definition).unwrap();
    let total = workflow.task(1);
    assert_eq!(total.dependencies, ["rows"]);
    assert_eq!(total.parameters[0].task.as_deref(), Some("rows"));
    assert_eq!(total.parameters[0].key(), "rows");
    assert!(total.parameters[1].default);
    let output = workflow.definition().output.as_ref().unwrap();
    assert_eq!(output.keys(), ["sum", "urls"]);
    let read: WorkflowDefinition = serde_json::from_str(workflow.stored().as_str()).unwrap();
    assert_eq!(&read, workflow.definition());
}

#[test]
fn j11_parameters_do_not_change_the_version_but_dependencies_do() {
    let base = workflow(vec![task("a", &[]), task("b", &["a"])]);
    let version = |definition: &WorkflowDefinition| {
        Workflow::new(definition.clone())
            .unwrap()
            .version()
            .to_owned()
    };
    let mut typed = base.clone();
    typed.tasks[0].result = Some("a".into());
    typed.tasks[1].parameters = vec![from_task("a")];
    typed.input = Some(Json::parse(r#"{"type":"object"}"#).unwrap());
    typed.output = Some(Output::One("b".into()));
    assert_eq!(version(&base), version(&typed));
    typed.tasks[1].dependencies.clear();
    typed.tasks[1].parameters.clear();
    assert_ne!(version(&base), version(&typed));
    let plain = Workflow::new(base).unwrap();
    for field in ["result", "parameters", "input", "output", "needs"] {
        assert!(!plain.stored().as_str().contains(&format!("\"{field}\"")));
    }
}

#[test]
fn j6_invalid_result_keys_and_parameters_are_refused() {
    let a = || value_task("a", &[], vec![]);
    let renamed = |id: &str, key: &str| TaskDefinition {
        result: Some(key.to_owned()),
        ..task(id, &[])
    };
    let b = |parameters| value_task("b", &["a"], parameters);
    let keyed = Parameter {
        key: Some("other".into()),
        ..from_task("a")
    };
    let unnamed = parameter("a", ParameterSource::Task);
    let misplaced = Parameter {
        source: ParameterSource::Input,
        ..from_task("a")
    };
    let cases = [
        (
            vec![renamed("a", "x"), renamed("b", "x")],
            "tasks 'a' and 'b' of workflow 'w' both store their result under 'x' | give one",
        ),
        (
            vec![task("b", &[]), renamed("a", "b")],
            "both store their result under 'b'",
        ),
        (
            vec![renamed("a", "")],
            "task 'a' of workflow 'w' has an empty result key",
        ),
        (
            vec![a(), value_task("b", &[], vec![from_task("a")])],
            "has a parameter 'a' from task 'a', which is not a dependency | add 'a'",
        ),
        (
            vec![a(), b(vec![from_task("a"), from_task("a")])],
            "task 'b' of workflow 'w' has two parameters named 'a'",
        ),
        (
            vec![a(), b(vec![keyed])],
            "reads key 'other', but task 'a' stores its result under another key",
        ),
        (
            vec![a(), b(vec![unnamed])],
            "a parameter 'a' that reads the result of a task but does not name the task",
        ),
        (
            vec![a(), b(vec![misplaced])],
            "names task 'a' but has another source",
        ),
    ];
    for (tasks, expected) in cases {
        let (_, message) = refusal(workflow(tasks));
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn j8_unknown_repeated_or_empty_output_is_refused() {
    let with = |tasks: Vec<TaskDefinition>, output: Output| WorkflowDefinition {
        input: Some(Json::parse(r#"{"properties":{"urls":{}}}"#).unwrap()),
        output: Some(output),
        ..workflow(tasks)
    };
    let one = |key: &str| Output::One(key.to_owned());
    let values = || {
        let renamed = TaskDefinition {
            result: Some("sum".into()),
            ..task("b", &[])
        };
        vec![value_task("total", &[], vec![]), renamed]
    };
    for accepted in [one("total"), one("sum"), one("urls")] {
        assert!(Workflow::new(with(values(), accepted)).is_ok());
    }
    // A task that takes the whole context can write any key.
    assert!(Workflow::new(with(vec![task("a", &[])], one("any"))).is_ok());
    let many = |keys: &[&str]| Output::Many(keys.iter().map(|&key| key.to_owned()).collect());
    let cases = [
        (
            one("totl"),
            "has the output 'totl', which is neither the result of a task nor a field of the input | did you mean 'total'?",
        ),
        (one("b"), "did you mean 'sum'?"),
        (many(&[]), "an empty list as output"),
        (many(&["sum", "sum"]), "'sum' twice"),
    ];
    for (output, expected) in cases {
        let (code, message) = refusal(with(values(), output));
        assert_eq!(code, ErrorCode::WorkflowInvalid);
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn j5_input_schema_must_be_an_object() {
    let definition = WorkflowDefinition {
        input: Some(Json::parse("[1]").unwrap()),
        ..workflow(vec![task("a", &[])])
    };
    let (_, message) = refusal(definition);
    assert!(
        message.contains("must be a JSON object, not a JSON array"),
        "{message}"
    );
}

#[test]
fn e5_error_names_the_unknown_mechanism_in_needs() {
    let mut definition = workflow(vec![task("a", &[])]);
    assert_eq!(
        Workflow::new(definition.clone()).unwrap().check_needs(),
        Ok(())
    );
    definition.needs = vec!["telepathy".into()];
    let error = Workflow::new(definition)
        .unwrap()
        .check_needs()
        .unwrap_err();
    assert!(
        error.message.contains("workflow 'w' needs 'telepathy'"),
        "{error}"
    );
}

/// Returns the tasks `rows`, `more` and `total`. `total` reads the results of the other two, and runs even if they fail.
fn join() -> Vec<TaskDefinition> {
    let mut total = value_task(
        "total",
        &["rows", "more"],
        vec![from_task("rows"), from_task("more")],
    );
    total.rule = TriggerRule::AllDone;
    let rows = value_task("rows", &[], vec![]);
    vec![rows, value_task("more", &[], vec![]), total]
}

#[test]
fn j7_result_of_a_task_that_did_not_complete_is_absent() {
    let input = r#"{"rows":"input","day":1}"#;
    let mut run = Run::with_timeout(join(), input, None);
    run.complete("more", r#"{"s":{"more":2}}"#);
    run.fail("rows");
    assert_eq!(run.context_of("total"), r#"{"day":1,"more":2}"#);
    // A task without parameters sees the whole context.
    let mut tasks = join();
    tasks[2].parameters.clear();
    let mut run = Run::with_timeout(tasks, input, None);
    run.complete("more", r#"{"s":{"more":2}}"#);
    run.fail("rows");
    assert_eq!(
        run.context_of("total"),
        r#"{"rows":"input","day":1,"more":2}"#
    );
}

#[test]
fn j7_task_with_one_dependency_sees_results_of_all_ancestors() {
    let tasks = vec![
        value_task("a", &[], vec![]),
        value_task("b", &["a"], vec![from_task("a")]),
        value_task("c", &["b"], vec![from_task("b")]),
    ];
    let mut run = Run::new(tasks);
    run.complete("a", r#"{"s":{"a":null}}"#);
    assert_eq!(run.context_of("b"), r#"{"a":null}"#);
    run.complete("b", r#"{"s":{"b":1}}"#);
    assert_eq!(run.context_of("c"), r#"{"a":null,"b":1}"#);
}

#[test]
fn j8_output_is_the_named_result_or_the_final_context() {
    let with = |keys: Option<Output>| {
        let mut run = Run::with_timeout(join(), r#"{"rows":"input","day":1}"#, None);
        run.complete("more", r#"{"s":{"more":12345678901234567890123}}"#);
        run.fail("rows");
        run.complete("total", r#"{"s":{"total":{"sum":3}}}"#);
        let definition = WorkflowDefinition {
            output: keys,
            ..run.execution.workflow().definition().clone()
        };
        let workflow = Workflow::new(definition).unwrap();
        output(&workflow, run.execution.record()).to_string()
    };
    let one = |key: &str| Some(Output::One(key.to_owned()));
    assert_eq!(with(one("total")), r#"{"sum":3}"#);
    assert_eq!(with(one("more")), "12345678901234567890123");
    // `rows` failed, so the input value under the key `rows` is not used as its result.
    assert_eq!(with(one("rows")), "null");
    let many = Output::Many(vec!["total".to_owned(), "rows".to_owned()]);
    assert_eq!(with(Some(many)), r#"[{"sum":3},null]"#);
    let all = r#"{"rows":"input","day":1,"more":12345678901234567890123,"total":{"sum":3}}"#;
    assert_eq!(with(None), all);
}

#[test]
fn j3_result_is_read_from_the_tasks_result_key() {
    let mut tasks = join();
    tasks[1].result = Some("extra".into());
    tasks[2].parameters.pop();
    let mut run = Run::with_timeout(tasks, r#"{"rows":1}"#, None);
    run.complete("more", r#"{"s":{"extra":[1],"more":2}}"#);
    let result_of = |run: &Run, task| {
        let found = result(run.execution.workflow(), run.execution.record(), task);
        found.map(|json| json.to_string())
    };
    assert_eq!(result_of(&run, 0), None);
    assert_eq!(result_of(&run, 1).as_deref(), Some("[1]"));
    run.fail("rows");
    assert_eq!(result_of(&run, 0), None);
}

#[test]
fn e5_explain_names_the_unknown_mechanism_in_needs() {
    let definition = WorkflowDefinition {
        needs: vec!["telepathy".into()],
        ..workflow(vec![task("a", &[])])
    };
    let new = NewExecution {
        id: ExecutionId::generate(),
        definition: DefinitionId(1),
        input: Arc::new(Context::new()),
        key: None,
        priority: 0,
        start_at: None,
        timeout: None,
    };
    let workflow = Arc::new(Workflow::new(definition).unwrap());
    let (execution, _) = Execution::submit(workflow, new, Timestamp(1));
    let input = DiagnosisInput {
        runners: &[],
        offers: &[],
        running: &[],
        maps: &[],
        now: Timestamp(2),
    };
    let [reason] = &explain(&execution, &input)[..] else {
        panic!("expected one reason");
    };
    let sentence = reason.sentence(Timestamp(2));
    assert!(
        sentence.contains("Workflow 'w' needs 'telepathy'"),
        "{sentence}"
    );
}
