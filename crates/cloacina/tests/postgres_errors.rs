//! Tests of the errors of the PostgreSQL store: the server's errors are classified by SQLSTATE, whatever the language of their
//! messages, and invalid values and batches are refused. One test counts the statements of a large submission.

#![cfg(feature = "postgres")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/private_postgres.rs"]
#[expect(dead_code, reason = "other test programs use the rest")]
mod private_postgres;
#[path = "support/records.rs"]
#[expect(dead_code, reason = "other test programs use the rest")]
mod records;

use std::cell::Cell;

use cloacina::store::postgres::{PostgresOptions, PostgresStore};
use cloacina::store::{Batch, ClaimRequest, Store, StoreError, Submit, SubmitOutcome};
use cloacina::types::{DefinitionId, ExecutionRecord, RunnerId};
use diesel::connection::{Instrumentation, InstrumentationEvent, set_default_instrumentation};
use private_postgres::{administer, fresh_name, shared};
use records::{NOW, record_of, workflow};

struct World {
    schema: String,
    store: PostgresStore,
    definition: DefinitionId,
}

impl World {
    fn new() -> Self {
        Self::at(shared())
    }

    /// Creates a fresh schema in the database at this URL.
    fn at(url: &str) -> Self {
        let schema = fresh_name();
        let options = PostgresOptions::from_url(url).unwrap();
        let store = PostgresStore::open(&options.with_schema(&schema).unwrap()).unwrap();
        let definition = store.put_definition(&workflow("etl", 1), NOW).unwrap();
        Self {
            schema,
            store,
            definition,
        }
    }

    fn record(&self, key: Option<String>) -> ExecutionRecord {
        ExecutionRecord {
            key,
            ..record_of(self.definition, 1, NOW)
        }
    }

    fn submit(
        &self,
        records: &[ExecutionRecord],
        workflow: &str,
    ) -> Result<Vec<SubmitOutcome>, StoreError> {
        let submits = records.iter().map(|record| Submit {
            record,
            workflow,
            labels: &cloacina::types::Labels::NONE,
            tasks: vec![],
            history: &[],
        });
        let batch = Batch {
            runner: RunnerId::generate(),
            now: NOW,
            schedules: vec![],
            flow: cloacina::store::FlowWrites::default(),
            submits: submits.collect(),
            advances: vec![],
            claim: ClaimRequest::default(),
        };
        self.store.commit(&batch).map(|committed| committed.submits)
    }

    /// Makes every submission fail with an error that a trigger raises in the server.
    fn raise(&self, state: &str, message: &str) {
        let schema = &self.schema;
        administer(
            shared(),
            &format!(
                "CREATE OR REPLACE FUNCTION {schema}.fail() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN \
                 RAISE EXCEPTION USING ERRCODE = '{state}', MESSAGE = '{message}'; END$$; \
                 CREATE OR REPLACE TRIGGER fail BEFORE INSERT ON {schema}.cloacina_executions \
                 FOR EACH ROW EXECUTE FUNCTION {schema}.fail()"
            ),
        );
    }
}

#[test]
fn errors_are_classified_by_sqlstate_in_any_language() {
    let world = World::new();
    let unavailable: fn(&StoreError) -> bool = |error| matches!(error, StoreError::Unavailable(_));
    let failed: fn(&StoreError) -> bool = |error| matches!(error, StoreError::Failed(_));
    let refused: fn(&StoreError) -> bool = |error| matches!(error, StoreError::Refused(_));
    let corrupt: fn(&StoreError) -> bool = |error| matches!(error, StoreError::Corrupt(_));
    let cases = [
        ("40P01", "Verklemmung entdeckt", unavailable, ""),
        ("40001", "kann Zugriff nicht serialisieren", unavailable, ""),
        (
            "55P03",
            "storniere Anfrage wegen Zeitüberschreitung einer Sperre",
            unavailable,
            "",
        ),
        (
            "57014",
            "storniere Anfrage wegen Zeitüberschreitung",
            unavailable,
            "",
        ),
        (
            "53300",
            "tut mir leid, schon zu viele Verbindungen",
            unavailable,
            "",
        ),
        (
            "53100",
            "konnte Datei nicht erweitern",
            failed,
            "free some space",
        ),
        (
            "42501",
            "keine Berechtigung für Tabelle",
            failed,
            "grant the missing privilege",
        ),
        (
            "25006",
            "nicht in einer Read-Only-Transaktion",
            failed,
            "connect to the primary",
        ),
        (
            "26000",
            "vorbereitete Anweisung existiert nicht",
            failed,
            "pgbouncer=true",
        ),
        (
            "22P05",
            "Zeichen hat keine Entsprechung",
            refused,
            "cannot store a value",
        ),
        (
            "54000",
            "Programmlimit überschritten",
            refused,
            "cannot store a value",
        ),
        (
            "23514",
            "neue Zeile verletzt eine Bedingung",
            corrupt,
            "refused a row",
        ),
    ];
    for (state, message, is_expected, text) in cases {
        world.raise(state, message);
        let error = world.submit(&[world.record(None)], "etl").unwrap_err();
        assert!(is_expected(&error), "{state}: {error:?}");
        let shown = error.to_string();
        assert!(shown.contains(message) && shown.contains(text), "{shown}");
    }
}

