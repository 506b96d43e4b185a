//! New executions like earlier ones, with edited inputs.

use std::collections::BTreeMap;

use axum::http::{StatusCode, header};
use cloacina::runner::{Rerun, RerunVersion};
use cloacina::types::{Context, Labels};
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::start::BODY_LIMIT;
use crate::access::Permission::Start;
use crate::call::{Call, Reply};
use crate::operation::Operation;
use crate::problem::Problem;
use crate::redact::{MASK, Redactor};
use crate::views::execution::SubmittedView;

/// Maximum depth to which an edited input is searched for kept values.
const MAX_DEPTH: usize = 64;

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::post("/executions/{id}/rerun", Start, "rerunExecution", "Submit an execution like an earlier one", rerun)
            .about(
                "With the same or an edited input, in the original or the latest version of the workflow. The history of the new \
                 execution names the earlier one. In an edited input, `{\"$keep\": \"a.b\"}` stands for the earlier value at this \
                 path, so that a client need not know redacted values. The value of a key that names a secret can be kept only \
                 under such a key, so that it stays redacted.",
            )
            .takes::<RerunRequest>()
            .body_limit(BODY_LIMIT)
            .returns::<SubmittedView>(201, "The new execution; the header Location leads to it."),
    ]
}

/// An execution to repeat.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RerunRequest {
    /// The input; default: the input of the earlier execution.
    #[schema(value_type = Option<Object>)]
    input: Option<Box<RawValue>>,
    /// The version of the workflow: original or latest; default: original.
    version: Option<String>,
    /// The labels; default: the labels of the earlier execution.
    labels: Option<BTreeMap<String, String>>,
    /// The reason, for the history.
    note: Option<String>,
}

fn rerun(call: &Call<'_>) -> Result<Reply, Problem> {
    let request: RerunRequest = call.decode()?;
    let id = call.execution_id()?;
    let version = match request.version.as_deref() {
        None | Some("original") => RerunVersion::Original,
        Some("latest") => RerunVersion::Latest,
        Some(_) => {
            return Err(Problem::invalid(
                "/version",
                "it must be original or latest",
            ));
        }
    };
    let input = match request.input.as_deref().map(RawValue::get) {
        None | Some("null") => None,
        Some(text) => {
            let text = if text.contains("$keep") || text.contains(MASK) {
                let earlier = call.inspector.execution(id)?;
                let keep = Keep {
                    earlier: &earlier.record().input,
                    redactor: call.redactor(),
                };
                keep.kept(text, false, MAX_DEPTH)?
            } else {
                text.to_owned()
            };
            let input = Context::from_json(&text);
            Some(input.map_err(|error| Problem::invalid("/input", error.to_string()))?)
        }
    };
    let submitted = call.inspector.rerun(
        id,
        Rerun {
            input,
            version,
            labels: request.labels.map(Labels::new).transpose()?,
            audit: call.audit(request.note),
        },
    )?;
    let new = submitted.id.to_string();
    call.note_change("rerun", &new);
    let reply = Reply::json(&SubmittedView {
        id: Some(new.clone()),
        created: true,
        dry_run: false,
    })?;
    let location = format!("../{new}");
    Ok(reply
        .status(StatusCode::CREATED)
        .header(header::LOCATION, &location))
}

/// The earlier input from which values are kept, and the redactor that says which keys name secrets.
struct Keep<'a> {
    earlier: &'a Context,
    redactor: Redactor,
}

