//! What users feed in, at random: no input panics, and what is accepted comes back the same.
#![cfg(all(feature = "sqlite", feature = "postgres"))]

use cloacina::store::postgres::PostgresOptions;
use cloacina::store::{DatabaseUrl, without_password};
use cloacina::types::{Context, Delta, Json};
use cloacina::workflow::{Workflow, WorkflowDefinition};
use proptest::prelude::*;

/// Text made of the pieces that matter to a parser, and of any other.
fn pieces(known: &'static [&'static str]) -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => proptest::sample::select(known).prop_map(str::to_owned),
        1 => "\\PC{0,6}",
        1 => any::<char>().prop_map(String::from),
    ];
    proptest::collection::vec(piece, 0..10).prop_map(|pieces| pieces.concat())
}

const URL: &[&str] = &[
    "sqlite",
    "postgresql",
    "postgres",
    "://",
    "/",
    "//",
    ":",
    "@",
    "?",
    "&",
    "=",
    "%",
    "%2",
    "%zz",
    "%00",
    "[",
    "::1",
    "]",
    "localhost",
    "5432",
    ":memory:",
    "mode",
    "ro",
    "sslmode",
    "verify-full",
    "synchronous",
    "options",
    "host",
    "secret",
    ",",
    " ",
    "'",
    "\\",
];

const DEFINITION: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"name\"",
    "\"tasks\"",
    "\"id\"",
    "\"a\"",
    "\"dependencies\"",
    "\"rule\"",
    "\"none_failed\"",
    "\"all_of\"",
    "\"conditions\"",
    "\"retry\"",
    "null",
    "1",
    "-1",
    "1e400",
    "\"\"",
    "\"timeout\"",
    "\"priority\"",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_url_panics_and_no_error_tells_its_password(text in pieces(URL)) {
        drop(without_password(&text));
        match DatabaseUrl::parse(&text) {
            Ok(DatabaseUrl::Postgres(url)) => drop(PostgresOptions::from_url(&url)),
            Ok(DatabaseUrl::Sqlite(options)) => drop(options.location()),
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }

    #[test]
    fn a_password_never_shows(user in "[a-z]{1,8}", rest in pieces(URL)) {
        let secret = "s3cr3tpassw0rd";
        let text = format!("postgresql://{user}:{secret}@host/db?{rest}");
        prop_assert!(!without_password(&text).contains(secret), "{}", without_password(&text));
        if let Err(error) = DatabaseUrl::parse(&text) {
            prop_assert!(!format!("{error} {error:?}").contains(secret), "{error:?}");
        } else if let Err(error) = PostgresOptions::from_url(&text) {
            prop_assert!(!format!("{error} {error:?}").contains(secret), "{error:?}");
        }
    }

    #[test]
    fn no_definition_panics(text in pieces(DEFINITION)) {
        if let Ok(definition) = serde_json::from_str::<WorkflowDefinition>(&text)
            && let Ok(workflow) = Workflow::new(definition)
        {
            let again: WorkflowDefinition = workflow.stored().decode().expect("what was stored is read");
            prop_assert_eq!(&again, workflow.definition());
        }
    }

    #[test]
    fn no_context_panics(text in prop_oneof![pieces(DEFINITION), "\\PC*"]) {
        drop(Json::parse(&text));
        drop(Delta::from_json(&text));
        if let Ok(context) = Context::from_json(&text) {
            prop_assert_eq!(Context::from_json(&context.to_json()), Ok(context));
        }
    }
}
