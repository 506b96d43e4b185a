//! Cases for stored definitions.

use cloacina::store::{Batch, StoreError};
use cloacina::types::{DefinitionId, ExecutionStatus};
use cloacina::workflow::Workflow;

use crate::world::{NOW, SECOND, Subject, World, record_of, workflow};

pub fn a_stored_version_keeps_its_id_and_updates_its_description(subject: Subject) {
    let store = subject.store;
    let first = workflow("etl", 2);
    let id = store.put_definition(&first, NOW).unwrap();
    assert_eq!(store.put_definition(&first, NOW).unwrap(), id);
    let mut definition = first.definition().clone();
    "now with words".clone_into(&mut definition.description);
    let second = Workflow::new(definition).unwrap();
    assert_eq!(store.put_definition(&second, NOW).unwrap(), id);
    let stored = store.definition(id).unwrap().unwrap();
    assert_eq!(
        (stored.id, stored.workflow.as_str(), stored.version.as_str()),
        (id, "etl", second.version())
    );
    assert_eq!(stored.body, second.stored().as_str());
}

pub fn a_changed_task_makes_a_new_version(subject: Subject) {
    let store = subject.store;
    let first = store.put_definition(&workflow("etl", 2), NOW).unwrap();
    let second = store.put_definition(&workflow("etl", 3), NOW).unwrap();
    assert!(second > first);
    assert_ne!(
        store.definition(first).unwrap().unwrap().version,
        store.definition(second).unwrap().unwrap().version
    );
}

pub fn definitions_after_an_id_are_listed_oldest_first(subject: Subject) {
    let store = subject.store;
    let ids: Vec<DefinitionId> = ["b", "a", "c"]
        .map(|name| store.put_definition(&workflow(name, 1), NOW).unwrap())
        .to_vec();
    let list = |after| -> Vec<DefinitionId> {
        store
            .definitions(DefinitionId(after))
            .unwrap()
            .into_iter()
            .map(|stored| stored.id)
            .collect()
    };
    assert_eq!(list(0), ids);
    assert_eq!(list(ids[0].0), ids[1..]);
    assert_eq!(list(ids[2].0), []);
}

pub fn e8_versions_lists_only_the_newest_and_used_versions(subject: Subject) {
    let world = World::new(subject, 1);
    let put = |tasks| {
        let version = workflow("etl", tasks);
        world.store.put_definition(&version, NOW).unwrap()
    };
    // `versions` also lists the 64 newest versions, even if no execution uses them, because running programs may submit
    // them.
    let later: Vec<DefinitionId> = (2..=65).map(put).collect();
    let list = |after| -> Vec<DefinitionId> {
        let versions = world.store.versions(after).unwrap();
        assert!(versions.iter().all(|version| version.workflow == "etl"));
        versions.into_iter().map(|version| version.id).collect()
    };
    assert_eq!(list(DefinitionId(0)), later);
    assert_eq!(
        list(world.definition),
        later,
        "the versions stored after the given version"
    );
    let mut ended = world.record();
    ended.status = ExecutionStatus::Completed;
    ended.ended_at = Some(NOW);
    world.submit(&ended);
    assert_eq!(list(DefinitionId(0)), later);
    world.submit(&world.ready(&[0]));
    let all: Vec<DefinitionId> = [world.definition].into_iter().chain(later).collect();
    assert_eq!(list(DefinitionId(0)), all);
}

pub fn e8_pruning_deletes_unneeded_old_versions(subject: Subject) {
    let world = World::new(subject, 1);
    world.submit(&world.ready(&[0]));
    let put = |tasks, at| {
        let version = workflow("etl", tasks);
        world.store.put_definition(&version, at).unwrap()
    };
    let unneeded = [put(2, NOW), put(3, NOW)];
    let young = put(4, NOW + SECOND);
    let newest = put(5, NOW);
    let left = || -> Vec<DefinitionId> {
        let all = world.store.definitions(DefinitionId(0)).unwrap();
        all.into_iter().map(|stored| stored.id).collect()
    };
    assert_eq!(
        world.store.prune(NOW, 10).unwrap().definitions,
        0,
        "`before` is exclusive"
    );
    assert_eq!(world.store.prune(NOW + SECOND, 10).unwrap().definitions, 2);
    assert_eq!(left(), [world.definition, young, newest]);
    // A submission of a deleted version is refused until the version is stored again.
    let gone = record_of(unneeded[0], 2, NOW);
    let batch = || Batch {
        submits: vec![world.submission(&gone)],
        ..world.batch()
    };
    let error = world.store.commit(&batch()).unwrap_err();
    assert!(matches!(error, StoreError::DefinitionGone(_)), "{error:?}");
    assert!(put(2, NOW) > newest);
}

pub fn each_version_of_a_definition_is_counted_once(subject: Subject) {
    let store = &subject.store;
    assert_eq!(store.count_definitions().unwrap(), 0);
    for tasks in [1, 2, 2] {
        store.put_definition(&workflow("etl", tasks), NOW).unwrap();
    }
    assert_eq!(store.count_definitions().unwrap(), 2);
}

pub fn an_unknown_definition_is_none(subject: Subject) {
    assert_eq!(subject.store.definition(DefinitionId(7)).unwrap(), None);
}
