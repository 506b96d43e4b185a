//! Makes the OpenAPI 3.1 document from the table of routes.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::operation::{Answer, Operation, Parameter, ParameterKind};
use crate::problem::{CODES, ProblemBody};
use crate::routes::operations;
use crate::schema::{SchemaOf, Schemas};

/// Returns the document as text. A test requires that the committed `openapi.json` equals this text.
#[must_use]
pub fn document() -> String {
    let mut schemas: Schemas = Vec::new();
    let problem = SchemaOf::of::<ProblemBody>();
    collect(problem, &mut schemas);
    let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for operation in operations() {
        collect(operation.body, &mut schemas);
        for (_, schema, _) in &operation.answers {
            collect(*schema, &mut schemas);
        }
        let methods = paths
            .entry(format!("/api/v1{}", operation.path))
            .or_default();
        methods.insert(
            operation.method.as_str().to_lowercase(),
            described(&operation),
        );
    }
    paths
        .entry("/healthz".to_owned())
        .or_default()
        .insert("get".to_owned(), health());
    let schemas: BTreeMap<String, Value> = (schemas.into_iter())
        .filter(|(name, _)| !["String", "Value"].contains(&name.as_str()))
        .map(|(name, schema)| (name, serde_json::to_value(schema).unwrap_or_default()))
        .collect();
    let document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "cloaca",
            "version": "1",
            "description": "Shows and controls the executions of a database. Times are RFC 3339 in UTC with \
                            microseconds, durations are in microseconds, ids are strings. Lists return \
                            {items, next, prev}. Errors are RFC 9457 problems with a stable code.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "."}],
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    });
    let mut text = serde_json::to_string_pretty(&document).unwrap_or_default();
    text.push('\n');
    text
}

fn collect(schema: Option<SchemaOf>, schemas: &mut Schemas) {
    if let Some(schema) = schema {
        (schema.collect)(schemas);
    }
}

fn reference(schema: SchemaOf) -> Value {
    if schema.is_page {
        let cursor = json!({"type": ["string", "null"]});
        return json!({
            "type": "object",
            "required": ["items", "next", "prev"],
            "properties": {
                "items": {"type": "array", "items": named(schema)},
                "next": cursor,
                "prev": cursor,
            },
        });
    }
    named(schema)
}

fn named(schema: SchemaOf) -> Value {
    match &*(schema.name)() {
        "String" => json!({"type": "string"}),
        "Value" => json!({}),
        name => json!({"$ref": format!("#/components/schemas/{name}")}),
    }
}

fn described(operation: &Operation) -> Value {
    let mut parameters: Vec<Value> = path_parts(operation.path).map(path_parameter).collect();
    parameters.extend(operation.parameters.iter().map(query_parameter));
    if !operation.is_read() {
        parameters.push(json!({
            "name": "X-Cloaca", "in": "header", "required": true,
            "description": "Send the value 1. Pages of other sites cannot send this header.",
            "schema": {"const": "1"},
        }));
    }
    let mut responses = Map::new();
    for (status, schema, about) in &operation.answers {
        let mut response = json!({"description": about});
        if let Some(schema) = schema {
            let mut schema = reference(*schema);
            if operation
                .parameters
                .iter()
                .any(|parameter| parameter.name == "raw")
            {
                schema = json!({"anyOf": [schema, {"description": "With `raw`, only the value."}]});
            }
            response["content"] = json!({operation.media_type: {"schema": schema}});
            if let Some(text_type) = operation.text_type {
                response["content"][text_type] = json!({"schema": {"type": "string"}});
            }
        }
        responses.insert(status.to_string(), response);
    }
    for status in problems(operation) {
        responses.insert(status.to_string(), problem(status));
    }
    if operation.is_read() && matches!(operation.answer, Answer::Blocking(_)) {
        responses.insert(
            "304".to_owned(),
            json!({"description": "The client has the current answer."}),
        );
    }
    let mut described = json!({
        "operationId": operation.id,
        "summary": operation.summary,
        "tags": [operation.path.split('/').nth(1).unwrap_or_default()],
        "x-permission": operation.permission.name(),
        "parameters": parameters,
        "responses": responses,
    });
    if !operation.about.is_empty() {
        described["description"] = operation.about.into();
    }
    if let Some(body) = operation.body {
        let content = json!({"application/json": {"schema": reference(body)}});
        described["requestBody"] = json!({"required": true, "content": content});
    }
    described
}

