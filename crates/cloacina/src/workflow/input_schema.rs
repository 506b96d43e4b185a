//! Checks an input against the JSON schema that a workflow declares, and the data of an approval against the schema that
//! the approval declares. Adds the defaults of the schema. These checks are for callers that do not have the model: the
//! type from which a program created the schema (semantics J5, L12).
//!
//! The checks read only these keywords: `type`, `properties`, `required`, `items`, `anyOf`, `oneOf`, `enum`, `const`,
//! `$ref` with `$defs`, and the formats `duration` and `decimal` of strings, because the model also accepts numbers for
//! these. The program with the model checks all other keywords.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

use indexmap::IndexMap;

use super::Workflow;
use super::input_value::{Members, Value, shown_list};
use crate::types::{Context, Error, ErrorCode, Json, JsonShape};

/// Maximum number of nested schemas that are applied. There is a limit because a schema can contain itself.
const MAX_DEPTH: usize = 512;

/// Maximum number of comparisons of a value with a schema. There is a limit because nested choices multiply the
/// comparisons. Making this many comparisons takes much less than a second. Parts that are not compared are left to the
/// program with the model.
const MAX_COMPARISONS: u32 = 2_000_000;

/// Maximum number of characters of a value in a message.
const MAX_SHOWN: usize = 200;

impl Workflow {
    /// Checks an input against the schema that the workflow declares, if any, and returns the input with the defaults of
    /// absent fields.
    ///
    /// `quotes_values`: whether an error message can contain values of the input. Pass `false` if the input can contain
    /// values of an earlier input that the caller is not allowed to read.
    ///
    /// # Errors
    /// Returns `WorkflowInputInvalid`. The message names the path of the value that does not fit.
    pub fn complete_input(
        &self,
        input: &Arc<Context>,
        quotes_values: bool,
    ) -> Result<Arc<Context>, Error> {
        let Some(schema) = &self.definition().input else {
            return Ok(Arc::clone(input));
        };
        complete(schema, input, quotes_values).map_err(|fault| {
            let message = format!(
                "the input of workflow '{}' is not valid: {fault}",
                self.name()
            );
            Error::new(ErrorCode::WorkflowInputInvalid, message)
        })
    }
}

/// L12: checks the data of an approval against the schema that the approval declares, and returns the data with the defaults
/// of absent fields. `null`, which means an approval without data, is checked like an empty object.
///
/// # Errors
/// Returns `WorkflowInputInvalid`. The message names the path of the value that does not fit.
pub fn complete_approval_data(id: &str, schema: &Json, data: &Json) -> Result<Json, Error> {
    let empty = Json::from_encoder("{}");
    let data = match data.shape() {
        JsonShape::Null => &empty,
        _ => data,
    };
    let refuse = |fault: Fault| {
        let message = format!("the data of approval '{id}' is not valid: {fault}");
        Error::new(ErrorCode::WorkflowInputInvalid, message)
    };
    let Ok(members) = Context::from_json(data.as_str()) else {
        // The data is not an object.
        let value = data.decode().unwrap_or(Value::Unread);
        return fault_of(schema, &value, true)
            .map_or_else(|| Ok(data.clone()), |fault| Err(refuse(fault)));
    };
    let members = Arc::new(members);
    let complete = complete(schema, &members, true).map_err(refuse)?;
    Ok(if Arc::ptr_eq(&complete, &members) {
        data.clone()
    } else {
        Json::from_encoder(complete.to_json())
    })
}

/// Checks an object against a schema, and returns the object with the defaults of absent fields.
fn complete(
    schema: &Json,
    input: &Arc<Context>,
    quotes_values: bool,
) -> Result<Arc<Context>, Fault> {
    let complete = with_defaults(schema, input);
    match fault_of(schema, &value_of(schema, &complete), quotes_values) {
        Some(fault) => Err(fault),
        None => Ok(complete),
    }
}

