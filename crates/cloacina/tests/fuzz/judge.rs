//! The properties of any input: nothing panics, accepted input round-trips, every execution ends, and a refusal names its
//! cause. Each function returns the text of the refusal, if the input is refused.

use std::sync::Arc;

use cloacina::engine::schedule::{NewSchedule, cron_of};
use cloacina::engine::{Changes, Execution, Finish, NewExecution, Outcome, TaskLimits};
use cloacina::store::postgres::PostgresOptions;
use cloacina::store::{DatabaseUrl, without_password};
use cloacina::types::{
    Context, DefinitionId, Delta, ExecutionId, Failure, Json, Ordinal, RunnerId, ScheduleId,
    TaskStatus, Timestamp,
};
use cloacina::workflow::{TaskDefinition, TriggerRule, Workflow, WorkflowDefinition};

const LIMITS: TaskLimits = TaskLimits {
    max_context_bytes: 1 << 20,
    max_rescues: 3,
};
const SECRET: &str = "s3cr3tpassw0rd";
const NOW: Timestamp = Timestamp(1_750_000_000_000_000);
/// Maximum number of rounds after which an execution must have ended.
const MOST_ROUNDS: usize = 2_000;

/// Messages that do not quote the input, because the part in question is empty, has quotes or control characters, or may
/// contain a password.
const PARTS: [&str; 14] = [
    "URL has an unknown scheme",
    "URL has an invalid port",
    "URL has a user and a host",
    "URL has no scheme",
    "URL is a libpq keyword list",
    "unknown parameter after its password",
    "URL names no",
    "NUL character",
    "malformed % sequence in its",
    "''",
    "invalid workflow name",
    "invalid package",
    "invalid tenant",
    "unknown SQLite option",
];

/// `Ok` for accepted input, or the message with which it is refused.
pub type Acceptance = Result<(), String>;

/// Asserts that a refusal names its cause: it quotes a part of the input, or gives the position in it.
fn refused(input: &str, error: &impl std::fmt::Display) -> Acceptance {
    let text = error.to_string();
    assert!(
        names_culprit(&text, input),
        "'{input}' is refused with: {text}"
    );
    Err(text)
}

fn names_culprit(text: &str, input: &str) -> bool {
    let has_place = text.contains("column ") || text.contains("position ");
    let has_part = PARTS.iter().any(|part| text.contains(part));
    let quotes = ['\'', '`', '"'].iter().any(|quote| {
        let mut parts = text.split(*quote).skip(1).step_by(2);
        parts.any(|part| !part.is_empty() && input.contains(part))
    });
    has_place || has_part || quotes || input.trim().is_empty()
}

pub fn url(text: &str) -> Acceptance {
    drop(without_password(text));
    match DatabaseUrl::parse(text) {
        Ok(DatabaseUrl::Postgres(url)) => match PostgresOptions::from_url(&url) {
            Ok(_) => Ok(()),
            Err(error) => refused(text, &error),
        },
        Ok(DatabaseUrl::Sqlite(options)) => {
            assert!(!options.location().is_empty());
            Ok(())
        }
        Err(error) => refused(text, &error),
    }
}

/// Asserts that the password of a URL does not appear in any message.
pub fn password(user: &str, rest: &str) -> Acceptance {
    let text = format!("postgresql://{user}:{SECRET}@host/db?{rest}");
    let shown = without_password(&text);
    assert!(!shown.contains(SECRET), "{shown}");
    let told = match DatabaseUrl::parse(&text) {
        Err(error) => format!("{error} {error:?}"),
        Ok(_) => match PostgresOptions::from_url(&text) {
            Err(error) => format!("{error} {error:?}"),
            Ok(_) => return Ok(()),
        },
    };
    assert!(!told.contains(SECRET), "{told}");
    Err(told)
}

pub fn cron(text: &str, zone: &str) -> Acceptance {
    let new = NewSchedule::new("any", text, zone);
    let record = match new.record(ScheduleId::from_bytes([1; 16]), NOW) {
        Ok(record) => record,
        Err(error) => return refused(&format!("{text} {zone}"), &error),
    };
    let cron = cron_of(&record).expect("an accepted expression parses again");
    let mut last = NOW;
    for time in cron.preview(NOW, 5) {
        assert!(time.at > last, "'{text}' fires at {} after {last}", time.at);
        assert_eq!(cron.next_after(last), Some(time.at), "'{text}'");
        assert_eq!(cron.last_between(last, time.at), Some(time.at), "'{text}'");
        last = time.at;
    }
    assert!(last > NOW, "'{text}' was accepted and never fires");
    Ok(())
}

