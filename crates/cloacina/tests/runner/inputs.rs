//! Inputs of submissions without a runner, checked against the stored schema of `input=` (semantics J5).

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

/// An inspector of a fresh database.
fn inspector(open: Open<'_>) -> Inspector {
    start(open(), config()).stop(Duration::from_secs(1));
    Inspector::new(open(), Arc::new(SystemClock))
}

/// Stores a version of the workflow, as another program does.
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

fn stored(inspector: &Inspector, id: ExecutionId) -> String {
    inspector.execution(id).unwrap().record().input.to_json()
}

fn count(inspector: &Inspector) -> u64 {
    let counts = inspector.counts().unwrap();
    counts.iter().map(|(_, count)| count.value).sum()
}

#[test]
fn j5_submission_without_a_runner_gets_the_declared_defaults() {
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
fn j5_wrong_submission_without_a_runner_stores_nothing() {
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
            let by_name = inspector.submit_for(submission(input), &audit);
            refused(by_name.unwrap_err(), problem);
            let mut request = request("order");
            request.input = Arc::new(context(input));
            refused(inspector.submit_request(request).unwrap_err(), problem);
            let dry = inspector.check_submission(submission(input));
            refused(dry.unwrap_err(), problem);
        }
        let valid = inspector.check_submission(submission(r#"{"order_id":"x"}"#));
        valid.unwrap();
        let unknown = Submission::new("ordr", cloacina::Context::new());
        let unknown = inspector.check_submission(unknown);
        assert_eq!(unknown.unwrap_err().code, ErrorCode::WorkflowNotFound);
        assert_eq!(count(&inspector), 0);
    });
}

#[test]
fn j5_only_a_new_input_of_a_rerun_is_checked() {
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
        // The message does not quote the value: it may come from the earlier input, which the caller may not read.
        let secret = rerun(Some(r#"{"order_id":"y","token":"hunter2"}"#), Latest);
        let error = secret.unwrap_err();
        assert_eq!(error.code, ErrorCode::WorkflowInputInvalid);
        let expected = "`token`: expected one of ['a', 'b'], got string";
        assert!(error.message.ends_with(expected), "{error}");
        assert_eq!(count(&inspector), 4);
    });
}

#[test]
fn j5_new_schema_of_the_same_version_is_used_at_once() {
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
