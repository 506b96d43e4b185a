//! Tests that the input of a submission without a runner is checked against the input schema that is stored with the
//! workflow's definition (semantics J5).

use std::sync::Arc;
use std::time::Duration;

use cloacina::runner::RerunVersion::{Latest, Original};
use cloacina::runner::{Inspector, Rerun, RerunVersion, Submission};
use cloacina::types::{Audit, Clock, Context, Error, ErrorCode, ExecutionId, Json, SystemClock};
use cloacina::workflow::{Workflow, WorkflowDefinition};

use super::support::{Open, config, on_each_database, request, start, task};

const ORDER: &str = r#"{
    "type": "object",
    "properties": {
        "order_id": {"type": "string"},
        "tax": {"type": "number", "default": 0.190},
        "token": {"enum": ["a", "b"], "default": "a"}
    },
    "required": ["order_id"]
}"#;

/// Creates the tables of a fresh database and returns an inspector of it.
fn inspector(open: Open<'_>) -> Inspector {
    start(open(), config()).stop(Duration::from_secs(1));
    Inspector::new(open(), Arc::new(SystemClock))
}

/// Stores a version of the workflow `order`, as another program does.
fn define(open: Open<'_>, first_task: &str, schema: Option<&str>) {
    let definition = WorkflowDefinition {
        name: "order".into(),
        tenant: "public".into(),
        package: "embedded".into(),
        tasks: vec![task(first_task, &[])],
        input: schema.map(|schema| Json::parse(schema).unwrap()),
        ..WorkflowDefinition::default()
    };
    let workflow = Workflow::new(definition).unwrap();
    let now = SystemClock.now();
    open().put_definition(&workflow, now).unwrap();
}

fn context(text: &str) -> Context {
    Context::from_json(text).unwrap()
}

fn submission(text: &str) -> Submission {
    Submission::new("order", cloacina::Context::from_json(text).unwrap())
}

/// Returns the stored input of an execution.
fn stored(inspector: &Inspector, id: ExecutionId) -> String {
    inspector.execution(id).unwrap().record().input.to_json()
}

/// Returns the number of all executions.
fn count(inspector: &Inspector) -> u64 {
    let counts = inspector.counts().unwrap();
    counts.iter().map(|(_, count)| count.value).sum()
}

#[test]
fn j5_submission_without_a_runner_has_the_declared_defaults() {
    on_each_database(|open| {
        let inspector = inspector(open);
        define(open, "a", Some(ORDER));
        let input = submission(r#"{"order_id":"x","n":1.10}"#);
        let submitted = inspector.submit(input).unwrap();
        assert_eq!(
            stored(&inspector, submitted.id),
            r#"{"order_id":"x","n":1.10,"tax":0.190,"token":"a"}"#
        );
    });
}

#[test]
fn j5_invalid_input_without_a_runner_stores_nothing() {
    on_each_database(|open| {
        let inspector = inspector(open);
        define(open, "a", Some(ORDER));
        let refused = |error: Error, problem: &str| {
            assert_eq!(error.code, ErrorCode::WorkflowInputInvalid);
            let expected = format!("the input of workflow 'order' is not valid: {problem}");
            assert_eq!(error.message, expected);
        };
        for (input, problem) in [
            ("{}", "the field 'order_id' is missing"),
            (
                r#"{"order_id":3}"#,
                "`order_id`: expected string, got integer",
            ),
            (
                r#"{"order_id":"x","token":"c"}"#,
                "`token`: expected one of ['a', 'b'], got 'c'",
            ),
        ] {
            let audit = Audit::default();
            let by_name = inspector.submit_version(submission(input), None, &audit);
            refused(by_name.unwrap_err(), problem);
            let mut request = request("order");
            request.input = Arc::new(context(input));
            refused(inspector.submit_request(request).unwrap_err(), problem);
            let dry = inspector.check_submission(submission(input), None);
            refused(dry.unwrap_err(), problem);
        }
        let valid = inspector.check_submission(submission(r#"{"order_id":"x"}"#), None);
        valid.unwrap();
        let unknown = Submission::new("ordr", cloacina::Context::new());
        let unknown = inspector.check_submission(unknown, None);
        assert_eq!(unknown.unwrap_err().code, ErrorCode::WorkflowNotFound);
        assert_eq!(count(&inspector), 0);
    });
}

#[test]
fn j5_rerun_checks_its_input_only_if_the_input_is_new() {
    on_each_database(|open| {
        let inspector = inspector(open);
        define(open, "a", None);
        let earlier = inspector.submit(submission("{}")).unwrap().id;
        assert_eq!(stored(&inspector, earlier), "{}");
        define(open, "b", Some(ORDER));
        let rerun = |input: Option<&str>, version: RerunVersion| {
            let rerun = Rerun {
                input: input.map(context),
                version,
                ..Rerun::default()
            };
            inspector.rerun(earlier, rerun)
        };
        let same = rerun(None, Latest).unwrap().id;
        assert_eq!(stored(&inspector, same), "{}");
        let undeclared = rerun(Some(r#"{"order_id":3}"#), Original).unwrap().id;
        assert_eq!(stored(&inspector, undeclared), r#"{"order_id":3}"#);
        let new = rerun(Some(r#"{"order_id":"y","tax":1}"#), Latest);
        assert_eq!(
            stored(&inspector, new.unwrap().id),
            r#"{"order_id":"y","tax":1,"token":"a"}"#
        );
        assert_eq!(count(&inspector), 4);
        // The message does not quote the value. The value can come from the earlier input, and the caller may have no right to
        // read that input.
        let secret = rerun(Some(r#"{"order_id":"y","token":"hunter2"}"#), Latest);
        let error = secret.unwrap_err();
        assert_eq!(error.code, ErrorCode::WorkflowInputInvalid);
        let expected = "`token`: expected one of ['a', 'b'], got string";
        assert!(error.message.ends_with(expected), "{error}");
        assert_eq!(count(&inspector), 4);
    });
}

#[test]
fn j5_changed_schema_of_a_known_version_applies_at_once() {
    on_each_database(|open| {
        let inspector = inspector(open);
        define(open, "a", Some(ORDER));
        let input = r#"{"order_id":"x"}"#;
        let earlier = inspector.submit(submission(input)).unwrap().id;
        define(open, "a", Some(&ORDER.replace("string", "integer")));
        let rerun = |input: &str| {
            let rerun = Rerun {
                input: Some(context(input)),
                ..Rerun::default()
            };
            inspector.rerun(earlier, rerun)
        };
        let errors = [
            rerun(input).unwrap_err(),
            inspector.submit(submission(input)).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.code, ErrorCode::WorkflowInputInvalid);
        }
        rerun(r#"{"order_id":1}"#).unwrap();
        inspector.submit(submission(r#"{"order_id":1}"#)).unwrap();
    });
}