impl Keep<'_> {
    /// Replaces each `$keep` of an edited input by the earlier value. `is_redacted`: a key that leads to `text` names a secret.
    fn kept(&self, text: &str, is_redacted: bool, depth: usize) -> Result<String, Problem> {
        if text.contains(MASK)
            && serde_json::from_str::<String>(text).is_ok_and(|text| text == MASK)
        {
            return Err(Problem::invalid(
                "/input",
                format!("'{MASK}' stands for a redacted value"),
            )
            .hint("send {\"$keep\": \"path.to.the.value\"} for a value that does not change"));
        }
        let deeper = depth.checked_sub(1);
        let Some(depth) = deeper.filter(|_| text.contains("$keep") || text.contains(MASK)) else {
            return Ok(text.to_owned());
        };
        if let Ok(members) = serde_json::from_str::<BTreeMap<String, &RawValue>>(text) {
            if members.len() == 1
                && let Some(path) = members.get("$keep")
            {
                return self.earlier_value(path, is_redacted);
            }
            let parts = members.iter().map(|(name, value)| {
                let is_redacted = is_redacted || self.redactor.is_secret(name);
                let value = self.kept(value.get(), is_redacted, depth)?;
                let name = serde_json::to_string(name).unwrap_or_default();
                Ok(format!("{name}:{value}"))
            });
            let parts: Vec<String> = parts.collect::<Result<_, Problem>>()?;
            return Ok(format!("{{{}}}", parts.join(",")));
        }
        if let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(text) {
            let items = items.iter();
            let items = items.map(|item| self.kept(item.get(), is_redacted, depth));
            let items: Vec<String> = items.collect::<Result<_, _>>()?;
            return Ok(format!("[{}]", items.join(",")));
        }
        Ok(text.to_owned())
    }

    /// The earlier value at the path that `$keep` names. A secret must stay under a key by which it is redacted: otherwise a
    /// caller could read it from the new execution.
    fn earlier_value(&self, path: &RawValue, is_redacted: bool) -> Result<String, Problem> {
        let path: Option<String> = serde_json::from_str(path.get()).ok();
        let missing = || Problem::invalid("/input", "$keep names no value of the earlier input");
        let path = path.ok_or_else(missing)?;
        let value = value_at(self.earlier, &path).ok_or_else(missing)?;
        if !is_redacted && path.split('.').any(|key| self.redactor.is_secret(key)) {
            let shown: String = path.chars().take(80).collect();
            let detail = format!(
                "the value of '{shown}' is secret, and $keep would put it under a key that is not"
            );
            return Err(Problem::invalid("/input", detail).hint(
                "keep it under a key that names a secret, for example under the key that it has in the earlier input",
            ));
        }
        Ok(value)
    }
}

/// The JSON text of the value at a path of keys.
fn value_at(context: &Context, path: &str) -> Option<String> {
    let mut keys = path.split('.');
    let mut text = context.get(keys.next()?)?.as_str().to_owned();
    for key in keys {
        let members: BTreeMap<String, &RawValue> = serde_json::from_str(&text).ok()?;
        text = members.get(key)?.get().to_owned();
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(edited: &str, earlier: &str) -> Result<String, Problem> {
        let earlier = Context::from_json(earlier).expect("a context");
        let keep = Keep {
            earlier: &earlier,
            redactor: Redactor::new(&[]),
        };
        keep.kept(edited, false, MAX_DEPTH)
    }

    #[test]
    fn kept_values_come_from_the_earlier_input() {
        let earlier = r#"{"db":{"password":"pw","n":1.50},"day":1}"#;
        let edited =
            r#"{"day":2,"db":{"password":{"$keep":"db.password"}},"list":[{"$keep":"db"}]}"#;
        let expected = r#"{"day":2,"db":{"password":"pw"},"list":[{"password":"pw","n":1.50}]}"#;
        assert_eq!(kept(edited, earlier).expect("an input"), expected);
    }

    #[test]
    fn redacted_text_is_never_taken_as_a_value() {
        let earlier = r#"{"token":"t"}"#;
        assert!(kept(r#"{"token":"•••"}"#, earlier).is_err());
        assert!(kept(r#"{"token":{"$keep":"nothing"}}"#, earlier).is_err());
    }

    #[test]
    fn kept_secret_needs_a_secret_key_at_its_destination() {
        let earlier = r#"{"password":"pw","credentials":{"user":"ann"},"db":{"token":["t"]}}"#;
        for edited in [
            r#"{"x":{"$keep":"password"}}"#,
            r#"{"x":[{"y":{"$keep":"password"}}]}"#,
            r#"{"user":{"$keep":"credentials.user"}}"#,
            r#"{"db":{"x":{"$keep":"db.token"}}}"#,
        ] {
            assert!(kept(edited, earlier).is_err(), "{edited}");
        }
        for (edited, expected) in [
            (
                r#"{"new_password":{"$keep":"password"}}"#,
                r#"{"new_password":"pw"}"#,
            ),
            (
                r#"{"secrets":{"x":[{"$keep":"password"}]}}"#,
                r#"{"secrets":{"x":["pw"]}}"#,
            ),
            (
                // The members of a kept object stay redacted by their own keys.
                r#"{"x":{"$keep":"db"}}"#,
                r#"{"x":{"token":["t"]}}"#,
            ),
        ] {
            assert_eq!(kept(edited, earlier).expect("an input"), expected);
        }
    }
}
