//! Checks properties that hold for any input: nothing panics, accepted input round-trips, every execution ends, and a refusal
//! names its cause. Each check returns the message of the refusal if the input is refused.

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
/// The maximum number of rounds of an execution. In each round all ready tasks run once.
const MAX_ROUNDS: usize = 2_000;

/// Parts of messages that do not quote the input, because the invalid text is empty, has quotes or control characters, or can
/// contain a password.
const UNQUOTED: [&str; 14] = [
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

/// `Ok` if the input is accepted. Otherwise the message of the refusal.
pub type Acceptance = Result<(), String>;

/// Asserts that a refusal names its cause: the message quotes a part of the input, or gives a position in the input.
fn refused(input: &str, error: &impl std::fmt::Display) -> Acceptance {
    let text = error.to_string();
    assert!(
        names_cause(&text, input),
        "'{input}' is refused with: {text}"
    );
    Err(text)
}

fn names_cause(text: &str, input: &str) -> bool {
    let has_position = text.contains("column ") || text.contains("position ");
    let is_unquoted = UNQUOTED.iter().any(|part| text.contains(part));
    let quotes = ['\'', '`', '"'].iter().any(|quote| {
        let mut parts = text.split(*quote).skip(1).step_by(2);
        parts.any(|part| !part.is_empty() && input.contains(part))
    });
    has_position || is_unquoted || quotes || input.trim().is_empty()
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

/// Asserts that the message of a refused URL does not contain the URL's password.
pub fn password(user: &str, rest: &str) -> Acceptance {
    let text = format!("postgresql://{user}:{SECRET}@host/db?{rest}");
    let shown = without_password(&text);
    assert!(!shown.contains(SECRET), "{shown}");
    let message = match DatabaseUrl::parse(&text) {
        Err(error) => format!("{error} {error:?}"),
        Ok(_) => match PostgresOptions::from_url(&text) {
            Err(error) => format!("{error} {error:?}"),
            Ok(_) => return Ok(()),
        },
    };
    assert!(!message.contains(SECRET), "{message}");
    Err(message)
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
    assert!(last > NOW, "'{text}' was accepted but never fires");
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

/// Checks that a definition is refused with a reason, or that it can be stored, read, and run with several patterns of failing
/// tasks.
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

/// Runs an execution until it ends. A task fails if its ordinal and `pattern` have a common bit.
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
    for _ in 0..MAX_ROUNDS {
        if execution.record().status.is_terminal() {
            return;
        }
        let due = execution.record().tasks.iter();
        let due = due.filter(|task| task.status == TaskStatus::Ready);
        now = due.filter_map(|task| task.ready_at).fold(now, Ord::max) + 1;
        let mut started = false;
        for task in 0..Ordinal::try_from(workflow.len()).expect("the number of tasks is small") {
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
    // The execution has not ended. This is allowed only if a retry policy permits more attempts than fit into the rounds.
    let most = workflow.definition().tasks.iter();
    let most = most.map(|task| task.retry.max_attempts as usize).max();
    assert!(
        most.is_some_and(|most| most > MAX_ROUNDS / workflow.len()),
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
