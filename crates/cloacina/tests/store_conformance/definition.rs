//! Stored definitions.

use cloacina::types::DefinitionId;
use cloacina::workflow::Workflow;

use crate::world::{NOW, Subject, workflow};

pub fn a_known_version_keeps_its_id_and_gets_the_new_description(subject: Subject) {
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

pub fn definitions_come_oldest_first_and_after_a_given_one(subject: Subject) {
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

pub fn an_unknown_definition_is_none(subject: Subject) {
    assert_eq!(subject.store.definition(DefinitionId(7)).unwrap(), None);
}