#[test]
fn message_texts_do_not_affect_classification() {
    let world = World::new();
    world.raise("P0001", "deadlock detected: \"cloacina:runner\"");
    let error = world.submit(&[world.record(None)], "etl").unwrap_err();
    assert!(matches!(error, StoreError::Failed(_)), "{error:?}");
}

#[test]
fn a_value_outside_the_database_encoding_is_refused() {
    let name = fresh_name();
    administer(
        shared(),
        &format!("CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0"),
    );
    let mut url = shared().to_owned();
    let path = url.rfind('/').unwrap();
    let end = url[path..].find('?').map_or(url.len(), |at| path + at);
    url.replace_range(path + 1..end, &name);
    let world = World::at(&url);
    let bad = world.record(Some("日本".to_owned()));
    let good = world.record(Some("größe".to_owned()));
    let error = world.submit(&[good.clone(), bad], "etl").unwrap_err();
    assert!(matches!(error, StoreError::Refused(_)), "{error:?}");
    assert_eq!(world.store.load(&[good.id]).unwrap(), []);
    let verdicts = world.submit(&[good], "etl").unwrap();
    assert_eq!(verdicts, [SubmitOutcome::Accepted]);
}

#[test]
fn a_batch_over_the_message_limit_is_not_sent() {
    let world = World::new();
    // The name is in the batch once for each record.
    let name = "x".repeat(10_000_000);
    let records: Vec<ExecutionRecord> = (0..101).map(|_| world.record(None)).collect();
    let error = world.submit(&records, &name).unwrap_err();
    assert!(matches!(error, StoreError::TooLarge(_)), "{error:?}");
    // The connection still works, so a smaller batch can be committed.
    world.submit(&records[..1], "etl").unwrap();
}

thread_local! {
    /// The number of SQL statements that this thread has run.
    static STATEMENTS: Cell<usize> = const { Cell::new(0) };
}

#[expect(clippy::unnecessary_wraps, reason = "Diesel requires this signature")]
fn counting() -> Option<Box<dyn Instrumentation>> {
    Some(Box::new(|event: InstrumentationEvent<'_>| {
        if let InstrumentationEvent::StartQuery { .. } = event {
            STATEMENTS.set(STATEMENTS.get() + 1);
        }
    }))
}

#[test]
fn resubmitting_ten_thousand_keys_takes_at_most_four_statements() {
    set_default_instrumentation(counting).unwrap();
    let world = World::new();
    let records = |world: &World| -> Vec<ExecutionRecord> {
        let key = |index| world.record(Some(format!("key {index}")));
        (0..10_000).map(key).collect()
    };
    let first = records(&world);
    world.submit(&first, "etl").unwrap();
    let before = STATEMENTS.get();
    let verdicts = world.submit(&records(&world), "etl").unwrap();
    let statements = STATEMENTS.get() - before;
    let expected: Vec<SubmitOutcome> = first
        .iter()
        .map(|record| SubmitOutcome::Duplicate(record.id))
        .collect();
    assert_eq!(verdicts, expected);
    assert!(statements <= 4, "{statements} statements");
}
