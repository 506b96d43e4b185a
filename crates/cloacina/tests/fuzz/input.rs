//! Random input: of the pieces that matter to a parser, and of valid input with something odd in it.

use cloacina::types::Json;
use cloacina::workflow::{Operator, TriggerRule};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};

/// Text made of the pieces that matter to a parser, and of any other.
fn pieces(known: &'static [&'static str]) -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => select(known).prop_map(str::to_owned),
        1 => "\\PC{0,6}",
        1 => any::<char>().prop_map(String::from),
    ];
    proptest::collection::vec(piece, 0..10).prop_map(|pieces| pieces.concat())
}

pub fn url() -> impl Strategy<Value = String> {
    pieces(&[
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
    ])
}

/// Fields as they are, and fields of any pieces.
pub fn cron() -> impl Strategy<Value = String> {
    let field = prop_oneof![
        3 => Just("*".to_owned()),
        2 => (0_u32..62).prop_map(|number| number.to_string()),
        1 => (1_u32..62).prop_map(|step| format!("*/{step}")),
        1 => (0_u32..62, 0_u32..62).prop_map(|(from, to)| format!("{from}-{to}")),
        1 => (0_u32..62, 0_u32..62, 0_u32..62).prop_map(|(from, to, step)| format!("{from}-{to}/{step}")),
        1 => select(&["MON", "sun", "FRI-SUN", "feb", "JAN-mar", "L", "?", "1#2", "MON#5", "15W", "5L"][..])
            .prop_map(str::to_owned),
    ];
    let list = proptest::collection::vec(field, 1..3).prop_map(|fields| fields.join(","));
    let fields = proptest::collection::vec(list, 4..8).prop_map(|lists| lists.join(" "));
    let any = pieces(&[
        "*",
        "/",
        "-",
        ",",
        " ",
        "\t",
        "#",
        "L",
        "@",
        "@daily",
        "0",
        "1",
        "7",
        "59",
        "60",
        "MON",
        "DEC",
        "99999999999",
        "-1",
        "W",
        "?",
    ]);
    prop_oneof![3 => fields, 1 => any]
}

pub fn zone() -> impl Strategy<Value = String> {
    let known = select(
        &[
            "UTC",
            "Europe/Berlin",
            "Australia/Lord_Howe",
            "Pacific/Apia",
            "America/St_Johns",
        ][..],
    );
    let any = pieces(&["Europe", "/", "Berlin", "UTC", "+01:00", "Etc/GMT-14", ".."]);
    prop_oneof![5 => known.prop_map(str::to_owned), 1 => any]
}

/// Pieces of JSON.
pub fn json_text() -> impl Strategy<Value = String> {
    pieces(&[
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"name\"",
        "\"a\"",
        "\"\\u0000\"",
        "\"\\ud800\"",
        "null",
        "true",
        "1",
        "-1",
        "-0.0",
        "1e400",
        "123456789012345678901234567890",
        "\"\"",
        " ",
        "\n",
    ])
}

pub fn rule() -> impl Strategy<Value = TriggerRule> {
    let task = || select(&["a", "b", "nobody", ""][..]).prop_map(str::to_owned);
    let operator = select(
        &[
            Operator::Equals,
            Operator::NotEquals,
            Operator::GreaterThan,
            Operator::GreaterOrEqual,
            Operator::LessThan,
            Operator::LessOrEqual,
            Operator::Contains,
            Operator::NotContains,
            Operator::Exists,
            Operator::NotExists,
        ][..],
    );
    let value = select(
        &[
            "null",
            "true",
            "1",
            "1.0",
            "-1e30",
            "\"x\"",
            "[1]",
            "{\"a\": 1}",
        ][..],
    )
    .prop_map(|text| Json::parse(text).expect("it is JSON"));
    let named = select(TriggerRule::NAMES)
        .prop_map(|name| TriggerRule::from_name(name).expect("it is a name"));
    let leaf = prop_oneof![
        named,
        task().prop_map(|task| TriggerRule::TaskSuccess { task }),
        task().prop_map(|task| TriggerRule::TaskFailed { task }),
        task().prop_map(|task| TriggerRule::TaskSkipped { task }),
        (task(), operator, value).prop_map(|(key, operator, value)| TriggerRule::ContextValue {
            key,
            operator,
            value
        }),
    ];
    leaf.prop_recursive(5, 40, 4, |inner| {
        let conditions = proptest::collection::vec(inner, 0..4);
        (conditions, 0..3).prop_map(|(conditions, join)| match join {
            0 => TriggerRule::AllOf { conditions },
            1 => TriggerRule::AnyOf { conditions },
            _ => TriggerRule::NoneOf { conditions },
        })
    })
}

/// A valid definition in which a few places hold something odd.
pub fn definition() -> impl Strategy<Value = String> {
    let odd = select(vec![
        Value::Null,
        json!(true),
        json!(0),
        json!(-1),
        json!(i64::MAX),
        json!(u64::MAX),
        json!(1e300),
        json!(0.1),
        json!(""),
        json!("a"),
        json!("b"),
        json!("c"),
        json!("none_failed"),
        json!("\0é😀"),
        json!("x".repeat(300)),
        json!([]),
        json!({}),
        json!(["a", "a"]),
        json!({"all_of": {"conditions": ["always"]}}),
        json!({"task_success": {"task": "a"}}),
    ]);
    let change = (any::<Index>(), any::<bool>(), odd);
    proptest::collection::vec(change, 0..4).prop_map(|changes| {
        let mut definition = sound();
        for (place, removes, odd) in changes {
            alter(&mut definition, place, removes, &odd);
        }
        definition.to_string()
    })
}

fn sound() -> Value {
    json!({
        "name": "w",
        "tenant": "public",
        "package": "embedded",
        "description": "any",
        "tags": {"team": "data"},
        "tasks": [
            {"id": "a", "fingerprint": "0123456789abcdef"},
            {"id": "b", "dependencies": ["a"], "timeout": 1_000_000, "priority": 3, "kind": "async",
             "retry": {"max_attempts": 2, "backoff": {"strategy": "fixed"}, "initial_delay": 1_000,
                       "max_delay": 60_000_000, "jitter": false, "condition": "all"}},
            {"id": "c", "dependencies": ["a", "b"], "kind": "external", "max_context_bytes": 1_000,
             "rule": {"any_of": {"conditions": [
                 {"task_failed": {"task": "b"}},
                 {"context_value": {"key": "a", "operator": "exists", "value": null}},
             ]}}},
        ],
    })
}

/// Puts something odd into one of all the places, or takes what is there away.
fn alter(definition: &mut Value, place: Index, removes: bool, odd: &Value) {
    let mut pointers = Vec::new();
    collect(definition, String::new(), &mut pointers);
    let pointer = &pointers[place.index(pointers.len())];
    if removes && let Some((parent, key)) = pointer.rsplit_once('/') {
        match definition.pointer_mut(parent) {
            Some(Value::Object(fields)) => drop(fields.remove(key)),
            Some(Value::Array(items)) => drop(items.pop()),
            _ => {}
        }
    } else if let Some(value) = definition.pointer_mut(pointer) {
        *value = odd.clone();
    }
}

fn collect(value: &Value, at: String, pointers: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, field) in fields {
                collect(field, format!("{at}/{key}"), pointers);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                collect(item, format!("{at}/{index}"), pointers);
            }
        }
        _ => {}
    }
    pointers.push(at);
}
