//! Generates random input: text made of tokens that a parser knows, and valid input with random changes.

use cloacina::types::Json;
use cloacina::workflow::{Operator, TriggerRule};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};

/// Generates text made of `known` tokens and random characters.
fn tokens(known: &'static [&'static str]) -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => select(known).prop_map(str::to_owned),
        1 => "\\PC{0,6}",
        1 => any::<char>().prop_map(String::from),
    ];
    proptest::collection::vec(piece, 0..10).prop_map(|pieces| pieces.concat())
}

pub fn url() -> impl Strategy<Value = String> {
    tokens(&[
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

/// Generates a field of a cron expression, usually a valid one.
fn field(low: u32, high: u32, words: &'static [&'static str]) -> impl Strategy<Value = String> {
    let number = || low..=high;
    let item = prop_oneof![
        4 => number().prop_map(|number| number.to_string()),
        2 => (number(), number()).prop_map(|(one, other)| format!("{}-{}", one.min(other), one.max(other))),
        1 => (number(), number()).prop_map(|(one, step)| format!("{one}-59/{step}")),
        1 => select(words).prop_map(str::to_owned),
        1 => any::<u8>().prop_map(|number| number.to_string()),
    ];
    let list = proptest::collection::vec(item, 1..3).prop_map(|items| items.join(","));
    prop_oneof![
        4 => Just("*".to_owned()),
        1 => number().prop_map(|step| format!("*/{step}")),
        4 => list,
    ]
}

/// Generates a cron expression of five or six fields, or text made of random tokens.
pub fn cron() -> impl Strategy<Value = String> {
    let days = &["MON", "sun", "FRI-SUN", "1#2", "MON#5", "5L", "7"][..];
    let fields = (
        proptest::option::of(field(0, 59, &["0-59", "60"][..])),
        field(0, 59, &["*", "?"][..]),
        field(0, 23, &["0-23/2", "24"][..]),
        field(1, 31, &["L", "15W", "31"][..]),
        field(1, 12, &["feb", "JAN-mar", "DEC"][..]),
        field(0, 6, days),
    );
    let fields = fields.prop_map(|(second, minute, hour, day, month, weekday)| {
        let second = second.map(|second| second + " ").unwrap_or_default();
        format!("{second}{minute} {hour} {day} {month} {weekday}")
    });
    let any = tokens(&[
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
    prop_oneof![4 => fields, 1 => any]
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
    let any = tokens(&["Europe", "/", "Berlin", "UTC", "+01:00", "Etc/GMT-14", ".."]);
    prop_oneof![5 => known.prop_map(str::to_owned), 1 => any]
}

/// Generates text made of JSON tokens.
pub fn json_text() -> impl Strategy<Value = String> {
    tokens(JSON)
}

const JSON: &[&str] = &[
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
];

/// Generates a context as JSON, often with one additional token at a random position.
pub fn context() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(4, 20, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(any::<String>(), inner, 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    });
    let fields = proptest::collection::btree_map(any::<String>(), value, 0..4);
    let surplus = proptest::option::of((any::<Index>(), select(JSON)));
    (fields, surplus).prop_map(|(fields, surplus)| {
        let mut text = Value::Object(fields.into_iter().collect()).to_string();
        if let Some((position, piece)) = surplus {
            let places: Vec<usize> = text.char_indices().map(|(position, _)| position).collect();
            text.insert_str(places[position.index(places.len())], piece);
        }
        text
    })
}

pub fn rule() -> impl Strategy<Value = TriggerRule> {
    let task = || select(&["a", "b", "absent", ""][..]).prop_map(str::to_owned);
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
    .prop_map(|text| Json::parse(text).expect("the text is JSON"));
    let named = select(TriggerRule::NAMES)
        .prop_map(|name| TriggerRule::from_name(name).expect("the name is known"));
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

/// Generates a valid definition with up to three random changes.
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
        let mut definition = valid_definition();
        for (position, removes, odd) in changes {
            alter(&mut definition, position, removes, &odd);
        }
        definition.to_string()
    })
}

fn valid_definition() -> Value {
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
                       "max_delay": 60_000_000, "jitter": false, "condition": "all"},
             "result": "rows", "parameters": [{"name": "a", "from": "task", "task": "a"},
                                              {"name": "day", "from": "input", "key": "date", "default": true}]},
            {"id": "c", "dependencies": ["a", "b"], "kind": "external", "max_context_bytes": 1_000,
             "rule": {"any_of": {"conditions": [
                 {"task_failed": {"task": "b"}},
                 {"context_value": {"key": "a", "operator": "exists", "value": null}},
             ]}}},
        ],
        "input": {"type": "object", "properties": {"date": {"type": "string"}}},
        "output": ["rows", "date"],
        "needs": [],
    })
}

/// Replaces one value of the definition with `odd`, or removes the value. If the value to remove is an element of an
/// array, removes the last element of that array instead.
fn alter(definition: &mut Value, position: Index, removes: bool, odd: &Value) {
    let mut pointers = Vec::new();
    collect(definition, String::new(), &mut pointers);
    let pointer = &pointers[position.index(pointers.len())];
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

/// Collects the JSON pointers of a value and of all values in it.
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
