//! Checks golden vectors in `tests/golden`. The Python tests check the same files, except `identities.json` and
//! `queues.json`.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use cloacina::engine::cron::Cron;
use cloacina::engine::schedule::NewSchedule;
use cloacina::engine::{RuleInput, evaluate, retry_delay};
use cloacina::types::{
    Context, DefinitionId, Delta, ExecutionId, ExecutionRecord, ExecutionStatus, Json, RetryPolicy,
    ScheduleId, Skip, SkipCause, TaskRecord, TaskStatus, Timestamp, Write, merge_writes,
};
use cloacina::workflow::{TaskDefinition, TriggerRule, Workflow, WorkflowDefinition};
use serde::Deserialize;
use serde::de::DeserializeOwned;

fn read<T: DeserializeOwned>(name: &str) -> T {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
    let text = std::fs::read_to_string(folder.join(name)).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn identity_of_a_schedule_is_json() {
    #[derive(Deserialize)]
    struct Vector {
        workflow: String,
        expression: String,
        timezone: String,
        instance: Option<String>,
        identity: String,
    }
    for vector in read::<Vec<Vector>>("identities.json") {
        let mut new = NewSchedule::new(&vector.workflow, &vector.expression, &vector.timezone);
        new.instance = vector.instance;
        let record = new.record(ScheduleId::from_bytes([7; 16]), Timestamp(0));
        assert_eq!(record.unwrap().identity, vector.identity);
    }
}

#[test]
fn queue_numbers_never_change() {
    #[derive(Deserialize)]
    struct Vector {
        definition: WorkflowDefinition,
        queues: Vec<i64>,
    }
    for vector in read::<Vec<Vector>>("queues.json") {
        let workflow = Workflow::new(vector.definition).unwrap();
        let queues: Vec<i64> = (0..)
            .zip(&vector.queues)
            .map(|(task, _)| workflow.queue(task))
            .collect();
        assert_eq!(queues, vector.queues);
    }
}

#[test]
fn b1_context_keeps_the_exact_text() {
    #[derive(Deserialize)]
    struct Vector {
        text: String,
        kept: Option<String>,
    }
    for Vector { text, kept } in read::<Vec<Vector>>("contexts.json") {
        let context = Context::from_json(&text).ok();
        assert_eq!(context.map(|context| context.to_json()), kept, "{text}");
    }
}

#[test]
fn b2_delta_changes_one_context_into_another() {
    #[derive(Deserialize)]
    struct Vector {
        before: Context,
        after: Context,
        delta: String,
    }
    for vector in read::<Vec<Vector>>("deltas.json") {
        let delta = vector.before.delta_to(&vector.after);
        assert_eq!(delta.to_json(), vector.delta);
        let mut applied = vector.before;
        applied.apply(&Delta::from_json(&vector.delta).unwrap());
        assert_eq!(applied, vector.after);
    }
}

#[test]
fn b3_merges_are_deterministic() {
    #[derive(Deserialize)]
    struct Vector {
        input: Option<String>,
        values: Vec<String>,
        merged: String,
    }
    let parse = |text: &String| Json::parse(text).unwrap();
    for Vector {
        input,
        values,
        merged,
    } in read::<Vec<Vector>>("merges.json")
    {
        let parsed: Vec<Json> = values.iter().map(parse).collect();
        let write = |(place, value)| Write {
            place,
            seen: &[],
            value: Some(value),
        };
        let writes: Vec<Write> = parsed.iter().enumerate().map(write).collect();
        let result = merge_writes(input.as_ref().map(parse).as_ref(), &writes).unwrap();
        assert_eq!(result.as_str(), merged, "{input:?} {values:?}");
    }
}

#[derive(Deserialize)]
struct RuleFile {
    context: Context,
    dependencies: BTreeMap<String, String>,
    rules: Vec<RuleVector>,
}

#[derive(Deserialize)]
struct RuleVector {
    rule: TriggerRule,
    end: String,
}

fn record(workflow: &Workflow, statuses: &BTreeMap<String, String>) -> ExecutionRecord {
    let tasks = workflow.definition().tasks.iter().map(|task| {
        let mut record = TaskRecord::pending();
        if let Some(status) = statuses.get(&task.id) {
            record.status = status.parse().unwrap();
            record.skip = (record.status == TaskStatus::Skipped).then(|| Skip {
                cause: SkipCause::Rule,
                reason: String::new(),
            });
        }
        record
    });
    ExecutionRecord {
        id: ExecutionId::generate(),
        definition: DefinitionId(1),
        revision: 1,
        status: ExecutionStatus::Running,
        priority: 0,
        key: None,
        input: Arc::new(Context::new()),
        created_at: Timestamp(0),
        start_at: None,
        started_at: None,
        ended_at: None,
        timeout: None,
        deadline: None,
        paused_at: None,
        parent: None,
        finale: None,
        error: None,
        tasks: tasks.collect(),
    }
}

#[test]
fn c2_rules_evaluate_the_same_in_both_languages() {
    let RuleFile {
        context,
        dependencies,
        rules,
    } = read("rules.json");
    for RuleVector { rule, end } in rules {
        let names = dependencies.keys().cloned();
        let mut tasks: Vec<TaskDefinition> = names
            .clone()
            .map(|id| TaskDefinition {
                id,
                ..TaskDefinition::default()
            })
            .collect();
        tasks.push(TaskDefinition {
            id: "judged".to_owned(),
            dependencies: names.collect(),
            rule: rule.clone(),
            ..TaskDefinition::default()
        });
        let workflow = definition(tasks);
        let record = record(&workflow, &dependencies);
        let input = RuleInput {
            workflow: &workflow,
            record: &record,
            task: 3,
            view: Some(&context),
        };
        let judged = match evaluate(&rule, &input) {
            Ok(true) => "Completed",
            Ok(false) => "Skipped",
            Err(_) => "Failed",
        };
        assert_eq!(judged, end, "{rule:?}");
    }
}

fn definition(tasks: Vec<TaskDefinition>) -> Workflow {
    Workflow::new(WorkflowDefinition {
        name: "golden".into(),
        tenant: "public".into(),
        package: "embedded".into(),
        tasks,
        ..WorkflowDefinition::default()
    })
    .unwrap()
}

#[test]
fn d1_delays_follow_the_policy() {
    #[derive(Deserialize)]
    struct Vector {
        policy: RetryPolicy,
        attempt: u32,
        delay_us: i64,
    }
    for vector in read::<Vec<Vector>>("delays.json") {
        let Vector {
            policy,
            attempt,
            delay_us,
        } = vector;
        assert_eq!(
            retry_delay(&policy, attempt, 0.5),
            delay_us,
            "{policy:?} {attempt}"
        );
    }
}

#[test]
fn f1_ticks_have_the_same_instants_in_both_languages() {
    #[derive(Deserialize)]
    struct Vector {
        expression: String,
        timezone: String,
        after: String,
        times: Vec<String>,
    }
    let read_time = |text: &String| chrono::DateTime::parse_from_rfc3339(text).unwrap();
    for vector in read::<Vec<Vector>>("ticks.json") {
        let cron = Cron::parse(&vector.expression, &vector.timezone).unwrap();
        let after = Timestamp(read_time(&vector.after).timestamp_micros());
        let times = cron.preview(after, vector.times.len());
        let computed: Vec<(i64, i32)> = times
            .iter()
            .map(|time| (time.at.0, time.offset_seconds))
            .collect();
        let golden: Vec<(i64, i32)> = vector
            .times
            .iter()
            .map(read_time)
            .map(|time| (time.timestamp_micros(), time.offset().local_minus_utc()))
            .collect();
        assert_eq!(
            computed, golden,
            "{} {}",
            vector.expression, vector.timezone
        );
    }
}

#[test]
fn a4_versions_never_change() {
    #[derive(Deserialize)]
    struct Vector {
        definition: WorkflowDefinition,
        version: String,
    }
    for Vector {
        definition,
        version,
    } in read::<Vec<Vector>>("versions.json")
    {
        let workflow = Workflow::new(definition).unwrap();
        assert_eq!(workflow.version(), version, "{:?}", workflow.definition());
    }
}