/// Returns an input with the defaults of the properties that it lacks. The text of a default is copied from the schema
/// unchanged.
fn with_defaults(schema: &Json, input: &Arc<Context>) -> Arc<Context> {
    let members = |part: &Json| part.decode::<IndexMap<String, Json>>().unwrap_or_default();
    let properties = members(schema).get("properties").map(members);
    let absent = properties.iter().flatten();
    let absent = absent.filter(|(name, _)| !input.contains_key(name));
    let defaults = absent.filter_map(|(name, part)| {
        let default = members(part).swap_remove("default")?;
        Some((Arc::from(name.as_str()), default))
    });
    let defaults: Vec<(Arc<str>, Json)> = defaults.collect();
    if defaults.is_empty() {
        return Arc::clone(input);
    }
    let mut complete = (**input).clone();
    for (name, default) in defaults {
        complete.set(name, default);
    }
    Arc::new(complete)
}

/// Decodes those members of an input that the schema declares. All other members are `Unread`, because no schema
/// describes them. If the schema declares no properties, decodes all members.
fn value_of(schema: &Json, input: &Context) -> Value {
    let schema: Option<Value> = schema.decode().ok();
    let keywords = schema.as_ref().and_then(Value::as_object);
    let declared = keywords
        .and_then(|keywords| keywords.get("properties"))
        .and_then(Value::as_object);
    let members = input.iter().map(|(key, value)| {
        let is_declared = declared.is_none_or(|declared| declared.contains_key(&**key));
        let value = is_declared.then(|| value.decode().ok()).flatten();
        (key.to_string(), value.unwrap_or(Value::Unread))
    });
    Value::Object(Box::new(members.collect()))
}

/// Returns the first part of a value that does not match a schema.
fn fault_of(schema: &Json, value: &Value, quotes_values: bool) -> Option<Fault> {
    let schema: Value = schema.decode().ok()?;
    let keywords = schema.as_object()?;
    let check = Check {
        models: keywords.get("$defs").and_then(Value::as_object),
        quotes_values,
        comparisons_left: Cell::new(MAX_COMPARISONS),
    };
    check.fault(&schema, value, MAX_DEPTH)
}

/// A part of a value that does not match its schema.
struct Fault {
    /// The path of the part: steps of the form `.name` or `[index]`.
    path: String,
    reason: String,
}

impl Fault {
    /// Creates a fault of the checked value itself, not of a part of the value. Always returns `Some`.
    #[expect(
        clippy::unnecessary_wraps,
        reason = "the callers return this value as their own result"
    )]
    fn here(reason: String) -> Option<Self> {
        let path = String::new();
        Some(Self { path, reason })
    }

    fn below(self, step: &str) -> Self {
        let path = format!("{step}{}", self.path);
        Self { path, ..self }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.strip_prefix('.').unwrap_or(&self.path);
        if !path.is_empty() {
            write!(f, "`{path}`: ")?;
        }
        f.write_str(&self.reason)
    }
}

/// The check of one value against a schema.
struct Check<'a> {
    models: Option<&'a Members>,
    quotes_values: bool,
    comparisons_left: Cell<u32>,
}

