//! Tests of the registry: which versions stay in memory, from which queues the runner claims, and which tasks are excluded.

use super::*;

const HANDLER: Handler = Handler {
    executor: Executor::Threads,
    token: 1,
    on_success: false,
    on_failure: false,
};

/// Returns a version of a workflow that has tasks of the given kinds.
fn workflow(version: i64, tasks: &[(&str, TaskKind)]) -> Arc<Workflow> {
    let tasks = tasks.iter().map(|(id, kind)| TaskDefinition {
        id: (*id).to_owned(),
        kind: *kind,
        fingerprint: version.to_string(),
        ..TaskDefinition::default()
    });
    let definition = WorkflowDefinition {
        name: "etl".to_owned(),
        tenant: "public".to_owned(),
        package: "embedded".to_owned(),
        tasks: tasks.collect(),
        ..WorkflowDefinition::default()
    };
    Arc::new(Workflow::new(definition).expect("the workflow is valid"))
}

fn registration(workflow: Arc<Workflow>, tasks: &[&str]) -> Registration {
    let handlers = tasks.iter().map(|task| ((*task).to_owned(), HANDLER));
    Registration {
        workflow,
        handlers: handlers.collect(),
    }
}

#[test]
fn b8_program_with_one_external_task_claims_only_from_its_queue() {
    let kinds = [("a", TaskKind::External), ("b", TaskKind::External)];
    let mut registry = Registry::default();
    let task = workflow(1, &kinds).task(1).clone();
    let service = Service {
        workflow: "etl".to_owned(),
        tasks: vec![(task, HANDLER)],
    };
    registry.serve(service).expect("nothing contradicts it");
    for version in 1..5 {
        let id = DefinitionId(version);
        registry.add_definition(id, workflow(version, &kinds));
    }
    let class = &registry.classes()[Executor::Threads.index()];
    assert_eq!(class.queues, [QueueId::of(&workflow(1, &kinds), 1)]);
    assert_eq!(class.excluded, []);
}

#[test]
fn thousand_versions_use_bounded_memory_and_the_same_queues() {
    let kinds = [("a", TaskKind::Sync), ("b", TaskKind::Async)];
    let mut registry = Registry::default();
    for version in 1..=1_000 {
        let id = DefinitionId(version);
        registry.register(id, registration(workflow(version, &kinds), &["a", "b"]));
    }
    assert!(registry.definitions.len() <= 2 * FIRST_SWEEP);
    let class = &registry.classes()[Executor::Threads.index()];
    assert_eq!((class.queues.len(), class.excluded.len()), (2, 0));
}

#[test]
fn version_stays_in_memory_while_an_execution_refers_to_it() {
    let kinds = [("a", TaskKind::Sync)];
    let mut registry = Registry::default();
    let held = workflow(0, &kinds);
    registry.add_definition(DefinitionId(1), Arc::clone(&held));
    for version in 2..1_000 {
        let id = DefinitionId(version);
        registry.add_definition(id, workflow(version, &kinds));
    }
    assert!(registry.definition(DefinitionId(1)).is_some());
    assert!(registry.definition(DefinitionId(2)).is_none());
}

#[test]
fn e5_tasks_without_a_handler_are_excluded_by_version() {
    let kinds = [("a", TaskKind::Sync), ("gone", TaskKind::Sync)];
    let mut registry = Registry::default();
    registry.register(
        DefinitionId(2),
        registration(workflow(1, &kinds[..1]), &["a"]),
    );
    let former = workflow(0, &kinds);
    registry.add_definition(DefinitionId(1), Arc::clone(&former));
    let excluded = |registry: &mut Registry| {
        registry.classes()[Executor::Threads.index()]
            .excluded
            .clone()
    };
    assert_eq!(excluded(&mut registry), [(DefinitionId(1), 1)]);
    // A task that was excluded after a claim stays excluded when its version is dropped, until the handlers change.
    registry.exclude(&former, DefinitionId(7), 1);
    assert_eq!(
        excluded(&mut registry),
        [(DefinitionId(1), 1), (DefinitionId(7), 1)]
    );
    registry.register(
        DefinitionId(3),
        registration(workflow(3, &kinds), &["a", "gone"]),
    );
    assert_eq!(excluded(&mut registry), []);
}

#[test]
fn e5_version_with_an_unknown_need_is_left_to_other_runners() {
    let kinds = [("a", TaskKind::Sync), ("b", TaskKind::Sync)];
    let mut registry = Registry::default();
    registry.register(
        DefinitionId(1),
        registration(workflow(1, &kinds), &["a", "b"]),
    );
    let mut definition = workflow(2, &kinds).definition().clone();
    definition.needs = vec!["telepathy".to_owned()];
    let newer = Workflow::new(definition).unwrap();
    let stored = StoredDefinition {
        id: DefinitionId(2),
        workflow: newer.name().to_owned(),
        version: newer.version().to_owned(),
        body: newer.stored().to_string(),
    };
    for _ in 0..2 {
        let error = registry.add_stored(&stored).unwrap_err();
        assert!(error.message.contains("needs 'telepathy'"), "{error}");
    }
    assert!(registry.definition(DefinitionId(2)).is_none());
    let class = &registry.classes()[Executor::Threads.index()];
    assert_eq!(class.excluded, [(DefinitionId(2), 0), (DefinitionId(2), 1)]);
    // A new execution would run this program's version. Without a registration it would run the stored
    // version, which cannot be used, so the submission is refused.
    assert_eq!(registry.refusal(newer.name()), None);
    registry.registrations.clear();
    registry
        .newest
        .insert(newer.name().to_owned(), DefinitionId(2));
    assert!(registry.refusal(newer.name()).is_some());
}