/// Returns the HTTP statuses of the problems with which a route can answer.
fn problems(operation: &Operation) -> Vec<u16> {
    let mut statuses = vec![400, 401, 403, 413, 421, 422, 429, 500, 503, 504];
    // `/compare` names its executions in the query.
    let names_objects = operation.path.contains('{') || operation.path == "/compare";
    if names_objects || operation.body.is_some() {
        statuses.push(404);
    }
    if !operation.is_read() {
        statuses.extend([409, 412, 415]);
    }
    statuses
}

fn problem(status: u16) -> Value {
    let known = CODES.iter().find(|(_, known, _)| known.as_u16() == status);
    let about = match (status, known) {
        (409, _) => {
            "The state of the execution does not allow the change, or the approval was already decided."
        }
        (503, _) => "The database cannot be reached.",
        (_, Some((_, _, about))) => about,
        (_, None) => "The request failed.",
    };
    json!({
        "description": about,
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    })
}

fn path_parts(path: &str) -> impl Iterator<Item = &str> {
    path.split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

fn path_parameter(name: &str) -> Value {
    let about = match name {
        "id" => "The id.",
        "task" => "The id of a task.",
        "version" => "A version of the workflow.",
        _ => "The name.",
    };
    let mut schema = json!({"type": "string", "minLength": 1});
    if name == "id" {
        schema = json!({"type": "string", "format": "uuid"});
    }
    json!({"name": name, "in": "path", "required": true, "description": about, "schema": schema})
}

fn query_parameter(parameter: &Parameter) -> Value {
    let mut schema = match parameter.kind {
        ParameterKind::Text => json!({"type": "string"}),
        ParameterKind::Words(words) => json!({"type": "string", "enum": words}),
        ParameterKind::Number(least, most) => {
            json!({"type": "integer", "minimum": least, "maximum": most})
        }
        ParameterKind::Flag => json!({"type": "boolean"}),
        ParameterKind::Time => {
            json!({"type": "string", "examples": ["2026-01-31T12:00:00Z", "24h"]})
        }
        ParameterKind::Id => json!({"type": "string", "format": "uuid"}),
    };
    if parameter.is_repeated {
        schema = json!({"type": "array", "items": schema});
    }
    let mut described = json!({
        "name": parameter.name, "in": "query", "required": parameter.is_required,
        "description": parameter.about, "schema": schema,
    });
    if let Some((prefix, _)) = parameter.name.split_once('.') {
        // In a parameter like `label.order=4711`, the caller chooses a part of the name. OpenAPI cannot describe such a
        // parameter, but it can describe an object whose members the caller chooses.
        described["name"] = prefix.into();
        described["schema"] = json!({"type": "object", "additionalProperties": {"type": "string"}});
        described["style"] = "form".into();
        described["x-prefix"] = format!("{prefix}.").into();
    }
    described
}

fn health() -> Value {
    json!({
        "operationId": "getHealth",
        "summary": "Check whether the server can reach its database",
        "tags": ["healthz"],
        "security": [],
        "responses": {
            "200": {"description": "The server reaches its database."},
            "503": {"description": "The server does not reach its database."},
        },
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    /// The environment variable that makes the test write the document instead of comparing it.
    const WRITE: &str = "CLOACINA_WRITE_OPENAPI";

    #[test]
    fn committed_document_matches_the_routes() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
        let current = document();
        if std::env::var_os(WRITE).is_some() {
            std::fs::write(&path, &current).expect("the document can be written");
        }
        let committed = std::fs::read_to_string(&path).expect("the document can be read");
        assert!(
            committed == current,
            "openapi.json differs from the routes: run `make openapi`"
        );
    }

    #[test]
    fn every_operation_has_its_own_id_and_an_answer() {
        let operations = operations();
        let ids: BTreeSet<&str> = operations.iter().map(|operation| operation.id).collect();
        assert_eq!(ids.len(), operations.len());
        for operation in &operations {
            assert!(!operation.answers.is_empty(), "{}", operation.id);
            assert_eq!(
                operation.is_read(),
                !operation.permission.is_write(),
                "{}",
                operation.id
            );
        }
    }

    #[test]
    fn every_reference_leads_to_a_schema() {
        let document: Value = serde_json::from_str(&document()).expect("JSON");
        let schemas = document["components"]["schemas"]
            .as_object()
            .expect("schemas");
        let text = document.to_string();
        for reference in text.split("\"#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap_or_default();
            assert!(schemas.contains_key(name), "{name}");
        }
    }
}