impl Check<'_> {
    /// Returns the first part of a value that does not match a schema.
    fn fault(&self, schema: &Value, value: &Value, depth: usize) -> Option<Fault> {
        let Value::Object(schema) = schema else {
            return None;
        };
        if matches!(value, Value::Unread) {
            return None;
        }
        let depth = depth.checked_sub(1)?;
        let left = self.comparisons_left.get().checked_sub(1)?;
        self.comparisons_left.set(left);
        if let Some(Value::Text(reference)) = schema.get("$ref") {
            let name = reference.rsplit('/').next().unwrap_or_default();
            return self.fault(self.models?.get(name)?, value, depth);
        }
        if let Some(choices) = choices(schema) {
            return self.fault_of_choices(choices, value, depth);
        }
        if let Some(Value::List(allowed)) = schema.get("enum")
            && !allowed.iter().any(|one| one.equals(value))
        {
            let allowed = shown_list(allowed);
            return Fault::here(format!(
                "expected one of {allowed}, got {}",
                self.shown(value)
            ));
        }
        if let Some(constant) = schema.get("const")
            && !constant.equals(value)
        {
            return Fault::here(format!("expected {constant}, got {}", self.shown(value)));
        }
        if let Some(kinds) = kinds(schema)
            && !kinds.iter().any(|kind| value.is(kind))
            && !is_taken_as_number(schema, &kinds, value)
        {
            let kinds = kinds.join(" or ");
            return Fault::here(format!("expected {kinds}, got {}", value.kind()));
        }
        self.inner_fault(schema, value, depth)
    }

    /// Formats a value of the input for a message.
    fn shown(&self, value: &Value) -> String {
        if !self.quotes_values {
            return value.kind().to_owned();
        }
        let shown = value.to_string();
        match shown.char_indices().nth(MAX_SHOWN) {
            Some((end, _)) => format!("{}…", &shown[..end]),
            None => shown,
        }
    }

    /// Checks a value against each of several choices. Returns `None` if a choice matches. Otherwise returns the fault
    /// with the longest path, because the choice with this fault is probably the intended one.
    fn fault_of_choices(&self, choices: &[Value], value: &Value, depth: usize) -> Option<Fault> {
        let mut best: Option<Fault> = None;
        for choice in choices {
            let found = self.fault(choice, value, depth)?;
            let length = |fault: &Fault| fault.path.chars().count();
            if best
                .as_ref()
                .is_none_or(|best| length(&found) > length(best))
            {
                best = Some(found);
            }
        }
        best
    }

    fn inner_fault(&self, schema: &Members, value: &Value, depth: usize) -> Option<Fault> {
        match value {
            Value::Object(members) => {
                if let Some(Value::List(required)) = schema.get("required") {
                    let mut names = required.iter().filter_map(Value::as_text);
                    if let Some(name) = names.find(|name| !members.contains_key(*name)) {
                        return Fault::here(format!("the field '{name}' is missing"));
                    }
                }
                let properties = schema.get("properties")?.as_object()?;
                properties.iter().find_map(|(name, part)| {
                    let found = self.fault(part, members.get(name)?, depth)?;
                    Some(found.below(&format!(".{name}")))
                })
            }
            Value::List(items) => {
                let part = schema.get("items")?;
                items.iter().enumerate().find_map(|(index, item)| {
                    let found = self.fault(part, item, depth)?;
                    Some(found.below(&format!("[{index}]")))
                })
            }
            _ => None,
        }
    }
}

/// Returns the choices of a schema: alternative schemas, one of which a value must match.
fn choices(schema: &Members) -> Option<&[Value]> {
    let list = |keyword| match schema.get(keyword) {
        Some(Value::List(choices)) => Some(choices.as_slice()),
        _ => None,
    };
    list("anyOf")
        .filter(|choices| !choices.is_empty())
        .or_else(|| list("oneOf"))
}

/// Returns the names of the types that a schema allows.
fn kinds(schema: &Members) -> Option<Vec<&str>> {
    match schema.get("type")? {
        Value::Text(kind) => Some(vec![kind]),
        Value::List(kinds) => kinds.iter().map(Value::as_text).collect(),
        _ => None,
    }
}

