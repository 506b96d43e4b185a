//! Tests of lists, of failures grouped by cause, of reruns, and of actions on many executions.

use std::sync::Arc;
use std::time::Duration;

use cloacina::runner::{Inspector, ListFilter, Rerun, RerunVersion};
use cloacina::runtime::{Control, SubmitRequest};
use cloacina::types::{
    Audit, Context, ErrorCode, ExecutionId, ExecutionStatus, Labels, SystemClock,
};

use super::support::{
    body, config, define, done, failed, on_each_database, request, start, task, wait,
};

fn audit() -> Audit {
    Audit {
        actor: Some("ann".to_owned()),
        note: Some("because".to_owned()),
    }
}

#[test]
fn lists_have_labels_and_forward_and_backward_cursors() {
    on_each_database(|open| {
        let engine = start(open(), config());
        define(&engine, "etl", vec![(task("a", &[]), body(|_| done()))]);
        let labelled = |number: usize| SubmitRequest {
            labels: Labels::new([("half", if number < 3 { "first" } else { "second" })]).unwrap(),
            ..request("etl")
        };
        let ids = engine.submit((0..6).map(labelled).collect()).unwrap();
        for id in &ids {
            wait(&engine, *id);
        }
        let inspector = engine.inspector();
        let filter = |before, after| ListFilter {
            labels: vec![("half".to_owned(), "first".to_owned())],
            before,
            after,
            limit: 2,
            ..ListFilter::default()
        };
        let of = |page: &cloacina::runner::ListPage| -> Vec<ExecutionId> {
            page.items.iter().map(|item| item.id).collect()
        };
        let first = inspector.list(&filter(None, None)).unwrap();
        assert_eq!(of(&first), [ids[2], ids[1]]);
        assert_eq!((first.next, first.prev), (Some(ids[1]), None));
        assert_eq!(first.items[0].labels.get("half"), Some("first"));
        let second = inspector.list(&filter(first.next, None)).unwrap();
        assert_eq!(of(&second), [ids[0]]);
        assert_eq!((second.next, second.prev), (None, Some(ids[0])));
        let back = inspector.list(&filter(None, second.prev)).unwrap();
        assert_eq!(of(&back), of(&first));
        assert_eq!((back.next, back.prev), (Some(ids[1]), None));
        let submitted = &inspector.history(ids[0]).unwrap().1[0];
        let data = submitted.data.as_ref().unwrap().to_string();
        assert!(data.contains("first"), "{data}");
        engine.stop(Duration::from_secs(1));
    });
}

#[test]
fn failures_are_grouped_by_their_cause() {
    on_each_database(|open| {
        let engine = start(open(), config());
        let fails =
            body(|assignment| failed(&format!("row 4711 of {} is bad", assignment.execution)));
        define(&engine, "etl", vec![(task("a", &[]), fails)]);
        let other = body(|_| failed("another reason"));
        define(&engine, "other", vec![(task("b", &[]), other)]);
        let requests = vec![request("etl"), request("etl"), request("other")];
        let ids = engine.submit(requests).unwrap();
        for id in &ids {
            wait(&engine, *id);
        }
        let groups = engine.inspector().failures(None).unwrap();
        let actual: Vec<_> = (groups.iter())
            .map(|group| (group.workflow.as_str(), group.cause.as_str(), group.count))
            .collect();
        let expected = [
            ("other", "another reason", 1),
            ("etl", "row <n> of <id> is bad", 2),
        ];
        assert_eq!(actual, expected);
        assert_eq!(groups[1].task.as_deref(), Some("a"));
        assert_eq!(groups[1].executions, [ids[1], ids[0]]);
        let counts = engine.inspector().counts().unwrap();
        let failed = counts
            .iter()
            .find(|(status, _)| *status == ExecutionStatus::Failed);
        assert_eq!(failed.unwrap().1.value, 3);
        let now = engine.inspector().now();
        let hour = 3_600_000_000;
        let activity = engine
            .inspector()
            .activity(now + -hour, now + hour, 2)
            .unwrap();
        let submitted: u64 = activity.iter().map(|bucket| bucket.submitted.value).sum();
        let failures: u64 = activity.iter().map(|bucket| bucket.failed.value).sum();
        assert_eq!((submitted, failures), (3, 3));
        engine.stop(Duration::from_secs(1));
    });
}

#[test]
fn rerun_records_the_earlier_execution_and_its_actor() {
    on_each_database(|open| {
        let engine = start(open(), config());
        define(&engine, "etl", vec![(task("a", &[]), body(|_| done()))]);
        let labels = Labels::new([("order", "1")]).unwrap();
        let earlier = SubmitRequest {
            key: Some("key".to_owned()),
            priority: 7,
            labels: labels.clone(),
            ..request("etl")
        };
        let id = engine.submit(vec![earlier]).unwrap()[0];
        wait(&engine, id);
        let inspector = Inspector::new(open(), Arc::new(SystemClock));
        let rerun = Rerun {
            input: Some(Context::from_json(r#"{"day": 2}"#).unwrap()),
            version: RerunVersion::Latest,
            audit: audit(),
            ..Rerun::default()
        };
        let again = inspector.rerun(id, rerun).unwrap();
        assert!(again.is_new);
        let ended = wait(&engine, again.id);
        assert_eq!(ended.record().status, ExecutionStatus::Completed);
        assert_eq!(
            (ended.record().key.as_ref(), ended.record().priority),
            (None, 7)
        );
        assert_eq!(ended.record().input.get("day").unwrap().as_str(), "2");
        assert_eq!(inspector.labels(again.id).unwrap(), labels);
        let (_, history) = inspector.history(again.id).unwrap();
        let origin = history
            .iter()
            .find(|event| event.kind == "rerun_of")
            .unwrap();
        let data = origin.data.as_ref().unwrap().to_string();
        assert!(
            data.contains(&id.to_string()) && data.contains("ann"),
            "{data}"
        );
        let unknown = inspector.rerun(ExecutionId::generate(), Rerun::default());
        assert_eq!(unknown.unwrap_err().code, ErrorCode::ExecutionNotFound);
        engine.stop(Duration::from_secs(1));
    });
}

#[test]
fn action_on_many_executions_has_an_outcome_for_each() {
    on_each_database(|open| {
        let engine = start(open(), config());
        define(&engine, "etl", vec![(task("a", &[]), body(|_| done()))]);
        let later = SubmitRequest {
            start_at: Some(engine.inspector().now() + 3_600_000_000),
            ..request("etl")
        };
        let ids = engine.submit(vec![request("etl"), later]).unwrap();
        wait(&engine, ids[0]);
        let inspector = Inspector::new(open(), Arc::new(SystemClock));
        let unknown = ExecutionId::generate();
        let all = [ids[0], ids[1], unknown];
        let outcomes = inspector.control_many(&all, &Control::CancelOpen, &audit());
        let actual: Vec<_> = (outcomes.into_iter())
            .map(|(_, outcome)| outcome.map_err(|error| error.code))
            .collect();
        let expected = [
            Err(ErrorCode::ExecutionState),
            Ok(ExecutionStatus::Cancelled),
            Err(ErrorCode::ExecutionNotFound),
        ];
        assert_eq!(actual, expected);
        let (_, history) = inspector.history(ids[1]).unwrap();
        let cancelled = history
            .iter()
            .find(|event| event.kind == "cancelled")
            .unwrap();
        let data = cancelled.data.as_ref().unwrap().to_string();
        assert!(data.contains("ann") && data.contains("because"), "{data}");
        engine.stop(Duration::from_secs(1));
    });
}