pub fn context(text: &str) -> Acceptance {
    drop(Json::parse(text));
    drop(Delta::from_json(text));
    match Context::from_json(text) {
        Ok(context) => {
            assert_eq!(Context::from_json(&context.to_json()), Ok(context));
            Ok(())
        }
        Err(error) => refused(text, &error),
    }
}

pub fn rule(text: &str) -> Acceptance {
    let rule = match serde_json::from_str::<TriggerRule>(text) {
        Ok(rule) => rule,
        Err(error) => return refused(text, &error),
    };
    let task = |id: &str, dependencies: &[&str]| TaskDefinition {
        id: id.to_owned(),
        dependencies: dependencies.iter().map(|&id| id.to_owned()).collect(),
        ..TaskDefinition::default()
    };
    let tasks = vec![
        task("a", &[]),
        task("b", &[]),
        TaskDefinition {
            rule,
            ..task("c", &["a", "b"])
        },
        task("d", &["c"]),
    ];
    let definition = WorkflowDefinition {
        name: "ruled".to_owned(),
        tenant: "public".to_owned(),
        package: "embedded".to_owned(),
        tasks,
        ..WorkflowDefinition::default()
    };
    accept(text, definition)
}

pub fn definition(text: &str) -> Acceptance {
    match serde_json::from_str::<WorkflowDefinition>(text) {
        Ok(definition) => accept(text, definition),
        Err(error) => refused(text, &error),
    }
}

/// Checks that a definition is refused with a reason, or can be stored, read and run, however its tasks end.
fn accept(text: &str, definition: WorkflowDefinition) -> Acceptance {
    let workflow = match Workflow::new(definition) {
        Ok(workflow) => Arc::new(workflow),
        Err(error) => return refused(text, &error),
    };
    let stored: WorkflowDefinition = workflow
        .stored()
        .decode()
        .expect("a stored definition can be read");
    let again = Workflow::new(stored).expect("an accepted definition is accepted again");
    assert_eq!(again.definition(), workflow.definition());
    assert_eq!(again.version(), workflow.version());
    for pattern in 0..4 {
        run(&workflow, pattern);
    }
    Ok(())
}

/// Runs an execution to its end. The bits of `pattern` decide which of its tasks fail.
fn run(workflow: &Arc<Workflow>, pattern: u32) {
    let new = NewExecution {
        id: ExecutionId::generate(),
        definition: DefinitionId(1),
        input: Arc::new(Context::new()),
        key: None,
        priority: 0,
        start_at: None,
        timeout: None,
    };
    let (runner, mut now) = (RunnerId::generate(), NOW);
    let (mut execution, _) = Execution::submit(Arc::clone(workflow), new, now);
    for _ in 0..MOST_ROUNDS {
        if execution.record().status.is_terminal() {
            return;
        }
        let due = execution.record().tasks.iter();
        let due = due.filter(|task| task.status == TaskStatus::Ready);
        now = due.filter_map(|task| task.ready_at).fold(now, Ord::max) + 1;
        let mut started = false;
        for task in 0..Ordinal::try_from(workflow.len()).expect("few") {
            let mut changes = Changes::default();
            if let Some(claim) = execution.claim(task, runner, now, &mut changes) {
                started = true;
                let finish = Finish {
                    task,
                    claim,
                    started_at: None,
                    outcome: outcome(workflow, task, pattern),
                };
                let _ = execution.finish(finish, LIMITS, now, 0.5);
            }
        }
        assert!(
            started || execution.record().status.is_terminal(),
            "an execution has no ready task and has not ended: {:?}",
            execution.record()
        );
    }
    // A retry policy may allow more attempts than there are rounds.
    let most = workflow.definition().tasks.iter();
    let most = most.map(|task| task.retry.max_attempts as usize).max();
    assert!(
        most.is_some_and(|most| most > MOST_ROUNDS / workflow.len()),
        "an execution does not end: {:?}",
        execution.record()
    );
}

fn outcome(workflow: &Workflow, task: Ordinal, pattern: u32) -> Outcome {
    if task & pattern != 0 {
        return Outcome::Failed(Failure {
            kind: "ValueError".into(),
            message: "on purpose".into(),
            traceback: None,
            retryable: true,
            lineage: Vec::new(),
        });
    }
    let mut delta = Delta::default();
    let value = Json::parse("[1, \"x\"]").expect("the text is JSON");
    let id = workflow.task(task).id.clone();
    delta.set.insert(id.into(), value);
    Outcome::Completed(Arc::new(delta))
}