/// Returns whether a number is accepted although the schema requires a string. Durations and decimals are strings in the
/// schema, but models accept numbers too. A context stores a duration as a number of seconds.
fn is_taken_as_number(schema: &Members, kinds: &[&str], value: &Value) -> bool {
    let format = schema.get("format").and_then(Value::as_text);
    matches!(format, Some("duration" | "decimal"))
        && kinds.contains(&"string")
        && value.is("number")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workflow::{TaskDefinition, WorkflowDefinition};

    fn complete(schema: &str, input: &str) -> Result<String, String> {
        let definition = WorkflowDefinition {
            name: "w".to_owned(),
            tenant: "public".into(),
            package: "embedded".into(),
            tasks: vec![TaskDefinition {
                id: "t".to_owned(),
                ..TaskDefinition::default()
            }],
            input: Some(Json::parse(schema).unwrap()),
            ..WorkflowDefinition::default()
        };
        let input = Arc::new(Context::from_json(input).unwrap());
        let workflow = Workflow::new(definition).unwrap();
        let complete = workflow.complete_input(&input, true);
        let problem = |error: Error| {
            assert_eq!(error.code, ErrorCode::WorkflowInputInvalid);
            let problem = error
                .message
                .strip_prefix("the input of workflow 'w' is not valid: ");
            problem.unwrap().to_owned()
        };
        complete.map(|input| input.to_json()).map_err(problem)
    }

    fn fault(schema: &str, input: &str) -> Option<String> {
        complete(schema, input).err()
    }

    const ORDER: &str = r##"{
        "type": "object",
        "required": ["a"],
        "properties": {
            "a": {"type": "integer"},
            "b": {"anyOf": [{"type": "array", "items": {"$ref": "#/$defs/C"}}, {"type": "null"}]},
            "d": {"enum": ["x", "y"]},
            "e": {"const": 1}
        },
        "$defs": {"C": {"type": "object", "properties": {"c": {"type": "string"}}}}
    }"##;

    #[test]
    fn j5_fault_of_an_input_names_its_path() {
        for (input, expected) in [
            (r#"{"a":1,"b":[{"c":"x"}],"other":[1]}"#, None),
            (r#"{"a":1.0,"e":true}"#, None),
            (r#"{"a":123456789012345678901234567890}"#, None),
            (r#"{"a":true}"#, Some("`a`: expected integer, got boolean")),
            (r#"{"a":1.5}"#, Some("`a`: expected integer, got number")),
            ("{}", Some("the field 'a' is missing")),
            (
                r#"{"a":1,"b":[{"c":"x"},{"c":2}]}"#,
                Some("`b[1].c`: expected string, got integer"),
            ),
            (r#"{"a":1,"b":null}"#, None),
            (r#"{"a":1,"b":7}"#, Some("`b`: expected array, got integer")),
            (
                r#"{"a":1,"d":"it's"}"#,
                Some(r#"`d`: expected one of ['x', 'y'], got "it's""#),
            ),
            (
                r#"{"a":1,"e":[null,{"k":false}]}"#,
                Some("`e`: expected 1, got [None, {'k': False}]"),
            ),
        ] {
            assert_eq!(fault(ORDER, input).as_deref(), expected, "{input}");
        }
    }

    #[test]
    fn j5_absent_fields_get_the_text_of_their_defaults() {
        let schema = r#"{"properties": {
            "tax": {"type": "number", "default": 1.10},
            "day": {"default": null},
            "n": {"type": "integer"}
        }}"#;
        assert_eq!(
            complete(schema, r#"{"n":1}"#).unwrap(),
            r#"{"n":1,"tax":1.10,"day":null}"#
        );
        assert_eq!(
            complete(schema, r#"{"day":"x","tax":2}"#).unwrap(),
            r#"{"day":"x","tax":2}"#
        );
    }

    #[test]
    fn j5_durations_and_decimals_may_be_numbers() {
        let schema = r#"{"properties": {
            "d": {"type": "string", "format": "duration"},
            "p": {"anyOf": [{"type": "string", "format": "decimal"}, {"type": "null"}]},
            "t": {"type": "string", "format": "date-time"}
        }}"#;
        assert_eq!(fault(schema, r#"{"d":3600.0,"p":2}"#), None);
        assert_eq!(fault(schema, r#"{"d":"PT1H","p":"2"}"#), None);
        assert!(fault(schema, r#"{"d":true}"#).is_some());
        assert!(fault(schema, r#"{"t":1}"#).is_some());
    }

    #[test]
    fn j5_unchecked_parts_are_accepted() {
        let itself =
            r##"{"properties":{"a":{"$ref":"#/$defs/A"}},"$defs":{"A":{"$ref":"#/$defs/A"}}}"##;
        assert_eq!(fault(itself, r#"{"a":1}"#), None);
        // Each level doubles the number of choices.
        let doubling = r##"{"properties":{"a":{"$ref":"#/$defs/A"}},"$defs":{
            "A":{"anyOf":[{"$ref":"#/$defs/B"},{"$ref":"#/$defs/B"}]},
            "B":{"type":"object","properties":{"a":{"$ref":"#/$defs/A"}}}}}"##;
        let nested = format!("{}1{}", r#"{"a":"#.repeat(100), "}".repeat(100));
        assert_eq!(fault(doubling, &nested), None);
        let deep = format!(r#"{{"a":{}1{}}}"#, "[".repeat(500), "]".repeat(500));
        assert_eq!(fault(ORDER, &deep), None);
        for unknown in [
            r#"{"type":"thing"}"#,
            r#"{"type":3}"#,
            r#"{"enum":"x"}"#,
            "true",
        ] {
            let schema = format!(r#"{{"properties":{{"a":{unknown}}},"required":"a"}}"#);
            assert_eq!(fault(&schema, r#"{"a":"x"}"#), None, "{unknown}");
        }
    }
}
